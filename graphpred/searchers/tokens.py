"""Architectures as sequences of tokens: exactly K edges, all of them live.

Notation: B sequences; layers 0 … t of widths n_0 … n_t, u_k neurons of layer k in use, K edges.
A sequence runs from the outputs to the inputs, so that a neuron is only written down once another
one has read it. Its tokens are

- per hidden layer, from the last to the first: u_k;
- per neuron in use, layers t … 1: its activation; how many neurons of the layer before it is the
  first to read; its in-degree; the other neurons that it reads, one after the other.

Hidden neurons are exchangeable, so those that are read for the first time take the next numbers.
A token that would make it impossible to end with K edges, every hidden neuron with an input and an
output, has probability zero. The others have log-probability score + base up to a constant, with
the scores of a policy and a *base* with which scores of zero draw much as
``SearchSpace.sample_live`` does: u_k log-uniform, edges spread evenly. Neurons are read without
replacement, each with probability proportional to exp(score) among those that remain (Plackett,
1975; Luce, 1959), so the log-probability of the sequence is exact.

This mapping is ours. The papers' controllers write filter sizes and skip connections without a
limit on their number.
"""

import itertools
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from graphpred.activations import IDENTITY, activation_indices
from graphpred.architecture import Architecture
from graphpred.space import SearchSpace

_NEVER = -1e30  # a score that no neuron has: finite, for gradients


@dataclass(frozen=True)
class Step:
    """Where a sequence stands.

    Attributes:
        layer: The layer written about.
        neuron: The neuron of that layer; None for its number of neurons.
    """

    layer: int
    neuron: int | None = None


class Walk(Protocol):
    """A policy on its way through B sequences."""

    def scores(self, step: Step, present: Tensor) -> Tensor:
        """Scores of the tokens of a step. Float, shape ``(B, n_scores(space, step))``.

        ``present``, bool of shape ``(B,)``, tells which sequences have this step.
        """
        ...

    def hear(self, step: Step, answer: Tensor) -> None:
        """Learn what was drawn. Float, shape ``(B, n_answers(space, step))``."""
        ...


