"""Networks of a free number of edges against what scikit-learn fits by default.

    python benchmarks/density_free.py DATA… [--model FILE] [--half table] [--seeds 3]

DATA are folders of tables with their list, INDEX.tsv, or names of scikit-learn's sets. graphpred
chooses the number of edges on the validation part and then trains on it too; the others are fitted
to both parts at once. Test error, or 1 − R² clipped to [0, 1.5]. How familiar a set looks to the
model stands beside what its prediction loses against boosting.
"""

import argparse
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import WIDTH, timed, write_report
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor

from graphpred.experiments.protocol import data_sets
from graphpred.fitting import FitConfig, fit_predicted
from graphpred.meta.model import MetaModel
from graphpred.objective import default_loss
from graphpred.task import Task

OTHERS: dict[str, dict[str, Callable[[int], Any]]] = {
    "classification": {
        "MLP": lambda seed: MLPClassifier(random_state=seed),
        "boosting": lambda seed: HistGradientBoostingClassifier(random_state=seed),
        "linear": lambda seed: LogisticRegression(max_iter=1000),
    },
    "regression": {
        "MLP": lambda seed: MLPRegressor(random_state=seed),
        "boosting": lambda seed: MultiOutputRegressor(
            HistGradientBoostingRegressor(random_state=seed)
        ),
        "linear": lambda seed: Ridge(),
    },
}
METHODS = ("graphpred", *OTHERS["classification"])


def of_graphpred(task: Task, model: MetaModel, *, seed: int) -> dict[str, float | None]:
    """Its test loss, edges, seconds and familiarity."""
    seconds, fit = timed(
        lambda: fit_predicted(task, model, config=FitConfig(train_on="fit", seed=seed))
    )
    facts = fit.network.facts
    return {
        "loss": min(1.5, facts["losses"]["after"]["test"][default_loss(task.kind)]),
        "n_edges": facts["n_live_edges"],
        "seconds": seconds,
        "familiarity": fit.prediction.familiarity,
    }


def of_other(task: Task, name: str, *, seed: int) -> dict[str, float | None]:
    """Likewise of a model of scikit-learn; only the MLP has edges."""
    X, y = (part.numpy() for part in task.rows("fit"))
    target = y.ravel() if y.ndim == 1 or (name == "MLP" and y.shape[1] == 1) else y
    model = OTHERS[task.kind][name](seed)
    seconds, _ = timed(lambda: model.fit(X, target))
    X_test, y_test = (part.numpy() for part in task.rows("test"))
    n_edges = sum(w.size for w in model.coefs_) if name == "MLP" else None
    return {"loss": _loss(model.predict(X_test), y_test), "n_edges": n_edges, "seconds": seconds}


def _loss(predicted: np.ndarray, y: np.ndarray) -> float:
    if y.ndim == 1:
        return float((predicted != y).mean())
    residual = np.square(predicted.reshape(y.shape) - y).mean(axis=0)
    return float(np.clip((residual / y.var(axis=0)).mean(), 0, 1.5))


def main() -> None:
    """Print a line a set, the means, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--half", choices=["tuning", "table", "all"], default="table")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    model = MetaModel.load(options.model)
    console = Console(width=WIDTH)
    rows: list[dict[str, Any]] = []
    for one in data_sets(options.data, half=options.half):
        whole = one.load()
        for seed in range(options.seeds):
            task = whole.resplit(seed)
            row = {"name": one.name, "kind": task.kind, "seed": seed}
            row["graphpred"] = of_graphpred(task, model, seed=seed)
            row |= {name: of_other(task, name, seed=seed) for name in METHODS[1:]}
            rows.append(row)
        console.print(
            one.name, *(f"{_mean(rows[-options.seeds :], m, 'loss'):.3f}" for m in METHODS)
        )
    summary = _summary(rows)
    console.print(_table(rows))
    console.print(summary)
    out = options.out or Path(__file__).parent / "results" / "density_free.json"
    write_report(out, {"half": options.half, "summary": summary, "rows": rows})


def _mean(rows: list[dict[str, Any]], method: str, figure: str) -> float:
    values = [row[method][figure] for row in rows if row[method].get(figure) is not None]
    return statistics.fmean(values) if values else float("nan")


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Means over sets and splits", width=WIDTH)
    for column in ("", "all", "classification", "regression", "edges", "CPU s"):
        table.add_column(column, justify="left" if not column else "right")
    for method in METHODS:
        kinds = [rows, *([r for r in rows if r["kind"] == kind] for kind in OTHERS)]
        losses = [f"{_mean(own, method, 'loss'):.4f}" for own in kinds]
        n_edges, seconds = _mean(rows, method, "n_edges"), _mean(rows, method, "seconds")
        table.add_row(method, *losses, f"{n_edges:.0f}", f"{seconds:.2f}")
    return table


def _summary(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """Ratios of mean losses, the largest share of the MLP's edges, familiarity against regret."""
    ours = _mean(rows, "graphpred", "loss")
    known = [row for row in rows if row["graphpred"]["familiarity"] is not None]
    regret = [row["graphpred"]["loss"] - row["boosting"]["loss"] for row in known]
    familiarity = [row["graphpred"]["familiarity"] for row in known]
    shares = [row["graphpred"]["n_edges"] / row["MLP"]["n_edges"] for row in rows]
    return {
        "loss over that of the MLP": ours / _mean(rows, "MLP", "loss"),
        "loss over that of boosting": ours / _mean(rows, "boosting", "loss"),
        "median share of the MLP's edges": statistics.median(shares),
        "sets and splits with more than a tenth": sum(share > 0.1 for share in shares),
        "Spearman of familiarity and regret": (
            float(spearmanr(familiarity, regret).statistic) if known else None
        ),
    }


if __name__ == "__main__":
    main()
