"""Predicting for files that do not fit into memory: time, memory, passes and error as rows grow.

Writes Parquet files of 50 columns (44 numbers of which some miss values, 5 nominal, and a target of
two classes that depends on products of features) with 1.25 to 10 million rows, one at a time, into
a temporary folder; the rows of a file are the first ones of the next. In a fresh process each:
``stream_task`` and then ``fit_predicted`` with the packaged model at a density of 0.05.

*Passes*: the bytes that ``stream_task`` read over those of the file (Linux). *Memory*: the largest
resident set of the process, imports and training included. It should be below 2 GiB, passes at
most 2, the time of reading twice as long for twice the rows, and the test error not higher.

    python benchmarks/streaming.py [--quick] [--out FILE]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import torch
from measuring import WIDTH, timed, write_report
from rich.console import Console
from rich.table import Table

from graphpred.fitting import FitConfig, fit_predicted
from graphpred.meta.model import MetaModel
from graphpred.streaming import is_large, stream_task

GROUP_ROWS = 125_000
N_NUMBERS, N_NOMINAL = 44, 5
ROWS = (1_250_000, 2_500_000, 5_000_000, 10_000_000)
QUICK_ROWS = (50_000, 100_000, 200_000, 400_000)
MEMORY_LIMIT = 2 * 2**30
"""Bytes."""
MOST_PASSES = 2.05  # footers are read more often than twice
MOST_RISE = 0.005
"""Of the test error from the smallest to the largest file; its standard error is about 0.002."""
DEFAULT_OUT = Path(__file__).parent / "results" / "streaming.json"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What one file took.

    Attributes:
        rows: Of the file.
        gigabytes: Its size.
        passes: Bytes read over its size; NaN where the system does not say.
        reading: CPU-seconds of ``stream_task``.
        predicting: CPU-seconds of ``fit_predicted``.
        peak: Largest resident set, bytes.
        error: Share of the sampled test rows that the network names wrongly.
        constant: Likewise, of the largest class.
    """

    rows: int
    gigabytes: float
    passes: float
    reading: float
    predicting: float
    peak: int
    error: float
    constant: float


def row_group(number: int, *, n_rows: int) -> pa.Table:
    """Some rows, a function of their number."""
    random = np.random.default_rng(number)
    X = random.normal(size=(N_NUMBERS, n_rows))
    codes = random.integers(0, 3 + np.arange(N_NOMINAL)[:, None], size=(N_NOMINAL, n_rows))
    score = X[0] * X[1] + X[2] + 0.5 * np.abs(X[3]) + (codes[0] == 1) - (codes[4] > 3)
    y = (score + 0.5 * random.normal(size=n_rows) > 0.3).astype(np.int64)
    columns = {f"x{j}": pa.array(values) for j, values in enumerate(X)}
    for j in range(0, N_NUMBERS, 8):
        columns[f"x{j}"] = pa.array(X[j], mask=random.random(n_rows) < 0.05)
    words = pa.array(["red", "green", "blue", "grey", "black", "white", "brown"])
    columns |= {f"c{j}": words.take(pa.array(levels)) for j, levels in enumerate(codes)}
    return pa.table(columns | {"target": y})


def write_file(path: Path, *, n_rows: int) -> None:
    """Write row groups until there are enough rows."""
    with pa_parquet.ParquetWriter(path, row_group(0, n_rows=1).schema) as writer:
        for number, start in enumerate(range(0, n_rows, GROUP_ROWS)):
            rows = row_group(number, n_rows=GROUP_ROWS)
            writer.write_table(rows.slice(0, n_rows - start))


def bytes_read() -> float:
    """By this process so far; NaN where the system does not say."""
    try:
        return float(Path("/proc/self/io").read_text().split()[1])  # rchar
    except OSError:
        return float("nan")


def use(path: Path) -> Usage:
    """Predict for a file in this process."""
    torch.set_num_threads(1)
    model = MetaModel.load()
    before = bytes_read()
    reading, streamed = timed(lambda: stream_task(path))
    n_bytes = bytes_read() - before
    config = FitConfig(density=0.05)
    predicting, fit = timed(
        lambda: fit_predicted(streamed.task, model, config=config, moments=streamed.moments)
    )
    losses = fit.network.facts["losses"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Usage(
        rows=streamed.n_rows,
        gigabytes=path.stat().st_size / 1e9,
        passes=n_bytes / path.stat().st_size,
        reading=reading,
        predicting=predicting,
        peak=peak if sys.platform == "darwin" else peak * 1024,
        error=losses["after"]["test"]["error"],
        constant=losses["constant"]["test"]["error"],
    )


def use_afresh(path: Path) -> Usage:
    """``use`` in a process of its own."""
    command = [sys.executable, __file__, "--one", str(path)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Usage(**json.loads(answer))


def show(lines: list[Usage], *, console: Console) -> None:
    """Print a line a file."""
    table = Table(title="Predicting for a Parquet file of 50 columns")
    for heading in (
        "rows",
        "GB",
        "passes",
        "reading, CPU-s",
        "ratio",
        "predicting",
        "peak, MiB",
        "test error",
        "constant",
    ):
        table.add_column(heading, justify="right")
    for i, used in enumerate(lines):
        table.add_row(
            f"{used.rows:,}",
            f"{used.gigabytes:.2f}",
            f"{used.passes:.2f}",
            f"{used.reading:.1f}",
            f"{used.reading / lines[i - 1].reading:.2f}" if i else "",
            f"{used.predicting:.1f}",
            f"{used.peak / 2**20:,.0f}",
            f"{used.error:.4f}",
            f"{used.constant:.3f}",
        )
    console.print(table)


def complaints(lines: list[Usage], *, is_quick: bool) -> list[str]:
    """What is not as it should be."""
    found = []
    if max(used.passes for used in lines) > MOST_PASSES:
        found.append("The file must be read at most twice.")
    if max(used.peak for used in lines) >= MEMORY_LIMIT:
        found.append(f"The peak must be below {MEMORY_LIMIT / 2**20:,.0f} MiB.")
    if not is_quick and lines[-1].error > lines[0].error + MOST_RISE:
        found.append("The test error must not rise with the rows.")
    return found


def main() -> int:
    """Run the benchmark; 1 if something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="50,000 to 400,000 rows")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="JSON file to write")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)  # a file: the fresh process
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(asdict(use(arguments.one))))
        return 0
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for n_rows in QUICK_ROWS if arguments.quick else ROWS:
            path = Path(folder) / "table.parquet"
            write_file(path, n_rows=n_rows)
            if not arguments.quick and not is_large(path):
                raise SystemExit(f"{path} must be a large file; it is not")
            lines.append(use_afresh(path))
    console = Console(width=WIDTH)
    show(lines, console=console)
    write_report(arguments.out, {"files": [asdict(used) for used in lines]})
    wrong = complaints(lines, is_quick=arguments.quick)
    for sentence in wrong:
        console.print(sentence)
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
