"""The pictures of ``prediction.py``; from its JSON, too.

    python benchmarks/prediction_plots.py [benchmarks/results/prediction.json]

They are written beside it: mean loss by budget, and by how many candidates were trained.
"""

import argparse
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graphpred.experiments.contest import SIZES, best_of
from graphpred.experiments.curves import Curve, curves_svg
from graphpred.experiments.outcome import Figure
from graphpred.experiments.predicted import FRESH, N_CANDIDATES, NO_STEP, PREDICTED
from graphpred.experiments.scoring import Result, over_seeds

BEST = best_of(PREDICTED, N_CANDIDATES)
BY_BUDGET = (
    NO_STEP,
    FRESH,
    BEST,
    *(best_of("live", size) for size in SIZES[-2:]),
    "pruning",
    "snip",
    "l1",
    "dense",
    "linear",
    "boosting",
)


def write_plots(results: Sequence[Result], *, beside: Path) -> list[Path]:
    """Write the pictures of the first number of steps; those that there is something for.

    Args:
        results: Of all cells and seeds.
        beside: The JSON file; a picture has its name and one word more.
    """
    own = over_seeds([result for result in results if result.steps == results[0].steps])
    pictures = {
        "budget": (by_budget(own), "κ, edges allowed for every feature and output"),
        "candidates": (by_candidates(own), "candidates, the best of which is kept"),
    }
    written = []
    for name, (curves, x_name) in pictures.items():
        if curves:
            path = beside.with_name(f"{beside.stem}-{name}.svg")
            picture = curves_svg(curves, x_name=x_name, y_name="mean error or 1 − R²")
            path.write_text(picture, encoding="utf-8")
            written.append(path)
    return written


def by_budget(results: Sequence[Result]) -> dict[str, Curve]:
    """Mean loss along κ, of the data sets that have a cell at every κ."""
    kappas = sorted({result.kappa for result in results})
    at: dict[str, dict[float, Result]] = defaultdict(dict)
    for result in results:
        at[result.name][result.kappa] = result
    whole = [cells for cells in at.values() if len(cells) == len(kappas)]
    if not whole:
        return {}
    return {
        method: [(k, statistics.fmean(cells[k].loss(method) for cells in whole)) for k in kappas]
        for method in BY_BUDGET
        if all(method in result.figures for cells in whole for result in cells.values())
    }


def by_candidates(results: Sequence[Result]) -> dict[str, Curve]:
    """Mean loss along the number of trained candidates, over all cells."""
    series = {
        "live random": [(size, best_of("live", size)) for size in SIZES],
        "predicted": [(1, PREDICTED), (N_CANDIDATES, BEST)],
    }
    curves: dict[str, Curve] = {}
    for name, members in series.items():
        known = [(k, m) for k, m in members if all(m in result.figures for result in results)]
        points = [(float(k), statistics.fmean(r.loss(m) for r in results)) for k, m in known]
        if points:
            curves[name] = points
    return curves


def read_results(path: Path) -> list[Result]:
    """Results of all cells in a report of ``prediction.py``."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [Result(**cell | {"figures": _figures(cell["figures"])}) for cell in cells]


def _figures(figures: dict[str, dict[str, Any]]) -> dict[str, Figure]:
    """Of every method; what JSON cannot say is not a number."""
    found = {}
    for method, values in figures.items():
        known: dict[str, Any] = {k: math.nan if v is None else v for k, v in values.items()}
        found[method] = Figure(**known)
    return found


def main() -> None:
    """Draw what a report says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).parent / "results" / "prediction.json"
    parser.add_argument("report", type=Path, nargs="?", default=default)
    report = parser.parse_args().report
    for path in write_plots(read_results(report), beside=report):
        print(path)


if __name__ == "__main__":
    main()
