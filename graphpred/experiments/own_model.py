"""A data set's own pairs, a meta-model trained on them, and what it gains over the packaged one.

Pairs come from subsamples of one data set, by the paper's base algorithm: random search at fixed
densities. Test rows are in none of it.
"""

import statistics
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from graphpred.experiments.parts import kept
from graphpred.meta.examples import TRAINING_ROWS, PairExamples
from graphpred.meta.model import MetaConfig, MetaModel
from graphpred.meta.run import PACKAGED_START, RunConfig, checkpoint_of, train_meta_model
from graphpred.meta.training import TrainConfig, Trainer
from graphpred.objective import default_loss
from graphpred.pairs.generate import GenerateConfig, generate_pairs
from graphpred.pairs.pair import Pair
from graphpred.pairs.store import PairStore
from graphpred.population import FITTED_RATE, LEARNING_RATE, Population
from graphpred.seeds import derived_seed
from graphpred.task import Task

N_FRESH = 4
"""Fresh starts that a predicted structure is trained from; their mean is reported."""
OWN_RATE = 1e-3
"""Learning rate of a meta-model on a set's own pairs: 2e-4 needs many more steps."""
FORMS = ("draft", "no step", "trained", "fresh weights")
"""What becomes of a prediction: before it is fitted and cut, after, trained, and trained from fresh
weights. The draft is what training of the meta-model changes."""


def own_pairs(source: str | Path, *, out: Path, config: GenerateConfig) -> list[Pair]:
    """Pairs of subsamples of a data set; a run that was stopped goes on."""
    for _ in generate_pairs([source], out=out, config=config):
        pass
    return list(PairStore(out))


def trained_model(
    pairs: Path,
    *,
    out: Path,
    steps: int,
    seed: int,
    rate: float | None = None,
    from_packaged: bool = True,
) -> MetaModel:
    """A meta-model trained on pairs; a training that was stopped goes on.

    Args:
        pairs: Folder of the pairs.
        out: The model file.
        steps: Of training.
        seed: Of the training, and of the parameters if it does not start from the packaged model,
            which has those of seed 0.
        rate: Learning rate; by default that of ``graphpred train``.
        from_packaged: Whether it goes on from the packaged model.
    """
    if not out.exists():
        if rate is None:
            start = PACKAGED_START if from_packaged else None
            run = RunConfig(pairs=(str(pairs),), start=start, steps=steps, seed=seed)
            for _ in train_meta_model(run, out=out, resume=checkpoint_of(out).exists()):
                pass
        else:
            model = MetaModel.load() if from_packaged else MetaModel(MetaConfig(seed=seed))
            train = TrainConfig(steps=steps, learning_rate=rate, seed=seed)
            _train(model, list(PairStore(pairs)), config=train, out=out)
    return MetaModel.load(out)


def _train(model: MetaModel, pairs: list[Pair], *, config: TrainConfig, out: Path) -> None:
    """What ``train_meta_model`` does, at a learning rate of one's own."""
    describe = partial(model.describe, limit=TRAINING_ROWS)
    examples = PairExamples(pairs, describe=describe, seed=config.seed)
    trainer, checkpoint = Trainer(model, draw=examples.draw, config=config), checkpoint_of(out)
    if checkpoint.exists():
        trainer.restore(checkpoint)
    for _ in trainer.run(checkpoint=checkpoint):
        pass
    trainer.take_average()
    model.save(out)
    checkpoint.unlink()


@dataclass(frozen=True, kw_only=True)
class GainConfig:
    """How the gain over the packaged model is measured.

    Attributes:
        sets: Names of sets that scikit-learn ships.
        seeds: Of splits, subsamples, searches and training.
        latents: Predictions of every model, each with latents of its own; their mean counts.
        searches: Subsamples searched.
        training_steps: Of the meta-model.
        training_rate: Its learning rate.
        kappas: Budgets K* = κ·(n + c).
        steps: Of a predicted network.
        n_hidden: Width of hidden layers, at most; the number of features, if that is less.
    """

    sets: tuple[str, ...] = ("breast_cancer", "digits", "diabetes")
    seeds: tuple[int, ...] = (1, 2, 3)
    latents: int = 3
    searches: int = 24
    training_steps: int = 100
    training_rate: float = OWN_RATE
    kappas: tuple[float, ...] = (2.0, 8.0)
    steps: int = 300
    n_hidden: int = 16


