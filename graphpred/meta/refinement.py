"""Refinement of drafted networks: rounds of learned, second-order, sparsifying steps.

In every round the rows are passed through the networks, which gives Newton's step for every weight
(``graphpred.meta.feedback``); a small network that is shared by all edges, rounds and data sets
says how much of it to take, how much of the last step to repeat, what to add, and how fast to let
go of an edge that saves less loss than it costs. So the rounds are an unrolled, learned proximal
method (as LISTA of Gregor and LeCun, 2010, is for sparse coding), trained through all of them. It
is symmetric in features, neurons and outputs, and any number of each will do.

Notation: G data sets of one shape and kind; n features, h hidden neurons, c outputs. v stands for
weight and edge: an edge has probability sigmoid((|v| − θ) / τ), and its weight is the garrote
v·relu(1 − t²/v²) times a gain, where t rises from 0 to θ over the rounds: what is dense at first
becomes sparse. v of an edge to an output counts in deviations of its neuron, and in units at which
θ is where an edge saves as much loss as it costs at the given price.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from graphpred.meta.draft import CONTEXT_SIZE, Draft
from graphpred.meta.edges import (
    FREE,
    THRESHOLD,
    EdgeRule,
    edge_step,
    edges_seen,
    garrote,
    limited,
    multiple,
)
from graphpred.meta.feedback import Feedback, Hidden, Rows, lower_factor
from graphpred.meta.initialisation import initialise

PRICE_FACTOR = 3.0
"""Cross-entropy falls about as much faster than the error does."""
_BLOCK_EDGES = 16_384  # edges of all data sets that the rule moves at a time
_SMALL = 8  # numbers of an embedding that the rule for edges sees
_NEURON_SIZE = 5
_WHOLE_SIZE = CONTEXT_SIZE + 4
_HIDDEN_CAP, _OUTPUT_CAP = 6.0, 25.0  # |v| stays below them
# Where training starts:
_HIDDEN_RATES = (0.16, 0.04)  # of single and joint steps into hidden neurons, over √h
_OUTPUT_RATES = (0.1, 0.5)  # of single steps, over √h, and joint ones to outputs
_BIAS_RATES = (0.15, 0.7)  # of hidden neurons, over √h, and outputs
_REPEATED = (0.4, 0.1)  # of the last step, in both layers
_REPEATED_LOGIT = math.log(_REPEATED[0] / (1 - _REPEATED[0]))
_LET_GO = 0.9  # share of v that an edge without use loses in the last round
_OUTPUT_PENALTY = (4.0, 0.05)  # of ridge: per neuron and row, and always


@dataclass(frozen=True, eq=False, kw_only=True)
class State:
    """Networks after some rounds.

    Attributes:
        hidden: v of edges from features. Float, shape ``(G, n, h)``.
        output: v of edges to outputs. Float, shape ``(G, h, c)``.
        weights: Of both layers, ``(G, n, h)`` and ``(G, h, c)``.
        biases: Of hidden neurons, ``(G, h)``, and outputs, ``(G, c)``.
    """

    hidden: Tensor
    output: Tensor
    weights: tuple[Tensor, Tensor]
    biases: tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False, kw_only=True)
class _Setting:
    """What stays the same over the rounds.

    Attributes:
        gain: Weight over v, of every hidden neuron. Float, ``(G, h)``.
        classes: Registry indices of their activations. Int64, ``(G, h)``.
        unit: Logits over v, of every output. Float, ``(G, 1, c)``.
        cost: Loss that an edge must save. Float, ``(G, 1, 1)``.
        slots, features, outputs: Short embeddings, ``_SMALL`` numbers each.
        context: Float, ``(G, CONTEXT_SIZE)``.
    """

    gain: Tensor
    classes: Tensor
    unit: Tensor
    cost: Tensor
    slots: Tensor
    features: Tensor
    outputs: Tensor
    context: Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class _Moving:
    """What every round changes: v and biases, and the last steps of v."""

    hidden: Tensor
    output: Tensor
    hidden_bias: Tensor
    output_bias: Tensor
    hidden_step: Tensor
    output_step: Tensor


class Refiner(nn.Module):
    """Learned rounds.

    Args:
        width: d, of the draft's embeddings.
        n_rounds: Rounds.
        hidden: Width of the rule for edges.
        generator: Source of the initial parameters.
    """

    def __init__(
        self, *, width: int, n_rounds: int, hidden: int = 24, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.n_rounds = n_rounds
        self.short_slot = nn.Linear(width, _SMALL)
        self.short_feature = nn.Linear(width, _SMALL)
        self.short_output = nn.Linear(width, _SMALL)
        self.unit = nn.Linear(CONTEXT_SIZE, 1)
        self.penalty = nn.Linear(_WHOLE_SIZE, 1)
        neuron = _SMALL + _NEURON_SIZE
        self.hidden_rule = EdgeRule(hidden, source=_SMALL + 1, target=neuron, whole=_WHOLE_SIZE)
        self.output_rule = EdgeRule(hidden, source=neuron, target=_SMALL + 1, whole=_WHOLE_SIZE)
        self.bias_rule = nn.Sequential(
            nn.Linear(neuron + 1 + _WHOLE_SIZE, hidden),
            nn.SiLU(),
            nn.Linear(hidden, 2),
        )
        initialise(self, generator=generator)
        with torch.no_grad():
            self.penalty.weight.mul_(0.1)
            self.penalty.bias.zero_()
            silent = (self.hidden_rule.last, self.output_rule.last, self.bias_rule[-1], self.unit)
            for layer in silent:
                for parameter in layer.parameters():
                    parameter.zero_()

    def forward(self, draft: Draft, *, rows: Rows, prices: Tensor, classes: Tensor) -> list[State]:
        """Refine drafts.

        Args:
            draft: G networks.
            rows: Of their data sets.
            prices: λ. Float, shape ``(G,)``.
            classes: Registry indices of the hidden neurons' activations. Int64, ``(G, h)``.

        Returns:
            The networks before the first round and after every round.
        """
        (_, n, h), c = draft.v.shape, draft.outputs.shape[1]
        cost = PRICE_FACTOR * prices / (n * h + h * c)  # (G,)
        balance = (2 * cost.unsqueeze(1) / rows.curvature).sqrt() / THRESHOLD  # (G, c)
        learned = torch.exp(self.unit(draft.context).clamp(-3, 3))  # (G, 1)
        setting = _Setting(
            gain=draft.gain,
            classes=classes,
            unit=(balance * learned).clamp(0.03, 3).unsqueeze(1),
            cost=cost[:, None, None],
            slots=self.short_slot(draft.slots),
            features=self.short_feature(draft.features),
            outputs=self.short_output(draft.outputs),
            context=draft.context,
        )
        zero = draft.v.new_zeros(len(prices), h, c)
        moving = _Moving(
            hidden=draft.v,
            output=zero,
            hidden_bias=draft.hidden_bias,
            output_bias=draft.output_bias,
            hidden_step=torch.zeros_like(draft.v),
            output_step=zero,
        )
        states = []
        for number in range(self.n_rounds + 1):
            moving = _limited(moving)
            seen = _seen(moving, setting=setting, rows=rows, progress=number / self.n_rounds)
            states.append(seen.state)
            if number < self.n_rounds:
                moving = self._moved(seen, let_go=_LET_GO * (number + 1) / self.n_rounds)
        return states

    def _moved(self, seen: "_Seen", *, let_go: float) -> _Moving:
        """The networks after one more round."""
        moving = seen.moving
        feedback = Feedback.of(
            seen.rows,
            seen.hidden,
            gain=seen.setting.gain,
            out=seen.out,
            bias=moving.output_bias,
        )
        whole = _whole(seen, feedback=feedback)
        neuron = _neuron(seen, feedback=feedback)  # (G, h, _SMALL + _NEURON_SIZE)
        known = _Known(feedback=feedback, whole=whole, neuron=neuron, let_go=let_go)
        hidden_step = self._hidden_step(seen, known=known)
        output_step = self._output_step(seen, known=known)
        bias_step = self._bias_step(known)
        return _Moving(
            hidden=(moving.hidden + hidden_step).clamp(-_HIDDEN_CAP, _HIDDEN_CAP),
            output=(moving.output + output_step).clamp(-_OUTPUT_CAP, _OUTPUT_CAP),
            hidden_bias=(moving.hidden_bias + bias_step).clamp(-_HIDDEN_CAP, _HIDDEN_CAP),
            output_bias=moving.output_bias - _BIAS_RATES[1] * feedback.output_bias,
            hidden_step=hidden_step,
            output_step=output_step,
        )

    def _hidden_step(self, seen: "_Seen", *, known: "_Known") -> Tensor:
        """Of v of the edges from features. Float, shape ``(G, n, h)``."""
        v, feedback = seen.moving.hidden, known.feedback
        size = (v.square().sum(dim=2) + 1e-4).log() / 4  # (G, n)
        feature = torch.cat([seen.setting.features, size.unsqueeze(2)], dim=2)
        worth = (feedback.hidden_curvature / 2).unsqueeze(1) / seen.setting.cost  # (G, 1, h)
        tables = (v, feedback.hidden, feedback.hidden_joint, seen.moving.hidden_step, feature)
        n_features = max(1, _BLOCK_EDGES // (len(v) * v.shape[2]))
        blocks = zip(*(table.split(n_features, dim=1) for table in tables), strict=True)
        return torch.cat(
            [
                self._block_step(
                    v,
                    steps=(single, joint, before),
                    feature=feature,
                    saved=worth * v.square(),
                    threshold=seen.threshold,
                    known=known,
                )
                for v, single, joint, before, feature in blocks
            ],
            dim=1,
        )

    def _block_step(
        self,
        v: Tensor,
        *,
        steps: tuple[Tensor, Tensor, Tensor],
        feature: Tensor,
        saved: Tensor,
        threshold: float,
        known: "_Known",
    ) -> Tensor:
        """Of v of the edges from some features, few enough to stay in cache."""
        edge = edges_seen(v, steps=steps, saved=saved, threshold=threshold)
        action = self.hidden_rule(edge, source=feature, target=known.neuron, whole=known.whole)
        single, joint = (rate / v.shape[2] ** 0.5 for rate in _HIDDEN_RATES)
        taken = (
            single * multiple(action.single) * steps[0] + joint * multiple(action.joint) * steps[1]
        )
        repeated = steps[2] * torch.sigmoid(action.repeated + _REPEATED_LOGIT)
        return edge_step(
            v, taken=taken, repeated=repeated, action=action, edge=edge, let_go=known.let_go
        )

    def _output_step(self, seen: "_Seen", *, known: "_Known") -> Tensor:
        """Of v of the edges to outputs. Float, shape ``(G, h, c)``."""
        v, before, rows = seen.moving.output, seen.moving.output_step, seen.rows
        n_hidden = v.shape[1]
        penalty = torch.exp(self.penalty(known.whole).clamp(-4, 4)) * (
            _OUTPUT_PENALTY[0] * n_hidden / rows.n_rows + _OUTPUT_PENALTY[1]
        )  # (G, 1)
        gradient = known.feedback.output / seen.setting.unit + penalty.unsqueeze(2) * seen.kept
        ridge = torch.diag_embed(penalty.expand(-1, n_hidden))
        factor = lower_factor(known.feedback.covariance + ridge)
        joint = torch.cholesky_solve(gradient, factor).clamp(-12, 12)
        single = gradient.clamp(-8, 8)
        saved = rows.curvature.unsqueeze(1) * (v * seen.setting.unit).square() / 2
        edge = edges_seen(
            v,
            steps=(single, joint, before),
            saved=saved / seen.setting.cost,
            threshold=seen.threshold,
            squashed=True,
        )
        curvature = (rows.curvature.log() / 3).unsqueeze(2)
        output = torch.cat([seen.setting.outputs, curvature], dim=2)
        action = self.output_rule(edge, source=known.neuron, target=output, whole=known.whole)
        rate = _OUTPUT_RATES[0] / n_hidden**0.5
        taken = rate * multiple(action.single) * single
        taken = taken + 2 * _OUTPUT_RATES[1] * torch.sigmoid(action.joint) * joint
        repeated = before * 2 * _REPEATED[1] * torch.sigmoid(action.repeated)
        return edge_step(
            v, taken=taken, repeated=repeated, action=action, edge=edge, let_go=known.let_go
        )

    def _bias_step(self, known: "_Known") -> Tensor:
        """Of the hidden neurons' biases. Float, shape ``(G, h)``."""
        newton, h = known.feedback.hidden_bias, known.neuron.shape[1]
        whole = known.whole.unsqueeze(1).expand(-1, h, -1)
        rule = self.bias_rule(torch.cat([known.neuron, newton.unsqueeze(2), whole], dim=2))
        factor, free = rule.unbind(dim=2)
        taken = _BIAS_RATES[0] / h**0.5 * multiple(factor) * newton
        moved: Tensor = FREE * torch.tanh(free) - taken
        return moved


