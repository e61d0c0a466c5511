"""Which hidden neuron of one architecture is which of another; the paper's closeness F.

F(Z_opt, Z) = 𝔏(Z) − 𝔏(Z_opt) + α·#{edges of Z not in Z_opt} + β·#{edges of Z_opt not in Z}
(Kalugin, Bakhteev and Strijov, 2018, Definition 3, with its sums running over the layers).
"""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from graphpred.architecture import Architecture
from graphpred.errors import InputError


def closeness(
    z_opt: Architecture,
    z: Architecture,
    *,
    alpha: float,
    beta: float,
    quality_gap: float = 0.0,
    align: bool = False,
) -> float:
    """F(z_opt, z), zero when both are the same; smaller is closer.

    Args:
        z_opt: The best architecture.
        z: The architecture that is compared with it, of the same widths.
        alpha: Cost of an edge of ``z`` that ``z_opt`` has not; above ``beta``, few edges win.
        beta: Cost of an edge of ``z_opt`` that ``z`` has not.
        quality_gap: 𝔏(z) − 𝔏(z_opt).
        align: Match the hidden neurons first, since their order means nothing. The match is the
            best one with one hidden layer, and a local optimum with more.

    Raises:
        InputError: If the widths differ or a cost is negative.

    >>> z_opt = Architecture.from_masks([[[1, 0]], [[1], [1]]], hidden=["relu", "relu"])
    >>> z = Architecture.from_masks([[[0, 1]], [[1], [1]]], hidden=["relu", "relu"])
    >>> closeness(z_opt, z, alpha=2.0, beta=1.0), closeness(z_opt, z, alpha=2, beta=1, align=True)
    (3.0, 0.0)
    """
    _check_widths(z_opt, z)
    if not (alpha >= 0 and beta >= 0):
        raise InputError(f"alpha and beta must be at least 0; got {alpha} and {beta}.")
    if align:
        z = z.permuted(matching_order(z_opt, z, alpha=alpha, beta=beta))
    false, missed = edge_differences(z_opt, z)
    return quality_gap + alpha * false + beta * missed


def edge_differences(z_opt: Architecture, z: Architecture) -> tuple[int, int]:
    """Edges of ``z`` that ``z_opt`` has not, and edges of ``z_opt`` that ``z`` has not."""
    wanted = set(map(tuple, z_opt.edges.T.tolist()))
    found = set(map(tuple, z.edges.T.tolist()))
    return len(found - wanted), len(wanted - found)


def matching_order(
    z_opt: Architecture, z: Architecture, *, alpha: float = 1.0, beta: float = 1.0
) -> Tensor:
    """The order of ``z``'s neurons, as in ``Architecture.permuted``, that brings it near ``z_opt``.

    Layer after layer, neurons are assigned at the least cost α·false + β·missed of their edges
    given the order of the other layers (Hungarian method), until no layer changes. Activation
    classes decide between equal costs.

    Returns:
        Int64, shape ``(n_neurons,)``.
    """
    _check_widths(z_opt, z)
    wanted, found = _adjacency(z_opt), _adjacency(z)  # (n_neurons, n_neurons)
    order = torch.arange(z.n_neurons)
    hidden_layers = range(1, z.n_layers)
    for _ in range(10):
        before = order.clone()
        for k in hidden_layers:
            inside = slice(z.starts[k], z.starts[k + 1])
            arranged = found[order][:, order]
            cost = _mismatch(wanted[:, inside].T, arranged[:, inside].T, alpha=alpha, beta=beta)
            cost += _mismatch(wanted[inside], arranged[inside], alpha=alpha, beta=beta)
            differs = z_opt.activation[inside, None] != z.activation[order][None, inside]
            cost += 1e-9 * max(alpha, beta) * differs
            rows, columns = linear_sum_assignment(cost.numpy())
            chosen = order[inside].clone()
            order[inside][torch.as_tensor(rows)] = chosen[torch.as_tensor(columns)]
        if len(hidden_layers) == 1 or torch.equal(before, order):
            break
    return order


def _adjacency(z: Architecture) -> Tensor:
    dense = torch.zeros(z.n_neurons, z.n_neurons, dtype=torch.float64)
    dense[z.edges[0], z.edges[1]] = 1.0
    return dense


def _mismatch(wanted: Tensor, found: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Cost of standing neuron j of ``found`` in for neuron i of ``wanted``.

    Args:
        wanted: Edges of the neurons of one layer, 0 or 1. Float, shape ``(h, n)``.
        found: The same for the other architecture. Float, shape ``(h, n)``.
        alpha: Cost of an edge in ``found`` alone.
        beta: Cost of an edge in ``wanted`` alone.

    Returns:
        Float, shape ``(h, h)``.
    """
    return alpha * (1 - wanted) @ found.T + beta * wanted @ (1 - found).T


def _check_widths(z_opt: Architecture, z: Architecture) -> None:
    if z_opt.widths != z.widths:
        raise InputError(
            f"both architectures must have the same widths; got {z_opt.widths} and {z.widths}."
        )
