"""What a network looks like: its data set, its edges, its neurons and how well it does."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from graphpred.network import SparseNetwork
from graphpred.report.heatmap import HeatMap, Legend
from graphpred.report.layers import (
    Neuron,
    edge_probability,
    live_neurons,
    neuron_names,
    weight_matrix,
)
from graphpred.report.numbers import Numbers, Row
from graphpred.report.text import (
    FAINT,
    HEADING,
    NOTE,
    WARNING,
    Flow,
    Report,
    bullets,
    count,
    heading,
    key_values,
    listed,
    literal,
    number,
    plain,
    setting,
)

PARTS = ("train", "validation", "test")
_TELLING = ("validation", "test")  # parts whose losses tell whether a network is of use
STAGES = ("before", "after", "constant")
LEAST_GAIN = 1e-4
"""Share of a constant's loss that a network must save to be called better."""
UNFAMILIAR = 0.005
"""Familiarity below which the report warns: hardly any data set of the training was as unusual."""
_LOSS_NAMES = {"log_loss": "log loss", "unexplained": "1 - R²", "mse": "squared error"}


def network_report(network: SparseNetwork) -> RenderableType:
    """What a network was made for, its structure and its losses.

    Facts and evidence that the network does not carry are left out; without probabilities of
    edges the maps show the weights.
    """
    parts = [*_title(network), *_warning_lines(network)]
    parts += [_data(network), heading("Network"), _sizes(network), _neuron_classes(network)]
    parts += [*_maps(network), *_losses(network), *_notices(network)]
    return Report(*parts)


def network_summary(network: SparseNetwork) -> dict[str, Any]:
    """The report as plain JSON: facts, sizes, live neurons, edges with weights, warnings."""
    z = network.architecture
    facts = _facts(network)
    task = {
        "kind": network.signature.kind,
        "n_features": z.widths[0],
        "n_outputs": z.widths[-1],
        **_mapping(facts.get("task")),
    }
    known = ("price", "penalty", "steps", "candidates", "seed", "model", "familiarity")
    summary = {
        "task": task,
        "widths": z.widths,
        "n_possible_edges": z.n_possible_edges,
        "n_edges": z.n_edges,
        "n_live_edges": z.n_live_edges,
        "density": _density(network),
        **{name: facts.get(name) for name in known},
        "losses": _mapping(facts.get("losses")),
        "neurons": [vars(neuron) for neuron in live_neurons(network)],
        "edges": list(_edges(network)),
        "warnings": network_warnings(network),
        "notices": _all_notices(network),
    }
    result: dict[str, Any] = plain(summary)
    return result


def network_warnings(network: SparseNetwork) -> list[str]:
    """What a user must not overlook, one sentence each."""
    warnings = []
    if network.architecture.n_live_edges == 0:
        warnings.append(
            "The network is empty: no edge leads from a feature to an output, so it gives the "
            "same answer for every row."
        )
    familiarity = _facts(network).get("familiarity")
    if isinstance(familiarity, float) and familiarity < UNFAMILIAR:
        warnings.append(
            f"The meta-model has hardly seen data like these: {100 * familiarity:.1f} % of the "
            "data sets of its training were as unusual. Compare its losses with a model you trust."
        )
    losses = _mapping(_facts(network).get("losses"))
    trained = losses.get("after") or losses.get("before")
    measure = "error" if network.signature.kind == "classification" else "unexplained"
    part = next((part for part in _TELLING if part in _mapping(trained)), "train")
    own = _loss(trained, part=part, measure=measure)
    constant = _loss(losses.get("constant"), part=part, measure=measure)
    if own is not None and constant is not None and not own < (1 - LEAST_GAIN) * constant:
        warnings.append(
            f"On the {part}{'ing' * (part == 'train')} rows the network is not better than "
            f"{_constant_name(network)}: "
            f"{_LOSS_NAMES.get(measure, measure)} {number(own)} against {number(constant)}."
        )
    return warnings


def _facts(network: SparseNetwork) -> Mapping[str, Any]:
    return _mapping(network.facts)


def _mapping(value: Any) -> Mapping[str, Any]:
    """A value that should be a mapping, or an empty one."""
    return value if isinstance(value, Mapping) else {}


