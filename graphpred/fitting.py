"""From a task and a meta-model to a trained network: what ``predict`` and the estimators do.

Predict a distribution over networks, choose how many edges and which candidate on the validation
part, train from the predicted weights, and measure before and after.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from graphpred.errors import InputError
from graphpred.meta.deeper import AnyPrediction
from graphpred.meta.model import MetaModel
from graphpred.meta.moments import Moments
from graphpred.meta.samples import FIT_LIMIT, RowSample
from graphpred.meta.surgery import fitted_again
from graphpred.network import Signature, SparseNetwork
from graphpred.objective import Objective, default_loss
from graphpred.population import FITTED_RATE, TUNING_RATE, Population
from graphpred.searchers import Proposal
from graphpred.seeds import generator_for
from graphpred.task import Part, Task

FRONT_PRICES = tuple(0.003 * 1000 ** (i / 9) for i in range(10))
"""Ten prices from 0.003 to 3: the front along which the number of edges is chosen."""
REPORTED_LOSSES = {
    "classification": ("error", "log_loss"),
    "regression": ("unexplained", "mse"),
}


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How a network is predicted and trained.

    Attributes:
        density: At most floor(density · N) live edges.
        penalty: C of 𝔏 = L + C·K, instead of a density. With neither, the number of edges is
            chosen on the validation part along ten prices.
        n_hidden: Hidden neurons, or those of every hidden layer; by default one layer of as many as
            features.
        steps: Optimiser steps from the predicted weights; 0 leaves them untouched. Steps are small
            where the weights were fitted, and change little then.
        candidates: Structures drawn; the best on the validation part is kept.
        train_on: Part that the kept network is predicted for and trained on: ``"train"``, or
            ``"fit"`` with the validation rows, which only choices are made without.
        seed: Seed of latents and batches.

    Raises:
        InputError: If a field is out of its range, or both density and penalty are given.
    """

    density: float | None = None
    penalty: float | None = None
    n_hidden: int | Sequence[int] | None = None
    steps: int = 300
    candidates: int = 1
    train_on: Part = "train"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.density is not None and self.penalty is not None:
            raise InputError("density or penalty must be given, not both.")
        if self.density is not None and not 0 < self.density <= 1:
            raise InputError(f"density must be in (0, 1]; got {self.density}.")
        if self.penalty is not None and not 0 < self.penalty < math.inf:
            raise InputError(f"penalty must be a positive number; got {self.penalty}.")
        if self.steps < 0:
            raise InputError(f"steps must be at least 0; got {self.steps}.")
        if self.candidates < 1:
            raise InputError(f"candidates must be at least 1; got {self.candidates}.")

    @property
    def needs_validation(self) -> bool:
        """Whether something is chosen on the validation part."""
        return self.candidates > 1 or self.is_automatic

    @property
    def is_automatic(self) -> bool:
        """Whether the number of edges is chosen."""
        return self.density is None and self.penalty is None


@dataclass(frozen=True, eq=False, kw_only=True)
class Fit:
    """A predicted and trained network.

    Attributes:
        network: With facts and edge probabilities for the report.
        prediction: The distribution that it was chosen from.
    """

    network: SparseNetwork
    prediction: AnyPrediction