@dataclass(frozen=True, eq=False, kw_only=True)
class _Known:
    """What the rules know in one round.

    Attributes:
        feedback: Of the rows.
        whole: On every network. Float, ``(G, _WHOLE_SIZE)``.
        neuron: On every hidden neuron. Float, ``(G, h, _SMALL + _NEURON_SIZE)``.
        let_go: Share of v that an edge without use loses.
    """

    feedback: Feedback
    whole: Tensor
    neuron: Tensor
    let_go: float


@dataclass(frozen=True, eq=False, kw_only=True)
class _Seen:
    """Networks as the rows show them in one round.

    Attributes:
        moving: What can change.
        setting: What cannot.
        rows: The rows.
        hidden: What the hidden neurons say of them.
        kept: Thresholded v of edges to outputs. Float, ``(G, h, c)``.
        out: Weights from centred neurons to outputs. Float, ``(G, h, c)``.
        state: The networks by themselves.
        threshold: t.
        progress: From 0 to 1.
    """

    moving: _Moving
    setting: _Setting
    rows: Rows
    hidden: Hidden
    kept: Tensor
    out: Tensor
    state: State
    threshold: float
    progress: float


def _seen(moving: _Moving, *, setting: _Setting, rows: Rows, progress: float) -> _Seen:
    threshold = progress * THRESHOLD
    weight = garrote(moving.hidden, threshold) * setting.gain.unsqueeze(1)
    hidden = Hidden.of(rows, weight=weight, bias=moving.hidden_bias, classes=setting.classes)
    kept = garrote(moving.output, threshold)
    out = kept * setting.unit / hidden.deviation.unsqueeze(2)
    output_bias = moving.output_bias - (out * hidden.mean.unsqueeze(2)).sum(dim=1)
    state = State(
        hidden=moving.hidden,
        output=moving.output,
        weights=(weight, out),
        biases=(moving.hidden_bias, output_bias),
    )
    return _Seen(
        moving=moving,
        setting=setting,
        rows=rows,
        hidden=hidden,
        kept=kept,
        out=out,
        state=state,
        threshold=threshold,
        progress=progress,
    )