def _loss(losses: Any, *, part: str, measure: str) -> float | None:
    value = _mapping(_mapping(losses).get(part)).get(measure)
    return float(value) if isinstance(value, int | float) else None


def _constant_name(network: SparseNetwork) -> str:
    if network.signature.kind == "classification":
        return "always naming the largest class"
    return "always answering the mean"


def _density(network: SparseNetwork) -> float:
    return network.architecture.n_live_edges / network.architecture.n_possible_edges


def _edges(network: SparseNetwork) -> Iterator[dict[str, Any]]:
    """Every edge, with its weight and, if known, its probability."""
    z = network.architecture
    names = [name for layer in range(z.n_layers + 1) for name in neuron_names(network, layer)]
    evidence = [edge_probability(network, layer) for layer in range(1, z.n_layers + 1)]
    layers = z.layer.tolist()
    columns = z.edges.T.tolist(), z.live.tolist(), network.weights.edge.tolist()
    for (source, target), live, weight in zip(*columns, strict=True):
        probability = None
        into, before = layers[target], layers[source]
        known = evidence[into - 1] if into == before + 1 else None
        if known is not None:
            probability = float(known[source - z.starts[before], target - z.starts[into]])
        yield {
            "source": names[source],
            "target": names[target],
            "layer": into,
            "weight": weight,
            "probability": probability,
            "live": live,
        }


def _title(network: SparseNetwork) -> Iterator[RenderableType]:
    task = _mapping(_facts(network).get("task"))
    name = task.get("name")
    yield Text("Sparse network" + (f" for {literal(name)}" if name else ""), style=HEADING)


def _warning_lines(network: SparseNetwork) -> Iterator[RenderableType]:
    return bullets(network_warnings(network), style=WARNING)


def _data(network: SparseNetwork) -> RenderableType:
    """The data set as understood."""
    task, signature = _mapping(_facts(network).get("task")), network.signature
    rows = task.get("n_rows")
    shares = [
        f"{part} {number(size)}" for part, size in _mapping(task.get("parts")).items() if size
    ]
    rows_text = " · ".join([*([number(rows)] if rows is not None else []), *shares])
    is_classes = signature.kind == "classification"
    features = f"{len(signature.feature_names)}: {listed(signature.feature_names, most=4)}"
    outputs = f"{len(signature.class_names)}: {listed(signature.class_names)}"
    source = task.get("source")
    return key_values(
        {
            "source": None if source is None else str(source),
            "task": signature.kind,
            "rows": rows_text or None,
            "features": features,
            "classes" if is_classes else "outputs": outputs,
        }
    )


def _sizes(network: SparseNetwork) -> RenderableType:
    """K, K*, N, density, price, penalty and how it was trained."""
    z, facts = network.architecture, _facts(network)
    items = [
        _item("K*", z.n_live_edges, after="live edges"),
        _item("K", z.n_edges),
        _item("N", z.n_possible_edges, after="possible"),
        _item("density", f"{_density(network):.3g}"),
    ]
    names = ("price", "penalty", "steps", "candidates", "seed", "model")
    items += [_item(name, facts[name]) for name in names if facts.get(name) is not None]
    return Flow(items, separator="  ")


def _item(name: str, value: object, *, after: str = "") -> Text:
    return Text.assemble((name, FAINT), " ", setting(value), (f" {after}" if after else "", FAINT))


def _neuron_classes(network: SparseNetwork) -> RenderableType:
    """How many live hidden neurons there are of every activation class."""
    neurons = live_neurons(network)
    classes = Counter(neuron.activation for neuron in neurons).most_common()
    skips = _n_skip_edges(network)
    items = [
        Text.assemble((count(len(neurons), "live hidden neuron") + ":" * bool(neurons), FAINT))
    ]
    items += [Text(f"{n} {name}") for name, n in classes]
    if skips:
        items.append(Text(f"{count(skips, 'edge')} past a layer, not in the maps", style=NOTE))
    return Flow(items, separator="  ")


def _n_skip_edges(network: SparseNetwork) -> int:
    z = network.architecture
    layer = z.layer[z.edges]  # (2, n_edges)
    return int((layer[1] - layer[0] > 1).sum())


