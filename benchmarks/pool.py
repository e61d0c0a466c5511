"""Trains the rivals of a prediction once and keeps what they reached.

    python benchmarks/pool.py DATA… --out POOL [--candidates 1000] [--jobs 2]

DATA are folders of tables with their list, INDEX.tsv, or names of scikit-learn's sets. The pool can
be stopped at any time and goes on with what is missing; several processes may fill it.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from joblib import Parallel, delayed, parallel_config

from graphpred.experiments.pool import Pool
from graphpred.experiments.protocol import KAPPAS, Cell, DataSet, cells, data_sets
from graphpred.experiments.rivals import RIVALS

SECONDS_BETWEEN_LINES = 60


def fill(data_set: DataSet, *, seed: int, options: argparse.Namespace) -> None:
    """Compute what is missing for all cells of one data set and seed."""
    torch.set_num_threads(1)
    pool = Pool(options.out)
    task = data_set.load()
    for cell in cells(task, seed=seed, kappas=options.kappas, steps=options.steps):
        for method in options.methods:
            _fill_cell(pool, method, cell, n_candidates=options.candidates)


def _fill_cell(pool: Pool, method: str, cell: Cell, *, n_candidates: int) -> None:
    for chunk in pool.chunks(method, cell, n_candidates=n_candidates):
        if not chunk.path.exists():
            pool.compute(method, cell, chunk=chunk)


def with_progress(done: Iterator[object], *, total: int) -> Iterator[object]:
    """A line a minute with an estimate of the time left."""
    started = last = time.monotonic()
    for n_done, item in enumerate(done, start=1):
        now = time.monotonic()
        if now - last > SECONDS_BETWEEN_LINES or n_done == total:
            left = (now - started) / n_done * (total - n_done)
            print(f"{n_done} of {total}, {_clock(now - started)}, {_clock(left)} left", flush=True)
            last = now
        yield item


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def main() -> None:
    """Fill the pool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pool")
    parser.add_argument("--candidates", type=int, default=1000, help="live random ones a cell")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kappas", type=float, nargs="+", default=list(KAPPAS))
    parser.add_argument("--steps", type=int, nargs="+", default=[300])
    parser.add_argument("--half", choices=["tuning", "table", "all"], default="table")
    parser.add_argument("--methods", nargs="+", choices=list(RIVALS), default=list(RIVALS))
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    jobs = [(one, seed) for seed in range(options.seeds)
            for one in data_sets(options.data, half=options.half)]  # fmt: skip
    with parallel_config("loky", n_jobs=options.jobs, inner_max_num_threads=1):
        done = Parallel(return_as="generator_unordered")(
            delayed(fill)(one, seed=seed, options=options) for one, seed in jobs
        )
        for _ in with_progress(done, total=len(jobs)):
            pass


if __name__ == "__main__":
    main()
