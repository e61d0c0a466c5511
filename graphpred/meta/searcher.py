"""The meta-model as a searcher: it proposes what it predicts, then improves on what did best.

The first proposal is the prediction, others have fresh latents; all are fitted and start from their
predicted weights. Then come children of the best trials: they keep the weights of their parent, but
for a few edges, the weaker the sooner, that others take the place of. So a child is its parent
trained on in another shape, and the longer the search, the longer its lineage was trained. Children
are ours, not the paper's, which predicts once.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from graphpred.activations import activation_indices
from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.meta.deeper import AnyPrediction
from graphpred.meta.layerwise import live_proposal
from graphpred.meta.model import MetaModel
from graphpred.meta.refinement import PRICE_FACTOR
from graphpred.searchers import Proposal, Setting, Trial

N_DRAWS = 32
"""Predictions before the first child."""
_DRAWN_TOGETHER = 8
_CHILDREN = 20  # between two looks at what they reached
_N_PARENTS = 10
_MOST_MOVED = 0.2  # share of the edges that a child has elsewhere
_RETYPED = 0.2  # share of children in which one neuron changes its activation
_LEAST_WEIGHT = 1e-3


class MetaModelSearch:
    """Draws from a meta-model, and then children of the best of all trials.

    Args:
        setting: What every searcher is given. With a price, C > 0, networks have as many edges as
            are likely at λ = C·N, up to the largest density; the model pays PRICE_FACTOR·λ / N for
            one, for its loss falls so much faster than the error does, but not than others do.
        model: By default the packaged one.

    Raises:
        InputError: If the space has no hidden layer, another output activation than the identity,
            or no activation that the model knows.
    """

    def __init__(self, setting: Setting, *, model: MetaModel | None = None) -> None:
        space = setting.space
        if space.n_layers < 2 or "identity" not in space.output_activations:
            raise InputError(
                "the meta-model predicts networks with hidden layers and linear outputs; "
                f"got widths {space.widths}, outputs {', '.join(space.output_activations)}."
            )
        self._setting, self._model = setting, model or MetaModel.load()
        known = self._model.config.activations
        self._activations = tuple(name for name in space.activations if name in known)
        if not self._activations:
            raise InputError(
                f"the space must have activations of the model's, {', '.join(known)}; "
                f"got {', '.join(space.activations)}."
            )
        self._limits = [max(2, space.n_layers, space.n_edges_at(d)) for d in setting.densities]
        self._n_asked = 0
        self._parents: list[Trial] = []

    def ask(self, k: int) -> list[Proposal]:
        """The prediction alone, then some draws, then children."""
        n_left = N_DRAWS - self._n_asked
        if self._n_asked == 0:
            proposals = self._drawn(range(1))
        elif n_left > 0:
            n_drawn = min(k, n_left, _DRAWN_TOGETHER)
            proposals = self._drawn(range(self._n_asked, self._n_asked + n_drawn))
        else:
            proposals = [self._child() for _ in range(min(k, _CHILDREN))]
        self._n_asked += len(proposals)
        return proposals

    def tell(self, trials: Sequence[Trial]) -> None:
        """Keep the best."""
        finite = [trial for trial in trials if math.isfinite(trial.objective)]
        ordered = sorted(self._parents + finite, key=lambda trial: (trial.objective, trial.number))
        self._parents = ordered[:_N_PARENTS]

    def state(self) -> dict[str, Any]:
        """The best trials, and how many proposals there were."""
        return {"parents": list(self._parents), "n_asked": self._n_asked}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._parents, self._n_asked = state["parents"], state["n_asked"]

    # Draws

    @cached_property
    def _prediction(self) -> AnyPrediction:
        setting = self._setting
        prediction = self._model.predict(
            setting.task,
            n_hidden=setting.space.widths[1:-1],
            activations=self._activations,
            seed=setting.seed,
        )
        if not self._is_priced:
            return prediction
        objective = setting.objective
        price = objective.cost(1) * prediction.n_possible_edges
        return prediction.at(price if objective.loss == "error" else price / PRICE_FACTOR)

    @property
    def _is_priced(self) -> bool:
        penalty = self._setting.objective.penalty
        return not callable(penalty) and penalty > 0

    def _drawn(self, numbers: range) -> list[Proposal]:
        """Draws of some numbers, each at the density whose turn it is; 0 is the prediction."""
        setting = self._setting
        limits = [self._limits[number % len(self._limits)] for number in numbers]
        own, generator = self._prediction, setting.generator
        if self._is_priced:
            likely = max(setting.space.n_layers, own.n_live_edges)
            limits = [min(limit, likely) for limit in limits]
        if numbers[0] == 0:
            return [own.proposal(n_edges=limits[0])]
        draws = {
            limit: iter(own.sample(limits.count(limit), generator=generator, n_edges=limit))
            for limit in dict.fromkeys(limits)
        }
        return [next(draws[limit]) for limit in limits]

    # Children

    def _child(self) -> Proposal:
        """One of the best, better ones sooner, with some edges elsewhere."""
        generator = self._setting.generator
        rank = int(float(torch.rand((), generator=generator)) ** 2 * len(self._parents))
        parent = self._parents[rank]
        z, E = parent.architecture, parent.architecture.n_edges
        most = max(1, int(_MOST_MOVED * E))
        n_gone, n_more, is_retyped = (
            int(torch.randint(1, most + 1, (), generator=generator)),
            int(torch.randint(0, most + 1, (), generator=generator)),
            float(torch.rand((), generator=generator)) < _RETYPED,
        )
        n_grown = n_more if self._is_priced else n_gone + n_more
        room = max(self._limits) - (E - n_gone)
        strength = (parent.weights.edge.abs() + _LEAST_WEIGHT).log()
        kept = (strength + _gumbel(E, generator)).argsort(descending=True)[: E - n_gone]
        grown = self._grown(z, n_edges=min(n_grown, room))
        if is_retyped:
            z = self._retyped(z)
        child = live_proposal(
            torch.cat([z.edges[:, kept], grown], dim=1),
            torch.cat([parent.weights.edge[kept], torch.zeros(grown.shape[1])]),
            activation=z.activation,
            widths=z.widths,
            bias=parent.weights.bias,
        )
        is_empty = not child.architecture.n_edges
        return Proposal(architecture=z, start=parent.weights) if is_empty else child

    def _grown(self, z: Architecture, *, n_edges: int) -> Tensor:
        """New edges between neurons that are live; with weights of 0 they change nothing yet.

        Returns:
            Int64, shape ``(2, n)``, n at most ``n_edges``.
        """
        source, target = self._possible
        is_live = torch.ones(z.n_neurons, dtype=torch.bool)
        is_live[z.starts[1] : z.starts[-2]] = False
        is_live[z.edges.flatten()] = True
        is_free = is_live[source] & is_live[target]
        is_free &= ~torch.isin(source * z.n_neurons + target, z.edges[0] * z.n_neurons + z.edges[1])
        free = is_free.nonzero()[:, 0]
        order = torch.randperm(len(free), generator=self._setting.generator)
        return self._possible[:, free[order[:n_edges]]]

    def _retyped(self, z: Architecture) -> Architecture:
        """With another activation in one hidden neuron."""
        generator = self._setting.generator
        hidden = z.edges[1][z.edges[1] < z.starts[-2]].unique()
        neuron = hidden[torch.randint(len(hidden), (), generator=generator)]
        classes = activation_indices(self._activations)
        activation = z.activation.clone()
        activation[neuron] = classes[int(torch.randint(len(classes), (), generator=generator))]
        return replace(z, activation=activation)

    @cached_property
    def _possible(self) -> Tensor:
        """All edges between consecutive layers. Int64, shape ``(2, N)``."""
        widths = self._setting.space.widths
        starts = list(accumulate(widths, initial=0))
        return torch.cat(
            [
                torch.cartesian_prod(torch.arange(a, b), torch.arange(b, c)).T
                for a, b, c in zip(starts, starts[1:], starts[2:], strict=False)
            ],
            dim=1,
        )


def _gumbel(n: int, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(n, generator=generator).clamp(1e-6, 1 - 1e-6)
    return -(-uniform.log()).log()
