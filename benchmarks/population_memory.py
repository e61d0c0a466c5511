"""Peak memory of ``Population.fit``: on a million rows, and as candidates grow.

Every line of a table is a fresh process; its memory is the largest resident set since its start
(``ru_maxrss``; Linux and macOS), read after importing, after making the data, after drawing the
architectures, after ``fit`` and after ``losses``.

*A million rows* of 100 features: mini-batches, so the peak must be below 2 GiB in all, with 64
networks and with 1,000 at once. The data alone are 0.38 GiB, and are not copied.

*Candidates grow*: networks of 30 hidden neurons on 1,024 rows, all of them in every step. Beyond
the blocks that are alive, memory should grow by what a candidate keeps, its weights and its
``Architecture``, and not by its hidden activations; ``losses`` adds the scores of all rows, c
numbers a row and network.

    python benchmarks/population_memory.py [--quick] [--out FILE]
"""

import argparse
import json
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from measuring import WIDTH, timed, write_report
from rich.console import Console
from rich.table import Table

from graphpred.population import Population
from graphpred.space import SearchSpace

N_CLASSES = 2
LIMIT = 2 * 2**30
"""Bytes; the peak of training on a million rows must be below."""
MIB = 2**20
DEFAULT_OUT = Path(__file__).parent / "results" / "population_memory.json"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What one process trains; ``hidden`` neurons before dead ones are taken out."""

    candidates: int
    rows: int
    features: int
    hidden: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What one process used, bytes; peaks are since its start.

    Attributes:
        data: X and y themselves.
        weights: Of all networks, one float32 an edge and a bias.
        activations: Hidden activations of all live neurons on all rows of one step, had they all
            to be held at once.
        imported: Peak after importing.
        loaded: Peak with the data.
        drawn: Peak with the architectures.
        fitted: Peak after ``fit``.
        evaluated: Peak after ``losses`` on at most 1,024 rows.
        seconds: CPU-seconds of ``fit``.
    """

    data: int
    weights: int
    activations: int
    imported: int
    loaded: int
    drawn: int
    fitted: int
    evaluated: int
    seconds: float


def peak() -> int:
    """Largest resident set of this process so far, bytes."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def use(setting: Setting) -> Usage:
    """Train in this process and read its memory on the way."""
    torch.set_num_threads(1)
    imported = peak()
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(setting.rows, setting.features, generator=generator)
    y = (X[:, 0] * X[:, 1] + X[:, 2] > 0).long()
    loaded = peak()
    space = SearchSpace(widths=(setting.features, setting.hidden, N_CLASSES))
    networks = [space.sample(generator=generator) for _ in range(setting.candidates)]
    drawn = peak()
    population = Population(networks, seed=0)
    seconds, _ = timed(lambda: population.fit(X, y, steps=setting.steps))
    fitted = peak()
    population.losses(X[:1024], y[:1024])
    evaluated = peak()
    live = sum(z.without_dead_neurons()[0].widths[1] for z in networks)
    return Usage(
        data=X.nbytes + y.nbytes,
        weights=sum(w.edge.nbytes + w.bias.nbytes for w in population.weights),
        activations=4 * live * min(1024, setting.rows),
        imported=imported,
        loaded=loaded,
        drawn=drawn,
        fitted=fitted,
        evaluated=evaluated,
        seconds=seconds,
    )


def use_afresh(setting: Setting) -> Usage:
    """``use`` in a process of its own."""
    command = [sys.executable, __file__, "--one", json.dumps(asdict(setting))]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Usage(**json.loads(answer))


def show_rows(lines: list[tuple[Setting, Usage]], *, console: Console) -> None:
    """Print the peaks on many rows."""
    setting = lines[0][0]
    table = Table(title=f"Peak memory, {setting.rows:,} rows x {setting.features} features, MiB")
    for heading in (
        "candidates",
        "steps",
        "imports",
        "data",
        "training",
        "peak",
        "data / peak",
        "limit",
        "CPU-s",
    ):
        table.add_column(heading, justify="right")
    for setting, used in lines:
        table.add_row(
            f"{setting.candidates:,}",
            str(setting.steps),
            *(
                f"{size / MIB:,.0f}"
                for size in (
                    used.imported,
                    used.data,
                    used.fitted - used.imported - used.data,
                    used.fitted,
                )
            ),
            f"{used.data / used.fitted:.0%}",
            f"{LIMIT / MIB:,.0f}",
            f"{used.seconds:.1f}",
        )
    console.print(table)


def show_candidates(lines: list[tuple[Setting, Usage]], *, console: Console) -> None:
    """Print how the peak grows with the candidates."""
    fewest, least = lines[0]
    table = Table(title=f"Peak memory as candidates grow, {fewest.rows:,} rows, MiB")
    for heading in (
        "candidates",
        "drawn",
        "fit",
        "losses",
        "peak",
        "more, KiB",
        "weights, KiB",
        "hidden, KiB",
        "CPU-s",
    ):
        table.add_column(heading, justify="right")
    for setting, used in lines:
        n, more = setting.candidates, setting.candidates - fewest.candidates
        steps = (used.drawn - used.loaded, used.fitted - used.drawn, used.evaluated - used.fitted)
        table.add_row(
            f"{n:,}",
            *(f"{size / MIB:,.1f}" for size in steps),
            f"{used.evaluated / MIB:,.0f}",
            f"{(used.fitted - least.fitted) / more / 1024:.1f}" if more else "",
            *(f"{size / n / 1024:.1f}" for size in (used.weights, used.activations)),
            f"{used.seconds:.1f}",
        )
    console.print(table)
    console.print(
        "Drawn, fit and losses: what drawing the architectures and each call added to the peak. "
        f"More: peak up to the end of fit beyond that of {fewest.candidates} candidates, over the "
        "further candidates. Weights, hidden: what weights and hidden activations of one candidate "
        "take."
    )


def main() -> int:
    """Run the benchmark; 1 if the peak on a million rows is too high."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps, up to 1,024 candidates")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="JSON file to write")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a setting: the fresh process
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(asdict(use(Setting(**json.loads(arguments.one))))))
        return 0
    table = {"rows": 1_000_000, "features": 100, "hidden": 100}
    small = {"rows": 1024, "features": 30, "hidden": 30}
    divisor = 10 if arguments.quick else 1
    many_rows = [
        Setting(candidates=64, steps=300 // divisor, **table),
        Setting(candidates=1000, steps=100 // divisor, **table),
    ]
    counts = (64, 256, 1024) if arguments.quick else (64, 256, 1024, 4096)
    many_candidates = [Setting(candidates=b, steps=20, **small) for b in counts]
    rows = [(setting, use_afresh(setting)) for setting in many_rows]
    candidates = [(setting, use_afresh(setting)) for setting in many_candidates]
    console = Console(width=WIDTH)
    show_rows(rows, console=console)
    show_candidates(candidates, console=console)
    report = {
        name: [{"setting": asdict(setting), "bytes": asdict(used)} for setting, used in lines]
        for name, lines in (("many_rows", rows), ("many_candidates", candidates))
    }
    write_report(arguments.out, report)
    too_much = any(used.fitted >= LIMIT for _, used in rows)
    if too_much:
        console.print(f"The peak must be below {LIMIT / MIB:,.0f} MiB.")
    return int(too_much)


if __name__ == "__main__":
    raise SystemExit(main())
