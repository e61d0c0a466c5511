"""Time and memory of one prediction: from a task in memory to a network with weights.

    python benchmarks/prediction_cost.py [MNIST.npz] [--model MODEL] [--threads 2]

Without an argument, the wide case has random pixels. Every case runs in a process of its own, so
that its peak memory is known; the time is the median of five, of the wide case that of three.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import WIDTH, write_report
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from graphpred.meta.model import MetaModel
from graphpred.split import Split
from graphpred.task import Task

CASES = {
    "1,000 rows × 100 features": {"rows": 1000, "features": 100, "hidden": 100, "repeats": 5},
    "60,000 rows × 784 features, 300 hidden": {
        "rows": 60000,
        "features": 784,
        "hidden": 300,
        "repeats": 3,
    },
}
N_CLASSES = {100: 5, 784: 10}
DENSITY = 0.05


def task_of(case: dict[str, int], *, images: Path | None) -> Task:
    """The data of a case: noisy classes, or digits."""
    rows, features = case["rows"], case["features"]
    if images is not None and features == 784:
        with np.load(images) as arrays:
            X, y = arrays["X_train"].reshape(-1, 784), arrays["y_train"]
        return _task(X[:rows].astype(np.float32), y[:rows])
    generator = np.random.default_rng(0)
    X = generator.normal(size=(rows, features)).astype(np.float32)
    scores = X[:, : 2 * N_CLASSES[features]] @ generator.normal(
        size=(2 * N_CLASSES[features], N_CLASSES[features])
    )
    return _task(X, scores.argmax(axis=1))


def _task(X: NDArray[np.float32], y: NDArray[Any]) -> Task:
    """All rows to predict from, but one each for the other parts."""
    rows = torch.arange(len(X))
    split = Split(train=rows[:-2], validation=rows[-2:-1], test=rows[-1:])
    return Task.from_arrays(X, y, kind="classification", split=split)


def measure(case: dict[str, int], *, options: argparse.Namespace) -> dict[str, float]:
    """Medians of the seconds for a whole prediction and its parts, and memory, in this process."""
    torch.set_num_threads(options.threads)
    task, model = task_of(case, images=options.images), MetaModel.load(options.model)
    before = _peak_megabytes()
    times = []
    for seed in range(case["repeats"]):
        started = time.perf_counter()
        prediction = model.predict(task, n_hidden=case["hidden"], seed=seed)
        at_price = time.perf_counter() - started
        proposal = prediction.proposal(density=DENSITY)
        times.append((at_price, time.perf_counter() - started))
    return {
        "one pass": statistics.median(first for first, _ in times),
        "at a density": statistics.median(whole for _, whole in times),
        "n_edges": proposal.architecture.n_live_edges,
        "megabytes_before": before,
        "megabytes": _peak_megabytes(),
    }


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run every case in a new process and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="?", type=Path, help="MNIST, with X_train and y_train")
    parser.add_argument("--model", type=Path, help="by default the packaged one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--case", choices=list(CASES), help="this one alone, as JSON")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "prediction_cost.json"
    )
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(CASES[options.case], options=options)))
        return
    results: dict[str, Any] = {}
    for name in CASES:
        command = [sys.executable, __file__, *sys.argv[1:], "--case", name]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        results[name] = json.loads(done.stdout)
    write_report(options.out, {"threads": options.threads, "density": DENSITY, "cases": results})
    table = Table(title=f"One prediction, {options.threads} threads", title_justify="left")
    for column in ("case", "one pass, s", "at a density, s", "peak, MB", "before, MB"):
        table.add_column(column, justify="left" if column == "case" else "right")
    for name, case in results.items():
        seconds = (f"{case['one pass']:.3f}", f"{case['at a density']:.3f}")
        memory = (f"{case['megabytes']:.0f}", f"{case['megabytes_before']:.0f}")
        table.add_row(name, *seconds, *memory)
    Console(width=WIDTH).print(table)


if __name__ == "__main__":
    main()
