"""Objectives on one scale, without those that would spoil it."""

from collections.abc import Sequence

import numpy as np

_WORST = 0.1  # share of the networks that count as the best of them


def standardised(objectives: Sequence[float]) -> list[float]:
    """𝔏 in deviations from the mean; all 0 if they do not differ or none is finite.

    What is beyond the 90 % quantile of the finite ones, or not finite, counts as that quantile.

    >>> [round(y, 6) for y in standardised([0.1, 0.3])]
    [-1.0, 1.0]
    """
    values = np.array(objectives, dtype=np.float64)
    finite = values[np.isfinite(values)]
    if not len(finite):
        return [0.0] * len(values)
    values = np.fmin(values, np.quantile(finite, 1 - _WORST))
    deviation = values.std()
    if deviation <= 1e-12 * np.abs(values).max():
        return [0.0] * len(values)
    result: list[float] = ((values - values.mean()) / deviation).tolist()
    return result
