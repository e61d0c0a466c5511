"""A pair (data set, price, architecture) and its row in a Parquet shard."""

from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa
import torch

from graphpred.activations import activation_indices, activation_names
from graphpred.architecture import Architecture
from graphpred.errors import StoreError
from graphpred.threads import one_thread
from graphpred.weights import Weights

FORMAT_VERSION = 1

SCHEMA = pa.schema(
    [
        ("format", pa.int32()),
        # Which pair
        ("search", pa.int64()),
        ("price", pa.float64()),
        # How to rebuild the rows
        ("source", pa.string()),
        ("digest", pa.string()),
        ("target", pa.string()),
        ("kind", pa.string()),
        ("split_seed", pa.int64()),
        ("train_rows", pa.list_(pa.int64())),
        ("validation_rows", pa.list_(pa.int64())),
        ("feature_names", pa.list_(pa.string())),
        ("class_names", pa.list_(pa.string())),
        # What was found
        ("loss_name", pa.string()),
        ("penalty", pa.float64()),
        ("widths", pa.list_(pa.int64())),
        ("edge_source", pa.list_(pa.int64())),
        ("edge_target", pa.list_(pa.int64())),
        ("activation", pa.list_(pa.string())),
        ("edge_weight", pa.list_(pa.float32())),
        ("bias", pa.list_(pa.float32())),
        ("train_loss", pa.float64()),
        ("loss", pa.float64()),
        ("objective", pa.float64()),
        ("n_edges", pa.int64()),
        ("n_live_edges", pa.int64()),
        # What it cost
        ("searcher", pa.string()),
        ("seed", pa.int64()),
        ("search_seed", pa.int64()),
        ("trial", pa.int64()),
        ("evaluations", pa.int64()),
        ("network_steps", pa.int64()),
        ("cpu_seconds", pa.float64()),
    ]
)
"""Columns of a shard. Edges and activations are ragged lists, so any Parquet reader sees them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Pair:
    """The best architecture that a search found on a subsample at one price.

    Attributes:
        search: Number of the search in its run.
        price: λ = C·N.
        source: Path or name of the data set.
        digest: Hash of its contents.
        target: Name of the target column; None for the last one.
        kind: ``"classification"`` or ``"regression"``.
        split_seed: Seed of the split that the subsample was drawn from.
        train_rows: Rows of the source that were trained on, ascending.
        validation_rows: Rows of the source that 𝔏 was measured on, ascending.
        feature_names: Names of the encoded features.
        class_names: Names of the classes or outputs.
        loss_name: Name of L.
        penalty: C.
        architecture: Z, with live edges only.
        weights: After training.
        train_loss: L on the training rows.
        loss: L on the validation rows.
        objective: 𝔏 = ``loss`` + C·K.
        searcher: Name of the searcher.
        seed: Seed of the run.
        search_seed: Seed of the search.
        trial: Number of the trial in its search.
        evaluations: Networks that the search trained.
        network_steps: Optimiser steps of the search.
        cpu_seconds: CPU time of the search; the only field that differs from run to run.
    """

    search: int
    price: float
    source: str
    digest: str
    target: str | None
    kind: str
    split_seed: int
    train_rows: tuple[int, ...]
    validation_rows: tuple[int, ...]
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    loss_name: str
    penalty: float
    architecture: Architecture
    weights: Weights
    train_loss: float
    loss: float
    objective: float
    searcher: str
    seed: int
    search_seed: int
    trial: int
    evaluations: int
    network_steps: int
    cpu_seconds: float

    def to_row(self) -> dict[str, Any]:
        """A row of ``SCHEMA``."""
        z = self.architecture
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        del row["architecture"], row["weights"]
        return row | {
            "format": FORMAT_VERSION,
            "widths": z.widths,
            "edge_source": z.edges[0].tolist(),
            "edge_target": z.edges[1].tolist(),
            "activation": activation_names(z.activation),
            "edge_weight": self.weights.edge.tolist(),
            "bias": self.weights.bias.tolist(),
            "n_edges": z.n_edges,
            "n_live_edges": z.n_live_edges,
        }

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Pair":
        """The inverse of ``to_row``.

        Raises:
            StoreError: If the row has another format version or lacks a value.
            InputError: If the weights do not fit the architecture.
        """
        if row["format"] != FORMAT_VERSION:
            raise StoreError(f"pairs must have format {FORMAT_VERSION}; got {row['format']}.")
        lacking = [name for name, value in row.items() if value is None and name != "target"]
        if lacking:
            raise StoreError(f"a pair must have all its values; {', '.join(lacking)} is missing.")
        with one_thread():  # on a busy machine more of them wait for each other
            architecture = Architecture(
                edges=torch.tensor([row["edge_source"], row["edge_target"]], dtype=torch.int64),
                activation=torch.tensor(activation_indices(row["activation"])),
                widths=tuple(row["widths"]),
            )
        weights = Weights(edge=torch.tensor(row["edge_weight"]), bias=torch.tensor(row["bias"]))
        weights.check(architecture)
        names = [f.name for f in fields(cls) if f.name not in ("architecture", "weights")]
        plain: dict[str, Any] = {
            k: tuple(row[k]) if isinstance(row[k], list) else row[k] for k in names
        }
        return cls(architecture=architecture, weights=weights, **plain)
