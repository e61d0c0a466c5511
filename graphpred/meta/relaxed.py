"""The differentiable form of the paper's F, which the meta-model is trained on.

Loss of the predicted network on fresh rows + PRICE_FACTOR·λ·E[K]/N + the edges that the pair's
architecture Z_j contradicts, (α·E[false] + β·E[missed]) / K_j, after matching hidden neurons
(Hungarian method), + a quarter of the cross-entropy of the matched neurons' activation classes.
Notation as in ``graphpred.meta.decoder``; m rows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from graphpred.architecture import Architecture
from graphpred.meta.decoder import Decoded
from graphpred.meta.feedback import activated

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


def network_scores(decoded: Decoded, X: Tensor) -> Tensor:
    """Outputs of the predicted networks before softmax.

    Args:
        decoded: G predicted networks.
        X: Rows. Float, shape ``(G, m, n)``.

    Returns:
        Float, shape ``(G, m, c)``.
    """
    (into, out), (hidden_bias, output_bias) = decoded.weights, decoded.biases
    value, _ = activated(into.mT @ X.mT + hidden_bias.unsqueeze(2), decoded.classes)  # (G, h, m)
    return value.mT @ out + output_bias.unsqueeze(1)


def fit_loss(scores: Tensor, y: Sequence[Tensor]) -> Tensor:
    """Cross-entropy, or squared error (linear beyond 3), of every data set. Float, ``(G,)``.

    Args:
        scores: Float, shape ``(G, m, c)``; the rows of a smaller data set come first.
        y: Classes, int64 ``(m_g,)``, or targets, float ``(m_g, c)``, of every data set.
    """
    losses = []
    for own, target in zip(scores, y, strict=True):
        real = own[: len(target)]
        if target.is_floating_point():
            losses.append(2 * functional.huber_loss(real, target, delta=3.0))
        else:
            losses.append(functional.cross_entropy(real, target))
    return torch.stack(losses)


def loss_scale(decoded: Decoded, *, is_regression: bool) -> float:
    """What the loss of a data set is divided by: the root of log c, for c classes.

    A constant prediction loses log c; data sets of many classes should weigh more than others, for
    there is more to learn of them, but not by as much.
    """
    return 1.0 if is_regression else math.sqrt(math.log(max(2, decoded.sizes[2])))


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
        predicted = torch.cat([first[g], second[g].T])  # (n + c, h)
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
    logits = decoded.activation[g][known.to(decoded.activation.device)]
    return _ACTIVATION_SHARE * functional.cross_entropy(logits, target.to(logits.device))
