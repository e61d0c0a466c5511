"""Which rows are for training, validation and testing, and stratified draws of rows.

The test part is a function of the data alone: a hash of the contents seeds its draw. Training and
validation rows are drawn from an explicit generator.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from graphpred.errors import InputError

TEST_SHARE = 0.25
VALIDATION_SHARE = 1 / 3
"""Share of the rows that are not for testing."""


@dataclass(frozen=True, eq=False)
class Split:
    """Which rows are for what; sorted, without a row in two parts.

    Attributes:
        train: Rows to train on. Int64, shape ``(m_train,)``.
        validation: Rows to choose by. Int64, shape ``(m_validation,)``.
        test: Rows to report on, possibly none. Int64, shape ``(m_test,)``.

    Raises:
        InputError: If a part is not of sorted int64 indices, or two parts share a row.
    """

    train: Tensor
    validation: Tensor
    test: Tensor

    def __post_init__(self) -> None:
        for name, rows in vars(self).items():
            if rows.dtype != torch.int64 or rows.ndim != 1 or bool((rows.diff() <= 0).any()):
                raise InputError(f"{name} rows must be sorted int64 indices; got {rows}.")
        rows = torch.cat([self.train, self.validation, self.test])
        if rows.unique().numel() < rows.numel():
            raise InputError("the parts of a split must not share rows; they do.")

    @property
    def fit(self) -> Tensor:
        """Rows for training or validation. Int64, shape ``(m_train + m_validation,)``, sorted."""
        return torch.cat([self.train, self.validation]).sort().values


def stratified_draw(
    y: Tensor, n_rows: int, *, generator: torch.Generator, at_least: int = 0, leave: int = 0
) -> Tensor:
    """Draw rows without replacement, every class in proportion; any rows of a regression.

    Args:
        y: Class indices, int64, shape ``(m,)``; or outputs, float, whose first axis is m.
        n_rows: How many; fewer or more if the bounds ask for it.
        generator: Draws the rows.
        at_least: Rows of every class to draw, if it has them.
        leave: Rows of every class not to draw.

    Returns:
        Positions, int64, shape ``(n_rows,)``, sorted.

    >>> y = torch.tensor([0, 0, 0, 0, 1, 1])
    >>> y[stratified_draw(y, 3, generator=torch.Generator().manual_seed(0))]
    tensor([0, 0, 1])
    """
    strata = y.new_zeros(len(y), dtype=torch.int64) if y.is_floating_point() else y
    counts = torch.bincount(strata)  # (c,)
    high = (counts - leave).clamp(min=0)
    low = high.clamp(max=at_least)
    n_rows = min(max(n_rows, int(low.sum())), int(high.sum()))
    wanted = counts.double() * n_rows / max(len(y), 1)
    taken = torch.minimum(torch.maximum(wanted.floor().long(), low), high)
    while (short := n_rows - int(taken.sum())) != 0:  # give or take one where it is due most
        step = 1 if short > 0 else -1
        free = taken < high if step > 0 else taken > low
        due = torch.where(free, step * (wanted - taken), -torch.inf)
        taken[due.argmax()] += step
    drawn = [torch.empty(0, dtype=torch.int64)]
    for stratum, n_taken in enumerate(taken.tolist()):
        rows = (strata == stratum).nonzero().squeeze(1)
        drawn.append(rows[torch.randperm(len(rows), generator=generator)[:n_taken]])
    return torch.cat(drawn).sort().values


def held_out_rows(y: Tensor, *, digest: str) -> Tensor:
    """The rows to hold out for testing, a quarter of every class: a function of the data alone.

    Args:
        y: Classes or outputs, see ``stratified_draw``.
        digest: Hexadecimal hash of the data; seeds the draw.

    Returns:
        Sorted rows, int64, shape ``(m_test,)``.
    """
    generator = torch.Generator().manual_seed(int(digest[:15], 16))
    n_rows = round(TEST_SHARE * len(y))
    return stratified_draw(y, n_rows, generator=generator, at_least=1, leave=2)


def split_rows(
    y: Tensor,
    *,
    generator: torch.Generator,
    test: Tensor | None = None,
    among: Tensor | None = None,
    validation_share: float = VALIDATION_SHARE,
) -> Split:
    """Draw the training and validation rows, stratified by class.

    Args:
        y: Classes or outputs, see ``stratified_draw``.
        generator: Draws the rows.
        test: Rows to leave for testing. Int64, shape ``(m_test,)``.
        among: Rows to draw from; all but the test rows by default.
        validation_share: Of the rows drawn from.

    Raises:
        InputError: If the share is not in [0, 1).
    """
    if not 0 <= validation_share < 1:
        raise InputError(f"validation_share must be in [0, 1); got {validation_share}.")
    test = torch.empty(0, dtype=torch.int64) if test is None else test
    if among is None:
        among = torch.arange(len(y))
        among = among[~torch.isin(among, test)]
    n_rows = round(validation_share * len(among))
    chosen = stratified_draw(
        y[among], n_rows, generator=generator, at_least=int(validation_share > 0), leave=1
    )
    for_training = torch.ones(len(among), dtype=torch.bool)
    for_training[chosen] = False
    return Split(train=among[for_training], validation=among[chosen], test=test)
