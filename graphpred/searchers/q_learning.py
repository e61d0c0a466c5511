"""MetaQNN: a table of values decides neuron by neuron and learns from replayed networks.

Source: Baker, Gupta, Naik and Raskar, "Designing neural network architectures using reinforcement
learning", 2017, arXiv:1611.02167. Q(s, u) estimates the reward of the network that follows from
action u in state s; the action taken is the best one, or with probability ε any. A network is
trained, with all earlier ones it is kept in a replay memory, and 100 of those are drawn; the
transitions (s, u, s') of each are gone through in reverse,

    Q(s, u) ← (1 − α) Q(s, u) + α (r + γ max_v Q(s', v)),

γ = 1, with reward r at the last transition alone, and no second term there. An architecture that
was trained before is not trained again: its transitions are gone through with the reward that is
known, and another one is written.

Ours are the states and actions, see ``construction``: the paper's are layers of image networks, and
a state tells which layer was chosen last. Here it tells the commonest activation so far: without a
trace of it the next state, and so max_v Q(s', v), would be the same for every activation. The
reward is −𝔏 in deviations from the mean of all networks so far; those beyond the worst tenth, and
those without a finite 𝔏, count as its border. The table begins with that mean, 0. The paper trains
2,700 networks, with ε = 1 for 1,500 of them and then less and less down to .1: here these are
shares of the budget. Its α = .01 is divided by the same share, up to .5, so that the sum of the
learning rates stays as it was. Networks of a round are written with one table.
"""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from graphpred.architecture import Architecture
from graphpred.searchers.base import Proposal, Setting, Trial
from graphpred.searchers.construction import Action, Construction, State, n_fan_ins
from graphpred.searchers.mutations import sizes_of
from graphpred.searchers.standardisation import standardised

PUBLISHED_NETWORKS = 2700
SCHEDULE = (
    (1.0, 1500),
    *((e / 10, 100) for e in (9, 8, 7)),
    *((e / 10, 150) for e in range(6, 0, -1)),
)
"""ε, and for how many of the published networks."""

_PATIENCE = 200  # networks written in vain before the search is given up


@dataclass(frozen=True, kw_only=True)
class QLearning:
    """How the table learns.

    Attributes:
        rate: α.
        replays: Networks drawn from the memory after every training.
        batch: Networks written before the table is told of them.
    """

    rate: float = 0.01
    replays: int = 100
    batch: int = 10

    @classmethod
    def within(cls, n_networks: int) -> "QLearning":
        """Scaled to a budget."""
        return cls(rate=min(0.5, cls.rate * PUBLISHED_NETWORKS / max(1, n_networks)))


@dataclass(frozen=True, kw_only=True)
class Transition:
    """What was done where.

    Attributes:
        state: Where.
        action: What.
        fan_ins: Fan-in classes that were possible, ascending.
        n_activations: Activations that were possible with each of them.
    """

    state: State
    action: Action
    fan_ins: tuple[int, ...]
    n_activations: int


class QTable:
    """Values of the actions in all states met; 0 for those not tried.

    Args:
        n_activations: The most that a neuron can choose from.
        n_fan_ins: Fan-in classes.
    """

    def __init__(self, *, n_activations: int, n_fan_ins: int) -> None:
        self._shape = n_fan_ins, n_activations
        self.rows: dict[State, list[list[float]]] = {}  # Q by state, fan-in class, activation

    def row(self, state: State) -> list[list[float]]:
        """The values in a state, to be changed."""
        if state not in self.rows:
            n_fan_ins, n_activations = self._shape
            self.rows[state] = [[0.0] * n_activations for _ in range(n_fan_ins)]
        return self.rows[state]

    def replay(self, transitions: Sequence[Transition], *, reward: float, rate: float) -> None:
        """Go through a network in reverse."""
        target = reward
        for step in reversed(transitions):
            row, action, n = self.row(step.state), step.action, step.n_activations
            value = row[action.fan_in][action.activation]
            row[action.fan_in][action.activation] = (1 - rate) * value + rate * target
            target = max(max(row[fan_in][:n]) for fan_in in step.fan_ins)

    def best(self, state: State, *, fan_ins: Sequence[int], n_activations: int) -> list[Action]:
        """The actions of the greatest value; several if they are equal."""
        row = self.row(state)
        values = {
            Action(activation=activation, fan_in=fan_in): row[fan_in][activation]
            for fan_in in fan_ins
            for activation in range(n_activations)
        }
        greatest = max(values.values())
        return [action for action, value in values.items() if value == greatest]


