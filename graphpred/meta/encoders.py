"""Encoders of data sets by name, and the one whose data set graph carries statistics.

Notation: n features, c outputs, d the width of an embedding, r that of a relation.
"""

import importlib
import inspect
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, HeteroData
from torch_geometric.nn import GINEConv

from graphpred.errors import InputError
from graphpred.meta.embedding import DatasetEncoder, Embedding
from graphpred.meta.initialisation import initialise, mlp
from graphpred.meta.moments import Moments
from graphpred.meta.row_attention import RowAttentionEncoder
from graphpred.meta.statistics import (
    FEATURE_SIZE,
    OUTPUT_SIZE,
    PAIR_SIZE,
    RELATION_SIZE,
    Statistics,
    statistics_from,
    statistics_of,
)
from graphpred.task import Task

__all__ = [
    "ENCODERS",
    "DatasetEncoder",
    "Embedding",
    "StatisticsEncoder",
    "build_encoder",
    "custom_encoder",
    "dataset_graph",
]


class StatisticsEncoder(nn.Module):
    """Message passing over the data set graph, whose attributes are sufficient statistics.

    Nodes are features and outputs; every feature is joined to every output, and to the features
    it is most strongly related to.

    Args:
        width: d.
        n_rounds: Rounds of message passing.
        generator: Source of the initial parameters.
    """

    def __init__(self, *, width: int = 64, n_rounds: int = 3, generator: torch.Generator) -> None:
        super().__init__()
        self.width, self.relation_width = width, RELATION_SIZE
        self.embed_feature = mlp(FEATURE_SIZE + 2, width)
        self.embed_output = mlp(OUTPUT_SIZE + 2, width)
        self.embed_relation = mlp(RELATION_SIZE, width)
        self.embed_pair = mlp(PAIR_SIZE, width)
        self.rounds = nn.ModuleList(_Round(width) for _ in range(n_rounds))
        initialise(self, generator=generator)

    def describe(self, task: Task) -> Statistics:
        """The statistics of the training rows."""
        return statistics_of(task)

    def describe_moments(self, moments: Moments) -> Statistics:
        """The statistics of the rows whose sums these are."""
        return statistics_from(moments)

    def forward(self, descriptions: Sequence[Statistics]) -> list[Embedding]:
        """Embed data sets; see ``DatasetEncoder``."""
        device = next(self.parameters()).device
        batch = Batch.from_data_list([dataset_graph(s) for s in descriptions]).to(device)
        features = self.embed_feature(batch["feature"].x)  # (Σn, d)
        outputs = self.embed_output(batch["output"].x)  # (Σc, d)
        informs = batch["feature", "informs", "output"]
        beside = batch["feature", "beside", "feature"]
        relation = self.embed_relation(informs.edge_attr)  # (Σnc, d)
        pair = self.embed_pair(beside.edge_attr)  # (ΣE, d)
        for layer in self.rounds:
            features, outputs = layer(
                features,
                outputs,
                informs=(informs.edge_index, relation),
                beside=(beside.edge_index, pair),
            )
        sizes = [s.relation.shape[:2] for s in descriptions]
        return [
            Embedding(
                features=f,
                outputs=o,
                relations=s.relation.to(f.device),
                bias=s.bias.to(f.device),
            )
            for f, o, s in zip(
                torch.split(features, [n for n, _ in sizes]),
                torch.split(outputs, [c for _, c in sizes]),
                descriptions,
                strict=True,
            )
        ]


class _Round(nn.Module):
    """Outputs hear from features; features hear from outputs and from related features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_output = GINEConv(mlp(width, width), aggr="mean")
        self.to_feature = GINEConv(mlp(width, width), aggr="mean")
        self.across = GINEConv(mlp(width, width), aggr="mean")
        self.norm_feature, self.norm_output = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(
        self,
        features: Tensor,
        outputs: Tensor,
        *,
        informs: tuple[Tensor, Tensor],
        beside: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        index, relation = informs
        heard = self.to_output((features, outputs), index, relation)
        outputs = self.norm_output(outputs + heard)
        heard = self.to_feature((outputs, features), index.flip(0), relation)
        heard = heard + self.across(features, *beside)
        return self.norm_feature(features + heard), outputs


def dataset_graph(statistics: Statistics) -> HeteroData:
    """The data set graph of torch-geometric.

    Node types ``feature`` (n) and ``output`` (c); edges ``informs`` from every feature to every
    output and ``beside`` between related features, each with its statistics.
    """
    n, c, _ = statistics.relation.shape
    whole = torch.tensor([[statistics.size, float(statistics.is_regression)]])
    graph = HeteroData()
    graph["feature"].x = torch.cat([statistics.feature, whole.expand(n, -1)], dim=1)
    graph["output"].x = torch.cat([statistics.output, whole.expand(c, -1)], dim=1)
    informs = graph["feature", "informs", "output"]
    informs.edge_index = torch.cartesian_prod(torch.arange(n), torch.arange(c)).T
    informs.edge_attr = statistics.relation.flatten(0, 1)
    beside = graph["feature", "beside", "feature"]
    beside.edge_index, beside.edge_attr = statistics.neighbours, statistics.pair
    return graph


ENCODERS: dict[str, Callable[[torch.Generator], DatasetEncoder]] = {
    "statistics": lambda generator: StatisticsEncoder(generator=generator),
    "row_attention": lambda generator: RowAttentionEncoder(generator=generator),
}
"""Built-in encoders by name; each is built from a generator for its initial parameters."""


def build_encoder(name: str, *, generator: torch.Generator) -> DatasetEncoder:
    """Build an encoder by name, or from ``"module:callable"`` of a user's own module.

    Args:
        name: A key of ``ENCODERS``, or where to find a callable that takes a generator (or
            nothing) and returns a ``DatasetEncoder``; the parameter is called ``generator``.
        generator: Source of the initial parameters.

    Raises:
        InputError: If there is no such encoder.
    """
    if name in ENCODERS:
        return ENCODERS[name](generator)
    module, _, attribute = name.partition(":")
    if not attribute:
        raise InputError(
            f"encoder must be one of {', '.join(ENCODERS)}, or module:callable; got {name!r}."
        )
    try:
        factory = getattr(importlib.import_module(module), attribute)
        takes_generator = "generator" in inspect.signature(factory).parameters
        encoder = factory(generator=generator) if takes_generator else factory()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"encoder {name!r} cannot be built: {error}.") from error
    if not isinstance(encoder, DatasetEncoder):
        raise InputError(f"encoder {name!r} must be a DatasetEncoder; got {type(encoder)}.")
    return encoder


def custom_encoder(name: str) -> DatasetEncoder | None:
    """The encoder of a user's own module; None if the name is that of a built-in one."""
    if name in ENCODERS:
        return None
    return build_encoder(name, generator=torch.Generator().manual_seed(0))
