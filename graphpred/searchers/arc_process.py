"""A Gaussian process under the Arc kernel, with exact inference by gpytorch.

Notation: n networks described by columns x, standardised objectives y = f(x) + ε; f has mean 0 and
covariance s k(φ(x), φ(x')) with φ the points of ``arc_kernel``, k Matérn-5/2 of length scale 1 and
s its scale; ε is normal with variance σ². With K the covariance of the n networks and K_* that of
them with new ones, the posterior has mean K_*ᵀ (K + σ²I)⁻¹ y and covariance
K_** − K_*ᵀ (K + σ²I)⁻¹ K_*.

Radius and angle of every group, s and σ² are at the greatest marginal likelihood times prior: the
logarithm of a radius is normal around 1/√d, for d parameters, and the logit of an angle around 0,
both with deviation 1. Needs the package gpytorch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import gpytorch
import torch
from gpytorch.constraints import GreaterThan
from gpytorch.distributions import MultivariateNormal
from gpytorch.kernels import MaternKernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import LogNormalPrior, NormalPrior
from torch import Tensor, nn

from graphpred.searchers.arc_kernel import Group

_LEAST_NOISE = 1e-3
_RATE = 0.1


class ArcProcess(gpytorch.models.ExactGP):  # type: ignore[misc]
    """Objectives of networks, known for some.

    Args:
        x: Columns of the known networks, see ``described``. Float64, shape ``(n, n_columns)``.
        y: Their objectives, standardised. Float64, shape ``(n,)``.
        groups: What the columns are.
    """

    def __init__(self, x: Tensor, y: Tensor, *, groups: Sequence[Group]) -> None:
        likelihood = GaussianLikelihood(
            noise_constraint=GreaterThan(_LEAST_NOISE), noise_prior=LogNormalPrior(-2.0, 1.0)
        )
        super().__init__(x, y, likelihood)
        self.groups = groups
        zeros = torch.zeros(len(groups))
        self.register_parameter("log_radius", nn.Parameter(zeros.clone()))
        self.register_parameter("angle_logit", nn.Parameter(zeros.clone()))
        for name in ("log_radius", "angle_logit"):
            self.register_prior(f"{name}_prior", NormalPrior(0.0, 1.0), name)
        matern = MaternKernel(nu=2.5)
        matern.lengthscale = 1.0
        matern.raw_lengthscale.requires_grad_(False)
        self.covariance = ScaleKernel(matern, outputscale_prior=LogNormalPrior(0.0, 1.0))
        self.covariance.outputscale = 1.0
        likelihood.noise = 0.1
        self.double()

    def points(self, x: Tensor) -> Tensor:
        """Where the embedding puts networks. Float64, shape ``(n, n_columns)``."""
        parts = x.split([group.n_columns for group in self.groups], dim=-1)
        return torch.cat(
            [
                group.embedding(
                    part,
                    radius=self.log_radius[i].exp() / group.size**0.5,
                    angle=self.angle_logit[i].sigmoid(),
                )
                for i, (group, part) in enumerate(zip(self.groups, parts, strict=True))
            ],
            dim=-1,
        )

    def forward(self, x: Tensor) -> MultivariateNormal:
        """The process before anything is known."""
        mean = torch.zeros(x.shape[:-1], dtype=x.dtype)
        return MultivariateNormal(mean, self.covariance(self.points(x)))

    def fit(self, *, steps: int) -> None:
        """Raise the marginal likelihood times prior by steps of Adam; cubic in n each."""
        self.train()
        free = [p for p in self.parameters() if p.requires_grad]
        optimiser = torch.optim.Adam(free, lr=_RATE)
        likelihood = ExactMarginalLogLikelihood(self.likelihood, self)
        with _exactly():
            for _ in range(steps):
                optimiser.zero_grad()
                (-likelihood(self(*self.train_inputs), self.train_targets)).backward()
                optimiser.step()

    @torch.no_grad()
    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean, shape ``(n',)``, and covariance, ``(n', n')``, of f at new networks."""
        self.eval()
        with _exactly():
            new = self(x)
            return new.mean, new.covariance_matrix

    @property
    def noise(self) -> float:
        """σ²."""
        return float(self.likelihood.noise.detach())


@contextmanager
def _exactly() -> Iterator[None]:
    """Cholesky factors whatever the size, nothing at random, and no advice about the inputs."""
    with (
        gpytorch.settings.fast_computations(
            covar_root_decomposition=False, log_prob=False, solves=False
        ),
        gpytorch.settings.debug(False),
    ):
        yield
