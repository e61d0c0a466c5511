"""Synthetic sets of known structure: do predicted probabilities tell which feature leads where?

    python benchmarks/recovery.py [--sets 20] [--rows 1000] [--noise 0.1]

Networks with one hidden layer are drawn, data from them, and half as many features beside them that
lead nowhere. The packaged model predicts a network of at most as many edges as the true one has.
Average precision of the paths from features to outputs, calibration error of every set and of the
paths of all sets together, and precision and recall of the predicted network's paths.
"""

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import WIDTH, write_report
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from graphpred.errors import InputError
from graphpred.meta.model import MetaModel
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace
from graphpred.synthetic import draw_known, path_scores, recovery
from graphpred.synthetic.recovery import calibration_error, path_probabilities, reachable

SPACES = {
    "8 features, 2 classes": ((8, 6, 2), "classification", 0.3),
    "16 features, 2 classes": ((16, 8, 2), "classification", 0.15),
    "16 features, 5 classes": ((16, 8, 5), "classification", 0.2),
    "8 features, a quantity": ((8, 5, 1), "regression", 0.35),
    "16 features, a quantity": ((16, 8, 1), "regression", 0.2),
}
ACTIVATIONS = ("relu", "tanh", "sin", "gaussian")
FIGURES = ("average precision", "calibration error", "precision", "recall", "true share")
TOGETHER = "calibration error, all sets together"


@dataclass(frozen=True)
class Scored:
    """One set: its figures, and the probability and truth of every path."""

    figures: list[float]
    likely: NDArray[np.float64]
    true: NDArray[np.bool_]


def scores(
    model: MetaModel, name: str, *, number: int, options: argparse.Namespace
) -> Scored | None:
    """What is found in one set; None if no fit network is found for it."""
    widths, kind, density = SPACES[name]
    space = SearchSpace(widths=widths, activations=ACTIVATIONS, density=density)
    try:
        known = draw_known(
            space,
            generator=generator_for(number, "recovery", name),
            n_rows=options.rows,
            noise=options.noise,
            kind=kind,
            n_irrelevant=widths[0] // 2,
        )
    except InputError:
        return None
    true = known.architecture
    fitted = model.predict(known.task).fitted(true.n_edges)
    found = fitted.chosen(true.n_edges).architecture
    told, paths = path_scores(true, fitted.probabilities), recovery(true, found).paths
    figures = (told.average_precision, told.calibration_error, paths.precision, paths.recall)
    return Scored(
        [*figures, told.share],
        path_probabilities(fitted.probabilities).numpy().ravel(),
        reachable(true).numpy().ravel(),
    )


def together(sets: Sequence[Scored]) -> float:
    """Calibration error of the paths of all sets."""
    return calibration_error(
        np.concatenate([one.likely for one in sets]), np.concatenate([one.true for one in sets])
    )


def main() -> None:
    """Draw the sets, predict, print the table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=20)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = MetaModel.load(options.model)
    table = Table(title=f"Known structure, {options.sets} sets each", width=WIDTH)
    table.add_column("true networks")
    for figure in (*FIGURES, TOGETHER):
        table.add_column(figure, justify="right")
    report: dict[str, Any] = {}
    every: list[Scored] = []
    for name in SPACES:
        drawn = [scores(model, name, number=i, options=options) for i in range(options.sets)]
        sets = [one for one in drawn if one is not None]
        every += sets
        columns = zip(*(one.figures for one in sets), strict=True)
        figures = dict(zip(FIGURES, map(statistics.fmean, columns), strict=True))
        figures[TOGETHER] = together(sets)
        report[name] = {"sets": len(sets)} | figures
        table.add_row(name, *(f"{figure:.3f}" for figure in figures.values()))
    report["all"] = {"sets": len(every), TOGETHER: together(every)}
    table.add_row("all", *[""] * len(FIGURES), f"{report['all'][TOGETHER]:.3f}")
    Console(width=WIDTH).print(table)
    out = options.out or Path(__file__).parent / "results" / "recovery.json"
    write_report(out, {"rows": options.rows, "noise": options.noise, "spaces": report})


if __name__ == "__main__":
    main()
