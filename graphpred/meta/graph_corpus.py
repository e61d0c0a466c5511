"""Architectures for data sets of the synthetic prior, to train and test the autoencoder on.

Notation: n features, h hidden neurons, c outputs. Sizes are those that searches ask for:
K = κ(n + c) edges with κ log-uniform, all live, on a log-uniform number of active neurons. Which
features a neuron reads depends on the data set: the more strongly a feature is related to the
neuron's outputs, the likelier it is among them.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.meta.statistics import Statistics, statistics_of
from graphpred.seeds import generator_for, log_uniform
from graphpred.space import DEFAULT_ACTIVATIONS, SearchSpace
from graphpred.synthetic.prior import PriorConfig, draw_tasks
from graphpred.task import Task

_FIRST_CORRELATION = 4  # of the statistics of a feature and an output
_SHARPNESS = 1.5  # log-odds of a feature a deviation above the others


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """What a corpus is made of.

    Attributes:
        groups: Groups of data sets that share n, c and h.
        tasks: Data sets of a group.
        graphs: Architectures a data set.
        hidden: Range of h, drawn log-uniformly.
        features: Range of n, drawn log-uniformly.
        edges_per_end: Range of κ, drawn log-uniformly.
        activations: Classes of hidden neurons.

    Raises:
        InputError: If a number or range is empty.
    """

    groups: int = 400
    tasks: int = 8
    graphs: int = 4
    hidden: tuple[int, int] = (8, 64)
    features: tuple[int, int] = (4, 64)
    edges_per_end: tuple[float, float] = (0.5, 8.0)
    activations: tuple[str, ...] = DEFAULT_ACTIVATIONS

    def __post_init__(self) -> None:
        if min(self.groups, self.tasks, self.graphs) < 1:
            raise InputError(
                f"groups, tasks and graphs must be at least 1; got {self.groups}, {self.tasks} and "
                f"{self.graphs}."
            )
        for name in ("hidden", "features", "edges_per_end"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise InputError(f"{name} must be a range of positive numbers; got {(low, high)}.")


@dataclass(frozen=True, eq=False, kw_only=True)
class GraphExample:
    """An architecture for a data set.

    Attributes:
        description: What the data set encoder's ``describe`` said of the data set.
        strength: How strongly features are related to outputs. Float, shape ``(n, c)``.
        architecture: For this data set.
    """

    description: Any
    strength: Tensor
    architecture: Architecture


def draw_corpus(
    config: CorpusConfig, *, describe: Callable[[Task], Any], seed: int
) -> Iterator[list[GraphExample]]:
    """Draw groups of examples of one shape.

    Args:
        config: Sizes.
        describe: Of the data set encoder.
        seed: Group i depends on the seed and i alone.

    Yields:
        A group's ``tasks`` times ``graphs`` examples, those of a data set beside each other; fewer
        if a data set that was drawn has one class alone.
    """
    for i in range(config.groups):
        generator = generator_for(seed, "corpus", i)
        h = log_uniform(*config.hidden, generator=generator)
        yield [
            example
            for task in _tasks_of_one_shape(config, generator=generator)
            for example in _examples(task, h, config=config, describe=describe, generator=generator)
        ]


def _tasks_of_one_shape(config: CorpusConfig, *, generator: torch.Generator) -> list[Task]:
    prior = PriorConfig(features=config.features, train_rows=(100, 300), validation_rows=1)
    tasks = draw_tasks(config.tasks, generator=generator, config=prior, group=config.tasks)
    n, c = tasks[0].n_features, tasks[0].n_outputs  # others follow where one was not usable
    return [task for task in tasks if (task.n_features, task.n_outputs) == (n, c)]


def _examples(
    task: Task,
    n_hidden: int,
    *,
    config: CorpusConfig,
    describe: Callable[[Task], Any],
    generator: torch.Generator,
) -> Iterator[GraphExample]:
    strength = relation_strength(statistics_of(task))
    description = describe(task)
    for _ in range(config.graphs):
        z = draw_architecture(strength, n_hidden, config=config, generator=generator)
        yield GraphExample(description=description, strength=strength, architecture=z)


def relation_strength(statistics: Statistics) -> Tensor:
    """The largest correlation of any function of a feature with an output. Shape ``(n, c)``."""
    return statistics.relation[:, :, _FIRST_CORRELATION:].abs().amax(dim=2)


def draw_architecture(
    strength: Tensor, n_hidden: int, *, config: CorpusConfig, generator: torch.Generator
) -> Architecture:
    """A live network of a drawn number of edges that prefers relevant features.

    Args:
        strength: Of features and outputs. Float, shape ``(n, c)``.
        n_hidden: h.
        config: Ranges and classes.
        generator: Source of randomness.
    """
    n, c = strength.shape
    space = SearchSpace(widths=(n, n_hidden, c), activations=config.activations)
    low, high = (math.log(bound) for bound in config.edges_per_end)
    per_end = math.exp(low + (high - low) * float(torch.rand((), generator=generator)))
    n_edges = min(max(2, round(per_end * (n + c))), space.n_possible_edges // 2)
    z = space.sample_live(generator=generator, n_edges=n_edges)
    return prefer_relevant(z, strength=strength, generator=generator)


def prefer_relevant(
    z: Architecture, *, strength: Tensor, generator: torch.Generator
) -> Architecture:
    """Give every hidden neuron as many inputs as it has, drawn by their relation to its outputs.

    Args:
        z: With one hidden layer.
        strength: Of features and outputs. Float, shape ``(n, c)``.
        generator: Source of randomness.
    """
    v_1, v_2 = (torch.from_numpy(mask) for mask in z.masks)  # (n, h), (h, c)
    spread = _relevance(v_2, strength=strength)  # (n, h)
    uniform = torch.rand(v_1.shape, generator=generator).clamp(1e-9, 1 - 1e-7)
    rank = (_SHARPNESS * spread - (-uniform.log()).log()).argsort(dim=0, descending=True)
    taken = torch.arange(len(v_1)).unsqueeze(1) < v_1.sum(dim=0)  # (n, h), best first
    inputs = torch.zeros_like(v_1).scatter(0, rank, taken)
    n, h, _ = z.widths
    edges_1, edges_2 = inputs.nonzero().T, v_2.nonzero().T
    first = torch.stack([edges_1[0], edges_1[1] + n])
    second = torch.stack([edges_2[0] + n, edges_2[1] + n + h])
    return Architecture.from_edges(
        torch.cat([first, second], dim=1), activation=z.activation, widths=z.widths
    )


def _relevance(v_2: Tensor, *, strength: Tensor) -> Tensor:
    """How far every feature is above the others for the outputs of every neuron, ``(n, h)``."""
    related = strength @ v_2.T.float() / v_2.sum(dim=1).clamp(min=1)
    return (related - related.mean(dim=0)) / related.std(dim=0, correction=0).clamp(min=1e-3)


def input_relevance(z: Architecture, *, strength: Tensor) -> float:
    """How far, in deviations, the features that neurons read are above the others; 0 by chance.

    Args:
        z: With one hidden layer and edges from features.
        strength: Of features and outputs, as in ``GraphExample``.
    """
    v_1, v_2 = (torch.from_numpy(mask) for mask in z.masks)
    return float(_relevance(v_2, strength=strength)[v_1].mean())
