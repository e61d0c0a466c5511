"""Sparse networks cut out of dense ones: by gradual magnitude pruning, and by SNIP.

Sources: Zhu and Gupta, "To prune, or not to prune", arXiv:1710.01878 (the cubic schedule); Lee,
Ajanthan and Torr, "SNIP", arXiv:1810.02340 (the score |g·w|).
Notation: n features, h hidden neurons, c outputs, B networks, K* live edges.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from graphpred.architecture import Architecture
from graphpred.population import Population
from graphpred.population.batches import Batches
from graphpred.population.block import Block, Schedule
from graphpred.task import Task
from graphpred.weights import Weights, initial_weights

N_PRUNINGS = 20
PRUNED_BY = 0.75
"""Share of the steps after which nothing more is pruned."""


def strongest_live(first: Tensor, second: Tensor, *, n_edges: int) -> tuple[Tensor, Tensor]:
    """The strongest edges that make up to ``n_edges`` live ones; no dead edge among them.

    Edges are taken in the order of their scores; those of a hidden neuron count from when it has an
    input and an output. The neuron that would go beyond ``n_edges`` gets its strongest edges only.

    Args:
        first: Scores of the edges into hidden neurons, −∞ for those not to be taken. ``(n, h)``.
        second: Likewise out of them. ``(h, c)``.
        n_edges: Largest K*; the result has as many, or one fewer, if the scores allow so many.

    Returns:
        Bool masks, shapes ``(n, h)`` and ``(h, c)``.

    >>> first, second = torch.tensor([[0.9, 0.8], [0.1, 0.7]]), torch.tensor([[0.6], [0.2]])
    >>> strongest_live(first, second, n_edges=2)
    (tensor([[ True, False],
            [False, False]]), tensor([[ True],
            [False]]))
    """
    (n, h), c = first.shape, second.shape[1]
    flat = torch.cat([first.flatten(), second.flatten()])  # (N,)
    rank = torch.empty(len(flat), dtype=torch.int64)
    rank[flat.argsort(descending=True, stable=True)] = torch.arange(len(flat))
    into, out = rank[: n * h].view(n, h), rank[n * h :].view(h, c)
    strongest_in, strongest_out = into.amin(dim=0), out.amin(dim=1)  # (h,)
    joined = torch.maximum(strongest_in, strongest_out)
    since = torch.cat(
        [torch.maximum(into, joined).flatten(), torch.maximum(out, joined[:, None]).flatten()]
    )
    leads = torch.cat([(into == strongest_in).flatten(), (out == strongest_out[:, None]).flatten()])
    order = (since * (len(flat) + 1) + torch.where(leads, 0, rank + 1)).argsort()
    chosen = torch.zeros_like(leads)
    chosen[order[:n_edges]] = True
    chosen &= since < int(flat.isfinite().sum())
    first_mask, second_mask = chosen[: n * h].view(n, h), chosen[n * h :].view(h, c)
    live = first_mask.any(dim=0) & second_mask.any(dim=1)  # the last edge may be alone
    return first_mask & live, second_mask & live[:, None]


def masked(z: Architecture, masks: tuple[Tensor, Tensor]) -> Architecture:
    """An architecture with one hidden layer and the neurons of ``z``, with other edges."""
    n, h, _ = z.widths
    first, second = (mask.nonzero().T for mask in masks)
    edges = torch.cat(
        [first + torch.tensor([[0], [n]]), second + torch.tensor([[n], [n + h]])], dim=1
    )
    return Architecture(edges=edges, activation=z.activation, widths=z.widths)


def edge_tables(z: Architecture, values: Tensor, *, absent: float) -> tuple[Tensor, Tensor]:
    """One value an edge as tables ``(n, h)`` and ``(h, c)``, with ``absent`` elsewhere."""
    n, h, c = z.widths
    table = values.new_full((n + h + c, n + h + c), absent)
    table[z.edges[0], z.edges[1]] = values
    return table[:n, n : n + h], table[n : n + h, n + h :]


def gradually_pruned(
    dense: Sequence[Architecture],
    task: Task,
    *,
    n_edges: int,
    steps: int,
    rate: float,
    seeds: Sequence[int],
    batch_seed: int,
) -> Population:
    """Train dense networks while their smallest weights go, until K* = ``n_edges`` are left.

    The live edges fall from N along a cubic, in ``N_PRUNINGS`` turns; Adam's moments and its
    schedule go on through all of them.

    Args:
        dense: B networks with one hidden layer and all edges.
        task: Its training part is trained on.
        n_edges: K* in the end.
        steps: Of the whole training, at least 2.
        rate: Learning rate of the first step.
        seeds: Of the starting weights, B of them.
        batch_seed: Of the order of the batches.
    """
    networks = list(dense)
    batches = _batches(task, seed=batch_seed)
    state = _flat_weights(networks, seeds=seeds)[None]
    turns = sorted(
        {max(1, round(PRUNED_BY * steps * k / N_PRUNINGS)) for k in range(1, N_PRUNINGS + 1)}
    )
    for start, stop in itertools.pairwise([0, *turns, steps]):
        block = Block(networks, state, bias=True)
        block.train(batches, schedule=Schedule(start=start, stop=stop, total=steps, rate=rate))
        state = block.state
        if stop < steps:
            left = (1 - stop / turns[-1]) ** 3
            n_left = round(n_edges + (networks[0].n_possible_edges - n_edges) * left)
            networks, state = _pruned(networks, state, n_edges=n_left)
    return Population(networks, start=_weights(networks, state[0]))


def snip_architectures(
    dense: Sequence[Architecture],
    task: Task,
    *,
    n_edges: int,
    seeds: Sequence[int],
    batch_seed: int,
) -> list[Architecture]:
    """The edges with the largest |g·w| of dense networks before training, K* of them each.

    Args:
        dense: B networks with one hidden layer and all edges.
        task: The gradient is taken on its training part, or one batch of it.
        n_edges: Largest K*.
        seeds: Of the starting weights, B of them.
        batch_seed: Of the batch.
    """
    scores = saliency(dense, task, seeds=seeds, batch_seed=batch_seed)
    return [
        masked(z, strongest_live(*edge_tables(z, own, absent=-torch.inf), n_edges=n_edges))
        for z, own in zip(dense, scores, strict=True)
    ]


def saliency(
    networks: Sequence[Architecture], task: Task, *, seeds: Sequence[int], batch_seed: int
) -> list[Tensor]:
    """|g·w| of every edge of every network at its starting weights, ``(n_edges,)`` each."""
    numbers = _flat_weights(networks, seeds=seeds)
    block = Block(networks, numbers[None], bias=True)
    gradient = torch.zeros_like(numbers)
    gradient[block.layout.place] = block.gradient(_batches(task, seed=batch_seed), step=0)
    sizes = [z.n_edges for z in networks]
    return list((gradient * numbers).abs()[: sum(sizes)].split(sizes))


def _batches(task: Task, *, seed: int) -> Batches:
    return Batches(*task.rows("train"), weight=None, n_outputs=task.n_outputs, seed=seed)


def _flat_weights(networks: Sequence[Architecture], *, seeds: Sequence[int]) -> Tensor:
    """Fresh weights as ``Block`` wants them: all edges, then all biases."""
    fresh = [initial_weights(z, seed=seed) for z, seed in zip(networks, seeds, strict=True)]
    return torch.cat([*(w.edge for w in fresh), *(w.bias for w in fresh)])


def _pruned(
    networks: Sequence[Architecture], state: Tensor, *, n_edges: int
) -> tuple[list[Architecture], Tensor]:
    """Smaller networks with the largest weights, and the state of what is left."""
    n_all = sum(z.n_edges for z in networks)
    smaller, kept = [], []
    for z, weights in zip(networks, _weights(networks, state[0]), strict=True):
        tables = edge_tables(z, weights.edge.abs(), absent=-torch.inf)
        masks = strongest_live(*tables, n_edges=n_edges)
        smaller.append(masked(z, masks))
        stays = edge_tables(z, torch.arange(z.n_edges), absent=-1)
        kept.append(torch.cat([table[mask] for table, mask in zip(stays, masks, strict=True)]))
    starts = itertools.accumulate((z.n_edges for z in networks), initial=0)
    columns = [start + own for start, own in zip(starts, kept, strict=False)]
    return smaller, state[:, torch.cat([*columns, torch.arange(n_all, state.shape[1])])]


def _weights(networks: Sequence[Architecture], numbers: Tensor) -> list[Weights]:
    """The inverse of ``_flat_weights``."""
    sizes = [z.n_edges for z in networks] + [z.n_neurons - z.widths[0] for z in networks]
    parts = numbers.split(sizes)
    pairs = zip(parts[: len(networks)], parts[len(networks) :], strict=True)
    return [Weights(edge=edge, bias=bias) for edge, bias in pairs]