def _whole(seen: _Seen, *, feedback: Feedback) -> Tensor:
    """What concerns a network as a whole. Float, shape ``(G, _WHOLE_SIZE)``."""
    loss = feedback.loss
    same = (float(seen.progress), float(seen.rows.is_regression))
    columns = [loss, *(torch.full_like(loss, value) for value in same)]
    columns.append(seen.rows.n_rows.squeeze(1).log() / 3 - 2)
    return torch.cat([seen.setting.context, torch.stack(columns, dim=1)], dim=1)


def _neuron(seen: _Seen, *, feedback: Feedback) -> Tensor:
    """What concerns a hidden neuron. Float, shape ``(G, h, _SMALL + _NEURON_SIZE)``."""
    energy = seen.moving.output.square().sum(dim=2)
    fan_in = (seen.moving.hidden.abs() > seen.threshold).sum(dim=1)
    gradient = feedback.hidden_gradient.square().mean(dim=1)
    columns = (
        (energy + 1e-4).log() / 4,
        feedback.hidden_curvature.log() / 4,
        (fan_in + 1.0).log() / 2,
        (gradient + 1e-8).log() / 8,
        seen.hidden.mean.clamp(-3, 3),
    )
    return torch.cat([seen.setting.slots, torch.stack(columns, dim=2)], dim=2)


def _limited(moving: _Moving) -> _Moving:
    """The same, with gradients of limited size."""
    names = ("hidden", "output", "hidden_bias", "output_bias")
    values = {name: limited(getattr(moving, name)) for name in names}
    return replace(moving, **values)
