"""Whether what graphpred wrote is whole: pair stores, networks, meta-models."""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graphpred.errors import GraphPredError
from graphpred.files import load_tensors
from graphpred.meta.model import MetaModel
from graphpred.network import SparseNetwork
from graphpred.pairs.store import PairStore


def verify_file(path: str | Path) -> list[str]:
    """Read a pair store, a network or a meta-model through.

    Args:
        path: The folder of a pair store, or the file of a network or of a meta-model.

    Returns:
        One sentence a fault, none if all is well.
    """
    path = Path(path)
    if path.is_dir():
        return _store_faults(path)
    try:
        _, metadata = load_tensors(path, what="a network or a meta-model that graphpred wrote")
        for key, check in _CHECKS.items():
            if key in metadata:
                return [f"{path.name}: {fault}" for fault in check(path)]
    except (GraphPredError, KeyError, TypeError, ValueError) as error:
        return [_sentence(error)]
    return [f"{path} must be a network or a meta-model that graphpred wrote; it is neither."]


def _sentence(error: Exception) -> str:
    text = str(error) if isinstance(error, GraphPredError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def _store_faults(folder: Path) -> list[str]:
    store = PairStore(folder)
    if not store.shards:
        return [f"{folder} must hold pairs (pairs-*.parquet); it holds none."]
    faults = store.verify()
    try:
        store.read_run()
    except GraphPredError as error:
        faults.append(_sentence(error))
    return faults


def _network_faults(path: Path) -> Iterator[str]:
    network = SparseNetwork.load(path)
    yield from _not_finite(dict(network.named_parameters()))
    yield from _evidence_faults(network)
    signature, z = network.signature, network.architecture
    if signature.kind == "regression":
        for name in ("target_mean", "target_scale"):
            values = getattr(signature, name)
            if len(values) != z.widths[-1] or not all(math.isfinite(value) for value in values):
                yield f"{name} must hold {z.widths[-1]} finite numbers; got {list(values)}."
    if signature.encoder is not None and signature.encoder.feature_names != signature.feature_names:
        yield "the encoder must give the features of the signature; it gives others."
    counts = {
        "n_possible_edges": z.n_possible_edges,
        "n_edges": z.n_edges,
        "n_live_edges": z.n_live_edges,
    }
    for name, n in counts.items():
        said = network.facts.get(name, n)
        if said != n:
            yield f"{name} must be {n} as the edges say; the facts say {said}."
    yield from _fact_faults(network.facts, name="facts")


def _evidence_faults(network: SparseNetwork) -> Iterator[str]:
    """Shapes, ranges and sums of the probabilities that travel with a network."""
    yield from _not_finite(network.evidence)
    widths = network.architecture.widths
    shapes = {f"probability_{k}": widths[k - 1 : k + 1] for k in range(1, len(widths))}
    for name, tensor in network.evidence.items():
        wanted = shapes.get(name)
        if wanted is not None and tuple(tensor.shape) != wanted:
            yield f"{name} must have shape {wanted}; got {tuple(tensor.shape)}."
        if "probability" in name and bool(((tensor < 0) | (tensor > 1 + 1e-5)).any()):
            yield f"{name} must be in [0, 1]; it is from {tensor.min():g} to {tensor.max():g}."
    classes = network.evidence.get("activation_probability")
    if classes is None:
        return
    names = network.facts.get("activation_names")
    wanted = (sum(widths[1:-1]), len(names)) if isinstance(names, list) else classes.shape
    if tuple(classes.shape) != wanted:
        yield f"activation_probability must have shape {wanted}; got {tuple(classes.shape)}."
    elif bool(((classes.sum(dim=-1) - 1).abs() > 1e-3).any()):
        yield "activation_probability must add up to 1 for every neuron; it does not."


def _fact_faults(value: Any, *, name: str) -> Iterator[str]:
    """Numbers of the facts that are NaN."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _fact_faults(item, name=f"{name}.{key}")
    elif isinstance(value, float) and math.isnan(value):
        yield f"{name} must be a number; it is NaN."


def _model_faults(path: Path) -> Iterator[str]:
    model = MetaModel.load(path)
    yield from _not_finite(model.state_dict())


def _not_finite(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    for name, tensor in tensors.items():
        strange = int((~torch.isfinite(tensor)).sum())
        if strange:
            yield f"{name} must be finite; {strange} of {tensor.numel()} numbers are not."


_CHECKS: dict[str, Callable[[Path], Iterator[str]]] = {
    "graphpred_network": _network_faults,
    "graphpred_model": _model_faults,
}
