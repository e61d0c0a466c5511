"""What a structure is worth without the weights that it was chosen with.

    python benchmarks/structure_alone.py DATA… --pool POOL [--model FILE] [--seeds 0 1 2]

The best of a thousand live random networks is a structure and a start, chosen together. Here its
structure is trained again from other fresh weights, and so is the predicted one: means over the
same number of starts. POOL is what ``benchmarks/pool.py`` fills; what is missing in it is computed.
"""

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from measuring import WIDTH, write_report
from rich.console import Console
from rich.table import Table

from graphpred.architecture import Architecture
from graphpred.experiments.outcome import Figure
from graphpred.experiments.pool import Pool
from graphpred.experiments.predicted import predict
from graphpred.experiments.protocol import Cell, DataSet, cells, data_sets
from graphpred.experiments.rivals import live_architecture, rate_of, reached, train
from graphpred.experiments.scoring import WORST_UNEXPLAINED, Result, mean_over_sets, over_seeds
from graphpred.meta.model import MetaModel

N_STARTS, LIVE = 4, "live, best of 1000"
SEARCHED, PREDICTED = "its structure, other starts", "predicted structure, fresh weights"


def measured(one: DataSet, cell: Cell, *, pool: Pool, model: MetaModel) -> Result:
    """Figures of both structures, of the search and of what makes the ceiling, in one cell."""
    number = int(pool.outcome("live", cell).validation.argmin())
    structures = {
        SEARCHED: live_architecture(cell, number),
        PREDICTED: predict(model, cell, task=cell.task).architecture,
    }
    figures = {LIVE: pool.figure("live", cell)}
    figures |= {name: pool.figure(name, cell) for name in ("dense", "boosting")}
    figures |= {name: _from_fresh(z, cell, name=name) for name, z in structures.items()}
    return Result.of(cell, family=one.family, figures=figures)


def _from_fresh(z: Architecture, cell: Cell, *, name: str) -> Figure:
    """The mean over some starts."""
    seeds = [cell.own_seed("start", name, i) for i in range(N_STARTS)]
    trained = train([z] * N_STARTS, cell, rate=rate_of("fresh", cell.steps), seeds=seeds)
    outcome = reached(trained, cell)
    figure = outcome[:1].best_of(1, steps=cell.steps)
    worst = 1.0 if cell.task.is_classification else WORST_UNEXPLAINED
    return replace(figure, loss=float(outcome.test.nan_to_num(nan=worst).clamp(max=worst).mean()))


def report(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Mean loss, G with its interval, and cells won against the searched structure."""
    means = over_seeds(results)
    found = {}
    for method in (LIVE, SEARCHED, PREDICTED):
        gap = mean_over_sets(means, lambda r, m=method: r.gap_closed(m, live=LIVE))
        found[method] = {
            "loss": statistics.fmean(result.loss(method) for result in means),
            "G": gap.value,
            "low": gap.low,
            "high": gap.high,
            "won": statistics.fmean(r.loss(method) < r.loss(SEARCHED) for r in means),
        }
    return found


def main() -> None:
    """Measure all cells, print the table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--half", choices=["tuning", "table", "all"], default="table")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--kappas", type=float, nargs="+", default=[1.0, 4.0])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pool, model = Pool(options.pool), MetaModel.load(options.model)
    results = []
    for one in data_sets(options.data, half=options.half):
        whole = one.load()
        for seed in options.seeds:
            for cell in cells(whole, seed=seed, kappas=options.kappas):
                results.append(measured(one, cell, pool=pool, model=model))
        print(one.name, flush=True)
    summary = report(results)
    n_cells = len({(result.name, result.kappa) for result in results})
    table = Table(title=f"{n_cells} cells, {len(options.seeds)} splits", width=WIDTH)
    for heading in ("", "mean loss", "G", "95 %", "better than the searched structure"):
        table.add_column(heading, justify="right" if heading else "left")
    for method, row in summary.items():
        interval = f"{row['low']:.2f} … {row['high']:.2f}"
        won = "" if method == SEARCHED else f"{row['won']:.0%}"
        table.add_row(method, f"{row['loss']:.4f}", f"{row['G']:.2f}", interval, won)
    Console(width=WIDTH).print(table)
    out = options.out or Path(__file__).parent / "results" / "structure_alone.json"
    rows = [result.to_json() for result in results]
    write_report(out, {"summary": summary, "seeds": options.seeds, "cells": rows})


if __name__ == "__main__":
    main()
