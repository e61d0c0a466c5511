"""Layers whose weights are predicted from a few of them, by kernel ridge regression.

Source: Denil, Shakibi, Dinh, Ranzato and de Freitas, "Predicting Parameters in Deep Learning",
arXiv:1306.0543.

Notation: a layer of n inputs and h hidden units with weights W (n, h); its units are shared out
among blocks; α, s input coordinates drawn for a block; K (n, n) a kernel between coordinates;
λ the ridge. A unit's weights are a function on the coordinates, known at α:

    W = U V,  U = K[:, α] (K[α, α] + λ I)^{-1},  V = W[α, :].

U is a fixed dictionary and V is all that is learned. K is a squared exponential of the distance of
pixels where inputs are an image, else the empirical covariance of the layer's inputs. The last
layer, the classifier, is dense. Ours, not the paper's: layers after the first take the covariance
of their inputs when the layers before have their initial weights, since nothing is trained before.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from graphpred.errors import InputError
from graphpred.seeds import generator_for


def pixel_kernel(height: int, width: int, *, length_scale: float = 1.0) -> Tensor:
    """Squared exponential exp(−d² / (2 l²)) of the distance d of two pixels.

    Args:
        height: Rows of an image.
        width: Its columns; pixel (r, c) is coordinate ``r * width + c``.
        length_scale: l, in pixels.

    Returns:
        Float64, shape ``(n, n)`` with ``n = height * width``.

    >>> pixel_kernel(1, 3)[0]
    tensor([1.0000, 0.6065, 0.1353], dtype=torch.float64)
    """
    if not length_scale > 0:
        raise InputError(f"length_scale must be above 0; got {length_scale}.")
    rows, columns = torch.arange(height).double(), torch.arange(width).double()
    places = torch.cartesian_prod(rows, columns).view(-1, 2)  # (n, 2)
    squares = (places[:, None] - places).square().sum(dim=2)  # (n, n)
    return torch.exp(-squares / (2 * length_scale**2))


def empirical_kernel(X: Tensor) -> Tensor:
    """Covariance of a layer's inputs, divided by their mean variance, which gives λ its unit.

    Args:
        X: Inputs. Float, shape ``(m, n)``.

    Returns:
        Float64, shape ``(n, n)``.

    Raises:
        InputError: If there are fewer than two rows or no input varies.
    """
    centred = X.double() - X.double().mean(dim=0)
    scale = float(centred.square().sum()) / X.shape[1]
    if len(X) < 2 or not 0 < scale < math.inf:
        raise InputError(
            f"inputs must have two rows or more and vary; got {len(X)} rows, "
            f"summed squares {scale:g}."
        )
    return centred.T @ centred / scale


def dictionary(kernel: Tensor, indices: Tensor, *, ridge: float) -> Tensor:
    """U, by which the weights at some coordinates are multiplied to predict all.

    Args:
        kernel: K. Float64, shape ``(n, n)``.
        indices: α. Int64, shape ``(s,)``.
        ridge: λ, above 0.

    Returns:
        Float64, shape ``(n, s)``.

    Raises:
        InputError: If the shapes do not fit, an index is out of range or ``ridge`` is not above 0.
    """
    n = len(kernel)
    if kernel.shape != (n, n):
        raise InputError(f"kernel must be a square matrix; got shape {tuple(kernel.shape)}.")
    if indices.ndim != 1 or not len(indices) or not 0 <= indices.min() <= indices.max() < n:
        raise InputError(f"indices must be coordinates from 0 to {n - 1}; got {indices.tolist()}.")
    if not 0 < ridge < math.inf:
        raise InputError(f"ridge must be above 0; got {ridge}.")
    kernel = kernel.double()
    inner = kernel[indices][:, indices] + ridge * torch.eye(len(indices), dtype=torch.float64)
    solved: Tensor = torch.linalg.solve(inner, kernel[indices])  # (s, n); K is symmetric
    return solved.T


def predict_weights(
    known: Tensor, indices: Tensor, *, kernel: Tensor, ridge: float = 0.01
) -> Tensor:
    """Predict all weights of a layer from those of a few of its inputs.

    Args:
        known: The weights from the inputs α, trained or otherwise given. Float, ``(s, h)``.
        indices: α. Int64, shape ``(s,)``.
        kernel: K, symmetric and positive semidefinite. Float64, shape ``(n, n)``.
        ridge: λ, in units of K: the larger, the smoother, also at the known weights.

    Returns:
        Of the type of ``known``, shape ``(n, h)``.

    Raises:
        InputError: If the shapes do not fit, an index is out of range or ``ridge`` is not above 0.

    >>> kernel = pixel_kernel(1, 5, length_scale=2.0)
    >>> known = torch.tensor([[1.0], [0.0]])
    >>> predict_weights(known, torch.tensor([0, 4]), kernel=kernel).flatten()
    tensor([0.9899, 0.8459, 0.5296, 0.2081, 0.0014])
    """
    if known.ndim != 2 or len(known) != len(indices):
        raise InputError(
            f"known must have a row per index, {len(indices)}; got shape {tuple(known.shape)}."
        )
    return (dictionary(kernel, indices, ridge=ridge) @ known.double()).to(known)


class DenseLayer(nn.Module):
    """All weights are learned; normal ones of variance 2 / n at first, for rectified inputs.

    Args:
        n_inputs: n.
        n_units: h.
        generator: Draws the weights.
    """

    def __init__(self, n_inputs: int, n_units: int, *, generator: torch.Generator) -> None:
        super().__init__()
        drawn = torch.randn(n_inputs, n_units, generator=generator)
        self.weight = nn.Parameter(drawn * math.sqrt(2 / n_inputs))
        self.bias = nn.Parameter(torch.zeros(n_units))

    def forward(self, X: Tensor) -> Tensor:
        """From ``(m, n)`` to ``(m, h)``, before activation."""
        return X @ self.weight + self.bias


class FactoredLayer(nn.Module):
    """A layer that learns the weights from a few of its inputs and predicts the others.

    The parameter ``known`` is V: column j has the weights of unit j from the inputs
    ``indices[b]``, b its block; blocks are of neighbouring units, of equal size but for one.

    Args:
        kernel: K, symmetric and positive semidefinite. Float64, shape ``(n, n)``.
        n_units: h.
        kept: Share of the inputs that every unit knows, in (0, 1].
        n_blocks: How often α is drawn; at most h.
        ridge: λ.
        generator: Draws α and the weights.

    Raises:
        InputError: If an argument is out of range.
    """

    indices: Tensor
    dictionaries: Tensor

    def __init__(
        self,
        kernel: Tensor,
        n_units: int,
        *,
        kept: float,
        n_blocks: int,
        ridge: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        n = len(kernel)
        if not (0 < kept <= 1 and 1 <= n_blocks <= n_units):
            raise InputError(
                f"kept must be in (0, 1] and n_blocks in 1 … {n_units}; got {kept}, {n_blocks}."
            )
        s = max(1, math.floor(kept * n))
        drawn = [torch.randperm(n, generator=generator)[:s].sort().values for _ in range(n_blocks)]
        tables = [dictionary(kernel, indices, ridge=ridge) for indices in drawn]
        self.register_buffer("indices", torch.stack(drawn))  # (n_blocks, s)
        self.register_buffer("dictionaries", torch.stack(tables).float())  # (n_blocks, n, s)
        self._sizes = [len(part) for part in torch.arange(n_units).tensor_split(n_blocks)]
        # Predicted weights have variance 2 / n on average, as those of a dense layer.
        spread = float(self.dictionaries.square().sum(dim=2).mean())
        values = torch.randn(s, n_units, generator=generator)
        self.known = nn.Parameter(values * math.sqrt(2 / (n * spread)))
        self.bias = nn.Parameter(torch.zeros(n_units))

    @property
    def weight(self) -> Tensor:
        """W, known and predicted. Float, shape ``(n, h)``."""
        parts = self.known.split(self._sizes, dim=1)
        return torch.cat([U @ V for U, V in zip(self.dictionaries, parts, strict=True)], dim=1)

    @property
    def kept(self) -> float:
        """Share of the weights that are learned."""
        return self.known.shape[0] / self.dictionaries.shape[1]

    def forward(self, X: Tensor) -> Tensor:
        """From ``(m, n)`` to ``(m, h)``, before activation."""
        return X @ self.weight + self.bias


@dataclass(frozen=True, kw_only=True)
class FactoredConfig:
    """How the layers of a network are factored.

    Attributes:
        kept: Share of the weights that are learned, classifier apart.
        n_blocks: Blocks of hidden units a layer, each with its own α.
        ridge: λ, in units of a kernel whose mean diagonal is 1.
        image: Height and width of the inputs, if they are the pixels of an image.
        length_scale: Of the kernel between pixels, in pixels.
    """

    kept: float = 0.25
    n_blocks: int = 10
    ridge: float = 0.01
    image: tuple[int, int] | None = None
    length_scale: float = 2.5


def factored_network(
    X: Tensor, *, widths: Sequence[int], generator: torch.Generator, config: FactoredConfig
) -> nn.Sequential:
    """A classifier of rectified units, all layers but the last factored.

    Args:
        X: Rows whose covariances serve as kernels. Float32, shape ``(m, n)``.
        widths: Inputs, hidden units a layer, outputs.
        generator: Draws coordinates and weights.
        config: How layers are factored.

    Raises:
        InputError: If ``widths`` does not fit X or the image, or a setting is out of range.
    """
    if len(widths) < 3 or widths[0] != X.shape[1]:
        raise InputError(
            f"widths must begin with {X.shape[1]} inputs and have a hidden layer; got {widths}."
        )
    if config.image is not None and math.prod(config.image) != widths[0]:
        raise InputError(f"an image of {config.image} must have {widths[0]} pixels; it has others.")
    layers: list[nn.Module] = []
    inputs = X
    for k, n_units in enumerate(widths[1:-1]):
        if k == 0 and config.image is not None:
            kernel = pixel_kernel(*config.image, length_scale=config.length_scale)
        else:
            kernel = empirical_kernel(inputs)
        layer = FactoredLayer(
            kernel,
            n_units,
            kept=config.kept,
            n_blocks=config.n_blocks,
            ridge=config.ridge,
            generator=generator,
        )
        layers += [layer, nn.ReLU()]
        with torch.no_grad():
            inputs = torch.relu(layer(inputs))
    return nn.Sequential(*layers, DenseLayer(widths[-2], widths[-1], generator=generator))


def dense_network(widths: Sequence[int], *, generator: torch.Generator) -> nn.Sequential:
    """The network that ``factored_network`` is measured by: all weights are learned."""
    layers: list[nn.Module] = []
    for n_inputs, n_units in itertools.pairwise(widths):
        layers += [DenseLayer(n_inputs, n_units, generator=generator), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def train_classifier(
    network: nn.Module,
    X: Tensor,
    *,
    y: Tensor,
    epochs: int = 10,
    rate: float = 1e-3,
    batch: int = 128,
    seed: int = 0,
) -> None:
    """Train in place: cross-entropy, Adam, mini-batches, a rate that falls linearly to zero.

    Args:
        network: From rows to scores.
        X: Float32, shape ``(m, n)``.
        y: Classes. Int64, shape ``(m,)``.
        epochs: Times that every row is seen.
        rate: First learning rate.
        batch: Rows of a mini-batch.
        seed: Of the order of the rows.
    """
    adam = torch.optim.Adam(network.parameters(), lr=rate)
    n_steps, step = epochs * math.ceil(len(X) / batch), 0
    for epoch in range(epochs):
        order = torch.randperm(len(X), generator=generator_for(seed, "epoch", epoch))
        for rows in order.split(batch):
            adam.param_groups[0]["lr"] = rate * (1 - step / n_steps)
            adam.zero_grad()
            functional.cross_entropy(network(X[rows]), y[rows]).backward()
            adam.step()
            step += 1
