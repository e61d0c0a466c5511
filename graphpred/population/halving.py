"""Successive halving inside a population: hopeless networks stop early and leave the batch.

Source: Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter
optimization", AISTATS 2016. Here a *rung* is a share of the training steps; with several prices,
a network goes on if it is promising at one of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from graphpred.errors import InputError
from graphpred.objective import Objective
from graphpred.population.block import Block


@dataclass(frozen=True, eq=False, kw_only=True)
class Halving:
    """When networks are compared, and which go on.

    Attributes:
        X: Rows to compare on. Float, shape ``(m, n)``.
        y: Their classes or targets, as ``Population.fit`` takes them.
        loss: A key of ``LOSSES``.
        costs: g(K) of every network at every price, added to its loss; None for no price.
            Float, shape ``(P, B)``.
        rungs: Shares of the steps after which networks are compared, ascending in (0, 1).
        keep: Share of the networks that goes on at a rung for every price, in (0, 1); one at
            least. A network that is among the best at several prices is kept once.

    Raises:
        InputError: If a field breaks what is said above.
    """

    X: Tensor
    y: Tensor
    loss: str
    costs: Tensor | None = None
    rungs: Sequence[float] = (0.25, 0.55)
    keep: float = 0.2

    def __post_init__(self) -> None:
        ascending = all(a < b for a, b in zip(self.rungs, self.rungs[1:], strict=False))
        if not ascending or not all(0 < rung < 1 for rung in self.rungs):
            raise InputError(f"rungs must ascend in (0, 1); got {list(self.rungs)}.")
        if not 0 < self.keep < 1:
            raise InputError(f"keep must be in (0, 1); got {self.keep}.")

    def on(self, X: Tensor, y: Tensor, *, n_networks: int) -> "Halving":
        """The same on checked rows; an ``InputError`` if the costs are not those of B networks."""
        if self.costs is not None and self.costs.shape[1:] != (n_networks,):
            raise InputError(
                f"costs must have shape (P, {n_networks}); got {tuple(self.costs.shape)}."
            )
        return replace(self, X=X, y=y)

    def rungs_of(self, steps: int) -> list[int]:
        """The steps after which networks are compared; fewer rungs if there are few steps."""
        return sorted({round(rung * steps) for rung in self.rungs} - {0, steps})

    def losses(self, block: Block) -> Tensor:
        """L of the networks of a block. Float64, shape ``(B_block,)``, on the CPU."""
        return Objective(loss=self.loss).losses(block.scores(self.X), self.y).cpu()

    def promoted(self, losses: Tensor, *, members: list[int]) -> list[int]:
        """Of the networks still training, those that go on, ascending.

        Args:
            losses: L of all networks; those of others are not looked at. Shape ``(B,)``.
            members: The networks still training.
        """
        costs = torch.zeros(1, len(losses)) if self.costs is None else self.costs
        n_kept = math.ceil(self.keep * len(members))
        objectives = losses[members] + costs[:, members]  # (P, n_members)
        best = objectives.argsort(dim=1, stable=True)[:, :n_kept]  # (P, n_kept)
        return [members[i] for i in best.flatten().unique().tolist()]
