"""REINFORCE with a controller, the first architecture search by reinforcement learning.

Source: Zoph and Le, "Neural architecture search with reinforcement learning" (arXiv:1611.01578).
Notation: θ parameters of the controller, z a sequence of tokens, R its reward, b the baseline.

    θ ← Adam(θ, −(1/B) Σ_i (R_i − b) ∇_θ log p_θ(z_i)),    b a moving average of past rewards

The controller is the paper's LSTM, or, in ``independent_search``, a table of scores that do not
depend on one another. How either of them writes a sparse network, ``tokens`` and ``controllers``,
and what the reward and the learning rate become, ``policy_gradient``, is ours. Batches of 8 are the
paper's, per replica of its controller; it does not say how fast its moving average forgets.
"""

import torch
from torch import Tensor

from graphpred.searchers.base import Setting
from graphpred.searchers.controllers import (
    IndependentController,
    RecurrentController,
    RecurrentSize,
)
from graphpred.searchers.policy_gradient import (
    ControllerSearch,
    Learning,
    LogProbability,
)

NAS_RL = Learning(batch=8, rate=6e-4, networks=12_800, highest=0.01)
"""Rate and networks of the paper."""
INDEPENDENT = Learning(batch=8, rate=0.2, networks=300, highest=0.2)
"""Ours: a score of the table moves by itself, those of the LSTM by many parameters."""


def reinforce_search(setting: Setting) -> ControllerSearch:
    """The LSTM of NAS-RL."""
    return ControllerSearch(
        setting,
        policy=RecurrentController(
            setting.space, size=RecurrentSize(), generator=setting.generator
        ),
        learning=NAS_RL,
        update=reinforce_update,
        n_networks=setting.n_networks,
    )


def independent_search(setting: Setting) -> ControllerSearch:
    """The table of scores."""
    return ControllerSearch(
        setting,
        policy=IndependentController(setting.space),
        learning=INDEPENDENT,
        update=reinforce_update,
        n_networks=setting.n_networks,
    )


def reinforce_update(
    log_probability: LogProbability, advantages: Tensor, optimiser: torch.optim.Optimizer
) -> None:
    """One step along the mean of advantage · ∇ log p."""
    optimiser.zero_grad()
    (-(advantages * log_probability().sum(dim=0)).mean()).backward()
    optimiser.step()
