"""Small data sets, models and trainings for the tests of the meta-model."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path

import torch
from torch import nn

from graphpred.meta.encoders import Embedding, StatisticsEncoder
from graphpred.meta.examples import PriorExamples
from graphpred.meta.initialisation import initialise
from graphpred.meta.model import MetaConfig, MetaModel
from graphpred.meta.training import TrainConfig, Trainer
from graphpred.split import Split
from graphpred.synthetic.prior import PriorConfig
from graphpred.task import Task

WIDTH = 16
PRIOR = PriorConfig(  # easy: a few steps must teach something
    features=(2, 6),
    classes=(2, 4),
    outputs=(1, 1),
    train_rows=(40, 80),
    validation_rows=32,
    families=("linear", "network"),
    noise=0.3,
    label_noise=0.0,
    imbalance=0.3,
    missing=0.0,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def toy_task(kind="classification", *, n=5, c=3, m=60, m_test=0, seed=0, absent=False):
    """A task whose target depends on its features; the last class may have no row."""
    generator = seeded(seed)
    X = torch.randn(m, n, generator=generator)
    scores = torch.sin(X @ torch.randn(n, c, generator=generator)) + 0.3 * X[:, :1]
    if kind == "regression":
        y, names = scores.numpy(), tuple(f"y{k}" for k in range(c))
        y = y if c > 1 else y[:, 0]
    else:
        y = scores[:, : c - absent].argmax(dim=1).numpy()
        names = tuple(f"class {k}" for k in range(c))
    parts = torch.arange(m).split([m - m_test - m // 4, m // 4, m_test])
    return Task.from_arrays(X.numpy(), y, kind=kind, split=Split(*parts), class_names=names)


def toy_model(seed=0, *, n_rounds=4, **config):
    """A meta-model of some ten thousand parameters."""
    return MetaModel(
        MetaConfig(width=WIDTH, n_attention=1, n_rounds=n_rounds, seed=seed, **config),
        encoder=StatisticsEncoder(width=WIDTH, n_rounds=1, generator=seeded(seed)),
    )


def moved_model():
    """A model away from its special initial parameters: every head says something."""
    model = toy_model()
    for _ in toy_trainer(model, steps=10).run():
        pass
    generator = seeded(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model.requires_grad_(False)


def toy_description(task, *, model=None):
    """A description with statistics, or with what the encoder of ``model`` describes."""
    return (model or toy_model()).describe(task)


def in_double(thing):
    """The same description, sample or statistics with all numbers in double precision."""
    if isinstance(thing, torch.Tensor):
        return thing.double() if thing.is_floating_point() else thing
    if not is_dataclass(thing):
        return thing
    return replace(thing, **{f.name: in_double(getattr(thing, f.name)) for f in fields(thing)})


def toy_trainer(model, *, steps=40, batch=4, draw=None, **config):
    """``draw``: one example at a time."""
    prior = PriorExamples(model.describe, config=PRIOR).draw
    several = (lambda k, generator: [draw(generator) for _ in range(k)]) if draw else prior
    return Trainer(model, draw=several, config=TrainConfig(steps=steps, batch=batch, **config))


def team_training(team, folder, *, steps=3, last=None, resume=False):
    """A training on data sets of two shapes, and its losses; with a checkpoint after ``last``."""
    model = toy_model()
    shapes = {"features": (3, 3), "classes": (2, 2)}, {"features": (5, 5), "outputs": (2, 2)}
    sources = [PriorExamples(model.describe, config=replace(PRIOR, **shape)) for shape in shapes]

    def draw(k, generator):
        return sources[0].draw(k // 2, generator) + sources[1].draw(k - k // 2, generator)

    config = TrainConfig(steps=steps, batch=5, learning_rate=1e-2)
    trainer = Trainer(model, draw=draw, config=config, team=team)
    checkpoint = Path(folder) / "checkpoint"
    if resume:
        trainer.restore(checkpoint)
    return [
        report.loss
        for report in trainer.run(checkpoint=checkpoint, stop=lambda: trainer.step == last)
    ]


def team_trainings(team, folder, trainings):
    """Several of them, one after the other: settings by the name of their folder."""
    return {
        name: team_training(team, Path(folder) / name, **settings)
        for name, settings in trainings.items()
    }


def silent_model():
    """A meta-model that gives every edge the same low probability and says nothing."""
    model = toy_model()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.zero_()
    return model


def parameters_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same_parameters(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


@dataclass(frozen=True, eq=False)
class Correlations:
    """What ``CorrelationEncoder`` describes a task by. Float, shape ``(n, c, 1)``."""

    table: torch.Tensor


class CorrelationEncoder(nn.Module):
    """A user's own encoder: correlations of features with outputs, and nothing else."""

    def __init__(self, width=WIDTH):
        super().__init__()
        self.width, self.relation_width = width, 1
        self.lift = nn.Linear(1, width)
        initialise(self, generator=seeded())

    def describe(self, task):
        X, y = task.rows("train")
        if task.is_classification:
            y = nn.functional.one_hot(y, task.n_outputs).float()
        return Correlations((X.T @ (y - y.mean(0)) / len(X)).unsqueeze(2))

    def forward(self, descriptions: Sequence[Correlations]):
        return [
            Embedding(
                features=self.lift(d.table.square().mean(dim=1)),
                outputs=self.lift(d.table.square().mean(dim=0)),
                relations=d.table,
            )
            for d in descriptions
        ]


def narrow_encoder():
    return CorrelationEncoder(width=8)


def no_encoder():
    return nn.Linear(1, 1)


def encoder_from_generator(*, generator):
    encoder = CorrelationEncoder(width=64)
    initialise(encoder, generator=generator)
    return encoder


def permuted_features(task, order):
    """The same task with feature i where feature ``order[i]`` was."""
    return rebuilt(task, X=task.X[:, order])


def permuted_outputs(task, order):
    """The same task with output k where output ``order[k]`` was."""
    if task.is_classification:
        return rebuilt(task, y=order.argsort()[task.y])
    return rebuilt(task, y=task.y[:, order])


def permuted_rows(task, *, seed=0):
    """The same task with its training rows in another order."""
    train = task.split.train
    order = torch.arange(task.n_rows)
    order[train] = train[torch.randperm(len(train), generator=seeded(seed))]
    return rebuilt(task, X=task.X[order], y=task.y[order])


def rebuilt(task, *, X=None, y=None):
    """The same task with other numbers, which are not scaled anew."""
    return replace(task, X=task.X if X is None else X, y=task.y if y is None else y)
