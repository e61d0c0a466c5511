"""Sparse networks cut out of dense ones: by gradual magnitude pruning, and by SNIP.

Sources: Zhu and Gupta, "To prune, or not to prune", arXiv:1710.01878 (the cubic schedule); Lee,
Ajanthan and Torr, "SNIP", arXiv:1810.02340 (the score |g·w|).
Notation: widths n_0 … n_t, N possible edges, B networks, K* live edges.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from graphpred.architecture import Architecture
from graphpred.population import LEARNING_RATE, Population
from graphpred.population.batches import Batches
from graphpred.population.block import Block, Schedule
from graphpred.task import Task
from graphpred.weights import Weights, initial_weights

N_PRUNINGS = 20
PRUNED_BY = 0.75
"""Share of the steps after which nothing more is pruned."""


def strongest_live(*scores: Tensor, n_edges: int) -> tuple[Tensor, ...]:
    """The strongest edges that make up to ``n_edges`` live ones; no dead edge among them.

    Edges are taken in the order of their scores and count from when they are on a path of taken
    edges from an input to an output. Where one edge would make more live than are left, those of
    the strongest path through it come first.

    Args:
        scores: Of the edges between consecutive layers, −∞ for those not to be taken; one table
            ``(n_{k-1}, n_k)`` a layer.
        n_edges: Largest K*; the result has as many, or fewer by less than t, if the scores allow
            so many.

    Returns:
        Bool masks of the shapes of the scores.

    >>> first, second = torch.tensor([[0.9, 0.8], [0.1, 0.7]]), torch.tensor([[0.6], [0.2]])
    >>> strongest_live(first, second, n_edges=2)
    (tensor([[ True, False],
            [False, False]]), tensor([[ True],
            [False]]))
    """
    ranks = _ranks(scores)
    never = sum(table.numel() for table in scores)
    while True:
        reached, useful = _joined(ranks)
        since = [
            torch.maximum(table, torch.maximum(before[:, None], after))
            for table, before, after in zip(ranks, reached, useful[1:], strict=False)
        ]
        flat = torch.cat([table.flatten() for table in since])  # (N,)
        limit = int(flat.kthvalue(n_edges + 1).values) if n_edges < never else never
        chosen = tuple(table < limit for table in since)
        if limit == never:
            return chosen
        ranks = [table.where(~mask, -1) for table, mask in zip(ranks, chosen, strict=True)]
        path = _strongest_path(ranks, through=limit)
        n_new = sum(int(ranks[k][edge] >= 0) for k, edge in enumerate(path))
        if int((flat < limit).sum()) + n_new > n_edges:
            return chosen
        for k, edge in enumerate(path):
            ranks[k][edge] = -1


def _ranks(scores: Sequence[Tensor]) -> list[Tensor]:
    """Place of every edge in the order of all scores; their number for a score of −∞."""
    flat = torch.cat([table.flatten() for table in scores])  # (N,)
    rank = torch.empty(len(flat), dtype=torch.int64)
    rank[flat.argsort(descending=True, stable=True)] = torch.arange(len(flat))
    rank[flat == -torch.inf] = len(flat)
    parts = rank.split([table.numel() for table in scores])
    return [part.view(table.shape) for part, table in zip(parts, scores, strict=True)]


def _joined(ranks: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Rank from which on every neuron is joined to an input, and to an output: a list a layer."""
    reached = [torch.full((len(ranks[0]),), -1)]
    for table in ranks:
        reached.append(torch.maximum(table, reached[-1][:, None]).amin(dim=0))
    useful = [torch.full((ranks[-1].shape[1],), -1)]
    for table in reversed(ranks):
        useful.insert(0, torch.maximum(table, useful[0]).amin(dim=1))
    return reached, useful


