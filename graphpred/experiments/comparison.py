"""One predicted network beside its rivals on the test part, at the same K* and steps.

Selection is on the validation part and figures are of the test part, as everywhere. Live random
networks are the fair rival of a prediction: the paper's masks of a fixed density have mostly dead
edges. The unconditional decoder knows the pairs' edge frequencies and nothing of the data set.
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from graphpred.activations import ACTIVATIONS
from graphpred.architecture import Architecture
from graphpred.matching import matching_order
from graphpred.meta.model import MetaModel
from graphpred.objective import default_loss
from graphpred.pairs.pair import Pair
from graphpred.population import FITTED_RATE, LEARNING_RATE, Population
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace
from graphpred.task import Task
from graphpred.weights import Weights


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method's figures.

    Attributes:
        method: Its name.
        test_loss: Error, or 1 − R², on the test part.
        n_edges: K*; of a dense linear model, its coefficients.
        networks: Networks trained to get it.
    """

    method: str
    test_loss: float
    n_edges: int
    networks: int


def compare_at(
    task: Task,
    model: MetaModel,
    *,
    n_edges: int,
    steps: int,
    seed: int,
    live: int = 100,
    pairs: Iterable[Pair] = (),
) -> list[Row]:
    """Train one predicted network and its rivals.

    Args:
        task: The data set.
        model: The meta-model.
        n_edges: Largest K* of every network.
        steps: Training steps of every network.
        seed: Seed of latents, draws and starting weights.
        live: Live random networks to draw.
        pairs: What the unconditional decoder is made from; without them it is left out.
    """
    rows = predicted_rows(task, model, n_edges=n_edges, steps=steps, seed=seed)
    generator = generator_for(seed, "live")
    space = SearchSpace(widths=(task.n_features, task.n_features, task.n_outputs))
    drawn = [space.sample_live(generator=generator, n_edges=n_edges) for _ in range(live)]
    rows += _best_of(drawn, task=task, steps=steps, seed=seed)
    pairs = list(pairs)
    if pairs:
        unconditional = frequent_architecture(pairs, n_edges=n_edges)
        rows.append(
            _one("edge frequencies alone", unconditional, task=task, steps=steps, seed=seed)
        )
    return [*rows, linear_model(task)]


def predicted_rows(
    task: Task, model: MetaModel, *, n_edges: int, steps: int, seed: int
) -> list[Row]:
    """The prediction of one model: no step, trained, and trained from fresh weights."""
    proposal = model.predict(task, seed=seed).proposal(n_edges=n_edges)
    z = proposal.architecture
    assert proposal.start is not None
    start = [proposal.start]
    return [
        _one("predicted, no step", z, task=task, steps=0, start=start),
        _one("predicted", z, task=task, steps=steps, start=start),
        _one("predicted structure, fresh weights", z, task=task, steps=steps, seed=seed),
    ]


def _one(
    method: str,
    architecture: Architecture,
    *,
    task: Task,
    steps: int,
    seed: int = 0,
    start: list[Weights] | None = None,
) -> Row:
    population = Population([architecture], seed=seed, start=start)
    rate = LEARNING_RATE if start is None else FITTED_RATE
    population.fit(*task.rows("train"), steps=steps, learning_rate=rate, batch_seed=seed)
    loss = population.losses(*task.rows("test"), loss=default_loss(task.kind))
    return Row(
        method=method,
        test_loss=float(loss[0]),
        n_edges=architecture.n_live_edges,
        networks=int(steps > 0),
    )


def _best_of(architectures: list[Architecture], *, task: Task, steps: int, seed: int) -> list[Row]:
    """Best of 1, 10, 100, … by validation: the mean over disjoint groups of that size."""
    population = Population(architectures, seed=seed)
    population.fit(*task.rows("train"), steps=steps, batch_seed=seed)
    loss = default_loss(task.kind)
    validation = population.losses(*task.rows("validation"), loss=loss)
    test = population.losses(*task.rows("test"), loss=loss)
    rows, size = [], 1
    while size <= len(architectures):
        n_groups = len(architectures) // size
        groups = torch.arange(n_groups * size).view(n_groups, size)
        chosen = groups[torch.arange(n_groups), validation[groups].argmin(dim=1)]
        rows.append(
            Row(
                method=f"live random, best of {size}",
                test_loss=float(test[chosen].mean()),
                n_edges=architectures[0].n_live_edges,
                networks=size,
            )
        )
        size *= 10
    return rows


def frequent_architecture(pairs: Sequence[Pair], *, n_edges: int) -> Architecture:
    """What the pairs' frequencies alone would predict: the unconditional decoder.

    Hidden neurons of every architecture are matched to those of the first one before counting.

    Args:
        pairs: Pairs of the same widths, with one hidden layer.
        n_edges: Largest K*; the most frequent edges that give no more live ones are taken.
    """
    first = pairs[0].architecture
    counts = torch.zeros(first.n_neurons, first.n_neurons)
    classes = torch.zeros(first.n_neurons, len(ACTIVATIONS))
    for pair in pairs:
        z = pair.architecture
        z = z.permuted(matching_order(first, z))
        counts[z.edges[0], z.edges[1]] += 1
        classes[torch.arange(z.n_neurons), z.activation] += 1
    activation = classes.argmax(dim=1)
    source, target = counts.nonzero().T
    order = counts[source, target].argsort(descending=True, stable=True)
    edges = torch.stack([source[order], target[order]])  # (2, edges that occur)

    def first_edges(k: int) -> Architecture:
        return Architecture.from_edges(edges[:, :k], activation=activation, widths=first.widths)

    low, high = 0, edges.shape[1]
    while low < high:
        middle = (low + high + 1) // 2
        if first_edges(middle).n_live_edges <= n_edges:
            low = middle
        else:
            high = middle - 1
    return first_edges(low).without_dead_edges()


def linear_model(task: Task) -> Row:
    """Dense logistic or ridge regression on the training part."""
    X, y = (part.numpy() for part in task.rows("train"))
    test_X, test_y = (part.numpy() for part in task.rows("test"))
    if task.is_classification:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(max_iter=1000).fit(X, y)
        name, loss = "logistic regression (dense)", 1 - model.score(test_X, test_y)
    else:
        model = Ridge().fit(X, y)
        name, loss = "ridge regression (dense)", 1 - model.score(test_X, test_y)
    return Row(method=name, test_loss=float(loss), n_edges=int(model.coef_.size), networks=0)
