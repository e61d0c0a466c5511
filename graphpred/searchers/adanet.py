"""AdaNet: an ensemble that grows by subnetworks, deeper where depth pays for its complexity.

Source: Cortes, Gonzalvo, Kuznetsov, Mohri and Yang, "AdaNet: adaptive structural learning of
artificial neural networks", arXiv:1607.01097; and the library of that name for TensorFlow.

    F(w) = Φ(Σ_j w_j h_j) + Σ_j Γ_j |w_j|,   Γ_j = λ r_j + β

mixes frozen units h_j, whose complexity is r_j. A round draws two subnetworks, of the present depth
l and of l + 1, trains each on what the ensemble leaves over, minimises F over all mixture weights
w, and keeps the better. A run ends when F does not fall, after T rounds, or when neither edges nor
units are left; then another begins, so that any budget is used. Complexities are

- ``rademacher``: r_∞ Λ_l N_l^{1/q} √(log(2 n_0) / 2m), with Λ_l = (2Λ)^l and N_l = Π_s n_{s-1};
- ``spread``: the standard deviation of the last layer's outputs over the training rows;
- ``depth``: √l.

Notation: depth l; B units a layer; m training rows, n_0 = n features, c outputs; r_∞ the largest
feature; n_{s-1} the inputs of a unit of layer s; K edges.

What is ours, on a space of sparse networks with an activation a neuron:

- The ensemble is one network of K edges: those into units, cross connections, and one from a unit
  to an output for every mixture weight that is not zero, past later layers if need be. Depth ends
  at the space's hidden layers; there, both subnetworks of a round have it.
- A run draws its shape as ``random_live`` does: how many units of one layer would use up the edges
  of a density, log-uniformly, thus how many neurons a unit reads, which ones being drawn for each.
  With ``n_units`` every unit reads the space's density of features instead.
- Φ is the loss that networks are trained with. Of two classes only the second has a score beside
  its bias, as one weight a unit says all. Biases are free. Λ bounds no weights, it is but a number.
- Weights of a subnetwork, to the outputs too, are trained by Adam on Φ alone; the penalty comes in
  the convex step. What that sets to zero is gone, and its edges can be used again.
- A candidate costs the steps of any other: most are Adam's, and every step of proximal gradient in
  w counts as one. The trial is the whole ensemble; its ``steps`` are those of its last round.
- Several runs go on side by side where the budget allows, because that is faster.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from graphpred.errors import InputError
from graphpred.population import Population
from graphpred.searchers.adanet_config import AdaNetConfig, complexity
from graphpred.searchers.adanet_ensemble import Ensemble, Subnetwork
from graphpred.searchers.adanet_growth import Candidate, Growth, trained_beside
from graphpred.searchers.adanet_mixture import Mixture
from graphpred.searchers.base import STEPS_PER_EVALUATION, Setting, Trial
from graphpred.seeds import derived_seed, log_uniform

CANDIDATES = 2
"""Subnetworks of a round."""
_CANDIDATES_PER_RUN = 16  # of the budget, at least, for every run that goes on beside another


@dataclass(frozen=True, eq=False, kw_only=True)
class Run:
    """A run of AdaNet between two rounds.

    Attributes:
        ensemble: So far.
        n_edges: Most edges that it may have.
        n_units: B.
        fan_in: Neurons that a unit reads, at most.
        depth: l.
        n_rounds: Rounds so far.
        least: F, or 𝔏 and Φ on the validation part, of the ensemble.
    """

    ensemble: Ensemble
    n_edges: int
    n_units: int
    fan_in: int
    depth: int = 1
    n_rounds: int = 0
    least: tuple[float, ...] = (math.inf,)

    def state(self) -> dict[str, Any]:
        """As numbers and tensors."""
        return vars(self) | {"ensemble": self.ensemble.state()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Run":
        """The inverse of ``state``."""
        return cls(**state | {"ensemble": Ensemble.from_state(state["ensemble"])})


@dataclass(frozen=True, eq=False, kw_only=True)
class _Grown:
    """What an ensemble becomes with a candidate, and F of it."""

    candidate: Candidate
    ensemble: Ensemble
    value: float


class AdaNet:
    """Grows ensembles; every candidate gives a trial, the ensemble with it.

    Args:
        setting: What every searcher is given.
        config: Settings of the method.

    Raises:
        InputError: If the space has no hidden layer, or no output can be a linear mixture.
    """

    def __init__(self, setting: Setting, *, config: AdaNetConfig | None = None) -> None:
        space, ledger = setting.space, setting.ledger
        if space.n_layers < 2 or "identity" not in space.output_activations:
            raise InputError(
                "adanet needs a hidden layer and the output activation identity; got widths "
                f"{space.widths} and output activations {', '.join(space.output_activations)}."
            )
        self._setting, self._config = setting, config or AdaNetConfig()
        self._n_begun = 0
        n_candidates = ledger.evaluations * STEPS_PER_EVALUATION // setting.steps
        n_runs = max(1, min(self._config.n_runs, n_candidates // _CANDIDATES_PER_RUN))
        self._runs = [self._begun() for _ in range(n_runs)]

    def run(self) -> Iterator[list[Trial]]:
        """Yield the trials of a round of every run after another until the budget is spent."""
        setting = self._setting
        while affordable := setting.ledger.steps_left // setting.steps:
            candidates = self._drawn()[:affordable]
            setting.ledger.charge(
                networks=len(candidates), network_steps=len(candidates) * setting.steps
            )
            grown = self._grown([candidate for _, candidate in candidates])
            trials, values = self._measured(grown)
            self._decide([i for i, _ in candidates], grown, values)
            yield trials

    def state(self) -> dict[str, Any]:
        """The runs, and how many have begun."""
        return {"n_begun": self._n_begun, "runs": [run.state() for run in self._runs]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with those runs."""
        self._n_begun = state["n_begun"]
        self._runs = [Run.from_state(run) for run in state["runs"]]

    @property
    def _outputs(self) -> tuple[int, ...]:
        """Outputs that units lead to."""
        task = self._setting.task
        if task.is_classification and task.n_outputs == 2:
            return (1,)
        return tuple(range(task.n_outputs))

    def _begun(self) -> Run:
        """A new run at the next density."""
        setting, config = self._setting, self._config
        space, n_outputs = setting.space, len(self._outputs)
        density = setting.densities[self._n_begun % len(setting.densities)]
        self._n_begun += 1
        n_edges = max(space.n_layers, space.n_edges_at(density))
        n_features, width = space.widths[:2]
        fewest = max(1, n_edges // (n_features + n_outputs))
        most = max(fewest, min(n_edges // (1 + n_outputs), width))
        n_units = log_uniform(fewest, most, generator=setting.generator)
        fan_in = round(n_edges / n_units - n_outputs)
        if config.n_units is not None:
            fan_in = round(density * n_features)
        return Run(
            ensemble=Ensemble.empty(setting.task, scalar=config.mixture == "scalar"),
            n_edges=n_edges,
            n_units=config.n_units or math.ceil(n_units / 2),
            fan_in=min(max(1, fan_in), n_features),
        )

    def _drawn(self) -> list[tuple[int, Candidate]]:
        """Candidates of a round of every run, and the place of their run."""
        setting = self._setting
        drawn = []
        for i, run in enumerate(self._runs):
            subnetworks = self._subnetworks(run)
            if not subnetworks:
                self._runs[i] = self._begun()
                subnetworks = self._subnetworks(self._runs[i])
            ensemble = self._runs[i].ensemble
            drawn += [(i, ensemble, subnetwork) for subnetwork in subnetworks]
        first = setting.ledger.trials
        seeds = [derived_seed(setting.seed, "weights", first + j) for j in range(len(drawn))]
        return [
            (i, Candidate(ensemble=ensemble, subnetwork=subnetwork, seed=seed))
            for (i, ensemble, subnetwork), seed in zip(drawn, seeds, strict=True)
        ]

    def _subnetworks(self, run: Run) -> list[Subnetwork]:
        """Up to two that fit into what a run has left."""
        setting, config = self._setting, self._config
        if run.n_rounds == config.n_rounds:
            return []
        growth = Growth(
            space=setting.space,
            n_units=run.n_units,
            fan_in=run.fan_in,
            cross=config.cross,
            outputs=self._outputs,
        )
        deepest = setting.space.n_layers - 1
        drawn = [
            growth.draw(
                run.ensemble,
                depth=min(run.depth + deeper, deepest),
                n_edges=run.n_edges - run.ensemble.n_edges,
                generator=setting.generator,
            )
            for deeper in range(CANDIDATES)
        ]
        return [subnetwork for subnetwork in drawn if subnetwork is not None]

    def _grown(self, candidates: Sequence[Candidate]) -> list[_Grown]:
        """Train subnetworks, then all mixture weights."""
        setting = self._setting
        n_mixing = int(self._config.mixture_share * setting.steps)
        trained = trained_beside(
            candidates,
            task=setting.task,
            space=setting.space,
            steps=setting.steps - n_mixing,
            batch_seed=setting.seed,
        )
        X, _ = setting.task.rows("train")
        grown = []
        for candidate, parts in zip(candidates, trained, strict=True):
            outputs = candidate.subnetwork.units.outputs(
                torch.cat([X, candidate.ensemble.outputs], dim=1),
                weight=parts.into_units,
                bias=parts.bias,
            )
            joined = candidate.ensemble.joined(
                candidate.subnetwork,
                parts=parts,
                outputs=outputs,
                complexity=complexity(candidate.subnetwork, outputs, X=X, config=self._config),
            )
            ensemble, value = self._mixed(joined, steps=n_mixing)
            grown.append(_Grown(candidate=candidate, ensemble=ensemble, value=value))
        return grown

    def _mixed(self, ensemble: Ensemble, *, steps: int) -> tuple[Ensemble, float]:
        """An ensemble with better mixture weights, and F; ∞ if it has overflown."""
        if not bool(ensemble.scores.isfinite().all()):
            return ensemble, math.inf
        config = self._config
        gamma = config.complexity_weight * ensemble.complexity + config.norm_weight
        mixture = Mixture(
            outputs=ensemble.mixed,
            y=self._setting.task.rows("train")[1],
            gamma=ensemble.of_mixture(gamma),
        )
        weight, shift = mixture.minimised(ensemble.mixture, ensemble.shift, steps=steps)
        better = replace(ensemble, mixture=weight, shift=shift)
        return better.pruned(), mixture.value(weight, shift)

    def _measured(self, grown: Sequence[_Grown]) -> tuple[list[Trial], list[tuple[float, ...]]]:
        """Trials of ensembles, and what is to fall from round to round."""
        setting = self._setting
        task, objective = setting.task, setting.objective
        networks = [one.ensemble.network(setting.space) for one in grown]
        population = Population(
            [z for z, _ in networks], start=[weights for _, weights in networks]
        )
        train_losses = population.losses(*task.rows("train"), loss=objective.loss).tolist()
        losses = population.losses(*task.rows("validation"), loss=objective.loss).tolist()
        trials = [
            Trial(
                number=setting.ledger.trials + i,
                architecture=z,
                weights=weights,
                train_loss=train_losses[i],
                loss=losses[i],
                objective=losses[i] + objective.cost(z.n_edges),
                steps=setting.steps,
                seed=grown[i].candidate.seed,
            )
            for i, (z, weights) in enumerate(networks)
        ]
        if self._config.selection == "training":
            return trials, [(one.value,) for one in grown]
        phi = "log_loss" if task.is_classification else "mse"
        held_out = population.losses(*task.rows("validation"), loss=phi).tolist()
        return trials, [(t.objective, own) for t, own in zip(trials, held_out, strict=True)]

    def _decide(
        self, places: Sequence[int], grown: Sequence[_Grown], values: Sequence[tuple[float, ...]]
    ) -> None:
        """Every run goes on with its better candidate, or ends; ``places`` are of their runs."""
        for i in sorted(set(places)):
            own = [j for j, place in enumerate(places) if place == i]
            best = min(own, key=lambda j: values[j])
            run, chosen = self._runs[i], grown[best]
            if not values[best] < run.least:
                self._runs[i] = self._begun()
                continue
            self._runs[i] = replace(
                run,
                ensemble=chosen.ensemble,
                depth=max(run.depth, chosen.candidate.subnetwork.depth),
                n_rounds=run.n_rounds + 1,
                least=values[best],
            )