class QLearningSearch:
    """MetaQNN over the architectures of a space.

    The search ends before its budget if no architecture is new any more.

    Args:
        setting: What every searcher is given.
        learning: How; by default scaled to the budget.
    """

    def __init__(self, setting: Setting, *, learning: QLearning | None = None) -> None:
        self._n_networks = max(1, setting.n_networks)
        self._learning = learning or QLearning.within(self._n_networks)
        self._space, self._generator = setting.space, setting.generator
        self._sizes = sizes_of(setting)
        choices = max(len(setting.space.activations), len(setting.space.output_activations))
        self.table = QTable(n_activations=choices, n_fan_ins=n_fan_ins(setting.space))
        self._memory: list[list[Transition]] = []
        self._objectives: list[float] = []
        self._number: dict[str, int] = {}  # of a trained architecture in the memory
        self._written: list[tuple[str, list[Transition]]] = []  # not trained yet

    def ask(self, k: int) -> list[Proposal]:
        """Write architectures that were not trained before."""
        proposals: list[Proposal] = []
        self._written = []
        for _ in range(min(k, self._learning.batch)):
            z = self._new(len(self._memory) + len(proposals))
            if z is None:
                break
            proposals.append(Proposal(architecture=z))
        return proposals

    def tell(self, trials: Sequence[Trial]) -> None:
        """Remember the networks, and replay some after each of them."""
        for (key, transitions), trial in zip(self._written, trials, strict=False):
            self._number[key] = len(self._memory)
            self._memory.append(transitions)
            self._objectives.append(trial.objective)
            rewards = [-y for y in standardised(self._objectives)]
            drawn = torch.randint(
                len(self._memory), (self._learning.replays,), generator=self._generator
            )
            for i in drawn.tolist():
                self.table.replay(self._memory[i], reward=rewards[i], rate=self._learning.rate)

    def state(self) -> dict[str, Any]:
        """The table and the memory, packed into tensors."""
        return {
            "states": torch.tensor(list(self.table.rows)).reshape(-1, 5),
            "values": torch.tensor(list(self.table.rows.values()), dtype=torch.float64),
            "lengths": [len(transitions) for transitions in self._memory],
            "transitions": torch.tensor(
                [_packed(step) for transitions in self._memory for step in transitions]
            ).reshape(-1, 9),
            "objectives": list(self._objectives),
            "number": dict(self._number),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with them."""
        states = [tuple(own) for own in state["states"].tolist()]
        self.table.rows = dict(zip(states, state["values"].tolist(), strict=True))
        steps = iter(state["transitions"].tolist())
        self._memory = [[_unpacked(next(steps)) for _ in range(n)] for n in state["lengths"]]
        self._objectives, self._number = state["objectives"], state["number"]

    def _new(self, number: int) -> Architecture | None:
        """An architecture that was not written before, if one is found."""
        epsilon = epsilon_at(number / self._n_networks)
        n_edges = self._sizes[number % len(self._sizes)]
        written = {key for key, _ in self._written}
        for _ in range(_PATIENCE):
            z, transitions = self._episode(n_edges, epsilon=epsilon)
            key = _key(z)
            if key in self._number:
                i = self._number[key]
                reward = -standardised(self._objectives)[i]
                self.table.replay(transitions, reward=reward, rate=self._learning.rate)
            elif key not in written:
                self._written.append((key, transitions))
                return z
        return None

    def _episode(self, n_edges: int, *, epsilon: float) -> tuple[Architecture, list[Transition]]:
        """Write one architecture."""
        walk = Construction(space=self._space, left=n_edges, generator=self._generator)
        transitions = []
        while not walk.is_complete:
            state, fan_ins, n_activations = walk.state, walk.fan_ins(), walk.n_activations
            if float(torch.rand((), generator=self._generator)) < epsilon:
                action = Action(
                    activation=self._below(n_activations), fan_in=fan_ins[self._below(len(fan_ins))]
                )
            else:
                best = self.table.best(state, fan_ins=fan_ins, n_activations=n_activations)
                action = best[self._below(len(best))]
            walk.take(action)
            transitions.append(
                Transition(
                    state=state,
                    action=action,
                    fan_ins=tuple(fan_ins),
                    n_activations=n_activations,
                )
            )
        return walk.architecture(), transitions

    def _below(self, n: int) -> int:
        return int(torch.randint(n, (), generator=self._generator))


def epsilon_at(share: float) -> float:
    """ε after a share of the budget.

    >>> [epsilon_at(share) for share in (0.0, 0.5, 0.6, 0.99)]
    [1.0, 1.0, 0.8, 0.1]
    """
    for epsilon, last in zip(
        (epsilon for epsilon, _ in SCHEDULE),
        itertools.accumulate(n for _, n in SCHEDULE),
        strict=True,
    ):
        if share * PUBLISHED_NETWORKS < last:
            return epsilon
    return SCHEDULE[-1][0]


def _key(z: Architecture) -> str:
    content = z.edges.numpy().tobytes() + z.activation.numpy().tobytes()
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _packed(step: Transition) -> tuple[int, ...]:
    """Nine integers; the possible classes are bits of the last."""
    mask = sum(1 << fan_in for fan_in in step.fan_ins)
    return (*step.state, step.action.activation, step.action.fan_in, step.n_activations, mask)


def _unpacked(numbers: Sequence[int]) -> Transition:
    layer, after, commonest, degree, left, activation, fan_in, n_activations, mask = numbers
    return Transition(
        state=(layer, after, commonest, degree, left),
        action=Action(activation=activation, fan_in=fan_in),
        fan_ins=tuple(i for i in range(mask.bit_length()) if mask >> i & 1),
        n_activations=n_activations,
    )
