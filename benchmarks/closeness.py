"""F(Z_opt, Z) of the random searchers on tiny spaces, where Z_opt is known.

python benchmarks/closeness.py
"""

import argparse
import json
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from graphpred.experiments.tiny_spaces import searcher_closeness
from graphpred.objective import Objective
from graphpred.space import SearchSpace
from graphpred.task import Task


def main() -> None:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/closeness.json"))
    options = parser.parse_args()
    table = Table(title="Closeness to the true optimum (means of five seeds)")
    for column in ("task", "searcher", "evaluations", "F", "quality gap", "K"):
        table.add_column(column, justify="left" if column in ("task", "searcher") else "right")
    results = []
    for name, task in (("xor", _xor()), ("line", _line())):
        space = SearchSpace(widths=(2, 3, 2), activations=("tanh", "abs"), density=0.5)
        for row in searcher_closeness(task, space, objective=Objective(penalty=0.005)):
            results.append({"task": name, **vars(row)})
            figures = (f"{row.closeness:.3f}", f"{row.quality_gap:.3f}", f"{row.n_edges:.1f}")
            table.add_row(name, row.searcher, str(row.evaluations), *figures)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    Console(width=100).print(table)


def _points() -> torch.Tensor:
    return torch.randn(300, 2, generator=torch.Generator().manual_seed(0))


def _xor() -> Task:
    X = _points()
    return _task(X, (X[:, 0] * X[:, 1] > 0).long())


def _line() -> Task:
    X = _points()
    return _task(X, (X[:, 0] + X[:, 1] > 0).long())


def _task(X: torch.Tensor, y: torch.Tensor) -> Task:
    return Task.from_arrays(X, y, generator=torch.Generator().manual_seed(1))


if __name__ == "__main__":
    main()
