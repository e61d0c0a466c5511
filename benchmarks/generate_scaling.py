"""Searches per second of ``graphpred generate`` with one and two workers, by engine.

Three contestants take turns: one process, two processes, and a Dask cluster of two workers on this
machine. *Working* counts from when the workers are ready, and their first tasks, which import what
is needed, are left out; *in all* counts the start and the end of the workers too. The table has
medians of the repeats. All must store the same pairs.

    python benchmarks/generate_scaling.py [--searches N] [--repeats N] [--out FILE]
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from joblib.externals.loky import get_reusable_executor
from rich.console import Console
from rich.table import Table

from graphpred.files import whole_file
from graphpred.pairs.config import GenerateConfig
from graphpred.pairs.generate import generate_pairs
from graphpred.pairs.store import PairStore

DATA = "breast_cancer"
CONTESTANTS = {"joblib, 1": ("joblib", 1), "joblib, 2": ("joblib", 2), "dask, 2": ("dask", 2)}
ASKED = {
    "joblib, 2 to joblib, 1": ("joblib, 2", "joblib, 1", 1.8),
    "dask, 2 to joblib, 2": ("dask, 2", "joblib, 2", 0.9),
}
DEFAULT_OUT = Path(__file__).parent / "results" / "generate_scaling.json"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a contestant.

    Attributes:
        working: Searches per second of ready workers.
        overall: Searches per second, starting and stopping the workers included.
    """

    working: float
    overall: float


def measure(engine: str, *, jobs: int, n_searches: int, out: Path) -> Run:
    """Generate into an empty folder and look at the clock after every shard."""
    config = GenerateConfig(n_searches=n_searches)
    began = time.perf_counter()
    moments = [
        (time.perf_counter(), state.n_done)
        for state in generate_pairs([DATA], out=out, config=config, jobs=jobs, engine=engine)
    ]
    overall = n_searches / (time.perf_counter() - began)
    if engine == "joblib" and jobs > 1:  # else the next run would find its workers started
        get_reusable_executor().shutdown(wait=True)
    # The shards that each worker makes first pay for its imports.
    started, before = moments[jobs]
    ended, after = moments[-jobs] if len(moments) > 3 * jobs else moments[-1]
    return Run(working=(after - before) / (ended - started), overall=overall)


def objectives(folder: Path) -> list[float]:
    """𝔏 of all pairs, to compare contestants."""
    return [pair.objective for pair in PairStore(folder)]


def main() -> int:
    """Run the benchmark; 1 if the contestants disagree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--searches", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="JSON file to write")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    runs: dict[str, list[Run]] = {name: [] for name in CONTESTANTS}
    found = []
    for _ in range(options.repeats):
        for name, (engine, jobs) in CONTESTANTS.items():
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder)
                run = measure(engine, jobs=jobs, n_searches=options.searches, out=out)
                runs[name].append(run)
                found.append(objectives(out))
    report = {
        "machine": {
            "torch": torch.__version__,
            "processor": platform.machine(),
            "cores": os.cpu_count(),
        },
        "setting": {"data": DATA, "searches": options.searches, "repeats": options.repeats},
        "runs": {name: [asdict(run) for run in own] for name, own in runs.items()},
        "ratios": ratios(runs),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(options.out) as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    show(report, console=Console())
    return int(any(own != found[0] for own in found))


def ratios(runs: dict[str, list[Run]]) -> dict[str, dict[str, float]]:
    """What was asked beside what was reached: the median over the repeats, run against run."""
    reached = {}
    for title, (name, other, asked) in ASKED.items():
        pairs = list(zip(runs[name], runs[other], strict=True))
        reached[title] = {
            "asked": asked,
            "working": statistics.median(a.working / b.working for a, b in pairs),
            "overall": statistics.median(a.overall / b.overall for a, b in pairs),
        }
    return reached


def show(report: dict, *, console: Console) -> None:
    """Print both tables."""
    table = Table(title=f"Searches per second, {DATA}, {report['setting']['searches']} searches")
    for heading in ("engine, workers", "working", "in all"):
        table.add_column(heading, justify="right")
    for name, own in report["runs"].items():
        medians = (statistics.median(run[key] for run in own) for key in ("working", "overall"))
        table.add_row(name, *(f"{median:.2f}" for median in medians))
    console.print(table)
    table = Table(title="Ratios")
    for heading in ("throughput of", "asked", "working", "in all"):
        table.add_column(heading, justify="right")
    for title, ratio in report["ratios"].items():
        table.add_row(title, *(f"{ratio[key]:.2f}" for key in ("asked", "working", "overall")))
    console.print(table)


if __name__ == "__main__":
    raise SystemExit(main())
