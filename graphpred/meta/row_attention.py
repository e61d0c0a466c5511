"""The encoder that looks at rows: exchangeable layers over a sample of the table.

Cells x_ij of the table have embeddings, and so have the relations of features to outputs. A layer
lets relations hear the mean of u_ik · cell_ij over the rows, u the scaled indicator of class k or
the quantity; cells hear what their feature has to do with the output of their row; and cells attend
to the cells of their column, then to those of their row. Attention goes through a few inducing
points (Lee et al., "Set Transformer", arXiv:1810.00825), so that its cost is that of the cells;
the rest are pooled exchangeable layers (Hartford et al., "Deep Models of Interactions Across Sets",
arXiv:1803.02879). No order of rows, features or outputs can make a difference.
Notation: q sampled rows, n features, c outputs; d the width of embeddings, e that of cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graphpred.meta.attention import Attention, Round
from graphpred.meta.embedding import Embedding
from graphpred.meta.initialisation import initialise, mlp
from graphpred.meta.moments import Moments
from graphpred.meta.samples import RowSample
from graphpred.meta.statistics import linear_model
from graphpred.task import Task

_CELL_WIDTH = 32
_LEARNED_RELATIONS = 16
_POINTS = 8  # inducing points of a column or row
_CELL_FUNCTIONS = 3
_WHOLE_SIZE = 2
_MAX_ROWS, _LEAST_ROWS = 256, 64
_MAX_CELLS = 8192  # up to where the least number of rows has more
_LEAST_DEVIATION = 0.05  # of an indicator; a class that is rarer is not made larger


@dataclass(frozen=True, eq=False, kw_only=True)
class Table:
    """Rows of a task, and what is known of all its training rows.

    Attributes:
        sample: Rows.
        weights: Of a linear model of all rows. Float32, shape ``(n, c)``.
        bias: Likewise. Float32, shape ``(c,)``.
        size: m / (m + 100) of all m rows: how far the linear model can be trusted, in [0, 1).
    """

    sample: RowSample
    weights: Tensor
    bias: Tensor
    size: float


class RowAttentionEncoder(nn.Module):
    """Attention within columns and within rows of a sample of the table, in turn.

    Args:
        width: d.
        n_layers: Layers.
        generator: Source of the initial parameters.
    """

    def __init__(self, *, width: int = 64, n_layers: int = 2, generator: torch.Generator) -> None:
        super().__init__()
        self.width, self.relation_width = width, 1 + _LEARNED_RELATIONS
        self.embed_cell = mlp(_CELL_FUNCTIONS, _CELL_WIDTH)
        self.embed_guess = nn.Linear(2, _CELL_WIDTH)
        self.layers = nn.ModuleList(_Layer(_CELL_WIDTH) for _ in range(n_layers))
        self.relate = _Relate(_CELL_WIDTH)
        self.relation = nn.Linear(_CELL_WIDTH, _LEARNED_RELATIONS)
        self.feature = mlp(3 * _CELL_WIDTH + _WHOLE_SIZE, width)
        self.output = mlp(2 * _CELL_WIDTH + 1 + _WHOLE_SIZE, width)
        self.norm_feature, self.norm_output = nn.LayerNorm(width), nn.LayerNorm(width)
        initialise(self, generator=generator)
        for part in self.modules():
            if isinstance(part, _Induced):
                nn.init.normal_(part.points, generator=generator)

    def describe(self, task: Task) -> Table:
        """A sample of the training rows, and a linear model of all of them."""
        return self.describe_moments(Moments.of(task))

    def describe_moments(self, moments: Moments) -> Table:
        """The same of the rows whose sums these are."""
        weights, bias = linear_model(moments)
        m = moments.n_rows
        sample = moments.sample(limit=sample_rows(moments.n_features))
        return Table(sample=sample, weights=weights, bias=bias, size=m / (m + 100))

    def forward(self, descriptions: Sequence[Table]) -> list[Embedding]:
        """Embed data sets; see ``DatasetEncoder``."""
        return [self._embed(table) for table in descriptions]

    def _embed(self, table: Table) -> Embedding:
        """One data set; those of a batch rarely have equally many rows."""
        device = self.relation.weight.device
        X, y = table.sample.X.to(device), table.sample.y.to(device).clamp(-5, 5)
        weights, bias = table.weights.to(device), table.bias.to(device)
        whole = X.new_tensor([table.size, float(table.sample.is_regression)])
        u = _scaled(y)  # (q, c)
        told = y / y.shape[1] if table.sample.is_regression else y
        cells = self.embed_cell(_cell_functions(X.T))  # (n, q, e)
        relations = self.embed_guess(_bounded(weights))  # (n, c, e)
        for layer in self.layers:
            cells, relations = layer(cells, relations, u=u, told=told)
        relations = self.relate(cells, relations, u=u)
        feature = [cells.mean(dim=1), relations.mean(dim=1), _size(relations, dim=1)]
        output = [relations.mean(dim=0), _size(relations, dim=0), bias.unsqueeze(1)]
        learned = torch.tanh(self.relation(relations))
        return Embedding(
            features=self.norm_feature(self.feature(_with_whole(feature, whole))),
            outputs=self.norm_output(self.output(_with_whole(output, whole))),
            relations=torch.cat([weights.unsqueeze(2), learned], dim=2),
            bias=bias,
        )


class _Layer(nn.Module):
    """Relations hear cells; cells hear relations, their column and their row, and think."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.relate, self.tell = _Relate(width), nn.Linear(width, width)
        self.column, self.row = _Induced(width), _Induced(width)
        self.think = nn.Sequential(nn.LayerNorm(width), mlp(width, width))

    def forward(
        self, cells: Tensor, relations: Tensor, *, u: Tensor, told: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Both anew.

        Args:
            cells: Float, shape ``(n, q, e)``.
            relations: Float, shape ``(n, c, e)``.
            u: Outputs of every row, of mean 0. Float, shape ``(q, c)``.
            told: How much a row's cells hear of every output. Float, shape ``(q, c)``.
        """
        relations = self.relate(cells, relations, u=u)
        cells = cells + told @ self.tell(relations)  # (n, q, e)
        cells = self.column(cells)
        cells = self.row(cells.transpose(0, 1)).transpose(0, 1)
        return cells + self.think(cells), relations


class _Relate(nn.Module):
    """Relations hear the cells of their feature by the outputs, and the relations beside them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.hear = nn.LayerNorm(width), nn.Linear(width, width)
        self.think = mlp(4 * width, width)
        self.norm_relation = nn.LayerNorm(width)

    def forward(self, cells: Tensor, relations: Tensor, *, u: Tensor) -> Tensor:
        """Relations ``(n, c, e)`` of cells ``(n, q, e)`` to outputs; see ``_Layer``."""
        heard = u.T @ self.hear(self.norm(cells)) / len(u)  # (n, c, e)
        known = [
            relations,
            heard,
            heard.mean(dim=0, keepdim=True).expand_as(heard),
            _size(heard, dim=1).unsqueeze(1).expand_as(heard),
        ]
        thought: Tensor = self.norm_relation(relations + self.think(torch.cat(known, dim=2)))
        return thought


class _Induced(nn.Module):
    """Attention of the members of sets to each other through inducing points."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.empty(_POINTS, width))
        self.gather, self.read = Round(width), Attention(width)

    def forward(self, members: Tensor) -> Tensor:
        """Members ``(G, k, e)`` of G sets, which have heard of the others of their set."""
        points = self.points.expand(len(members), -1, -1)  # (G, p, e)
        heard: Tensor = self.read(members, self.gather(points, members))
        return members + heard


def sample_rows(n_features: int) -> int:
    """Rows of the sample: fewer of wide tables, since memory grows with the number of cells."""
    return min(_MAX_ROWS, max(_LEAST_ROWS, _MAX_CELLS // n_features))


def _cell_functions(x: Tensor) -> Tensor:
    """Numbers ``(n, q)`` and simple functions of them. Float, ``(n, q, _CELL_FUNCTIONS)``."""
    x = x.clamp(-5, 5)
    return torch.stack([x, x.abs(), torch.tanh(2 * x)], dim=2)


def _scaled(y: Tensor) -> Tensor:
    """Outputs of the rows of mean 0 and, unless they hardly vary, variance 1. ``(q, c)``."""
    centred = y - y.mean(dim=0)
    return centred / centred.square().mean(dim=0).sqrt().clamp(min=_LEAST_DEVIATION)


def _bounded(weights: Tensor) -> Tensor:
    """Weights ``(n, c)`` in (-1, 1): each as it is, and over their mean size. ``(n, c, 2)``."""
    size = weights.abs().mean().clamp(min=1e-3)
    return torch.tanh(torch.stack([weights, weights / (2 * size)], dim=2))


def _size(values: Tensor, *, dim: int) -> Tensor:
    """Root mean square along a dimension."""
    return (values.square().mean(dim=dim) + 1e-6).sqrt()


def _with_whole(parts: list[Tensor], whole: Tensor) -> Tensor:
    """Parts ``(k, …)`` of every row side by side, and what is the same for all of them."""
    return torch.cat([*parts, whole.expand(len(parts[0]), -1)], dim=1)
