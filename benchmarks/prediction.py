"""Predictions against all their rivals, by the protocol of ``graphpred.experiments``.

    python benchmarks/prediction.py DATA… --model MODEL --pool POOL [--quick] [--pairs PAIRS]
    python benchmarks/prediction.py DATA… --model MODEL --tune

DATA are folders of tables with their list, INDEX.tsv, or names of scikit-learn's sets. What the
pool lacks is trained and added to it; ``benchmarks/pool.py`` fills it beforehand. ``--tune`` prints
the learning rates to be written into ``graphpred/experiments/rivals.py``; it uses the tuning half.
"""

import argparse
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed, parallel_config
from measuring import WIDTH, write_report
from pool import with_progress
from prediction_plots import write_plots
from prediction_tables import print_tables
from rich.console import Console

from graphpred.experiments.contest import contest
from graphpred.experiments.outcome import Outcome
from graphpred.experiments.pool import Pool
from graphpred.experiments.predicted import Front, front, predict, trained, trained_afresh
from graphpred.experiments.protocol import KAPPAS, Cell, DataSet, cells, data_sets
from graphpred.experiments.rivals import RATES, RIVALS
from graphpred.experiments.scoring import Result
from graphpred.meta.model import MetaModel
from graphpred.pairs.store import PairStore

RATE_GRID = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
TUNING_CANDIDATES = 20
QUICK_KAPPAS, QUICK_CANDIDATES, QUICK_SETS = [1.0, 4.0], 100, 6


def compare(
    data_set: DataSet, *, seed: int, options: argparse.Namespace
) -> tuple[list[Result], list[Front]]:
    """All cells of one data set and seed, and its front."""
    torch.set_num_threads(1)
    pool, task = Pool(options.pool), data_set.load()
    model = MetaModel.load(options.model) if options.model else None
    pairs = list(PairStore(options.pairs)) if options.pairs else []
    budgets = cells(task, seed=seed, kappas=options.kappas, steps=options.steps)
    results = [
        contest(data_set, cell, pool=pool, model=model, pairs=pairs, n_live=options.candidates)
        for cell in budgets
    ]
    of_front = [cell for cell in budgets if cell.steps == options.steps[0]]
    if model is None or not of_front:
        return results, []
    return results, [front(model, of_front, pool=pool, family=data_set.family)]


def tune(options: argparse.Namespace) -> dict[str, Any]:
    """Mean test loss of every method at every rate over the tuning half."""
    losses: dict[tuple[str, int, float], list[float]] = defaultdict(list)
    jobs = [(one, 0) for one in data_sets(options.data, half="tuning")]
    for found in _in_parallel(_tuning_losses, jobs, options=options):
        for key, loss in found:
            losses[key].append(loss)
    means = {key: statistics.fmean(values) for key, values in losses.items()}
    table: dict[str, Any] = {}
    for (method, steps, rate), mean in means.items():
        table.setdefault(method, {}).setdefault(str(steps), {})[f"{rate:g}"] = mean
    for method, by_steps in table.items():
        best = {int(steps): float(min(own, key=own.get)) for steps, own in by_steps.items()}
        print(f'    "{method}": {best},')
        for steps, own in by_steps.items():
            print(f"        # {steps}: " + ", ".join(f"{r} {mean:.4f}" for r, mean in own.items()))
    return table


def _tuning_losses(
    data_set: DataSet, *, seed: int, options: argparse.Namespace
) -> list[tuple[tuple[str, int, float], float]]:
    torch.set_num_threads(1)
    model = MetaModel.load(options.model) if options.model else None
    found = []
    for cell in cells(data_set.load(), seed=seed, kappas=options.kappas, steps=options.steps):
        for method in RATES if model else [m for m in RATES if m in RIVALS]:
            for rate in RATE_GRID:
                outcome = _at_rate(method, cell, rate=rate, model=model)
                size = min(10, len(outcome))
                loss = min(outcome.best_of(size, steps=cell.steps).loss, 1.5)
                found.append(((method, cell.steps, rate), loss))
    return found


def _at_rate(method: str, cell: Cell, *, rate: float, model: MetaModel | None) -> Outcome:
    if method in RIVALS:
        rival = RIVALS[method]
        return rival.run(cell, range(min(rival.n_candidates, TUNING_CANDIDATES)), rate)
    assert model is not None
    train = trained if method == "predicted" else trained_afresh
    return train(cell, [predict(model, cell, task=cell.task)], rate=rate)


def _in_parallel(
    run: Any, jobs: list[tuple[DataSet, int]], *, options: argparse.Namespace
) -> Iterator[Any]:
    """Results of every data set and seed, in the order of the jobs."""
    with parallel_config("loky", n_jobs=options.jobs, inner_max_num_threads=1):
        done = Parallel(return_as="generator")(
            delayed(run)(one, seed=seed, options=options) for one, seed in jobs
        )
        yield from with_progress(done, total=len(jobs))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--model", type=Path, help="without one, rivals alone")
    parser.add_argument("--pool", type=Path, default=Path("benchmarks/cache/pool"))
    parser.add_argument("--pairs", type=Path, help="pairs, for rivals that do not see the data")
    parser.add_argument("--half", choices=["tuning", "table", "all"], default="table")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kappas", type=float, nargs="+", default=list(KAPPAS))
    parser.add_argument("--steps", type=int, nargs="+", default=[300], help="front: the first")
    parser.add_argument("--candidates", type=int, default=1000, help="live random ones a cell")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="few sets, budgets and candidates")
    parser.add_argument("--tune", action="store_true", help="find the learning rates")
    parser.add_argument("--out", type=Path, help="JSON; by default benchmarks/results/…")
    options = parser.parse_args()
    if options.quick:
        options.kappas, options.candidates, options.seeds = QUICK_KAPPAS, QUICK_CANDIDATES, 1
    results = Path(__file__).parent / "results"
    name = "prediction_rates" if options.tune else "prediction"
    options.out = options.out or results / f"{name}.json"
    return options


def main() -> None:
    """Run all cells, print the tables, write the cells and draw the pictures."""
    options = _options()
    described = {
        name: value.name if isinstance(value, Path) else value
        for name, value in vars(options).items()
        if name != "data"
    }
    if options.tune:
        write_report(options.out, {"options": described, "mean_loss": tune(options)})
        return
    sets = data_sets(options.data, half=options.half)
    if options.quick:
        sets = sets[:: max(1, len(sets) // QUICK_SETS)][:QUICK_SETS]
    jobs = [(one, seed) for one in sets for seed in range(options.seeds)]
    results, fronts = [], []
    for own_results, own_fronts in _in_parallel(compare, jobs, options=options):
        results += own_results
        fronts += own_fronts
    report = {
        "options": described,
        "cells": [result.to_json() for result in results],
        "fronts": [asdict(one) for one in fronts],
    }
    write_report(options.out, report)
    write_plots(results, beside=options.out)
    print_tables(results, fronts, console=Console(width=WIDTH), n_live=options.candidates)


if __name__ == "__main__":
    main()