def fit_predicted(
    task: Task,
    model: MetaModel,
    *,
    config: FitConfig | None = None,
    moments: Moments | None = None,
) -> Fit:
    """Predict a network for a task and train it from its predicted weights.

    Args:
        task: The data. Choices come from its validation part, all else from the part to train on.
        model: The meta-model.
        config: How to do it.
        moments: Sums over all training rows, if the task holds a sample of them.

    Raises:
        InputError: If fewer edges are allowed than a path has, a choice lacks validation rows, or
            there are ``moments`` and the part to train on has validation rows.
    """
    config = config or FitConfig()
    if config.needs_validation and not len(task.split.validation):
        raise InputError("to choose edges or candidates, a task must have validation rows.")
    if moments is not None and config.train_on != "train":
        raise InputError("with sums over the training rows, train_on must be 'train'.")
    prediction, proposal = _chosen(task, model, config=config, moments=moments)
    population = _population([proposal])
    parts = _parts(task, config=config)
    before = _losses(population, parts)
    population.fit(
        *task.rows(config.train_on),
        steps=config.steps,
        learning_rate=_rate(prediction, n_rows=len(parts["train"][0])),
        batch_seed=config.seed,
    )
    after = _losses(population, parts)
    losses = {"before": before, "after": after, "constant": _constant(task, parts)}
    facts = _facts(task, prediction, proposal=proposal, config=config, model=model)
    network = SparseNetwork(
        proposal.architecture,
        population.weights[0],
        signature=Signature.of(task),
        facts=facts | {"losses": losses},
        evidence=_evidence(prediction),
    )
    return Fit(network=network, prediction=prediction)


_Option = tuple[AnyPrediction, Proposal]


def _chosen(task: Task, model: MetaModel, *, config: FitConfig, moments: Moments | None) -> _Option:
    """The prediction and its network, from all rows that the network is to be trained on.

    What is chosen on validation rows is first predicted without them: a number of edges, within
    which the prediction is made again with them, or a candidate, whose edges are kept.
    """
    whole = _all_training(task, part=config.train_on)
    predicted = partial(model.predict, n_hidden=config.n_hidden, seed=config.seed, moments=moments)
    members = _members(predicted(task if config.needs_validation else whole), config=config)
    options = _options(members, config=config)
    number = _best(options, task=task, config=config)
    prediction, proposal = options[number]
    if config.is_automatic:
        limit = None
        if config.train_on != "train":
            members = _members(predicted(whole), config=config)
            limit = proposal.architecture.n_edges or None
        member, place = divmod(number, len(FRONT_PRICES))
        price = FRONT_PRICES[place]
        prediction = replace(members[member].at(price).fitted(limit), price=price)
        proposal = prediction.chosen(limit)
    elif config.needs_validation and config.train_on != "train" and config.steps:
        again = fitted_again(proposal, sample=RowSample.of(whole, limit=FIT_LIMIT))
        if again is not proposal:
            prediction, proposal = replace(prediction, is_fitted=True), again
    return prediction, proposal


def _all_training(task: Task, *, part: Part) -> Task:
    """The task whose training rows are those of a part, with no validation rows beside it."""
    if part == "train":
        return task
    split = replace(task.split, train=task.split.fit, validation=task.split.validation[:0])
    return replace(task, split=split)


def _members(prediction: AnyPrediction, *, config: FitConfig) -> list[AnyPrediction]:
    """The prediction itself; if the number of edges is free, others of fresh latents too."""
    if not config.is_automatic:
        return [prediction]
    generator = generator_for(config.seed, "candidates")
    return [prediction, *prediction.redraw(config.candidates - 1, generator=generator)]


def _options(members: Sequence[AnyPrediction], *, config: FitConfig) -> list[_Option]:
    """The candidates at the density or penalty that is asked for; without both, drafts of each.

    The first is the prediction itself, others have fresh latents.
    """
    if config.is_automatic:
        drafts = [draft for member in members for draft in member.along(FRONT_PRICES)]
        return [(draft, draft.chosen()) for draft in drafts]
    (prediction,), limit = members, None
    if config.density is not None:
        limit = prediction.limit(density=config.density)
    elif config.penalty is not None:
        prediction = prediction.at(config.penalty * prediction.n_possible_edges)
    generator, n_more = generator_for(config.seed, "candidates"), config.candidates - 1
    more = prediction.fitted_draws(n_more, limit=limit, generator=generator) if n_more else []
    return [(one, one.chosen(limit)) for one in (prediction.fitted(limit), *more)]


