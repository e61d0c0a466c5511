"""The rule that moves edges: one small network for all edges of a layer, in every round alike.

Notation: G data sets; sources and targets are features and hidden neurons, or hidden neurons and
outputs. v stands for weight and edge: an edge has probability sigmoid((|v| − θ) / τ).
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

THRESHOLD = 0.3
TEMPERATURE = 0.15
EDGE_SIZE = 8
FREE = 0.3
"""Size of what a rule may add to v in one round."""
_GRADIENT_LIMIT = 2.0  # of a data set's gradient in one round of the backward pass


def garrote(v: Tensor, threshold: float) -> Tensor:
    """v·relu(1 − t²/v²): 0 up to the threshold t, hardly less than v far above (Breiman, 1995)."""
    return v * (1 - (threshold / v.abs().clamp(min=1e-6)).square()).clamp(min=0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Action:
    """What the rule says of every edge, numbers around 0; ``(G, sources, targets)`` each.

    Attributes:
        single: Of Newton's step for the edge alone.
        joint: Of the step for all edges together.
        free: What to add.
        repeated: Of the last step.
        let_go: How readily v falls to 0.
    """

    single: Tensor
    joint: Tensor
    free: Tensor
    repeated: Tensor
    let_go: Tensor


class EdgeRule(nn.Module):
    """One small network for all edges of a layer; it sees the edge, both ends and the whole."""

    def __init__(self, hidden: int, *, source: int, target: int, whole: int) -> None:
        super().__init__()
        self.edge = nn.Linear(EDGE_SIZE, hidden)
        self.source, self.target = nn.Linear(source, hidden), nn.Linear(target, hidden)
        self.whole = nn.Linear(whole, hidden)
        self.last = nn.Linear(hidden, len(fields(Action)))

    def forward(self, edge: Tensor, *, source: Tensor, target: Tensor, whole: Tensor) -> Action:
        """What to do with every edge.

        Args:
            edge: Float, shape ``(G, sources, targets, EDGE_SIZE)``.
            source: Float, shape ``(G, sources, …)``.
            target: Float, shape ``(G, targets, …)``.
            whole: Float, shape ``(G, …)``.
        """
        sources = self.source(source) + self.whole(whole).unsqueeze(1) + self.edge.bias
        targets = self.target(target)
        summed = sources.mT.contiguous().unsqueeze(3) + targets.mT.contiguous().unsqueeze(2)
        of_edges = self.edge.weight.expand(len(edge), -1, -1)
        summed.flatten(2).baddbmm_(of_edges, edge.movedim(3, 1).flatten(2))
        heard = nn.functional.silu(  # (G, hidden, sources * targets)
            summed.flatten(2), inplace=not torch.is_grad_enabled()
        )
        of_heard = self.last.weight.expand(len(edge), -1, -1)
        actions = torch.baddbmm(self.last.bias.unsqueeze(1), of_heard, heard)
        actions = actions.view(len(edge), -1, *edge.shape[1:3])  # (G, actions, sources, targets)
        return Action(**{field.name: actions[:, i] for i, field in enumerate(fields(Action))})


def edges_seen(
    v: Tensor, *, steps: tuple[Tensor, ...], saved: Tensor, threshold: float, squashed: bool = False
) -> Tensor:
    """What concerns an edge. Float, shape ``(G, sources, targets, EDGE_SIZE)``.

    In memory each number lies side by side for all edges: it is computed, and read, by itself.

    Args:
        v: Of the edges.
        steps: Newton's for the edge alone and for all together, and the last one taken.
        saved: Loss that the edge saves, over what it costs.
        threshold: t, up to which v is no edge yet.
        squashed: Whether large numbers are to be expected.
    """
    seen_as = torch.asinh if squashed else _as_it_is
    gain = (steps[0] * v).clamp(-2, 2)
    off = (v.abs() <= threshold).to(v.dtype)
    size = seen_as(v)
    columns = [size, size.abs(), *(seen_as(step) for step in steps), gain, off]
    return torch.stack([*columns, (saved + 1e-3).log() / 4], dim=1).movedim(1, 3)


def _as_it_is(x: Tensor) -> Tensor:
    return x


def edge_step(
    v: Tensor, *, taken: Tensor, repeated: Tensor, action: Action, edge: Tensor, let_go: float
) -> Tensor:
    """A step of v: Newton's, the last one again, something free, and down if it is of no use."""
    log_saved = 4 * edge[..., -1]
    useless = torch.sigmoid(2 * action.let_go - 2 * log_saved)
    return repeated - taken + FREE * torch.tanh(action.free) - let_go * useless * v


def multiple(x: Tensor) -> Tensor:
    """A factor around 1 from a number around 0."""
    return torch.exp(x.clamp(-4, 3))


class _LimitedGradient(torch.autograd.Function):
    """The identity, whose gradient is of limited norm for every data set: rounds can amplify it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        del ctx
        norm = gradient.flatten(1).norm(dim=1)
        factor = (_GRADIENT_LIMIT / (norm + 1e-9)).clamp(max=1.0)
        return torch.nan_to_num(gradient * factor.view(-1, *[1] * (gradient.dim() - 1)))


def limited(x: Tensor) -> Tensor:
    """x, whose gradient is of limited norm for every data set: rounds can amplify it."""
    if not x.requires_grad:
        return x
    same: Tensor = _LimitedGradient.apply(x)  # type: ignore[no-untyped-call]
    return same