def _strongest_path(ranks: Sequence[Tensor], *, through: int) -> list[tuple[int, int]]:
    """The path with the edge of rank ``through`` whose weakest edge is the strongest.

    Returns:
        Source and target, within their layers, of one edge a layer.
    """
    reached, useful = _joined(ranks)
    k = next(k for k, table in enumerate(ranks) if bool((table == through).any()))
    middle = divmod(int((ranks[k] == through).flatten().nonzero()[0]), ranks[k].shape[1])
    path = [middle]
    for table, before in zip(reversed(ranks[:k]), reversed(reached[:k]), strict=True):
        target = path[0][0]
        path.insert(0, (_first_joined(table[:, target], before), target))
    for table, after in zip(ranks[k + 1 :], useful[k + 2 :], strict=True):
        source = path[-1][1]
        path.append((source, _first_joined(table[source], after)))
    return path


def _first_joined(ranks: Tensor, joined: Tensor) -> int:
    """The neighbour over which a neuron is joined first, among several by the strongest edge."""
    first = torch.maximum(ranks, joined)
    return int(torch.where(first == first.min(), ranks, ranks.max() + 1).argmin())


def masked(z: Architecture, masks: Sequence[Tensor]) -> Architecture:
    """An architecture with the neurons of ``z`` and other edges: one mask a layer."""
    edges = [
        mask.nonzero().T + torch.tensor([[source], [target]])
        for mask, source, target in zip(masks, z.starts, z.starts[1:], strict=False)
    ]
    return Architecture(edges=torch.cat(edges, dim=1), activation=z.activation, widths=z.widths)


def edge_tables(z: Architecture, values: Tensor, *, absent: float) -> tuple[Tensor, ...]:
    """One value an edge as tables ``(n_{k-1}, n_k)``, with ``absent`` elsewhere."""
    table = values.new_full((z.n_neurons, z.n_neurons), absent)
    table[z.edges[0], z.edges[1]] = values
    bounds = zip(z.starts, z.starts[1:], z.starts[2:], strict=False)
    return tuple(table[start:middle, middle:stop] for start, middle, stop in bounds)


def strongest_subnetwork(
    z: Architecture, scores: Tensor, *, n_edges: int
) -> tuple[Architecture, Tensor]:
    """The strongest edges of a network that make up to ``n_edges`` live ones.

    Args:
        z: A network without skip edges.
        scores: Of its edges, −∞ for those not to be taken. Float, shape ``(z.n_edges,)``.
        n_edges: Largest K*.

    Returns:
        The network with those edges, and where they stand among the edges of ``z``.
    """
    masks = strongest_live(*edge_tables(z, scores, absent=-torch.inf), n_edges=n_edges)
    positions = edge_tables(z, torch.arange(z.n_edges), absent=-1)
    kept = [table[mask] for table, mask in zip(positions, masks, strict=True)]
    return masked(z, masks), torch.cat(kept)


def gradually_pruned(
    dense: Sequence[Architecture],
    task: Task,
    *,
    n_edges: Sequence[int],
    steps: int,
    seeds: Sequence[int],
    batch_seed: int,
    rate: float = LEARNING_RATE,
) -> Population:
    """Train dense networks while their smallest weights go, until K* = ``n_edges`` are left.

    The live edges fall from N along a cubic, in ``N_PRUNINGS`` turns; Adam's moments and its
    schedule go on through all of them.

    Args:
        dense: B networks with all edges.
        task: Its training part is trained on.
        n_edges: K* in the end, one a network.
        steps: Of the whole training.
        seeds: Of the starting weights, one a network.
        batch_seed: Of the order of the batches.
        rate: Learning rate of the first step.
    """
    networks = list(dense)
    batches = task_batches(task, seed=batch_seed)
    state = flat_weights(networks, seeds=seeds)[None]
    turns = pruning_turns(steps)
    for start, stop in itertools.pairwise([0, *turns, steps]):
        block = Block(networks, state, bias=True)
        block.train(batches, schedule=Schedule(start=start, stop=stop, total=steps, rate=rate))
        state = block.state
        if stop < steps:
            left = share_left(stop, last=turns[-1])
            n_left = [round(k + (networks[0].n_possible_edges - k) * left) for k in n_edges]
            networks, state = _pruned(networks, state, n_edges=n_left)
    return Population(networks, start=split_weights(networks, state[0]))


