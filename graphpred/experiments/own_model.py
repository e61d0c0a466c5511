"""A data set's own pairs, a meta-model trained on them, and what it gains over the packaged one.

Pairs come from subsamples of one data set, by the paper's base algorithm: random search at fixed
densities. Test rows are in none of it.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from graphpred.experiments.parts import kept
from graphpred.meta.model import MetaModel
from graphpred.meta.run import PACKAGED_START, RunConfig, checkpoint_of, train_meta_model
from graphpred.objective import default_loss
from graphpred.pairs.generate import GenerateConfig, generate_pairs
from graphpred.pairs.pair import Pair
from graphpred.pairs.store import PairStore
from graphpred.population import FITTED_RATE, LEARNING_RATE, Population
from graphpred.seeds import derived_seed
from graphpred.task import Task

N_FRESH = 8
"""Fresh starts that a predicted structure is trained from; their mean is reported."""
FORMS = ("no step", "trained", "fresh weights")
"""What is done with a prediction."""


def own_pairs(source: str | Path, *, out: Path, config: GenerateConfig) -> list[Pair]:
    """Pairs of subsamples of a data set; a run that was stopped goes on."""
    for _ in generate_pairs([source], out=out, config=config):
        pass
    return list(PairStore(out))


def trained_model(
    pairs: Path, *, out: Path, steps: int, seed: int, from_packaged: bool = True
) -> MetaModel:
    """A meta-model trained on pairs; a training that was stopped goes on.

    Args:
        pairs: Folder of the pairs.
        out: The model file.
        steps: Of training.
        seed: Of the training, and of the parameters if it does not start from the packaged model,
            which has those of seed 0.
        from_packaged: Whether it goes on from the packaged model.
    """
    if not out.exists():
        start = PACKAGED_START if from_packaged else None
        config = RunConfig(pairs=(str(pairs),), start=start, steps=steps, seed=seed)
        for _ in train_meta_model(config, out=out, resume=checkpoint_of(out).exists()):
            pass
    return MetaModel.load(out)


@dataclass(frozen=True, kw_only=True)
class GainConfig:
    """How the gain over the packaged model is measured.

    Attributes:
        sets: Names of sets that scikit-learn ships.
        seeds: Of splits, subsamples, searches, training and latents.
        searches: Subsamples searched.
        training_steps: Of the meta-model.
        kappas: Budgets K* = κ·(n + c).
        steps: Of a predicted network.
        n_hidden: Width of hidden layers, at most; the number of features, if that is less.
    """

    sets: tuple[str, ...] = ("breast_cancer", "digits", "diabetes")
    seeds: tuple[int, ...] = (1, 2, 3)
    searches: int = 24
    training_steps: int = 60
    kappas: tuple[float, ...] = (1.0, 4.0)
    steps: int = 300
    n_hidden: int = 24


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
    )
    cells = []
    for kappa in config.kappas:
        n_edges = int(kappa * (n + c))
        losses = {
            label: _losses(
                task, model, n_hidden=n_hidden, n_edges=n_edges, steps=config.steps, seed=seed
            )
            for label, model in (("packaged", MetaModel.load()), ("own", own))
        }
        cells.append({"set": name, "seed": seed, "kappa": kappa, "n_edges": n_edges, **losses})
    return cells


def _losses(
    task: Task, model: MetaModel, *, n_hidden: int, n_edges: int, steps: int, seed: int
) -> dict[str, float]:
    """Test losses by form, at the library's own learning rates."""
    prediction = model.predict(task, n_hidden=n_hidden, seed=seed)
    proposal = prediction.proposal(n_edges=n_edges)
    assert proposal.start is not None
    z, start = [proposal.architecture], [proposal.start]
    (X, y), name = task.rows("train"), default_loss(task.kind)
    seeds = [derived_seed(seed, "fresh", i) for i in range(N_FRESH)]
    populations = (
        Population(z, start=start),
        Population(z, start=start).fit(
            X, y, steps=steps, learning_rate=FITTED_RATE, batch_seed=seed
        ),
        Population(z * N_FRESH, seed=seeds).fit(
            X, y, steps=steps, learning_rate=LEARNING_RATE, batch_seed=seed
        ),
    )
    return {
        form: float(population.losses(*task.rows("test"), loss=name).mean())
        for form, population in zip(FORMS, populations, strict=True)
    }
