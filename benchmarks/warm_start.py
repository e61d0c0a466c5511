"""How many steps predicted weights save: when do they reach what fresh weights end at?

    python benchmarks/warm_start.py DATA… [--model FILE] [--half table] [--rate 0.003]

For every cell the predicted structure is trained for 300 steps from fresh weights, and for fewer
from the predicted ones, each time with a schedule of its own. Compared are the loss that training
lowers, cross-entropy or squared error, on the training part, and the error or 1 − R² on the test
part. Predicted weights are held back by a prior, fresh ones by nothing; to lower the training loss
they need larger steps than are good for the test loss.
"""

import argparse
import itertools
import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measuring import WIDTH, write_report
from rich.console import Console
from rich.table import Table

from graphpred.experiments.predicted import predict
from graphpred.experiments.protocol import Cell, cells, data_sets
from graphpred.experiments.rivals import rate_of
from graphpred.meta.model import MetaModel
from graphpred.objective import default_loss
from graphpred.population import TUNING_RATE, Population

STEPS = (0, 10, 30, 60, 150, 300)
TRAINED = {"classification": "log_loss", "regression": "mse"}


def measured(model: MetaModel, cell: Cell, *, rate: float) -> dict[str, Any]:
    """The steps that one cell needs by either loss from predicted weights; ∞: 300 are too few."""
    proposal = predict(model, cell, task=cell.task)
    fresh = Population([proposal.architecture], seed=[cell.own_seed("fresh", 0)])
    goals = _losses(fresh, cell, rate=rate_of("fresh", cell.steps))
    needed = dict.fromkeys(goals, math.inf)
    found = {}
    for steps in STEPS:
        warm = Population([proposal.architecture], start=[proposal.start])
        found[steps] = _losses(warm, replace(cell, steps=steps), rate=rate)
        for part, reached in found[steps].items():
            if reached <= goals[part]:
                needed[part] = min(needed[part], steps)
    return {
        "name": cell.task.name,
        "kind": cell.task.kind,
        "kappa": cell.kappa,
        "steps": needed,
        "fresh": goals,
        "predicted": found,
    }


def _losses(population: Population, cell: Cell, *, rate: float) -> dict[str, float]:
    """Losses on the training and the test part after the cell's steps."""
    task = cell.task
    population.fit(*task.rows("train"), steps=cell.steps, learning_rate=rate, batch_seed=cell.seed)
    trained = float(population.losses(*task.rows("train"), loss=TRAINED[task.kind])[0])
    test = float(population.losses(*task.rows("test"), loss=default_loss(task.kind))[0])
    return {"train": trained, "test": min(test, 1.5)}


def main() -> None:
    """Print the table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--half", choices=["tuning", "table", "all"], default="table")
    parser.add_argument("--kappas", type=float, nargs="+", default=[1.0, 4.0])
    parser.add_argument("--rate", type=float, default=TUNING_RATE)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = MetaModel.load(options.model)
    rows = [
        measured(model, cell, rate=options.rate)
        for one in data_sets(options.data, half=options.half)
        for cell in cells(one.load(), seed=0, kappas=options.kappas)
    ]
    table = Table(title="Steps from predicted weights to what fresh ones end at", width=WIDTH)
    for column in ("cells", "number", *(f"≤ {steps}" for steps in STEPS), "median"):
        table.add_column(column, justify="right" if column != "cells" else "left")
    for part, kind in itertools.product(("train", "test"), ("all", *TRAINED)):
        own = [row["steps"][part] for row in rows if kind in ("all", row["kind"])]
        if own:
            shares = [statistics.fmean(needed <= steps for needed in own) for steps in STEPS]
            median = f"{statistics.median(own):g}"
            table.add_row(f"{part}, {kind}", f"{len(own)}", *(f"{s:.0%}" for s in shares), median)
    Console(width=WIDTH).print(table)
    out = options.out or Path(__file__).parent / "results" / "warm_start.json"
    write_report(out, {"half": options.half, "rate": options.rate, "rows": rows})


if __name__ == "__main__":
    main()