def pruning_turns(steps: int) -> list[int]:
    """Steps after which edges go: ``N_PRUNINGS`` of them, fewer in a short training."""
    turns = (round(PRUNED_BY * steps * k / N_PRUNINGS) for k in range(1, N_PRUNINGS + 1))
    return sorted({min(max(1, turn), steps - 1) for turn in turns})


def share_left(step: int, *, last: int) -> float:
    """Share of what is to be pruned that is left after a step; the last turn leaves none."""
    return (1 - step / last) ** 3 if step < last else 0.0


def snip_architectures(
    dense: Sequence[Architecture],
    task: Task,
    *,
    n_edges: Sequence[int],
    seeds: Sequence[int],
    batch_seed: int,
) -> list[Architecture]:
    """The edges with the largest |g·w| of dense networks before training, K* of them each.

    Args:
        dense: B networks with all edges.
        task: The gradient is taken on its training part, or one batch of it.
        n_edges: Largest K*, one a network.
        seeds: Of the starting weights, one a network.
        batch_seed: Of the batch.
    """
    scores = saliency(dense, task, seeds=seeds, batch_seed=batch_seed)
    return [
        strongest_subnetwork(z, own, n_edges=k)[0]
        for z, own, k in zip(dense, scores, n_edges, strict=True)
    ]


def saliency(
    networks: Sequence[Architecture], task: Task, *, seeds: Sequence[int], batch_seed: int
) -> list[Tensor]:
    """|g·w| of every edge of every network at its starting weights, ``(n_edges,)`` each."""
    numbers = flat_weights(networks, seeds=seeds)
    gradient = flat_gradient(networks, numbers, batches=task_batches(task, seed=batch_seed), step=0)
    sizes = [z.n_edges for z in networks]
    return list((gradient * numbers).abs()[: sum(sizes)].split(sizes))


def flat_gradient(
    networks: Sequence[Architecture], numbers: Tensor, *, batches: Batches, step: int
) -> Tensor:
    """Gradient of the training losses on a batch; both are laid out as by ``flat_weights``."""
    block = Block(networks, numbers[None], bias=True)
    gradient = torch.zeros_like(numbers)
    gradient[block.layout.place] = block.gradient(batches, step=step)
    return gradient


def task_batches(task: Task, *, seed: int) -> Batches:
    """What every step of a training sees of the training part."""
    return Batches(*task.rows("train"), weight=None, n_outputs=task.n_outputs, seed=seed)


def flat_weights(networks: Sequence[Architecture], *, seeds: Sequence[int]) -> Tensor:
    """Fresh weights as ``Block`` wants them: all edges, then all biases."""
    fresh = [initial_weights(z, seed=seed) for z, seed in zip(networks, seeds, strict=True)]
    return torch.cat([*(w.edge for w in fresh), *(w.bias for w in fresh)])


def _pruned(
    networks: Sequence[Architecture], state: Tensor, *, n_edges: Sequence[int]
) -> tuple[list[Architecture], Tensor]:
    """Smaller networks with the largest weights, and the state of what is left."""
    n_all = sum(z.n_edges for z in networks)
    smaller, kept = [], []
    for z, weights, k in zip(networks, split_weights(networks, state[0]), n_edges, strict=True):
        subnetwork, positions = strongest_subnetwork(z, weights.edge.abs(), n_edges=k)
        smaller.append(subnetwork)
        kept.append(positions)
    starts = itertools.accumulate((z.n_edges for z in networks), initial=0)
    columns = [start + own for start, own in zip(starts, kept, strict=False)]
    return smaller, state[:, torch.cat([*columns, torch.arange(n_all, state.shape[1])])]


def split_weights(networks: Sequence[Architecture], numbers: Tensor) -> list[Weights]:
    """The inverse of ``flat_weights``."""
    sizes = [z.n_edges for z in networks] + [z.n_neurons - z.widths[0] for z in networks]
    parts = numbers.split(sizes)
    pairs = zip(parts[: len(networks)], parts[len(networks) :], strict=True)
    return [Weights(edge=edge, bias=bias) for edge, bias in pairs]
