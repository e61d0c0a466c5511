"""``SparseNetwork``: one trained sparse network that takes raw rows.

Notation: m rows, n encoded features, c classes or outputs.
"""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from graphpred.activations import ACTIVATIONS
from graphpred.architecture import Architecture
from graphpred.encoding import TableEncoder
from graphpred.errors import InputError, StoreError
from graphpred.files import load_tensors, read_metadata, save_tensors
from graphpred.objective import Kind
from graphpred.tables import array_frame
from graphpred.task import Task
from graphpred.weights import Weights

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What goes into a network and what comes out.

    Attributes:
        kind: Whether the outputs are classes or quantities.
        feature_names: One per input neuron.
        class_names: One per output neuron: the classes, or the outputs' names.
        encoder: From raw columns to inputs; None if the inputs are numbers already.
        target_mean: Outputs in their own unit are ``output * target_scale + target_mean``; c
            numbers, none for classes.
        target_scale: See ``target_mean``.
    """

    kind: Kind
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    encoder: TableEncoder | None = None
    target_mean: tuple[float, ...] = ()
    target_scale: tuple[float, ...] = ()

    @classmethod
    def of(cls, task: Task) -> "Signature":
        """The signature of a network trained on a task."""
        return cls(
            kind=task.kind,
            feature_names=task.feature_names,
            class_names=task.class_names,
            encoder=task.encoder,
            target_mean=task.target_mean,
            target_scale=task.target_scale,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return vars(self) | {"encoder": self.encoder.to_json() if self.encoder else None}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Signature":
        """The inverse of ``to_json``."""
        encoder = data["encoder"]
        return cls(
            kind=data["kind"],
            feature_names=tuple(data["feature_names"]),
            class_names=tuple(data["class_names"]),
            encoder=TableEncoder.from_json(encoder) if encoder else None,
            target_mean=tuple(data["target_mean"]),
            target_scale=tuple(data["target_scale"]),
        )


class SparseNetwork(nn.Module):
    """A sparse network with its weights, and the way from raw rows to its inputs.

    The parameters are ``edge``, one per edge in the order of ``architecture.edges``, and ``bias``,
    one per neuron that is no input. ``forward`` takes encoded rows; ``predict`` takes raw ones.

    Args:
        architecture: Which neuron feeds which, and how each fires.
        weights: One per edge and a bias per neuron.
        signature: What goes in and out.
        facts: Plain JSON facts that travel with the network (how it came about, its losses).
        evidence: Tensors that travel with it (edge probabilities).

    Raises:
        InputError: If the parts do not fit together.
    """

    def __init__(
        self,
        architecture: Architecture,
        weights: Weights,
        *,
        signature: Signature,
        facts: dict[str, Any] | None = None,
        evidence: dict[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        weights.check(architecture)
        ends = (len(signature.feature_names), len(signature.class_names))
        if (architecture.widths[0], architecture.widths[-1]) != ends:
            raise InputError(
                f"the architecture must lead from {ends[0]} features to {ends[1]} outputs; "
                f"got widths {architecture.widths}."
            )
        self.architecture = architecture
        self.signature = signature
        self.facts = facts or {}
        self.evidence = evidence or {}
        self.edge = nn.Parameter(weights.edge.clone())
        self.bias = nn.Parameter(weights.bias.clone())

    @property
    def weights(self) -> Weights:
        """A copy of the present weights, on the CPU."""
        return Weights(edge=self.edge.detach().cpu().clone(), bias=self.bias.detach().cpu().clone())

    def forward(self, X: Tensor) -> Tensor:
        """Outputs before softmax.

        Args:
            X: Encoded rows. Float, shape ``(m, n)``.

        Returns:
            Float, shape ``(m, c)``.
        """
        z = self.architecture
        source, target = z.edges.to(X.device)
        neurons = X  # (m, neurons so far)
        for k, (start, stop) in enumerate(itertools.pairwise(z.starts[1:]), start=1):
            into = (target >= start) & (target < stop)
            dense = X.new_zeros(start, z.widths[k])  # from all earlier neurons
            dense = dense.index_put((source[into], target[into] - start), self.edge[into])
            summed = neurons @ dense + self.bias[start - z.widths[0] : stop - z.widths[0]]
            fired = _fire(summed, z.activation[start:stop])
            neurons = torch.cat([neurons, fired], dim=1)
        return neurons[:, z.starts[-2] :]

    @torch.no_grad()
    def scores(self, rows: pd.DataFrame | ArrayLike) -> Tensor:
        """Outputs before softmax for raw rows. Float, shape ``(m, c)``."""
        X = torch.from_numpy(self._encoded(rows)).to(self.edge)  # (m, n)
        parts = [self(part) for part in X.split(8192)]
        return torch.cat(parts).cpu() if parts else X.new_zeros(0, self.architecture.widths[-1])

    def _encoded(self, rows: pd.DataFrame | ArrayLike) -> NDArray[np.float32]:
        encoder = self.signature.encoder
        if encoder is None:
            return np.asarray(rows, dtype=np.float32)
        if not isinstance(rows, pd.DataFrame):
            return encoder.transform(array_frame(np.asarray(rows)))
        return encoder.transform(rows)

    def predict_proba(self, rows: pd.DataFrame | ArrayLike) -> NDArray[np.float64]:
        """Class probabilities of raw rows, shape ``(m, c)``; an error for a regression."""
        if self.signature.kind != "classification":
            raise InputError("probabilities need a classification network; this is a regression.")
        probabilities: NDArray[np.float64] = self.scores(rows).double().softmax(dim=1).numpy()
        return probabilities

    def predict(self, rows: pd.DataFrame | ArrayLike) -> NDArray[Any]:
        """Class names of raw rows, shape ``(m,)``; or outputs in their unit, ``(m, c)``."""
        scores = self.scores(rows)
        if self.signature.kind == "classification":
            names = np.array(self.signature.class_names, dtype=object)
            chosen: NDArray[Any] = names[scores.argmax(dim=1).numpy()]
            return chosen
        mean, scale = self.signature.target_mean, self.signature.target_scale
        outputs: NDArray[np.float64] = scores.double().numpy() * np.array(scale) + np.array(mean)
        return outputs

    def save(self, path: str | Path) -> None:
        """Write one safetensors file: numbers as tensors, everything else as JSON metadata.

        Raises:
            StoreError: If the file cannot be written.
        """
        z = self.architecture
        described = {
            "format": FORMAT_VERSION,
            "architecture": {k: v for k, v in z.to_json().items() if k != "edges"},
            "signature": self.signature.to_json(),
            "facts": self.facts,
        }
        evidence = {f"evidence.{name}": tensor for name, tensor in self.evidence.items()}
        tensors = {"edges": z.edges, "edge": self.edge, "bias": self.bias, **evidence}
        save_tensors(path, tensors, metadata={"graphpred_network": json.dumps(described)})

    @classmethod
    def load(cls, path: str | Path) -> "SparseNetwork":
        """Read what ``save`` wrote.

        Raises:
            StoreError: If the file is missing, torn or of another kind or version.
        """
        what = "a network that graphpred wrote"
        tensors, metadata = load_tensors(path, what=what)
        described = read_metadata(metadata, "graphpred_network", path=path, what=what)
        try:
            version = described["format"]
            if version == FORMAT_VERSION:
                return cls._from_parts(described, tensors)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"{path} must be a network that graphpred wrote; a part is wrong: "
                f"{type(error).__name__}: {error}"
            ) from error
        raise StoreError(f"{path} must have network format {FORMAT_VERSION}; got {version}.")

    @classmethod
    def _from_parts(cls, described: dict[str, Any], tensors: dict[str, Tensor]) -> "SparseNetwork":
        evidence = {
            name.removeprefix("evidence."): tensor
            for name, tensor in tensors.items()
            if name.startswith("evidence.")
        }
        return cls(
            Architecture.from_json(described["architecture"] | {"edges": tensors["edges"]}),
            Weights(edge=tensors["edge"], bias=tensors["bias"]),
            signature=Signature.from_json(described["signature"]),
            facts=described["facts"],
            evidence=evidence,
        )


def _fire(summed: Tensor, activation: Tensor) -> Tensor:
    """Apply every neuron's activation class. Float, shape ``(m, neurons)``."""
    classes = sorted(set(activation.tolist()))
    if len(classes) == 1:
        return ACTIVATIONS[int(classes[0])].function(summed)
    fired: Tensor = torch.empty_like(summed)
    for index in classes:
        chosen = activation == index
        fired[:, chosen] = ACTIVATIONS[index].function(summed[:, chosen])
    return fired
