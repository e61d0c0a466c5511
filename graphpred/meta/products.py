"""Products of wide tables with themselves."""

import torch
from torch import Tensor

_ROWS = 128  # of the product that are computed at a time


def gram(A: Tensor) -> Tensor:
    """AAᵀ, of which but one of two equal halves is computed.

    Args:
        A: Shape ``(n, k)``.
    """
    n = len(A)
    product = A.new_empty(n, n)
    for start in range(0, n, _ROWS):
        end = start + _ROWS
        torch.mm(A[start:end], A[start:].T, out=product[start:end, start:])
        product[end:, start:end] = product[start:end, end:].T
    return product
