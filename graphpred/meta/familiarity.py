"""How like the data sets of its training a data set is to the meta-model.

A data set is summed up by the means of its features' and outputs' embeddings. Those of training
data sets have a mean and a covariance; the familiarity of another is the share of them that lie at
least as far from the mean, in Mahalanobis' distance.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from graphpred.meta.encoders import Embedding

_SHRINKAGE = 0.1  # of the covariance towards its mean variance
_N_QUANTILES = 101


class Familiarity(nn.Module):
    """What is kept of the embeddings of training data sets.

    Args:
        width: d, of embeddings.
    """

    mean: Tensor
    whitening: Tensor
    distances: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(2 * width))
        self.register_buffer("whitening", torch.zeros(2 * width, 2 * width))
        self.register_buffer("distances", torch.zeros(_N_QUANTILES))

    @property
    def is_known(self) -> bool:
        """Whether ``learn`` has seen data sets."""
        return bool(self.distances.any())

    @torch.no_grad()
    def learn(self, embeddings: Iterable[Embedding]) -> None:
        """Take these as what training data sets are like, and forget others."""
        points = torch.stack([_summed_up(embedding) for embedding in embeddings]).double()
        mean = points.mean(dim=0)
        covariance = (points - mean).T @ (points - mean) / len(points)
        even = covariance.diagonal().mean() * torch.eye(len(mean), device=points.device)
        covariance = (1 - _SHRINKAGE) * covariance + (_SHRINKAGE + 1e-6) * even
        values, vectors = torch.linalg.eigh(covariance)
        self.mean.copy_(mean)
        self.whitening.copy_(vectors / values.clamp(min=1e-12).sqrt())
        distances = (points - mean).to(self.mean) @ self.whitening
        levels = torch.linspace(0, 1, _N_QUANTILES, device=points.device)
        self.distances.copy_(torch.quantile(distances.norm(dim=1), levels))

    @torch.no_grad()
    def of(self, embedding: Embedding) -> float | None:
        """Share of training data sets that are no more typical; None if none is known."""
        if not self.is_known:
            return None
        distance = ((_summed_up(embedding) - self.mean) @ self.whitening).norm()
        return float((self.distances >= distance).double().mean())


def _summed_up(embedding: Embedding) -> Tensor:
    """Float, shape ``(2 d,)``."""
    return torch.cat([embedding.features.mean(dim=0), embedding.outputs.mean(dim=0)])