def gains(config: GainConfig, *, folder: Path) -> list[dict[str, Any]]:
    """Test losses of the packaged model and of one trained on the set's own pairs.

    Args:
        config: What to do.
        folder: Keeps pairs, models and figures.

    Returns:
        One cell a set, seed and budget: ``set``, ``seed``, ``kappa``, ``n_edges``, and the losses
        of ``packaged`` and ``own`` by form.
    """
    cells: list[dict[str, Any]] = []
    for name in config.sets:
        for seed in config.seeds:
            make = partial(_cells, name, config, seed=seed, folder=folder)
            cells += kept(folder / f"{name}-{seed}.json", make)
    return cells


def _cells(name: str, config: GainConfig, *, seed: int, folder: Path) -> list[dict[str, Any]]:
    task = Task.from_source(name, seed=seed)
    n, c = task.n_features, task.n_outputs
    n_hidden = min(n, config.n_hidden)
    pairs = folder / f"{name}-{seed}-pairs"
    own_pairs(
        name,
        out=pairs,
        config=GenerateConfig(n_searches=config.searches, n_hidden=n_hidden, seed=seed),
    )
    own = trained_model(
        pairs,
        out=folder / f"{name}-{seed}.safetensors",
        steps=config.training_steps,
        seed=seed,
        rate=config.training_rate,
    )
    models = {"packaged": MetaModel.load(), "own": own}
    cells = []
    for kappa in config.kappas:
        contest = Contest(
            task=task,
            n_hidden=n_hidden,
            n_edges=int(kappa * (n + c)),
            steps=config.steps,
            latents=config.latents,
            seed=seed,
        )
        losses = {label: contest.losses(model) for label, model in models.items()}
        cell = {"set": name, "seed": seed, "kappa": kappa, "n_edges": contest.n_edges}
        cells.append(cell | losses)
    return cells


@dataclass(frozen=True, eq=False, kw_only=True)
class Contest:
    """What every model is given; see ``GainConfig``."""

    task: Task
    n_hidden: int
    n_edges: int
    steps: int
    latents: int
    seed: int

    def losses(self, model: MetaModel) -> dict[str, float]:
        """Mean test losses over the latents, by form."""
        own = [self._losses(model, seed=derived_seed(self.seed, i)) for i in range(self.latents)]
        return {form: statistics.fmean(losses[form] for losses in own) for form in FORMS}

    def _losses(self, model: MetaModel, *, seed: int) -> dict[str, float]:
        """Test losses by form, at the library's own learning rates."""
        prediction = model.predict(self.task, n_hidden=self.n_hidden, seed=seed)
        draft = prediction.near(self.n_edges).chosen(self.n_edges)
        fitted = prediction.proposal(n_edges=self.n_edges)
        assert draft.start is not None
        assert fitted.start is not None
        z, start = [fitted.architecture], [fitted.start]
        seeds = [derived_seed(seed, "fresh", i) for i in range(N_FRESH)]
        populations = (
            Population([draft.architecture], start=[draft.start]),
            Population(z, start=start),
            self._trained(Population(z, start=start), rate=FITTED_RATE),
            self._trained(Population(z * N_FRESH, seed=seeds), rate=LEARNING_RATE),
        )
        X, y = self.task.rows("test")
        loss = default_loss(self.task.kind)
        return {
            form: float(population.losses(X, y, loss=loss).mean())
            for form, population in zip(FORMS, populations, strict=True)
        }

    def _trained(self, population: Population, *, rate: float) -> Population:
        X, y = self.task.rows("train")
        return population.fit(X, y, steps=self.steps, learning_rate=rate, batch_seed=self.seed)