def _best(options: Sequence[_Option], *, task: Task, config: FitConfig) -> int:
    """Train all on the training part; the least loss on the validation part, then few edges."""
    if len(options) == 1:
        return 0
    population = _population([proposal for _, proposal in options])
    population.fit(
        *task.rows("train"),
        steps=config.steps,
        learning_rate=_rate(options[0][0], n_rows=len(task.split.train)),
        batch_seed=config.seed,
    )
    losses = population.losses(*task.rows("validation"), loss=default_loss(task.kind)).tolist()
    n_edges = [proposal.architecture.n_edges for _, proposal in options]
    return min(range(len(options)), key=lambda i: (losses[i], n_edges[i]))


def _rate(prediction: AnyPrediction, *, n_rows: int) -> float:
    """Small for fitted weights, unless there are far more rows than they were fitted to."""
    has_seen_most = prediction.is_fitted and n_rows <= 2 * FIT_LIMIT
    return FITTED_RATE if has_seen_most else TUNING_RATE


def _population(proposals: Sequence[Proposal]) -> Population:
    starts = [proposal.start for proposal in proposals if proposal.start is not None]
    return Population([proposal.architecture for proposal in proposals], start=starts)


_Parts = dict[str, tuple[Tensor, Tensor]]


def _parts(task: Task, *, config: FitConfig) -> _Parts:
    """X and y of every part that has rows; validation rows that are trained on are training."""
    parts: _Parts = {"train": task.rows(config.train_on)}
    if config.train_on == "train" and len(task.split.validation):
        parts["validation"] = task.rows("validation")
    if len(task.split.test):
        parts["test"] = task.rows("test")
    return parts


def _losses(population: Population, parts: _Parts) -> dict[str, dict[str, float]]:
    """Reported losses of the first network on every part."""
    _, y = parts["train"]
    names = REPORTED_LOSSES["regression" if y.is_floating_point() else "classification"]
    return {
        part: {loss: float(population.losses(X, y, loss=loss)[0]) for loss in names}
        for part, (X, y) in parts.items()
    }


def _constant(task: Task, parts: _Parts) -> dict[str, dict[str, float]]:
    """Reported losses of the best constant: class frequencies, or the mean, of training rows."""
    _, y = parts["train"]
    if task.is_classification:
        counts = torch.bincount(y, minlength=task.n_outputs).double()
        score = ((counts + 1e-9) / counts.sum()).log()  # (c,)
    else:
        score = y.double().mean(dim=0)
    losses = {}
    for part, (X, target) in parts.items():
        scores = score[None, :, None].expand(1, -1, len(X))
        losses[part] = {
            loss: float(Objective(loss=loss).losses(scores, target)[0])
            for loss in REPORTED_LOSSES[task.kind]
        }
    return losses


def _facts(
    task: Task,
    prediction: AnyPrediction,
    *,
    proposal: Proposal,
    config: FitConfig,
    model: MetaModel,
) -> dict[str, Any]:
    z, n = proposal.architecture, prediction.n_possible_edges
    price = prediction.price if config.density is None else None  # that of drafts says nothing
    return {
        "task": {
            "name": task.name,
            "source": task.source,
            "kind": task.kind,
            "n_rows": task.n_rows,
            "n_features": task.n_features,
            "n_outputs": task.n_outputs,
            "parts": {part: len(X) for part, (X, _) in _parts(task, config=config).items()},
            "notices": list(task.notices),
        },
        "price": price,
        "penalty": None if price is None else price / n,
        "n_possible_edges": n,
        "n_edges": z.n_edges,
        "n_live_edges": z.n_live_edges,
        "density": z.n_live_edges / n,
        "steps": config.steps,
        "candidates": config.candidates,
        "seed": config.seed,
        "model": str(model.card.get("name", "a meta-model without a card")),
        "familiarity": prediction.familiarity,
        "activation_names": list(prediction.activations),
    }


def _evidence(prediction: AnyPrediction) -> dict[str, Tensor]:
    edges = {f"probability_{k}": p for k, p in enumerate(prediction.probabilities, start=1)}
    return edges | {"activation_probability": prediction.activation_probabilities}