class Policy(Protocol):
    """Scores for the tokens of a space."""

    space: SearchSpace
    parameters: dict[str, Tensor]

    def walk(self, n_edges: Tensor) -> Walk:
        """Begin B sequences with the given numbers of edges. Int64, shape ``(B,)``."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class WidthTokens:
    """The tokens u_k of one hidden layer.

    Attributes:
        chosen: u_k − 1. Int64, shape ``(B,)``.
        base: Added to the scores. Float, shape ``(B, n_k)``.
    """

    chosen: Tensor
    base: Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class NeuronTokens:
    """The tokens of neurons of layer k: of one, leading shape ``(B,)``, or several, ``(S, B)``.

    Attributes:
        present: Whether the sequence has the neuron. Bool, shape ``(…)``.
        activation: Position in the space's list. Int64, shape ``(…)``.
        opened: Neurons of layer k-1 that it is the first to read. Int64, shape ``(…)``.
        opened_base: Added to the scores. Float, shape ``(…, n_{k-1} + 1)``.
        degree: Its in-degree. Int64, shape ``(…)``.
        degree_base: Added to the scores. Float, shape ``(…, n_{k-1} + 1)``.
        available: Neurons of layer k-1 that were read before it. Int64, shape ``(…)``.
        order: A permutation that begins with those that it reads of them, in the order drawn, and
            goes on with the rest of them. Int64, shape ``(…, n_{k-1})``.
        reads: All that it reads. Bool, shape ``(…, n_{k-1})``.
    """

    present: Tensor
    activation: Tensor
    opened: Tensor
    opened_base: Tensor
    degree: Tensor
    degree_base: Tensor
    available: Tensor
    order: Tensor
    reads: Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class Tokens:
    """B sequences.

    Attributes:
        n_edges: K of every sequence. Int64, shape ``(B,)``.
        widths: Of layers t-1 … 1.
        layers: Of the neurons of layers t … 1; every leading shape is ``(S, B)``.
    """

    n_edges: Tensor
    widths: tuple[WidthTokens, ...]
    layers: tuple[NeuronTokens, ...]


def n_scores(space: SearchSpace, step: Step) -> int:
    """Number of scores at a step: every u_k; or activations, opened, in-degrees and neurons."""
    if step.neuron is None:
        return space.widths[step.layer]
    return sum(sections(space, step.layer))


def n_answers(space: SearchSpace, step: Step) -> int:
    """Length of an answer: u_k one-hot; or the activation one-hot and the neurons read."""
    if step.neuron is None:
        return space.widths[step.layer]
    return len(classes(space, step.layer)) + space.widths[step.layer - 1]


def all_steps(space: SearchSpace) -> list[Step]:
    """The steps of a sequence that uses all neurons, in order."""
    widths = [Step(layer) for layer in range(space.n_layers - 1, 0, -1)]
    layers = range(space.n_layers, 0, -1)
    return widths + [Step(layer, i) for layer in layers for i in range(space.widths[layer])]


def classes(space: SearchSpace, layer: int) -> tuple[int, ...]:
    """Activation classes that a neuron of a layer can have."""
    last = layer == space.n_layers
    return activation_indices(space.output_activations if last else space.activations)


def sections(space: SearchSpace, layer: int) -> list[int]:
    """Scores of a neuron by what they are for: activation, opened, in-degree, neurons read."""
    n = space.widths[layer - 1]
    return [len(classes(space, layer)), n + 1, n + 1, n]


def log_probability(policy: Policy, tokens: Tokens) -> Tensor:
    """Log-probability of every step given those before, differentiable.

    Returns:
        Float, shape ``(n_steps, B)``; 0 where a sequence has no such step. The sums over the steps
        are those of the sequences.
    """
    walk, space = policy.walk(tokens.n_edges), policy.space
    everywhere = torch.ones_like(tokens.n_edges, dtype=torch.bool)
    of_steps = []
    for k, width in zip(range(space.n_layers - 1, 0, -1), tokens.widths, strict=True):
        scores = walk.scores(Step(k), everywhere)
        walk.hear(Step(k), width_answer(width.chosen, space.widths[k]))
        of_steps.append(_of_chosen(scores + width.base, width.chosen).unsqueeze(0))
    for k, layer in zip(range(space.n_layers, 0, -1), tokens.layers, strict=True):
        answers = neuron_answer(layer.activation, layer.reads, len(classes(space, k)))
        of_layer = []
        for i, (present, answer) in enumerate(zip(layer.present, answers, strict=True)):
            of_layer.append(walk.scores(Step(k, i), present))
            walk.hear(Step(k, i), answer)
        parts = torch.stack(of_layer).split(sections(space, k), dim=-1)  # (S, B, …) each
        of_steps.append(_of_neurons(layer, *parts))
    return torch.cat(of_steps)


def width_answer(chosen: Tensor, n: int) -> Tensor:
    """What a policy hears of a number of neurons. Float, shape ``(B, n)``."""
    return functional.one_hot(chosen, n).float()


def neuron_answer(activation: Tensor, reads: Tensor, n_classes: int) -> Tensor:
    """What a policy hears of a neuron. Float, shape ``(…, n_classes + n_{k-1})``."""
    return torch.cat([functional.one_hot(activation, n_classes), reads], dim=-1).float()


def _of_neurons(
    tokens: NeuronTokens, of_class: Tensor, of_opened: Tensor, of_degree: Tensor, of_source: Tensor
) -> Tensor:
    """Log-probability of all tokens of every neuron; 0 for those not present. ``(S, B)``."""
    total = (
        _of_chosen(of_class, tokens.activation)
        + _of_chosen(of_opened + tokens.opened_base, tokens.opened)
        + _of_chosen(of_degree + tokens.degree_base, tokens.degree)
        + _of_order(of_source, tokens)
    )
    return torch.where(tokens.present, total, 0.0)


def _of_chosen(scores: Tensor, chosen: Tensor) -> Tensor:
    return scores.log_softmax(dim=-1).gather(-1, chosen.unsqueeze(-1)).squeeze(-1)


def _of_order(scores: Tensor, tokens: NeuronTokens) -> Tensor:
    """Σ_i log (exp s_i / Σ_{j ≥ i} exp s_j) over what is drawn, s in the order drawn."""
    rank = torch.arange(scores.shape[-1])
    n_drawn = (tokens.degree - tokens.opened).unsqueeze(-1)
    ordered = scores.gather(-1, tokens.order)
    ordered = torch.where(rank < tokens.available.unsqueeze(-1), ordered, _NEVER)
    rest = ordered.flip(-1).logcumsumexp(dim=-1).flip(-1)  # (S, B, n_{k-1})
    return torch.where(rank < n_drawn, ordered - rest, 0.0).sum(dim=-1)


def architectures(tokens: Tokens, space: SearchSpace) -> list[Architecture]:
    """What the sequences say. Neurons without use have no edges and the first activation."""
    starts = list(itertools.accumulate(space.widths, initial=0))
    n_sequences = len(tokens.n_edges)
    activation = torch.full((n_sequences, starts[-1]), IDENTITY)
    edges: list[list[Tensor]] = [[] for _ in range(n_sequences)]
    for k, layer in zip(range(1, space.n_layers + 1), reversed(tokens.layers), strict=True):
        possible = torch.tensor(classes(space, k))
        activation[:, starts[k] : starts[k + 1]] = possible[0]
        activation[:, starts[k] : starts[k] + len(layer.present)] = possible[layer.activation.T]
        which, source, target = layer.reads.permute(1, 2, 0).nonzero().T  # sorted as edges are
        pairs = torch.stack([source + starts[k - 1], target + starts[k]])
        counts = torch.bincount(which, minlength=n_sequences).tolist()
        for own, part in zip(edges, pairs.split(counts, dim=1), strict=True):
            own.append(part)
    return [
        Architecture(edges=torch.cat(own, dim=1), activation=activation[i], widths=space.widths)
        for i, own in enumerate(edges)
    ]
