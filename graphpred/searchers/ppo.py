"""Proximal policy optimisation of a controller, the search of NASNet.

Sources: Zoph, Vasudevan, Shlens and Le, "Learning transferable architectures for scalable image
recognition" (arXiv:1707.07012), for the controller and its settings; Schulman, Wolski, Dhariwal,
Radford and Klimov, "Proximal policy optimization algorithms" (arXiv:1707.06347), for the update.
Notation: θ' the parameters that drew the batch, ρ = p_θ / p_θ' the ratio of the probabilities of
one step of a sequence, A its advantage, H the entropy, ε and η settings.

    maximise  (1/B) Σ min(ρ A, clip(ρ, 1 − ε, 1 + ε) A) + η H

over all steps of the B sequences of a batch, several times. A step is a neuron with all its
tokens, or a number of neurons; every step of a sequence has the advantage of the whole sequence,
as in ``reinforce``. Rewards and learning rates are those of ``policy_gradient``. The entropy
enters as −log p of the sequences drawn, whose mean is H, added to the advantages: η · (−log p).
The source does not give ε and the number of passes: ours are those of the PPO paper's example.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from graphpred.searchers.base import Setting
from graphpred.searchers.controllers import RecurrentController, RecurrentSize
from graphpred.searchers.policy_gradient import (
    ControllerSearch,
    Learning,
    LogProbability,
)


@dataclass(frozen=True, kw_only=True)
class ProximalUpdate:
    """One update of the policy from one batch.

    Attributes:
        clip: ε.
        entropy: η.
        n_passes: Adam steps per batch.
    """

    clip: float = 0.2
    entropy: float = 1e-5
    n_passes: int = 4

    def __call__(
        self, log_probability: LogProbability, advantages: Tensor, optimiser: torch.optim.Optimizer
    ) -> None:
        """Take ``n_passes`` steps."""
        with torch.no_grad():
            before = log_probability()
        surprise = -before.sum(dim=0)  # (B,)
        advantages = advantages + self.entropy * (surprise - surprise.mean())
        for _ in range(self.n_passes):
            optimiser.zero_grad()
            (-self.surrogate(log_probability(), before, advantages=advantages)).backward()
            optimiser.step()

    def surrogate(self, now: Tensor, before: Tensor, *, advantages: Tensor) -> Tensor:
        """The clipped surrogate of log-probabilities ``(n_steps, B)`` now and when drawn."""
        ratio = (now - before).clamp(max=20).exp()
        clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
        return torch.minimum(ratio * advantages, clipped * advantages).sum(dim=0).mean()


NASNET = Learning(batch=20, rate=3.5e-4, networks=20_000, highest=0.01)
"""Batch, rate and networks of the paper."""
NASNET_SIZE = RecurrentSize(n_layers=1, n_units=100, spread=0.1)


def ppo_search(setting: Setting, *, n_networks: int | None = None) -> ControllerSearch:
    """The controller of NASNet, for a number of networks, by default those of the budget."""
    return ControllerSearch(
        setting,
        policy=RecurrentController(setting.space, size=NASNET_SIZE, generator=setting.generator),
        learning=NASNET,
        update=ProximalUpdate(),
        n_networks=n_networks or setting.n_networks,
    )
