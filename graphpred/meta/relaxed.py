"""The differentiable form of the paper's F, which the meta-model is trained on.

Expected loss of the predicted network on fresh rows + PRICE_FACTOR·λ·E[K]/N + the edges that the
pair's architecture Z_j contradicts, (α·E[false] + β·E[missed]) / K_j, after matching hidden neurons
(Hungarian method), + a quarter of the cross-entropy of the matched neurons' activation classes.
Notation as in ``graphpred.meta.decoder``; m rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from graphpred.activations import ACTIVATIONS
from graphpred.architecture import Architecture
from graphpred.meta.decoder import Decoded

PRICE_FACTOR = 3.0
"""Cross-entropy falls about as much faster than the error does."""
_ACTIVATION_SHARE = 0.25  # of the activations' cross-entropy in the pairs' term


@dataclass(frozen=True, eq=False, kw_only=True)
class Losses:
    """The terms of the loss, one number a data set; ``(G,)`` each.

    Attributes:
        fit: Mean cross-entropy (nats) or squared error on fresh rows.
        edges: E[K] / N.
        pair: α·E[false] + β·E[missed] against the pair's architecture, over its number of edges,
            plus the activations' cross-entropy; 0 without a pair.
    """

    fit: Tensor
    edges: Tensor
    pair: Tensor


def network_scores(
    decoded: Decoded, X: Tensor, *, activations: Sequence[int], choice: Tensor
) -> Tensor:
    """Outputs of the predicted networks before softmax.

    Args:
        decoded: G predicted networks.
        X: Rows, zeros in padded features. Float, shape ``(G, m, n)``.
        activations: Registry indices of the a classes.
        choice: Share of every class in every hidden neuron. Float, shape ``(G, h, a)``.

    Returns:
        Float, shape ``(G, m, c)``.
    """
    into, out = decoded.weights
    z = torch.baddbmm(decoded.hidden_bias.unsqueeze(1), X, into)  # (G, m, h)
    fired = torch.zeros_like(z)
    for position, index in enumerate(activations):
        fired = fired + ACTIVATIONS[index].function(z) * choice[:, :, position].unsqueeze(1)
    return torch.baddbmm(decoded.output_bias.unsqueeze(1), fired, out)


def soft_choice(logits: Tensor, *, temperature: float, generator: torch.Generator) -> Tensor:
    """Gumbel softmax over the last dimension."""
    uniform = torch.rand(logits.shape, generator=generator).to(logits.device)
    gumbel = -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))
    return torch.softmax((logits + gumbel) / temperature, dim=-1)


def fit_loss(scores: Tensor, y: Sequence[Tensor], *, n_outputs: Sequence[int]) -> Tensor:
    """Cross-entropy, or squared error (linear beyond 3), of every data set. Float, ``(G,)``.

    Args:
        scores: Float, shape ``(G, m, c)``, padded in rows and outputs.
        y: Classes, int64 ``(m_g,)``, or targets, float ``(m_g, c_g)``, of every data set.
        n_outputs: c of every data set.
    """
    losses = []
    for own, target, c in zip(scores, y, n_outputs, strict=True):
        real = own[: len(target), :c]
        if target.is_floating_point():
            losses.append(2 * functional.huber_loss(real, target, delta=3.0))
        else:
            losses.append(functional.cross_entropy(real, target))
    return torch.stack(losses)


def edge_loss(decoded: Decoded) -> Tensor:
    """E[K] / N of every data set. Float, shape ``(G,)``."""
    first, second = decoded.probabilities
    return (first.sum(dim=(1, 2)) + second.sum(dim=(1, 2))) / decoded.n_possible


def pair_loss(
    decoded: Decoded,
    architectures: Sequence[Architecture | None],
    *,
    activations: Sequence[int],
    alpha: float,
    beta: float,
) -> Tensor:
    """What the pairs' architectures contradict. Float, shape ``(G,)``.

    Args:
        decoded: G predicted networks.
        architectures: Z_j of every data set, of the same widths; None if there is no pair.
        activations: Registry indices of the a classes.
        alpha: Cost of an expected false edge.
        beta: Cost of an expected missed edge.
    """
    first, second = decoded.probabilities
    losses = []
    for g, z in enumerate(architectures):
        if z is None or z.n_edges == 0:
            losses.append(decoded.hidden.new_zeros(()))
            continue
        n, h, c = decoded.sizes[g]
        predicted = torch.cat([first[g, :n, :h], second[g, :h, :c].T])  # (n + c, h)
        wanted = _targets(z).to(predicted)  # (n + c, h)
        order = _match(predicted.detach(), wanted, alpha=alpha, beta=beta)
        wanted = wanted[:, order]
        false = (predicted * (1 - wanted)).sum()
        missed = ((1 - predicted) * wanted).sum()
        structure = (alpha * false + beta * missed) / z.n_edges
        losses.append(
            structure + _activation_loss(decoded, z, g=g, order=order, activations=activations)
        )
    return torch.stack(losses)


def _targets(z: Architecture) -> Tensor:
    """Edges of every hidden neuron: from the features, then to the outputs. ``(n + c, h)``."""
    first, second = z.masks
    return torch.cat([torch.from_numpy(first), torch.from_numpy(second.T)]).float()


def _match(predicted: Tensor, wanted: Tensor, *, alpha: float, beta: float) -> Tensor:
    """For every predicted hidden neuron the wanted one that fits it. Int64, shape ``(h,)``."""
    cost = alpha * predicted.T @ (1 - wanted) + beta * (1 - predicted).T @ wanted  # (h, h)
    _, columns = linear_sum_assignment(cost.cpu().numpy())
    return torch.as_tensor(columns, device=predicted.device)


def _activation_loss(
    decoded: Decoded, z: Architecture, *, g: int, order: Tensor, activations: Sequence[int]
) -> Tensor:
    """Cross-entropy of the classes of matched neurons that have edges and a known class."""
    hidden = z.activation[z.starts[1] : z.starts[2]][order.cpu()]  # (h,)
    used = torch.zeros(z.n_neurons, dtype=torch.bool)
    used[z.edges.flatten()] = True
    known = torch.isin(hidden, torch.tensor(activations))
    known &= used[z.starts[1] : z.starts[2]][order.cpu()]
    if not known.any():
        return decoded.hidden.new_zeros(())
    position = {index: i for i, index in enumerate(activations)}
    target = torch.tensor([position[index] for index in hidden[known].tolist()])
    logits = decoded.activation[g, : len(hidden)][known.to(decoded.activation.device)]
    return _ACTIVATION_SHARE * functional.cross_entropy(logits, target.to(logits.device))
