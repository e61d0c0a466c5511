"""Sums over the rows of a data set, from which its statistics follow; sums of parts merge exactly.

Notation: m rows, n features x_j standardised, c outputs, B functions φ_b of every feature and R
target functions u_kr of every output, as in ``graphpred.meta.statistics``. Rows are read in blocks,
and their B · n functions in still smaller chunks. Products of functions are formed in float32 about
the means of their block and summed in float64 about 0; those of the features themselves, which
ridge regression is sensitive to, are formed in float64.
"""

import torch
from torch import Tensor

from graphpred.errors import InputError
from graphpred.meta.products import gram
from graphpred.meta.samples import ROW_LIMIT, CountedRows, RowSample, indicators
from graphpred.objective import Kind
from graphpred.task import Task

N_BASIS = 8
N_TARGETS = 4
SAMPLE_LIMIT = 4096  # different rows that are kept
_BLOCK_ROWS = 4096
_CHUNK_VALUES = 65536  # values of X whose functions are held at a time
_LEAST_CHUNK_ROWS = 64  # of very wide data
_LEAST_DEVIATION = 1e-6  # what varies less is constant

Spread = tuple[Tensor, Tensor]
"""Means and deviations, the latter inf of what is constant. Float64, of one shape."""


class Moments:
    """Sums over rows that came in any number of parts.

    Args:
        n_features: n.
        n_outputs: c.
        kind: What y is.
        scale: What the rows were standardised with, such as a digest of means and deviations;
            sums of differently scaled rows do not merge.

    Attributes:
        n_rows: m.
        rows: A sample of the rows, at most ``SAMPLE_LIMIT`` different ones.
    """

    def __init__(
        self, *, n_features: int, n_outputs: int, kind: Kind, scale: str | None = None
    ) -> None:
        self.n_features, self.n_outputs, self.kind, self.scale = n_features, n_outputs, kind, scale
        self.n_rows = 0
        self._sums: dict[str, Tensor] = {}  # none yet where there are no rows
        y = torch.zeros(0, n_outputs) if self.is_regression else torch.zeros(0, dtype=torch.int64)
        self.rows = CountedRows.of(torch.zeros(0, n_features), y)

    @classmethod
    def of(cls, task: Task) -> "Moments":
        """The sums over a task's training rows."""
        moments = cls(n_features=task.n_features, n_outputs=task.n_outputs, kind=task.kind)
        moments.update(*task.rows("train"))
        return moments

    @property
    def is_regression(self) -> bool:
        """Whether the outputs are quantities."""
        return self.kind == "regression"

    def update(self, X: Tensor, y: Tensor) -> None:
        """Add rows.

        Args:
            X: Standardised features. Float32, shape ``(m, n)``; m may be 0.
            y: Classes, int64, shape ``(m,)``; or standardised targets, float32, ``(m, c)``.

        Raises:
            InputError: If shapes, types or classes are not as said; nothing is added then.
        """
        self._check(X, y)
        if not len(X):
            return
        for block, outputs in zip(X.split(_BLOCK_ROWS), y.split(_BLOCK_ROWS), strict=True):
            self._add_block(block, outputs)
        self.n_rows += len(X)
        lowest = CountedRows.of(X, y).lowest(SAMPLE_LIMIT)
        self.rows = self.rows.merged(lowest, limit=SAMPLE_LIMIT)

    def merge(self, other: "Moments") -> None:
        """Add the rows of another, which stays as it is.

        Raises:
            InputError: If its n, c, kind or scale are different.
        """
        for name in ("n_features", "n_outputs", "kind", "scale"):
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours != theirs:
                raise InputError(
                    f"{name} must be the same to merge moments; got {ours!r} and {theirs!r}."
                )
        self.n_rows += other.n_rows
        self._add(**{name: value.clone() for name, value in other._sums.items()})
        self.rows = self.rows.merged(other.rows, limit=SAMPLE_LIMIT)

    def sample(self, *, limit: int = ROW_LIMIT) -> RowSample:
        """At most ``limit`` rows, up to ``SAMPLE_LIMIT``; see ``RowSample.of``."""
        return self.rows.sample(limit=min(limit, SAMPLE_LIMIT), n_outputs=self.n_outputs)

    def counts(self) -> Tensor:
        """Rows of every class. Float32, shape ``(c,)``."""
        return self._sums["outputs"].float()

    def output_powers(self) -> Tensor:
        """Means of y³, y⁴ and abs(y) of quantities within ±5. Float32, shape ``(c, 3)``."""
        return (self._sums["outputs"] / self.n_rows).float()

    def covariance(self) -> Tensor:
        """Σxxᵀ / m. Float64, shape ``(n, n)``."""
        return self._sums["x_squares"] / self.n_rows

    def basis_means(self) -> Tensor:
        """Means of φ_b(x_j). Float32, shape ``(n, B)``."""
        return (self._sums["basis"] / self.n_rows).T.float()

    def target_spread(self) -> Spread:
        """Of the functions u_kr; classes have one (r = 1). Shape ``(c, r)`` twice."""
        mean, deviation = self._spread("targets")
        return mean.view(self.n_outputs, -1), deviation.view(self.n_outputs, -1)

    def correlations(self, targets: Spread) -> Tensor:
        """Of every φ_b(x_j) with every u_kr; 0 of what is constant. Float32, ``(n, c, B, R)``.

        Args:
            targets: What ``target_spread`` gives.
        """
        mean, deviation = self._spread("basis")  # (B, n)
        mean_u, deviation_u = (part.flatten() for part in targets)  # (c * r,)
        product = self._sums["products"] / self.n_rows  # (B * n, c * r)
        product = product.addr_(mean.flatten(), mean_u, alpha=-1)
        product /= torch.outer(deviation.flatten(), deviation_u)
        table = product.float().reshape(N_BASIS, self.n_features, self.n_outputs, -1)
        table = table.permute(1, 2, 0, 3)  # (n, c, B, r)
        return torch.nn.functional.pad(table, (0, N_TARGETS - table.shape[3]))

    def linear(self, targets: Spread) -> Tensor:
        """X^T U / m of the first u_k of every output, scaled. Float64, shape ``(n, c)``."""
        mean, deviation = (part[:, 0] for part in targets)
        product = self._sums["x_targets"] - torch.outer(self._sums["x"], mean)
        return product / (deviation * self.n_rows)

    def _spread(self, name: str) -> Spread:
        mean = self._sums[name] / self.n_rows
        squares = self._sums[f"{name}_squares"] / self.n_rows
        deviation = (squares - mean.square()).clamp(min=0).sqrt()
        return mean, deviation.masked_fill(deviation <= _LEAST_DEVIATION, torch.inf)

    def _check(self, X: Tensor, y: Tensor) -> None:
        if X.dtype != torch.float32 or X.ndim != 2 or X.shape[1] != self.n_features:
            raise InputError(
                f"X must be float32 of shape (m, {self.n_features}); "
                f"got {X.dtype}, {tuple(X.shape)}."
            )
        shape = (len(X), self.n_outputs) if self.is_regression else (len(X),)
        dtype = torch.float32 if self.is_regression else torch.int64
        if y.dtype != dtype or y.shape != shape:
            raise InputError(
                f"y must be {dtype} of shape {shape}; got {y.dtype}, {tuple(y.shape)}."
            )
        if len(y) and not self.is_regression:
            low, high = (int(end) for end in y.aminmax())
            if low < 0 or high >= self.n_outputs:
                raise InputError(
                    f"classes must be in 0 … {self.n_outputs - 1}; got {low} … {high}."
                )

    def _add(self, **values: Tensor) -> None:
        """Add to the sums, which are float64; values that are so already are not copied."""
        for name, value in values.items():
            if name in self._sums:
                self._sums[name] += value
            else:
                self._sums[name] = value.double()

    def _add_block(self, X: Tensor, y: Tensor) -> None:
        """Add rows of which X, y and the functions of y fit into memory."""
        m = len(X)
        targets = _target_basis(y, n_outputs=self.n_outputs)  # (m, c, r)
        u, mean, deviation = _standardised(targets.flatten(1))  # (m, c * r), (c * r,) twice
        first = slice(None, None, targets.shape[2])  # the first function of every output
        exact, total = X.double(), m * mean  # ridge would amplify rounding errors of float32
        self._add(
            x=exact.sum(dim=0),
            x_squares=gram(exact.T),
            x_targets=(targets.flatten(1)[:, first].T.double() @ exact).T,
            targets=total,
            targets_squares=m * deviation.square() + total * mean,
            outputs=_output_sums(y, n_outputs=self.n_outputs),
        )
        self._add_basis(X, u, mean=mean, deviation=deviation)

    def _add_basis(self, X: Tensor, u: Tensor, *, mean: Tensor, deviation: Tensor) -> None:
        """Add the functions of the features, and their products with those of the outputs.

        Args:
            X: Rows of one block. Float32, shape ``(m, n)``.
            u: Functions of its outputs, of mean 0 and variance 1. Float32, shape ``(m, c * r)``.
            mean: Their means before. Float64, shape ``(c * r,)``.
            deviation: Likewise.
        """
        size = max(_LEAST_CHUNK_ROWS, _CHUNK_VALUES // self.n_features)
        parts = u.split(size)
        about = torch.stack([part.sum(dim=0) for part in parts]).double()  # (chunks, c * r)
        rounding = about.sum(dim=0) / len(u)  # what is left of means of 0
        for x, targets, total_u in zip(X.split(size), parts, about, strict=True):
            m = len(x)
            basis, centre, spread = _standardised(_function_basis(x).flatten(1))  # (m, B * n)
            total = m * centre + spread * basis.sum(dim=0)  # the centre is rounded
            products = (targets.T @ basis) * torch.outer(deviation, spread)  # (c * r, B * n)
            products.addr_((total_u - m * rounding) * deviation, centre).addr_(mean, total)
            squares = m * spread.square() + total.square() / m
            self._add(
                products=products.T,
                basis=total.view(N_BASIS, -1),
                basis_squares=squares.view(N_BASIS, -1),
            )


def _output_sums(y: Tensor, *, n_outputs: int) -> Tensor:
    """Rows of every class, ``(c,)``; or Σy³, Σy⁴ and Σ|y| of quantities within ±5, ``(c, 3)``."""
    if not y.is_floating_point():
        return torch.bincount(y, minlength=n_outputs)
    z = y.clamp(-5, 5)
    return torch.stack([(z**3).sum(dim=0), (z**4).sum(dim=0), z.abs().sum(dim=0)], dim=1)


def _target_basis(y: Tensor, *, n_outputs: int) -> Tensor:
    """The functions u_kr, not yet scaled. Float32, shape ``(m, c, r)``; classes have one."""
    if not y.is_floating_point():
        return indicators(y, n_outputs=n_outputs).unsqueeze(2)
    tails = torch.sigmoid(torch.stack([-y - 0.67, y - 0.67], dim=2) / 0.3)  # (m, c, 2)
    return torch.cat([torch.stack([y, y * y], dim=2), tails], dim=2)


def _function_basis(X: Tensor) -> Tensor:
    """The functions φ_b of every feature. Float32, shape ``(m, B, n)``."""
    x = X.clamp(-5, 5)
    doubled, squared = 2 * x, x * x
    functions = (
        x,
        squared - 1,
        x.abs(),
        doubled.tanh(),
        x.sign(),
        doubled.cos(),
        doubled.sin(),
        torch.exp(-squared),
    )
    return torch.stack(functions, dim=1)


def _standardised(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Columns less their means and over their deviations, both of which follow, float64.

    What is constant becomes 0.
    """
    mean = values.mean(dim=0)
    centred = values - mean
    deviation = centred.square().mean(dim=0).sqrt()
    scale = deviation.masked_fill(deviation <= _LEAST_DEVIATION, torch.inf)
    return centred.div_(scale), mean.double(), deviation.double()
