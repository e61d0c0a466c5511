"""From a data set to embeddings of its features, its outputs and their relations.

A ``DatasetEncoder`` has two halves: ``describe`` looks at the rows, once and without gradient, and
``forward`` embeds many descriptions at a time and is trained with the rest of the meta-model.
Notation: n features, c outputs, d the width of an embedding, r that of a relation.
"""

import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, HeteroData
from torch_geometric.nn import GINEConv

from graphpred.errors import InputError
from graphpred.meta.initialisation import initialise
from graphpred.meta.statistics import (
    FEATURE_SIZE,
    OUTPUT_SIZE,
    PAIR_SIZE,
    RELATION_SIZE,
    Statistics,
    statistics_of,
)
from graphpred.task import Task


@dataclass(frozen=True, eq=False, kw_only=True)
class Embedding:
    """What the decoder knows of a data set.

    Attributes:
        features: Float, shape ``(n, d)``.
        outputs: Float, shape ``(c, d)``.
        relations: How feature j is related to output k. Float, shape ``(n, c, r)``; the direct
            path from statistics to weights reads it. The first of the r numbers should be a guess
            of the weight from j to k in a linear model, since training starts there.
        bias: A guess of that model's biases, likewise; None for zeros. Float, shape ``(c,)``.
    """

    features: Tensor
    outputs: Tensor
    relations: Tensor
    bias: Tensor | None = None


@runtime_checkable
class DatasetEncoder(Protocol):
    """Embeds data sets; a ``torch.nn.Module`` whose parameters the meta-model trains.

    Permuting features or classes should permute the embeddings and nothing else.

    Attributes:
        width: d, the width of feature and output embeddings.
        relation_width: r, the width of a relation.
    """

    width: int
    relation_width: int

    def describe(self, task: Task) -> Any:
        """Everything ``forward`` needs of a task, from its training rows; no gradient."""
        ...

    def __call__(self, descriptions: Sequence[Any]) -> Sequence[Embedding]:
        """Embed data sets, one ``Embedding`` per description, in order."""
        ...


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
        self.embed_feature = _mlp(FEATURE_SIZE + 2, width)
        self.embed_output = _mlp(OUTPUT_SIZE + 2, width)
        self.embed_relation = _mlp(RELATION_SIZE, width)
        self.embed_pair = _mlp(PAIR_SIZE, width)
        self.rounds = nn.ModuleList(_Round(width) for _ in range(n_rounds))
        initialise(self, generator=generator)

    def describe(self, task: Task) -> Statistics:
        """The statistics of the training rows."""
        return statistics_of(task)

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
        self.to_output = GINEConv(_mlp(width, width), aggr="mean")
        self.to_feature = GINEConv(_mlp(width, width), aggr="mean")
        self.across = GINEConv(_mlp(width, width), aggr="mean")
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


def _mlp(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, 2 * n_out), nn.SiLU(), nn.Linear(2 * n_out, n_out))


ENCODERS: dict[str, Callable[[torch.Generator], DatasetEncoder]] = {
    "statistics": lambda generator: StatisticsEncoder(generator=generator),
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
