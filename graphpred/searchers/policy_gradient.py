"""What searches by policy gradient share: batches, rewards, learning rates.

A policy draws a batch of architectures as sequences of tokens, see ``tokens``; they are trained;
the policy is updated with the advantages of the sequences, see ``reinforce`` and ``ppo``. Notation:
R the reward of a sequence, b a baseline; R − b is its advantage.

The papers' reward is a validation accuracy, and their controllers see more than ten thousand
networks. What follows is ours.

- R is −𝔏, and advantages are divided by the deviation of all R so far. The worst tenth of the
  objectives counts as the best of that tenth, so that networks that diverge (𝔏 = ∞), or nearly do,
  neither break nor rule the update.
- b is a moving average over networks, one for every density that is searched, since 𝔏 differs
  between densities beforehand.
- Adam moves a parameter by about one learning rate per step. With the papers' rates and the 100 to
  1,000 networks of a small budget a controller would not leave its start, so a rate is multiplied
  by (networks in the paper) / (networks of the budget), up to a highest one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphpred.searchers.base import Proposal, Setting, Trial
from graphpred.searchers.drawing import draw_tokens
from graphpred.searchers.tokens import Policy, Tokens, architectures, log_probability

WORST_SHARE = 0.1
"""Share of the objectives that count as the best of them."""


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How a controller learns.

    Attributes:
        batch: Networks between two updates.
        rate: Adam's learning rate for a budget of ``networks``.
        networks: Networks that ``rate`` was chosen for.
        highest: Largest learning rate, for small budgets.
        decay: Weight of the past in the moving average of the rewards, per network.
    """

    batch: int
    rate: float
    networks: int
    highest: float
    decay: float = 0.95

    def rate_for(self, n_networks: int) -> float:
        """The learning rate for a budget of so many networks."""
        return min(self.rate * self.networks / max(n_networks, 1), self.highest)


LogProbability = Callable[[], Tensor]
Update = Callable[[LogProbability, Tensor, torch.optim.Optimizer], None]
"""Learns from log-probabilities per step, ``(n_steps, B)``, and advantages, ``(B,)``."""


class ControllerSearch:
    """Proposes what a policy draws and updates the policy with how that did.

    Args:
        setting: What every searcher is given.
        policy: What to learn.
        learning: How.
        update: One update of the policy from one batch.
        n_networks: How many the budget holds.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        policy: Policy,
        learning: Learning,
        update: Update,
        n_networks: int,
    ) -> None:
        space = setting.space
        self._sizes = [max(space.n_layers, space.n_edges_at(d)) for d in setting.densities]
        self._setting, self._policy, self._learning = setting, policy, learning
        self._update = update
        self._optimiser = torch.optim.Adam(
            list(policy.parameters.values()), lr=learning.rate_for(n_networks)
        )
        self._past: list[list[float]] = [[] for _ in self._sizes]  # objectives, by density
        self._n_drawn = 0
        self._drawn: Tokens | None = None
        self._groups: list[int] = []

    def ask(self, k: int) -> list[Proposal]:
        """Draw a batch, or k if that is less."""
        numbers = range(self._n_drawn, self._n_drawn + min(k, self._learning.batch))
        self._groups = [i % len(self._sizes) for i in numbers]
        self._n_drawn += len(numbers)
        n_edges = torch.tensor([self._sizes[group] for group in self._groups])
        self._drawn = draw_tokens(self._policy, n_edges, generator=self._setting.generator)
        drawn = architectures(self._drawn, self._setting.space)
        return [Proposal(architecture=z) for z in drawn]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Update the policy; proposals that were not trained count for nothing."""
        drawn = self._drawn
        assert drawn is not None
        advantages = torch.zeros(len(drawn.n_edges))
        for number, past in enumerate(self._past):
            own = [i for i in range(len(trials)) if self._groups[i] == number]
            new = [trials[i].objective for i in own]
            decay = self._learning.decay
            advantages[own] = standardised_rewards(new, past=past, decay=decay)
            past.extend(new)
        self._update(lambda: log_probability(self._policy, drawn), advantages, self._optimiser)

    def state(self) -> dict[str, Any]:
        """Parameters, optimiser, objectives so far, and which density is next."""
        return {
            "parameters": {name: p.detach().clone() for name, p in self._policy.parameters.items()},
            "optimiser": self._optimiser.state_dict(),
            "objectives": self._past,
            "n_drawn": self._n_drawn,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        for name, value in state["parameters"].items():
            self._policy.parameters[name].data.copy_(value)
        self._optimiser.load_state_dict(state["optimiser"])
        self._past = state["objectives"]
        self._n_drawn = state["n_drawn"]


def standardised_rewards(new: Sequence[float], *, past: Sequence[float], decay: float) -> Tensor:
    """(R − b) / deviation of new objectives, in order; without a past, b is their mean.

    Args:
        new: 𝔏, perhaps ∞ or NaN.
        past: 𝔏 of the networks before, in order.
        decay: Weight of the past in the moving average b, per network.

    Returns:
        Float, shape ``(len(new),)``; zeros if the objectives do not differ.

    >>> standardised_rewards([0.1, 0.3, float("inf")], past=[0.1, 0.2, 0.3] * 6, decay=0.95)
    tensor([ 1.2256, -1.1446, -1.1446])
    """
    objectives = torch.tensor([*past, *new], dtype=torch.float64)
    finite = objectives.isfinite()
    if not finite.any():
        return torch.zeros(len(new))
    worst = objectives[finite].quantile(1 - WORST_SHARE)
    rewards = -torch.where(finite, objectives, worst).clamp(max=worst)
    earlier = rewards[: len(past)] if past else rewards
    weight = decay ** torch.arange(len(earlier), dtype=torch.float64).flip(0) if past else 1.0
    baseline = (weight * earlier).sum() / (weight * torch.ones_like(earlier)).sum()
    deviation = rewards.std(correction=0)
    if deviation == 0:
        return torch.zeros(len(new))
    return ((rewards[len(past) :] - baseline) / deviation).float()
