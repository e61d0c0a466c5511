"""Controllers: policies that score the tokens of an architecture, see ``tokens``.

- ``RecurrentController``: an LSTM that takes one step per number of neurons and per neuron, from
  the last layer to the first. Its input is a vector of the step plus one of what was drawn at the
  step before; a linear layer per layer of the network turns its output into scores. The recurrent
  part, its size and its uniform start are those of Zoph and Le, "Neural architecture search with
  reinforcement learning" (arXiv:1611.01578: 2 layers of 35 units, ±.08) or of Zoph, Vasudevan,
  Shlens and Le, "Learning transferable architectures for scalable image recognition"
  (arXiv:1707.07012: 1 layer of 100, ±.1). What it says is ours: all scores of a neuron come from
  one step, where the papers take a step per token, and the vectors of the steps are an addition.
- ``IndependentController``: a table of scores that do not depend on what was drawn before. One
  score per edge, and per activation, in-degree and number of neurons.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from graphpred.searchers.tokens import Step, all_steps, n_answers, n_scores
from graphpred.space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class RecurrentSize:
    """Size of an LSTM, by default that of NAS-RL.

    Attributes:
        n_layers: Layers of the LSTM.
        n_units: Units per layer.
        spread: Parameters start uniform in ±``spread``.
    """

    n_layers: int = 2
    n_units: int = 35
    spread: float = 0.08


class RecurrentController:
    """An LSTM over the numbers of neurons, then the neurons, outputs first.

    Args:
        space: What is drawn from.
        size: Of the LSTM.
        generator: Draws the parameters.
    """

    def __init__(
        self, space: SearchSpace, *, size: RecurrentSize, generator: torch.Generator
    ) -> None:
        self.space, self.size = space, size
        self._steps = {step: i for i, step in enumerate(all_steps(space))}
        h = size.n_units
        shapes: dict[str, tuple[int, ...]] = {"density": (h,), "step": (len(self._steps), h)}
        for i in range(size.n_layers):
            shapes |= {f"input_{i}": (4 * h, h), f"hidden_{i}": (4 * h, h), f"bias_{i}": (4 * h,)}
        for step in self._steps:
            name, n = _kind(step), n_scores(space, step)
            shapes |= {f"{name}_out": (n, h), f"{name}_bias": (n,)}
            shapes |= {f"{name}_in": (h, n_answers(space, step))}
        self.parameters = {
            name: torch.empty(shape)
            .uniform_(-size.spread, size.spread, generator=generator)
            .requires_grad_()
            for name, shape in shapes.items()
        }

    def walk(self, n_edges: Tensor) -> "_RecurrentWalk":
        """Begin B sequences with the given numbers of edges. Int64, shape ``(B,)``."""
        return _RecurrentWalk(self, n_edges)

    def number(self, step: Step) -> int:
        """Position of a step among all."""
        return self._steps[step]


class _RecurrentWalk:
    """State of the LSTM; a sequence that lacks a step keeps it."""

    def __init__(self, controller: RecurrentController, n_edges: Tensor) -> None:
        size, self._controller = controller.size, controller
        nothing = torch.zeros(len(n_edges), size.n_units)
        self._states = [(nothing, nothing)] * size.n_layers
        density = (n_edges / controller.space.n_possible_edges).log()  # (B,)
        self._heard = density[:, None] * controller.parameters["density"]  # (B, n_units)
        self._present = torch.ones_like(n_edges, dtype=torch.bool)

    def scores(self, step: Step, present: Tensor) -> Tensor:
        """Take a step."""
        p, there = self._controller.parameters, present[:, None]
        x = self._heard + p["step"][self._controller.number(step)]  # (B, n_units)
        for i, before in enumerate(self._states):
            after = torch.lstm_cell(x, before, p[f"input_{i}"], p[f"hidden_{i}"], p[f"bias_{i}"])
            self._states[i] = (
                torch.where(there, after[0], before[0]),
                torch.where(there, after[1], before[1]),
            )
            x = self._states[i][0]
        self._present = there
        return torch.nn.functional.linear(x, p[f"{_kind(step)}_out"], p[f"{_kind(step)}_bias"])

    def hear(self, step: Step, answer: Tensor) -> None:
        """Keep a vector of what was drawn for the next step."""
        heard = answer @ self._controller.parameters[f"{_kind(step)}_in"].T
        self._heard = torch.where(self._present, heard, self._heard)


class IndependentController:
    """A table of scores, at the start all zero.

    Args:
        space: What is drawn from.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.parameters = {
            _kind(step): torch.zeros(
                1 if step.neuron is None else space.widths[step.layer], n_scores(space, step)
            ).requires_grad_()
            for step in all_steps(space)
        }

    def walk(self, n_edges: Tensor) -> "_IndependentWalk":
        """Begin B sequences, whatever their numbers of edges. Int64, shape ``(B,)``."""
        return _IndependentWalk(self.parameters, n_sequences=len(n_edges))


class _IndependentWalk:
    """Looks scores up."""

    def __init__(self, parameters: dict[str, Tensor], *, n_sequences: int) -> None:
        self._parameters, self._n_sequences = parameters, n_sequences

    def scores(self, step: Step, present: Tensor) -> Tensor:
        """A row of the table, for every sequence."""
        del present
        row = self._parameters[_kind(step)][step.neuron or 0]
        return row.expand(self._n_sequences, -1)

    def hear(self, step: Step, answer: Tensor) -> None:
        """Pass: the scores do not depend on it."""


def _kind(step: Step) -> str:
    """What names the parameters of a step: those of the neurons of a layer are shared."""
    return f"{'width' if step.neuron is None else 'neuron'}_{step.layer}"
