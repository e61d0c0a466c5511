"""Models and numbers of rounds beside each other on the tuning half: what should be packaged?

    python benchmarks/models.py FOLDER [--models FILE…] [--rounds 5 15] [--seeds 0 1]

Every model, by default the packaged one, predicts for every cell with every number of rounds of
refinement, by default its own. The first of all is what the others are compared with: mean
logarithm of the ratio of their losses, 0.01 added, and its standard error over cells. Fresh weights
are trained from three starts for 300 steps. What is done is kept, so a stopped command goes on;
after a change of the code begin with another file.
"""

import argparse
import hashlib
import itertools
import json
import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measuring import WIDTH, write_report
from rich.console import Console
from rich.table import Table

from graphpred.experiments.predicted import predict, trained, trained_afresh
from graphpred.experiments.protocol import DataSet, cells, data_sets
from graphpred.experiments.rivals import rate_of
from graphpred.meta.model import MetaModel, packaged_model

KAPPAS, STEPS, N_STARTS = [1.0, 4.0], 300, 3
WORST, LEAST = 1.0, 0.01  # of a loss; added to it before its logarithm is taken
MEASURES = ("no step", "fresh")


def measured(model: MetaModel, data_set: DataSet, *, seed: int) -> list[dict[str, float]]:
    """Test losses without a step, and the mean of fresh weights, in the cells of one set."""
    found = []
    for cell in cells(data_set.load(), seed=seed, kappas=KAPPAS, steps=[STEPS]):
        proposal = predict(model, cell, task=cell.task)
        start = trained(replace(cell, steps=0), [proposal], rate=0.0)
        fresh = trained_afresh(cell, [proposal] * N_STARTS, rate=rate_of("fresh", STEPS))
        losses = (start.test, fresh.test)
        found.append(
            {
                name: float(loss.clamp(max=WORST).mean())
                for name, loss in zip(MEASURES, losses, strict=True)
            }
        )
    return found


def compared(own: list[dict[str, float]], first: list[dict[str, float]]) -> list[str]:
    """Means, and log ratios to the first with their standard errors."""
    figures = []
    for name in MEASURES:
        pairs = [(one[name], other[name]) for one, other in zip(own, first, strict=True)]
        ratios = [math.log((a + LEAST) / (b + LEAST)) for a, b in pairs]
        error = statistics.stdev(ratios) / math.sqrt(len(ratios)) if len(ratios) > 1 else math.nan
        figures.append(f"{statistics.fmean(a for a, _ in pairs):.4f}")
        figures.append("" if own is first else f"{statistics.fmean(ratios):+.3f} ± {error:.3f}")
    return figures


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--models", type=Path, nargs="+", default=[None])
    parser.add_argument("--rounds", type=int, nargs="+", default=[None])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--half", choices=["tuning", "table", "all"], default="tuning")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "models.json"
    )
    return parser.parse_args()


def main() -> None:
    """Measure what is missing, keep it, and print the table."""
    options = _options()
    torch.set_num_threads(1)
    sets = list(data_sets(options.data, half=options.half))
    done: dict[str, Any] = {}
    if options.out.exists():
        done = json.loads(options.out.read_text(encoding="utf-8"))["sets"]
    table = Table(title=f"{len(sets)} sets, splits {options.seeds}", width=WIDTH)
    for heading in ("model", "no step", "log ratio", "fresh", "log ratio"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    first: list[dict[str, float]] | None = None
    for path, n_rounds in itertools.product(options.models, options.rounds):
        file = path or packaged_model()
        model, digest = MetaModel.load(file), hashlib.sha256(file.read_bytes()).hexdigest()[:8]
        refiner = model.decoder.refiner
        refiner.n_rounds = n_rounds or refiner.n_rounds
        name = f"{path.name if path else 'packaged'}, {refiner.n_rounds} round(s)"
        own: list[dict[str, float]] = []
        for data_set, seed in itertools.product(sets, options.seeds):
            key = f"{name}, {digest}, {data_set.name}, split {seed}"
            if key not in done:
                done[key] = measured(model, data_set, seed=seed)
                write_report(options.out, {"sets": done})
            own += done[key]
        first = first or own
        table.add_row(name, *compared(own, first))
    Console(width=WIDTH).print(table)


if __name__ == "__main__":
    main()
