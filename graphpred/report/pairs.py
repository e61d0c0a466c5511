"""What a pair store holds: which data sets, how good and how dense at which price, what it uses.

A pair belongs to a search, whose cost all its pairs repeat; so costs are counted once a search.
"""

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.text import Text

from graphpred.activations import ACTIVATIONS
from graphpred.pairs.pair import Pair
from graphpred.pairs.store import PairStore
from graphpred.report.numbers import Numbers
from graphpred.report.text import (
    FAINT,
    HEADING,
    Flow,
    Report,
    count,
    heading,
    key_values,
    listed,
    literal,
    more,
    number,
    plain,
    setting,
)

DENSITY_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Upper ends of the bars of densities."""
_MOST_SETS = 6
_MOST_NAMES = 12


@dataclass(kw_only=True)
class _Grid:
    """Pairs of one price."""

    objectives: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    edges: list[int] = field(default_factory=list)
    densities: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float | int]:
        return {
            "pairs": len(self.objectives),
            "objective_mean": statistics.fmean(self.objectives),
            "objective_median": statistics.median(self.objectives),
            "objective_best": min(self.objectives),
            "loss_mean": statistics.fmean(self.losses),
            "n_live_edges_mean": statistics.fmean(self.edges),
            "density_mean": statistics.fmean(self.densities),
        }


@dataclass(kw_only=True)
class _Source:
    """Pairs of one data set.

    Attributes:
        fan_out: Live edges out of every feature, over all pairs. Shape ``(n,)``.
        feature_uses: Pairs that use a feature. Shape ``(n,)``.
        fan_in: Live edges into every output, over all pairs. Shape ``(c,)``.
        output_uses: Pairs in which an edge reaches an output. Shape ``(c,)``.
    """

    first: Pair
    n_pairs: int
    fan_out: NDArray[np.int64]
    feature_uses: NDArray[np.int64]
    fan_in: NDArray[np.int64]
    output_uses: NDArray[np.int64]

    @classmethod
    def of(cls, first: Pair) -> "_Source":
        n, c = len(first.feature_names), len(first.class_names)
        zeros = [np.zeros(size, dtype=np.int64) for size in (n, n, c, c)]
        fan_out, feature_uses, fan_in, output_uses = zeros
        return cls(
            first=first,
            n_pairs=0,
            fan_out=fan_out,
            feature_uses=feature_uses,
            fan_in=fan_in,
            output_uses=output_uses,
        )

    def add(self, pair: Pair) -> None:
        z = pair.architecture
        source, target = z.edges[:, z.live]
        out = torch.bincount(source, minlength=z.n_neurons)[: z.widths[0]].numpy()
        into = torch.bincount(target, minlength=z.n_neurons)[z.starts[-2] :].numpy()
        self.n_pairs += 1
        self.fan_out += out
        self.feature_uses += out > 0
        self.fan_in += into
        self.output_uses += into > 0

    def summary(self) -> dict[str, Any]:
        pair = self.first
        return {
            "source": pair.source,
            "kind": pair.kind,
            "target": pair.target,
            "loss": pair.loss_name,
            "n_features": len(pair.feature_names),
            "n_outputs": len(pair.class_names),
            "pairs": self.n_pairs,
            "features": self._uses(pair.feature_names, self.feature_uses, self.fan_out),
            "outputs": self._uses(pair.class_names, self.output_uses, self.fan_in),
        }

    def _uses(
        self, names: Iterable[str], uses: NDArray[np.int64], edges: NDArray[np.int64]
    ) -> list[dict[str, Any]]:
        """Share of pairs that use a name, and its edges in those; the most used ones first."""
        rows = [
            {
                "name": name,
                "share": used / self.n_pairs,
                "edges": total / used if used else 0.0,
            }
            for name, used, total in zip(names, uses.tolist(), edges.tolist(), strict=True)
        ]
        return sorted(rows, key=lambda row: (-row["share"], -row["edges"]))


def pairs_summary(store: PairStore) -> dict[str, Any]:
    """What a store holds, as plain JSON.

    Shares of features and outputs are shares of the pairs of their data set; ``edges`` is the mean
    number of live edges out of a feature, or into an output, in the pairs that use it.

    Raises:
        StoreError: If there is no pair or a shard is broken.
    """
    run = store.read_run()
    by_penalty = bool((run or {}).get("penalties"))
    grids: dict[float, _Grid] = {}
    sources: dict[tuple[object, ...], _Source] = {}
    activations: Counter[int] = Counter()
    searches: dict[int, Pair] = {}
    for pair in store:
        searches.setdefault(pair.search, pair)
        grid = grids.setdefault(pair.penalty if by_penalty else pair.price, _Grid())
        grid.objectives.append(pair.objective)
        grid.losses.append(pair.loss)
        grid.edges.append(pair.architecture.n_live_edges)
        grid.densities.append(pair.architecture.n_live_edges / pair.architecture.n_possible_edges)
        key = (pair.source, pair.digest, pair.target, pair.feature_names, pair.class_names)
        if key not in sources:
            sources[key] = _Source.of(pair)
        sources[key].add(pair)
        activations.update(_live_activations(pair))
    densities = [density for grid in grids.values() for density in grid.densities]
    neurons = activations.total()
    costs = list(searches.values())
    result: dict[str, Any] = plain(
        {
            "folder": store.folder.name,
            "searches": len(searches),
            "pairs": len(densities),
            "run": run,
            "sources": [source.summary() for source in sources.values()],
            "grid": "penalty" if by_penalty else "price",
            "grids": [{"cost": cost, **grids[cost].summary()} for cost in sorted(grids)],
            "densities": _histogram(densities),
            "activations": {
                ACTIVATIONS[index].name: n / neurons for index, n in activations.most_common()
            },
            "live_hidden_neurons": neurons,
            "cost": {
                "networks": sum(pair.evaluations for pair in costs),
                "network_steps": sum(pair.network_steps for pair in costs),
                "cpu_seconds": sum(pair.cpu_seconds for pair in costs),
            },
        }
    )
    return result


def _live_activations(pair: Pair) -> list[int]:
    """Activation class of every hidden neuron that a live edge touches."""
    z = pair.architecture
    touched = z.edges[:, z.live].unique()
    hidden = touched[(touched >= z.starts[1]) & (touched < z.starts[-2])]
    classes: list[int] = z.activation[hidden].tolist()
    return classes


def _histogram(densities: list[float]) -> list[dict[str, float | int]]:
    """Number of pairs up to every density; empty networks on their own."""
    bins = np.searchsorted(DENSITY_STEPS, densities) + 1
    bins[np.array(densities) == 0] = 0
    counts = np.bincount(bins, minlength=len(DENSITY_STEPS) + 1).tolist()
    ends = (0.0, *DENSITY_STEPS)
    return [{"up_to": end, "pairs": n} for end, n in zip(ends, counts, strict=True)]


def pairs_report(store: PairStore) -> RenderableType:
    """What a store holds: data sets, quality and density by price, use of features, cost.

    Raises:
        StoreError: If there is no pair or a shard is broken.
    """
    summary = pairs_summary(store)
    title = f"{count(summary['pairs'], 'pair')} from {_searches(summary['searches'])}"
    return Report(
        Text(f"{title} in {literal(summary['folder'])}", style=HEADING),
        *_asked(summary["run"]),
        *_sets(summary["sources"]),
        *_grids(summary),
        *_densities(summary["densities"]),
        *_activations(summary),
        *_uses(summary["sources"]),
        heading("Cost"),
        _cost(summary["cost"]),
    )


def _searches(n: int) -> str:
    return f"{n:,} search" + "es" * (n != 1)


def _asked(run: Mapping[str, Any] | None) -> Iterator[RenderableType]:
    """What the searches were asked to do."""
    if run is None:
        return
    yield heading("Asked for")
    hidden = ("sources", "penalties" if not run.get("penalties") else "prices")
    shown: dict[str, RenderableType | None] = {}
    for name, value in run.items():
        if name in hidden or value is None:
            continue
        if isinstance(value, list):
            shown[name] = listed([setting(item) for item in value], most=12)
        else:
            shown[name] = str(value) if name == "seed" else setting(value)
    yield key_values({name.replace("n_", "", 1): value for name, value in shown.items()})


def _sets(sources: list[dict[str, Any]]) -> Iterator[RenderableType]:
    yield heading("Data sets")
    table = Numbers(columns=["", "features", "outputs", "pairs"])
    for source in sources[:_MOST_NAMES]:
        numbers = (source["n_features"], source["n_outputs"], source["pairs"])
        table.add(source["source"], *(number(n) for n in numbers))
    yield table
    yield from _left_out(sources, most=_MOST_NAMES, noun="data set")


def _grids(summary: Mapping[str, Any]) -> Iterator[RenderableType]:
    """One row a price: 𝔏, L, K* and density."""
    yield heading("Objective and size of the best networks")
    columns = {
        "mean": "objective_mean",
        "median": "objective_median",
        "best": "objective_best",
        "loss": "loss_mean",
        "K*": "n_live_edges_mean",
        "density": "density_mean",
    }
    table = Numbers(columns=[summary["grid"], *columns], spare=["median", "loss"])
    for grid in summary["grids"]:
        cells = [number(grid[name]) for name in columns.values() if name != "n_live_edges_mean"]
        cells.insert(4, f"{grid['n_live_edges_mean']:.1f}")
        table.add(setting(grid["cost"]), *cells)
    yield table
    names = {source["loss"] for source in summary["sources"]}
    yield Text(f"mean, median, best: of the objective; loss: {', '.join(sorted(names))}", FAINT)


def _densities(histogram: list[dict[str, Any]]) -> Iterator[RenderableType]:
    yield heading("Densities")
    total = sum(row["pairs"] for row in histogram)
    table = Numbers(columns=["up to", "pairs"])
    for row in histogram:
        if row["up_to"] or row["pairs"]:
            name = "empty" if not row["up_to"] else f"{row['up_to']:g}"
            table.add(name, number(row["pairs"]), share=row["pairs"] / total)
    yield table


def _activations(summary: Mapping[str, Any]) -> Iterator[RenderableType]:
    yield heading("Activations of hidden neurons with edges")
    table = Numbers(columns=["", "share"])
    for name, share in summary["activations"].items():
        table.add(name, f"{share:.0%}", share=share)
    yield table if summary["activations"] else Text("no hidden neuron has edges", style=FAINT)


def _uses(sources: list[dict[str, Any]]) -> Iterator[RenderableType]:
    """How often every feature and output is used, for the first data sets."""
    for source in sources[:_MOST_SETS]:
        for what, noun in (("features", "feature"), ("outputs", "output")):
            yield heading(f"Use of {what}, {literal(source['source'])}")
            table = Numbers(columns=["", "pairs", "edges"])
            for row in source[what][:_MOST_NAMES]:
                share = row["share"]
                table.add(row["name"], f"{share:.0%}", f"{row['edges']:.1f}", share=share)
            yield table
            yield from _left_out(source[what], most=_MOST_NAMES, noun=noun)
    yield from _left_out(sources, most=_MOST_SETS, noun="data set")
    yield Text("pairs: share that uses it; edges: mean number in those", style=FAINT)


def _left_out(rows: list[Any], *, most: int, noun: str) -> Iterator[RenderableType]:
    if len(rows) > most:
        yield Text(more(len(rows) - most, noun), style=FAINT)


def _cost(cost: Mapping[str, Any]) -> RenderableType:
    return Flow(
        [
            Text(count(cost["networks"], "network")),
            Text(count(cost["network_steps"], "network-step")),
            Text(f"{number(cost['cpu_seconds'])} CPU seconds"),
        ]
    )
