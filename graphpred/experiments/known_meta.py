"""A meta-model trained on pairs of one set of known structure: the paper's setting, in the small.

Subsamples of the set are searched, the packaged model is trained on the pairs, and predicts a
network for the whole set. What it predicts is held against the true structure and against pairs
that the training has not seen.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphpred.experiments.known_sets import (
    Condition,
    KnownSet,
    drawn,
    measured,
    path_precision,
    probability_precision,
)
from graphpred.experiments.own_model import own_pairs, trained_model
from graphpred.files import make_folder, whole_file
from graphpred.matching import edge_differences, matching_order
from graphpred.meta.examples import TRAINING_ROWS, PairExamples
from graphpred.meta.model import MetaModel
from graphpred.meta.training import TrainConfig, Trainer
from graphpred.pairs.config import DEFAULT_PRICES, GenerateConfig
from graphpred.pairs.pair import Pair
from graphpred.synthetic import KnownTask, reachable
from graphpred.task import Task

PRICES = DEFAULT_PRICES[2:9:2]
"""λ at which predictions are held against pairs: some of those that searches give pairs for."""
HELD_OUT_SEARCHES = 4
_HELD_OUT_SEED = 1000


@dataclass(frozen=True, kw_only=True)
class MetaSettings:
    """How meta-models are trained and looked at.

    Attributes:
        families: Keys of ``FAMILIES``, those with one target column.
        numbers: Of the sets of each family.
        n_rows: Rows of a set, of which a quarter is for testing.
        evaluations: Of the search of a subsample, by random networks with live edges.
        steps: Of training for the numbers of pairs and rows.
        searches: Subsamples searched, at ``usual_rows`` each.
        rows: Rows of a subsample, with ``usual_searches`` of them.
        usual_searches: See ``rows``; must be among ``searches``.
        usual_rows: See ``searches``; must be among ``rows``.
        costs: α and β of the pairs' term.
        cost_numbers: Of the sets that are trained at those.
        cost_steps: Of training at those.
        cost_batch: Data sets a step, likewise.
        cost_rate: Learning rate, likewise; that of few steps must be high for α and β to tell.
        latents: Predictions of every model at every price, with other latents.
    """

    families: tuple[str, ...] = ("a quantity", "three classes")
    numbers: tuple[int, ...] = (0, 1)
    n_rows: int = 1000
    evaluations: int = 100
    steps: int = 40
    searches: tuple[int, ...] = (2, 8, 32)
    rows: tuple[int, ...] = (60, 200, 500)
    usual_searches: int = 8
    usual_rows: int = 200
    costs: tuple[tuple[float, float], ...] = ((0.0, 0.0), (0.01, 0.005), (2.0, 0.25), (0.25, 2.0))
    cost_numbers: tuple[int, ...] = (0,)
    cost_steps: int = 80
    cost_batch: int = 8
    cost_rate: float = 1e-3
    latents: int = 2

    @property
    def amounts(self) -> list[tuple[int, int]]:
        """Numbers of subsamples and of their rows: one varies while the other is the usual."""
        pairs = [(k, self.usual_rows) for k in self.searches]
        return pairs + [(self.usual_searches, m) for m in self.rows if m != self.usual_rows]


class OwnSet:
    """A set of known structure in a file, its pairs, and models trained on them.

    Args:
        family: A key of ``FAMILIES`` with one target column.
        number: Of the set.
        settings: What is done.
        folder: Keeps the set, the pairs and the models.
    """

    def __init__(self, family: str, number: int, *, settings: MetaSettings, folder: Path) -> None:
        self._settings, self._family, self._number = settings, family, number
        self._folder = folder / self.name

    @property
    def name(self) -> str:
        """For a file."""
        return f"{self._family.replace(' ', '-')}-{self._number}"

    @property
    def facts(self) -> dict[str, Any]:
        """Which set it is, in plain JSON types."""
        return {"family": self._family, "number": self._number}

    @cached_property
    def _known(self) -> KnownTask:
        condition = Condition(family=self._family)
        return drawn(condition, number=self._number, n_rows=self._settings.n_rows)

    @cached_property
    def known_set(self) -> KnownSet:
        """The whole set; its test part is in no subsample."""
        task = Task.from_source(self._source, seed=self._number)
        return KnownSet(known=self._known, task=task, n_edges=self._known.architecture.n_edges)

    @property
    def _source(self) -> Path:
        path = self._folder / "set.npz"
        if not path.exists():
            make_folder(self._folder)
            task = self._known.task
            y = task.y if task.is_classification else task.y[:, 0]
            with whole_file(path) as temporary, temporary.open("wb") as file:
                np.savez(file, X=task.X.numpy(), y=y.numpy())
        return path

    def pairs(self, *, searches: int, rows: int, seed: int | None = None) -> list[Pair]:
        """Of subsamples; a larger number of them begins with those of a smaller one."""
        config = GenerateConfig(
            n_searches=searches,
            rows=rows,
            evaluations=self._settings.evaluations,
            searcher="random_live",
            seed=self._number if seed is None else seed,
        )
        name = f"pairs-{searches}-{rows}" if seed is None else "held-out"
        return own_pairs(self._source, out=self._folder / name, config=config)

    @cached_property
    def held_out(self) -> list[Pair]:
        """Pairs of other subsamples, of the usual size."""
        seed = _HELD_OUT_SEED + self._number
        rows = self._settings.usual_rows
        return self.pairs(searches=HELD_OUT_SEARCHES, rows=rows, seed=seed)

    def model(self, *, searches: int, rows: int) -> MetaModel:
        """The packaged model, trained on pairs."""
        self.pairs(searches=searches, rows=rows)
        name = f"{searches}-{rows}"
        return trained_model(
            self._folder / f"pairs-{name}",
            out=self._folder / f"model-{name}.safetensors",
            steps=self._settings.steps,
            seed=self._number,
        )

    def model_at(self, alpha: float, beta: float) -> MetaModel:
        """The packaged model, trained on the usual pairs at other costs α and β."""
        settings = self._settings
        pairs = self.pairs(searches=settings.usual_searches, rows=settings.usual_rows)
        config = TrainConfig(
            steps=settings.cost_steps,
            batch=settings.cost_batch,
            learning_rate=settings.cost_rate,
            alpha=alpha,
            beta=beta,
            seed=self._number,
        )
        model = MetaModel.load()
        describe = partial(model.describe, limit=TRAINING_ROWS)
        examples = PairExamples(pairs, describe=describe, seed=self._number)
        trainer = Trainer(model, draw=examples.draw, config=config)
        checkpoint = self._folder / f"costs-{alpha:g}-{beta:g}.checkpoint"
        if checkpoint.exists():
            trainer.restore(checkpoint)
        for _ in trainer.run(checkpoint=checkpoint):
            pass
        trainer.take_average()
        return model

    def looked_at(self, model: MetaModel) -> dict[str, Any]:
        """What a model predicts for the whole set.

        Returns:
            ``prices``: at every price λ, the number of edges that it expects, the K* that it
            gives, and edges false and missed against held-out pairs; ``true``: figures of
            ``measured`` at the K* of the true network, ``ap`` by probability.
        """
        latents = range(self._settings.latents)
        return {
            "prices": [self._at_price(model, price, latents=latents) for price in PRICES],
            "true": _means([self._at_true_size(model, seed=seed) for seed in latents]),
        }

    def _at_price(
        self, model: MetaModel, price: float, *, latents: Sequence[int]
    ) -> dict[str, float]:
        wanted = [pair.architecture for pair in self.held_out if pair.price == price]
        assert wanted
        rows = []
        for seed in latents:
            prediction = model.predict(self.known_set.task, price=price, seed=seed)
            proposal = prediction.proposal()
            assert proposal.start is not None
            z = proposal.architecture
            differences = [edge_differences(w, z.permuted(matching_order(w, z))) for w in wanted]
            figures = measured(self.known_set, z, proposal.start)
            rows.append(
                {
                    "expected": float(sum(p.sum() for p in prediction.probabilities)),
                    "false": statistics.fmean(false for false, _ in differences),
                    "missed": statistics.fmean(missed for _, missed in differences),
                    **{name: figures[name] for name in ("n_edges", "loss", "paths")},
                }
            )
        return {"price": price, "wanted": statistics.fmean(w.n_edges for w in wanted)} | _means(
            rows
        )

    def _at_true_size(self, model: MetaModel, *, seed: int) -> dict[str, float]:
        one = self.known_set
        prediction = model.predict(one.task, seed=seed).fitted(one.n_edges)
        proposal = prediction.chosen(one.n_edges)
        assert proposal.start is not None
        figures = measured(one, proposal.architecture, proposal.start)
        ap = probability_precision(one.known.architecture, prediction.probabilities)
        return figures | {"ap": ap}

    def frequencies(self, *, searches: int, rows: int) -> float:
        """Average precision of the true paths by how many of the pairs' networks have them."""
        pairs = self.pairs(searches=searches, rows=rows)
        reached = torch.stack([reachable(pair.architecture).float() for pair in pairs])
        return path_precision(self._known.architecture, reached.mean(dim=0))


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.fmean(row[name] for row in rows) for name in rows[0]}
