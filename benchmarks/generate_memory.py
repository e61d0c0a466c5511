"""Peak memory of ``graphpred generate`` on a table of 100,000 rows and 64 columns (Linux).

The figure is the largest sum over the command and its workers of the memory each holds, a page
that several share being divided among them (Pss).

    python benchmarks/generate_memory.py
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from rich.console import Console
from rich.table import Table


def main() -> None:
    """Write the table, run the command, print and write the peak."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/generate_memory.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "table.csv"
        _write_table(data, rows=options.rows, columns=options.columns)
        command = [sys.executable, "-m", "graphpred.cli", "generate", str(data)]
        command += ["--pairs", "12", "--jobs", str(options.jobs), "--out", f"{folder}/pairs"]
        started = time.monotonic()
        peak = _peak_memory(command)
        seconds = time.monotonic() - started
    result = {**vars(options), "out": str(options.out), "peak_gb": peak / 2**30, "seconds": seconds}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    table = Table(title="Peak memory of graphpred generate")
    for column in ("rows", "columns", "jobs", "peak, GiB", "seconds"):
        table.add_column(column, justify="right")
    sizes = (f"{options.rows:,}", str(options.columns), str(options.jobs))
    table.add_row(*sizes, f"{result['peak_gb']:.2f}", f"{seconds:.0f}")
    Console().print(table)


def _write_table(path: Path, *, rows: int, columns: int) -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(rows, columns))
    y = (X[:, 0] * X[:, 1] + X[:, 2] > 0).astype(np.int64)
    data = {f"x{j}": X[:, j] for j in range(columns)} | {"target": y}
    pa_csv.write_csv(pa.table(data), path)


def _peak_memory(command: list[str]) -> int:
    """Bytes."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(_held(pid) for pid in _tree(process.pid)))
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"the command failed with exit code {process.returncode}")
    return peak


def _tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    found = [root]
    for pid in found:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found += map(int, children.read_text().split())
            except OSError:
                continue
    return found


def _held(pid: int) -> int:
    """Proportional set size in bytes; 0 for a process that has gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


if __name__ == "__main__":
    main()
