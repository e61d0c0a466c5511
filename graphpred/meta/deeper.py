"""Networks with several hidden layers, layer by layer.

The meta-model predicts a network with one hidden layer; what its hidden neurons say of the rows is
a data set again, for which it predicts the next layer, and so on. All layers together are then
fitted and cut (``graphpred.meta.surgery``), so that early layers learn what late ones need.

Notation: n features; h_1, h_2, … hidden neurons a layer; c outputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.meta.feedback import activated
from graphpred.meta.model import MetaModel
from graphpred.meta.prediction import Prediction
from graphpred.meta.samples import FIT_LIMIT, RowSample
from graphpred.meta.surgery import MOST_OPERATED, draft_size, operated
from graphpred.searchers import Proposal
from graphpred.task import Task
from graphpred.weights import Weights

_LEAST_DEVIATION = 1e-3  # of what a hidden neuron says


@torch.no_grad()
def predict_deep(
    model: MetaModel,
    task: Task,
    *,
    hidden: Sequence[int],
    n_edges: int,
    activations: Sequence[str] | None = None,
    seed: int = 0,
) -> Proposal:
    """A network with any number of hidden layers, and its weights.

    Args:
        model: Predicts every layer.
        task: The data set.
        hidden: h_1, h_2, …
        n_edges: Largest K*, at most ``MOST_OPERATED``.
        activations: Those that hidden neurons may have, some of the model's; None for all.
        seed: Of the latents.

    Raises:
        InputError: If there is no hidden layer, one of no neurons, or ``n_edges`` is below the
            number of layers of weights or above what can be fitted.
    """
    depth = len(hidden) + 1
    if not hidden or min(hidden) < 1:
        raise InputError(f"hidden must be positive numbers of neurons; got {tuple(hidden)}.")
    if not depth <= n_edges <= MOST_OPERATED:
        raise InputError(f"n_edges must be in {depth} … {MOST_OPERATED}; got {n_edges}.")
    predict = partial(model.predict, activations=activations, seed=seed)
    draft = _grown(predict, task, hidden=hidden, n_edges=draft_size(n_edges))
    return operated([draft], sample=RowSample.of(task, limit=FIT_LIMIT), limit=n_edges).proposal


def _grown(
    predict: Callable[..., Prediction], task: Task, *, hidden: Sequence[int], n_edges: int
) -> Proposal:
    """All layers, each predicted from what the one before says; no more than ``n_edges``."""
    share = max(2, n_edges // len(hidden))
    prediction = predict(task, n_hidden=hidden[0])
    first = prediction.fitted(share).chosen(share)
    if len(hidden) == 1:
        return first
    values, live = _values(first, task.X)
    mean = values[task.split.train].mean(dim=0)
    deviation = values[task.split.train].std(dim=0, correction=0).clamp(min=_LEAST_DEVIATION)
    names = tuple(f"h{i}" for i in live.tolist())
    above = replace(task, X=(values - mean) / deviation, feature_names=names, encoder=None)
    rest = _grown(predict, above, hidden=hidden[1:], n_edges=n_edges - share)
    return _stacked(first, rest, live=live, mean=mean, deviation=deviation)


def _values(proposal: Proposal, X: Tensor) -> tuple[Tensor, Tensor]:
    """What the hidden neurons that have edges say, ``(m, l)``, and which they are, ``(l,)``."""
    z, start = proposal.architecture, proposal.start
    assert start is not None
    n, h = z.widths[:2]
    source, target = z.edges
    into = target < n + h
    live = (target[into] - n).unique()
    W = torch.zeros(n, h)
    W[source[into], target[into] - n] = start.edge[into]
    sums = X @ W[:, live] + start.bias[live]  # (m, l)
    (values,), _ = activated(sums.T[None], z.activation[n + live][None])
    return values.T, live


def _stacked(
    first: Proposal, rest: Proposal, *, live: Tensor, mean: Tensor, deviation: Tensor
) -> Proposal:
    """The first layer of one network below all of another that read its scaled neurons."""
    below, above = first.architecture, rest.architecture
    start, later = first.start, rest.start
    assert start is not None
    assert later is not None
    (n, h), n_live = below.widths[:2], len(live)
    into = below.edges[1] < n + h
    source, target = above.edges
    is_entry = source < n_live
    read = source[is_entry]  # which of the live neurons
    entry = later.edge[is_entry] / deviation[read]
    moved = later.bias.clone()
    moved.index_add_(0, target[is_entry] - n_live, -entry * mean[read])
    place = torch.cat([n + live, n + h + torch.arange(above.n_neurons - n_live)])
    weight = later.edge.clone()
    weight[is_entry] = entry
    edges = torch.cat([below.edges[:, into], place[above.edges]], dim=1)
    edge = torch.cat([start.edge[into], weight])
    widths = (n, h, *above.widths[1:])
    activation = torch.cat([below.activation[: n + h], above.activation[n_live:]])
    bias = torch.cat([start.bias[:h], moved])
    return live_proposal(edges, edge, activation=activation, widths=widths, bias=bias)


def live_proposal(
    edges: Tensor, edge: Tensor, *, activation: Tensor, widths: tuple[int, ...], bias: Tensor
) -> Proposal:
    """A network of the edges that are on a path, with their weights."""
    n_neurons = sum(widths)
    key = edges[0] * n_neurons + edges[1]
    order = key.argsort()
    z = Architecture(edges=edges[:, order], activation=activation, widths=widths)
    live = z.without_dead_edges()
    kept = torch.isin(key[order], live.edges[0] * n_neurons + live.edges[1])
    return Proposal(architecture=live, start=Weights(edge=edge[order][kept], bias=bias))
