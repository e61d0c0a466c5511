"""NASNet-style transfer: a block found on few rows and few neurons is tiled for the full task.

Source: Zoph, Vasudevan, Shlens and Le, "Learning transferable architectures for scalable image
recognition" (arXiv:1707.07012). They search a convolutional cell on CIFAR-10 with 20,000 small
networks, and stack it, with more filters, for ImageNet. Notation as in ``tokens``; V_k a mask.

1. Search. The controller of ``ppo`` draws networks with half of the space's neurons in every hidden
   layer, at the space's densities. They are trained, and rewarded, on half of the rows.
2. Transfer. The hidden neurons of the best quarter of these blocks are copied until the edges of
   the density are spent, and the wider networks are trained on all rows. A copy has the activation
   and the inputs of its original and is read by whatever reads that, its copies too: V'_k =
   V_k[i, j] with i and j running through the originals of the neurons. Edges that are left after
   the last whole copy are placed at random between the neurons in use.

This mapping is ours, and so is the split of the budget into two halves; both parts are charged to
one ledger. The networks of the first part are in the space as well, so they are trials too, with
the losses on all rows of the weights that were trained on half of them.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from graphpred.architecture import Architecture
from graphpred.population import Population
from graphpred.searchers.base import (
    BATCH,
    STEPS_PER_EVALUATION,
    Proposal,
    Setting,
    Trial,
    evaluate,
)
from graphpred.searchers.ppo import ppo_search
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace
from graphpred.split import Split, stratified_draw
from graphpred.task import Task


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """How a block is found and used.

    Attributes:
        rows: Share of the training and of the validation rows that the first part sees.
        widths: Share of every hidden layer's neurons that it may use.
        budget: Share of the budget that it has; at least one network.
        kept: Share of its blocks that are tiled.
    """

    rows: float = 0.5
    widths: float = 0.5
    budget: float = 0.5
    kept: float = 0.25


class NasnetSearch:
    """Searches small networks on few rows, then trains wide ones on all.

    Args:
        setting: What every searcher is given.
        transfer: From small to wide.
    """

    def __init__(self, setting: Setting, *, transfer: Transfer | None = None) -> None:
        self._setting, self._transfer = setting, transfer or Transfer()
        generator = generator_for(setting.seed, "nasnet", "rows")
        self._small = replace(
            setting,
            task=fewer_rows(setting.task, share=self._transfer.rows, generator=generator),
            space=narrower(setting.space, share=self._transfer.widths),
        )
        n_networks = self._first_budget() // setting.steps
        self._controller = ppo_search(self._small, n_networks=n_networks)
        self._blocks: list[tuple[float, Architecture]] = []  # in the order of the densities
        self._n_tiled = 0

    def run(self) -> Iterator[list[Trial]]:
        """Yield the trials of one batch after another until the budget is spent."""
        setting, ledger = self._setting, self._setting.ledger
        while affordable := self._first_steps_left() // setting.steps:
            proposals = self._controller.ask(affordable)
            trials = evaluate(proposals, setting=self._small, first_number=ledger.trials)
            self._controller.tell(trials)
            self._blocks += [(trial.objective, trial.architecture) for trial in trials]
            yield measured(trials, setting=setting)
        while affordable := ledger.steps_left // setting.steps:
            proposals = [self._tile() for _ in range(min(BATCH, affordable))]
            yield evaluate(proposals, setting=setting, first_number=ledger.trials)

    def state(self) -> dict[str, Any]:
        """That of the controller, the blocks, and which is tiled next."""
        return {
            "controller": self._controller.state(),
            "blocks": list(self._blocks),
            "n_tiled": self._n_tiled,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._controller.restore(state["controller"])
        self._blocks = state["blocks"]
        self._n_tiled = state["n_tiled"]

    def _first_budget(self) -> int:
        """Network-steps of the first part."""
        whole = self._setting.ledger.evaluations * STEPS_PER_EVALUATION
        return max(math.floor(whole * self._transfer.budget), self._setting.steps)

    def _first_steps_left(self) -> int:
        ledger = self._setting.ledger
        return max(0, min(self._first_budget() - ledger.network_steps, ledger.steps_left))

    def _tile(self) -> Proposal:
        """The best blocks of every density in turn."""
        space, densities = self._setting.space, self._setting.densities
        turn, group = divmod(self._n_tiled, len(densities))
        self._n_tiled += 1
        group %= len(self._blocks)  # the first part may not have reached every density
        own = sorted(self._blocks[group :: len(densities)], key=lambda block: block[0])
        n_kept = math.ceil(self._transfer.kept * len(own))
        block = own[turn % n_kept][1]
        n_edges = max(space.n_layers, space.n_edges_at(densities[group]))
        return Proposal(
            architecture=tiled(
                block, space=space, n_edges=n_edges, generator=self._setting.generator
            )
        )


def fewer_rows(task: Task, *, share: float, generator: torch.Generator) -> Task:
    """The same task with fewer training and validation rows, scaled as before."""

    def some(rows: Tensor) -> Tensor:
        n_rows = math.ceil(share * len(rows))
        return rows[stratified_draw(task.y[rows], n_rows, generator=generator, at_least=2)]

    split = Split(
        train=some(task.split.train),
        validation=some(task.split.validation),
        test=task.split.test.new_empty(0),
    )
    return replace(task, split=split)


def narrower(space: SearchSpace, *, share: float) -> SearchSpace:
    """The same space with fewer hidden neurons."""
    n_inputs, *hidden, n_outputs = space.widths
    fewer = (math.ceil(share * width) for width in hidden)
    return replace(space, widths=(n_inputs, *fewer, n_outputs))


def tiled(
    block: Architecture, *, space: SearchSpace, n_edges: int, generator: torch.Generator
) -> Architecture:
    """Copy hidden neurons of a block as often as a number of edges allows.

    Args:
        block: Live edges only, at most ``n_edges`` of them, no wider than the space.
        space: Gives the widths of the result.
        n_edges: K; the result has fewer only if all places between its neurons are taken.
        generator: Draws which neurons are copied more often, and where the last edges go.
    """
    small, _ = block.without_dead_neurons()
    masks = [torch.from_numpy(mask) for mask in small.masks]
    orders = [
        torch.randperm(n, generator=generator) if 0 < k < small.n_layers else torch.arange(n)
        for k, n in enumerate(small.widths)
    ]
    originals = _originals(masks, orders, space=space, n_edges=n_edges)
    wide = _filled(_copied(masks, originals), n_edges=n_edges, generator=generator)
    names = [
        [layer[i] for i in own.tolist()] + [space.activations[0]] * (n - len(own))
        for layer, own, n in zip(small.activations, originals[1:], space.widths[1:], strict=True)
    ]
    padded = [torch.zeros(shape, dtype=torch.bool) for shape in itertools.pairwise(space.widths)]
    for mask, part in zip(padded, wide, strict=True):
        mask[: part.shape[0], : part.shape[1]] = part
    return Architecture.from_masks(padded, hidden=names[:-1], output=names[-1])


def _originals(
    masks: Sequence[Tensor], orders: Sequence[Tensor], *, space: SearchSpace, n_edges: int
) -> list[Tensor]:
    """Which neuron of the block every neuron copies, layer by layer, as many as K allows."""
    best = list(orders)
    longest = max((len(order) for order in orders[1:-1]), default=1)
    for extra in range(1, longest * max(space.widths)):
        widths = [
            min(n, len(order) + extra * len(order) // longest)
            for n, order in zip(space.widths, orders, strict=True)
        ]
        wider = [
            order[torch.arange(width) % len(order)]
            for order, width in zip(orders, widths, strict=True)
        ]
        if sum(int(part.sum()) for part in _copied(masks, wider)) > n_edges:
            break
        best = wider
        if tuple(widths) == space.widths:
            break
    return best


def _copied(masks: Sequence[Tensor], originals: Sequence[Tensor]) -> list[Tensor]:
    """Masks between copies of neurons."""
    return [
        mask[rows][:, columns]
        for mask, (rows, columns) in zip(masks, itertools.pairwise(originals), strict=True)
    ]


def _filled(masks: Sequence[Tensor], *, n_edges: int, generator: torch.Generator) -> list[Tensor]:
    """The same with edges at random, up to a number of them or to all places."""
    flat = torch.cat([mask.flatten() for mask in masks])
    free = (~flat).nonzero().squeeze(1)
    order = torch.randperm(len(free), generator=generator)
    flat[free[order[: n_edges - int(flat.sum())]]] = True
    parts = flat.split([mask.numel() for mask in masks])
    return [part.view_as(mask) for part, mask in zip(parts, masks, strict=True)]


def measured(trials: Sequence[Trial], *, setting: Setting) -> list[Trial]:
    """The same networks, with their losses on all rows."""
    population = Population(
        [trial.architecture for trial in trials], start=[trial.weights for trial in trials]
    )
    loss, cost = setting.objective.loss, setting.objective.cost
    train = population.losses(*setting.task.rows("train"), loss=loss).tolist()
    validation = population.losses(*setting.task.rows("validation"), loss=loss).tolist()
    return [
        replace(
            trial,
            train_loss=train[i],
            loss=validation[i],
            objective=validation[i] + cost(trial.architecture.n_edges),
        )
        for i, trial in enumerate(trials)
    ]
