"""Settings of AdaNet, and the complexities that it prices; see ``adanet``.

Notation: depth l; m training rows, n_0 features; r_∞ the largest of these; n_{s-1} the inputs of a
unit of layer s.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from graphpred.errors import InputError
from graphpred.searchers.adanet_ensemble import Subnetwork
from graphpred.searchers.adanet_growth import Cross

Complexity = Literal["rademacher", "spread", "depth"]
Mixing = Literal["vector", "scalar"]
Selection = Literal["training", "hold_out"]


@dataclass(frozen=True, kw_only=True)
class AdaNetConfig:
    """Settings of AdaNet.

    Attributes:
        complexity: r of a mixture weight.
        complexity_weight: λ.
        norm_weight: β.
        norm_bound: Λ of the Rademacher bound.
        exponent: q of the Rademacher bound; may be ∞.
        mixture: A mixture weight for every unit of the last layer and output (``vector``), or for
            every subnetwork (``scalar``).
        mixture_share: Share of a candidate's steps that w gets, in [0, 1).
        selection: Whether candidates are kept, and a run goes on, by F (``training``) or by 𝔏 on
            the validation part and, among equals, Φ there (``hold_out``).
        cross: Units of the ensemble that a new unit may read in the layer below: all, those of the
            last subnetwork, or none.
        n_units: B; by default half of the units of a run's shape.
        n_rounds: T.
        n_runs: Runs side by side, at most.

    Raises:
        InputError: If a field breaks what is said above.
    """

    complexity: Complexity = "rademacher"
    complexity_weight: float = 3e-3
    norm_weight: float = 0.0
    norm_bound: float = 1.0
    exponent: float = 2.0
    mixture: Mixing = "vector"
    mixture_share: float = 0.2
    selection: Selection = "training"
    cross: Cross = "all"
    n_units: int | None = None
    n_rounds: int = 30
    n_runs: int = 8

    def __post_init__(self) -> None:
        for name, known in (
            ("complexity", get_args(Complexity)),
            ("mixture", get_args(Mixing)),
            ("selection", get_args(Selection)),
            ("cross", get_args(Cross)),
        ):
            if getattr(self, name) not in known:
                raise InputError(
                    f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}."
                )
        for name in ("complexity_weight", "norm_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be at least 0; got {getattr(self, name)}.")
        if not (self.norm_bound > 0 and self.exponent >= 1 and 0 <= self.mixture_share < 1):
            raise InputError(
                "norm_bound must be above 0, exponent at least 1 and mixture_share in [0, 1); "
                f"got {self.norm_bound}, {self.exponent}, {self.mixture_share}."
            )
        for name in ("n_units", "n_rounds", "n_runs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1; got {value}.")


def rademacher_bound(
    fan_in: Sequence[int],
    *,
    largest: float,
    n_features: int,
    n_rows: int,
    norm_bound: float = 1.0,
    exponent: float = 2.0,
) -> float:
    """Bound of the Rademacher complexity of units that read ``fan_in[s]`` neurons in layer s + 1.

    Args:
        fan_in: n_{s-1}, one number a layer.
        largest: r_∞.
        n_features: n_0.
        n_rows: m.
        norm_bound: Λ.
        exponent: q.
    """
    norms = math.prod(2 * norm_bound for _ in fan_in)
    paths = math.pow(math.prod(fan_in), 1 / exponent)
    return largest * norms * paths * math.sqrt(math.log(2 * n_features) / (2 * n_rows))


def complexity(
    subnetwork: Subnetwork, outputs: Tensor, *, X: Tensor, config: AdaNetConfig
) -> Tensor:
    """The r of every unit, or of a subnetwork with one mixture weight.

    Args:
        subnetwork: Says how deep it is and what it reads.
        outputs: Of its units for the training rows. Float, shape ``(m, U)``.
        X: Features of the training rows. Float, shape ``(m, n)``.
        config: Says which complexity.

    Returns:
        Float64, shape ``(U,)`` or ``(1,)``.
    """
    scalar = config.mixture == "scalar"
    if config.complexity == "spread":
        spread = outputs.double().std(dim=0, correction=0)  # (U,)
        last = subnetwork.readout.any(dim=1)
        return spread[last].square().mean(dim=0, keepdim=True).sqrt() if scalar else spread
    r = math.sqrt(subnetwork.depth)
    if config.complexity == "rademacher":
        r = rademacher_bound(
            subnetwork.fan_in,
            largest=float(X.abs().max()),
            n_features=X.shape[1],
            n_rows=len(X),
            norm_bound=config.norm_bound,
            exponent=config.exponent,
        )
    return torch.full((1 if scalar else outputs.shape[1],), r, dtype=torch.float64)
