"""A minute of meta-training on a set's own pairs, against live random search and edge frequencies.

For every set that scikit-learn ships and every seed: pairs from subsamples, a meta-model trained on
them, one prediction for the whole set at K* = κ·(n + c), and its rivals at the same K* and steps.
Nothing sees the test part before it is reported. Pairs and models are kept in ``--cache``, so a
stopped run goes on.

    python benchmarks/own_pairs.py
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from graphpred.experiments.comparison import compare_at
from graphpred.meta.model import MetaModel
from graphpred.meta.run import RunConfig, checkpoint_of, train_meta_model
from graphpred.pairs.generate import GenerateConfig, generate_pairs
from graphpred.pairs.store import PairStore
from graphpred.task import Task
from graphpred.threads import one_thread

SETS = ("breast_cancer", "wine", "iris", "diabetes", "digits")
KAPPAS = (0.5, 1, 2, 4, 8)
PREDICTED = ("predicted", "predicted structure, fresh weights")
RIVALS = ("live random, best of 1", "live random, best of 10", "live random, best of 100")


def main() -> None:
    """Run all cells and print and write the tables."""
    options = _options()
    cells: list[dict[str, Any]] = []
    for name in options.sets:
        for seed in range(options.seeds):
            with one_thread():
                found = _cells(name, seed=seed, options=options)
            cells += found
            print(f"{name}, seed {seed}: {len(found)} cells", flush=True)
    summary = {"cells": cells, "means": _means(cells), "wins": _wins(cells)}
    summary["options"] = {k: str(v) for k, v in vars(options).items()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(summary, indent=1) + "\n")
    _print(cells)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache/prediction"))
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "own_pairs.json"
    )
    return parser.parse_args()


def _cells(name: str, *, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All κ and numbers of steps of one set and seed."""
    folder = options.cache / f"{name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    config = GenerateConfig(n_searches=options.pairs, seed=seed)
    for _ in generate_pairs([name], out=folder / "pairs", config=config):
        pass
    model_file = folder / "model.safetensors"
    if not model_file.exists():
        run = RunConfig(pairs=(str(folder / "pairs"),), minutes=options.minutes, seed=seed)
        unfinished = checkpoint_of(model_file).exists()
        for _ in train_meta_model(run, out=model_file, resume=unfinished):
            pass
    task, model = Task.from_source(name, seed=seed), MetaModel.load(model_file)
    pairs = list(PairStore(folder / "pairs"))
    n, c = task.n_features, task.n_outputs
    cells = []
    for kappa in KAPPAS:
        n_edges = int(kappa * (n + c))
        if not 2 * c <= n_edges <= (n * n + n * c) / 2:
            continue
        for steps in options.steps:
            rows = compare_at(task, model, n_edges=n_edges, steps=steps, seed=seed, pairs=pairs)
            losses = {row.method: row.test_loss for row in rows}
            cell = {"set": name, "seed": seed, "kappa": kappa, "n_edges": n_edges, "steps": steps}
            cells.append(cell | {"losses": losses, "edges": {r.method: r.n_edges for r in rows}})
    return cells


def _means(cells: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean test loss of every method, for every number of steps and set; sets weigh alike."""
    table: dict[str, dict[str, float]] = {}
    for steps in sorted({cell["steps"] for cell in cells}):
        by_set = []
        for name in dict.fromkeys(cell["set"] for cell in cells):
            own = [c for c in cells if c["set"] == name and c["steps"] == steps]
            mean = {m: statistics.mean(c["losses"][_linear(c, m)] for c in own) for m in _methods()}
            table[f"{name}, {steps} steps"] = mean
            by_set.append(mean)
        table[f"mean of sets, {steps} steps"] = {
            m: statistics.mean(mean[m] for mean in by_set) for m in _methods()
        }
    return table


def _methods() -> tuple[str, ...]:
    return ("predicted, no step", *PREDICTED, *RIVALS, "edge frequencies alone", "linear (dense)")


def _linear(cell: dict[str, Any], method: str) -> str:
    if method != "linear (dense)":
        return method
    return next(m for m in cell["losses"] if m.endswith("(dense)"))


def _wins(cells: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Wins, ties and losses of the predictions over cells, a cell being a mean over the seeds."""
    groups = defaultdict(list)
    for cell in cells:
        groups[cell["set"], cell["kappa"], cell["steps"]].append(cell["losses"])
    result: dict[str, dict[str, str]] = {}
    for ours in PREDICTED:
        result[ours] = {}
        for rival in (*RIVALS, "edge frequencies alone"):
            gaps = [statistics.mean(x[ours] - x[rival] for x in group) for group in groups.values()]
            won, lost = sum(gap < 0 for gap in gaps), sum(gap > 0 for gap in gaps)
            result[ours][rival] = f"{won}/{len(gaps) - won - lost}/{lost}"
    return result


def _print(cells: list[dict[str, Any]]) -> None:
    console = Console(width=150)
    table = Table(title="Mean test loss (error, or 1 - R²)")
    table.add_column("set and steps")
    for method in _methods():
        table.add_column(method, justify="right")
    for label, means in _means(cells).items():
        table.add_row(label, *(f"{means[m]:.3f}" for m in _methods()))
    console.print(table)
    wins = Table(title="Cells (set, κ, steps) won/tied/lost, means over the seeds")
    wins.add_column("")
    rivals = (*RIVALS, "edge frequencies alone")
    for rival in rivals:
        wins.add_column(rival, justify="right")
    for ours, counts in _wins(cells).items():
        wins.add_row(ours, *(counts[rival] for rival in rivals))
    console.print(wins)


if __name__ == "__main__":
    main()
