"""Bayesian optimisation: a Gaussian process under the Arc kernel says what is worth training.

Source: Swersky, Duvenaud, Snoek, Hutter and Osborne, 2014, arXiv:1409.4011, see ``arc_kernel`` and
``arc_process``. Of all candidates the one with the greatest expected improvement is trained,

    EI = (f* − μ) Φ(z) + σ φ(z),    z = (f* − μ) / σ,

with mean μ and deviation σ of its 𝔏 and f* the least mean of those trained.

The cost is cubic in the number of networks that the process knows: factorising their covariance
takes n³/3 operations, at every choice and at every step of fitting the hyperparameters. So it knows
at most 300, the better half of which are the best of all and the rest the last ones; and the
hyperparameters are fitted only when there are a quarter more networks than at the last time.

Ours, too: the first networks are random, a fifth of the budget up to 20. Candidates are the best
ten after one or two mutations, see ``mutations``, and random ones. Ten are trained together: after
a choice the process believes its mean for it, which lowers the variance of those near and may lower
f* (the kriging believer of Ginsbourger, Le Riche and Carraro, 2010). Objectives are standardised,
the worst tenth as one, see ``standardisation``. ``pip install 'graphpred[rivals]'`` brings
gpytorch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.searchers.arc_kernel import described, parameter_groups
from graphpred.searchers.base import Proposal, Setting, Trial
from graphpred.searchers.mutations import Mutator, sizes_of
from graphpred.searchers.random import random_live_search
from graphpred.searchers.standardisation import standardised

_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """How candidates are found and judged.

    Attributes:
        first: Random networks before the first choice.
        batch: Networks chosen at a time.
        parents: Best networks that candidates come from.
        children: Candidates that are mutated.
        random: Candidates that are random.
        most_known: Networks that the process knows at most.
        growth: Hyperparameters are fitted anew when there are so many times as many networks.
        fit_steps: Steps of a fit.
    """

    first: int = 20
    batch: int = 10
    parents: int = 10
    children: int = 100
    random: int = 20
    most_known: int = 300
    growth: float = 1.25
    fit_steps: int = 30

    @classmethod
    def within(cls, n_networks: int) -> "Optimisation":
        """Scaled to a budget."""
        return cls(first=min(cls.first, max(3, n_networks // 5)))


class GaussianProcessSearch:
    """Bayesian optimisation over the architectures of a space.

    Args:
        setting: What every searcher is given.
        optimisation: How; by default scaled to the budget.

    Raises:
        InputError: If gpytorch is not installed.
    """

    def __init__(self, setting: Setting, *, optimisation: Optimisation | None = None) -> None:
        self._process = _process_class()
        self._how = optimisation or Optimisation.within(setting.n_networks)
        self._generator = setting.generator
        self._groups = parameter_groups(setting.space)
        self._random = random_live_search(setting)
        self._mutator = Mutator(
            space=setting.space, sizes=sizes_of(setting), generator=setting.generator
        )
        self._columns = torch.empty(
            0, sum(group.n_columns for group in self._groups), dtype=torch.float64
        )
        self._objectives: list[float] = []
        self._parents: list[tuple[float, Architecture]] = []  # best first
        self._hyperparameters: dict[str, Tensor] = {}
        self._n_fitted = 0

    def ask(self, k: int) -> list[Proposal]:
        """Random networks at first, then those of the greatest expected improvement."""
        missing = self._how.first - len(self._objectives)
        if missing > 0 or not self._parents:
            return self._random.ask(min(k, max(missing, self._how.batch)))
        candidates = self._candidates()
        new = torch.stack([described(z, groups=self._groups) for z in candidates])
        x, y = self._known()
        process = self._process(x, y, groups=self._groups)
        if self._hyperparameters:
            process.load_state_dict(self._hyperparameters)
        if len(self._objectives) >= self._how.growth * self._n_fitted:
            process.fit(steps=self._how.fit_steps)
            self._n_fitted = len(self._objectives)
            self._hyperparameters = {
                name: value.detach().clone() for name, value in process.state_dict().items()
            }
        mean, covariance = process.posterior(torch.cat([x, new]))
        chosen = believed(
            mean[len(x) :],
            covariance[len(x) :, len(x) :],
            best=float(mean[: len(x)].min()),
            noise=process.noise,
            n=min(k, self._how.batch),
        )
        return [Proposal(architecture=candidates[i]) for i in chosen]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn what the networks reached."""
        rows = [described(trial.architecture, groups=self._groups) for trial in trials]
        self._columns = torch.cat([self._columns, torch.stack(rows)])
        self._objectives += [trial.objective for trial in trials]
        finite = [(t.objective, t.architecture) for t in trials if math.isfinite(t.objective)]
        ordered = sorted(self._parents + finite, key=lambda parent: parent[0])
        self._parents = ordered[: self._how.parents]

    def state(self) -> dict[str, Any]:
        """What is known, the best, and the hyperparameters."""
        return {
            "columns": self._columns,
            "objectives": list(self._objectives),
            "parents": list(self._parents),
            "hyperparameters": dict(self._hyperparameters),
            "n_fitted": self._n_fitted,
            "random": self._random.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with that."""
        self._columns, self._objectives = state["columns"], state["objectives"]
        self._parents, self._hyperparameters = state["parents"], state["hyperparameters"]
        self._n_fitted = state["n_fitted"]
        self._random.restore(state["random"])

    def _candidates(self) -> list[Architecture]:
        """Neighbours of the best, and random ones; no two are equal."""
        candidates = []
        for _ in range(self._how.children):
            z = self._parents[self._below(len(self._parents))][1]
            for _ in range(1 + self._below(2)):
                z = self._mutator.mutated(z)
            candidates.append(z)
        candidates += [proposal.architecture for proposal in self._random.ask(self._how.random)]
        return list(dict.fromkeys(candidates))

    def _known(self) -> tuple[Tensor, Tensor]:
        """Columns and standardised objectives of the best networks and of the last."""
        y = torch.tensor(standardised(self._objectives), dtype=torch.float64)
        if len(y) <= self._how.most_known:
            return self._columns, y
        half = self._how.most_known // 2
        best = y.argsort(stable=True)[:half]
        others = torch.ones(len(y), dtype=torch.bool)
        others[best] = False
        last = others.nonzero()[:, 0][-(self._how.most_known - half) :]
        kept = torch.cat([best, last])
        return self._columns[kept], y[kept]

    def _below(self, n: int) -> int:
        return int(torch.randint(n, (), generator=self._generator))


def believed(mean: Tensor, covariance: Tensor, *, best: float, noise: float, n: int) -> list[int]:
    """Choose one candidate after another, each time as if the mean had come true.

    Args:
        mean: μ of every candidate. Float64, shape ``(c,)``.
        covariance: Of the candidates. Float64, shape ``(c, c)``.
        best: f*.
        noise: σ² of an objective around f.
        n: How many to choose.

    Returns:
        Positions of at most n candidates.
    """
    covariance, chosen = covariance.clone(), list[int]()
    left = torch.ones(len(mean), dtype=torch.bool)
    for _ in range(min(n, len(mean))):
        improvement = expected_improvement(mean, covariance.diagonal(), best=best)
        i = int(torch.where(left, improvement, -1.0).argmax())
        chosen.append(i)
        left[i] = False
        best = min(best, float(mean[i]))
        with_i = covariance[i].clone()
        covariance -= torch.outer(with_i, with_i) / (with_i[i] + noise)
    return chosen


def expected_improvement(mean: Tensor, variance: Tensor, *, best: float) -> Tensor:
    """E max(f* − f, 0) for normal f.

    Args:
        mean: μ. Float, shape ``(c,)``.
        variance: σ², 0 or more but for rounding. Float, shape ``(c,)``.
        best: f*.

    Returns:
        Float, shape ``(c,)``.

    >>> expected_improvement(torch.tensor([0.0, 3.0]), torch.tensor([1.0, 0.0]), best=0.0)
    tensor([0.3989, 0.0000])
    """
    deviation = variance.clamp(min=_LEAST_VARIANCE).sqrt()
    z = (best - mean) / deviation
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    expected: Tensor = (best - mean) * torch.special.ndtr(z) + deviation * density
    return expected


def _process_class() -> Any:
    """``ArcProcess``, whose module needs gpytorch."""
    try:
        from graphpred.searchers.arc_process import ArcProcess  # noqa: PLC0415 - optional
    except ModuleNotFoundError as error:
        if error.name not in ("gpytorch", "linear_operator"):
            raise
        raise InputError(
            "searcher 'gaussian_process' needs a package that is not installed, gpytorch: "
            "pip install 'graphpred[rivals]'."
        ) from error
    return ArcProcess