def _maps(network: SparseNetwork) -> Iterator[RenderableType]:
    """A heat map a layer, and how to read them."""
    neurons = live_neurons(network)
    measures = []
    for layer in range(1, network.architecture.n_layers + 1):
        heat = _heat_map(network, layer, neurons=neurons)
        measures.append(heat.measure)
        yield heading(_map_title(network, layer))
        yield heat
    yield Text()
    yield Legend(measures)


def _map_title(network: SparseNetwork, layer: int) -> str:
    t = network.architecture.n_layers
    last = "classes" if network.signature.kind == "classification" else "outputs"
    first_hidden = "hidden neurons" if t == 2 else f"hidden layer {layer}"
    source = (
        "Features" if layer == 1 else "Hidden neurons" if t == 2 else f"Hidden layer {layer - 1}"
    )
    return f"{source} to {last if layer == t else first_hidden}"


def _heat_map(network: SparseNetwork, layer: int, *, neurons: list[Neuron]) -> HeatMap:
    """The map of one layer; of hidden neurons only the live ones, unless there are none."""
    weights, signs = weight_matrix(network, layer)
    probability = edge_probability(network, layer)
    scale = 1.0 if probability is not None else float(np.abs(weights).max(initial=0.0)) or 1.0
    values = np.abs(np.nan_to_num(weights)) / scale if probability is None else probability
    rows, row_names = _shown(network, layer - 1, neurons=neurons, described=True)
    columns, column_names = _shown(network, layer, neurons=neurons, described=False)
    t = network.architecture.n_layers
    output = "class" if network.signature.kind == "classification" else "output"
    return HeatMap(
        values=values[np.ix_(rows, columns)],
        signs=signs[np.ix_(rows, columns)],
        row_names=row_names,
        column_names=column_names,
        nouns=(
            "feature" if layer == 1 else "hidden neuron",
            output if layer == t else "hidden neuron",
        ),
        measure="weight" if probability is None else "probability",
        scale=scale,
    )


def _shown(
    network: SparseNetwork, layer: int, *, neurons: list[Neuron], described: bool
) -> tuple[list[int], list[str]]:
    """Neurons of a layer that a map shows, and their names; described ones with their class."""
    names = neuron_names(network, layer)
    if layer in (0, network.architecture.n_layers):
        return list(range(len(names))), names
    live = [neuron for neuron in neurons if neuron.layer == layer]
    if not live:
        return list(range(len(names))), names
    if not described:
        return [neuron.index for neuron in live], [neuron.name for neuron in live]
    name_width = max(len(neuron.name) for neuron in live)
    class_width = max(len(neuron.activation) for neuron in live)
    labels = [
        f"{neuron.name:<{name_width}} {neuron.activation:<{class_width}}"
        + ("" if neuron.probability is None else f" {neuron.probability:.2f}")
        for neuron in live
    ]
    return [neuron.index for neuron in live], labels


def _losses(network: SparseNetwork) -> Iterator[RenderableType]:
    """Losses before and after training, beside those of the constant prediction."""
    losses = _mapping(_facts(network).get("losses"))
    stages = [stage for stage in STAGES if _mapping(losses.get(stage))]
    found = {
        measure: None
        for stage in stages
        for part in PARTS
        for measure in _mapping(_mapping(losses[stage]).get(part))
    }
    if not found:
        return
    yield heading("Losses")
    table = Numbers(columns=["", *stages])
    for measure in found:
        table.rows.append(Row(name=literal(_LOSS_NAMES.get(measure, measure.replace("_", " ")))))
        for part in PARTS:
            values = [_loss(losses[stage], part=part, measure=measure) for stage in stages]
            if any(value is not None for value in values):
                table.add(f"  {part}", *(number(value) for value in values))
    yield table
    if "constant" in stages:
        yield Text(f"constant: {_constant_name(network)}", style=FAINT)


def _all_notices(network: SparseNetwork) -> list[str]:
    """Notices on the data set and on the network."""
    facts = _facts(network)
    told = [_mapping(facts.get("task")).get("notices"), facts.get("notices")]
    return [str(notice) for notices in told if isinstance(notices, list) for notice in notices]


def _notices(network: SparseNetwork) -> Iterator[RenderableType]:
    notices = _all_notices(network)
    if notices:
        yield heading("Notes")
        yield from bullets(notices, style=NOTE)
