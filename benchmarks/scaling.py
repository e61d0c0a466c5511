"""Whether the cost of training grows linearly in candidates, rows, steps and hidden neurons.

Each of them is doubled four times while the others stay; a ratio is the CPU time over that before
the doubling, 2.0 if the cost is linear and less while fixed costs still weigh. Times are of one
thread, from building the ``Population`` to the end of ``fit``, medians of rounds in which all
settings take turns. All hidden neurons are live: every one feeds all outputs, and a fifth of the
inputs feed it.

Up to 1,024 rows every step sees all of them, so the cost of a step grows with the rows. Above
that a step sees a batch of 512 whatever the rows, so there the steps grow with the rows, to pass
over all of them equally often: *rows, in batches*.

    python benchmarks/scaling.py [--quick] [--out FILE]
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from measuring import WIDTH, timed, write_report
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from graphpred.architecture import Architecture
from graphpred.population import Population
from graphpred.space import DEFAULT_ACTIVATIONS

N_FEATURES, N_CLASSES, DENSITY = 30, 2, 0.2
BATCH_ROWS = 512
"""Rows that a step of ``Population.fit`` sees when there are more than 1,024."""
DEFAULT_OUT = Path(__file__).parent / "results" / "scaling.json"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained: networks of ``hidden`` neurons, for ``steps`` steps on ``rows`` rows."""

    candidates: int = 64
    rows: int = 256
    steps: int = 100
    hidden: int = 30


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One quantity and its five values, each the double of that before.

    Attributes:
        name: What is doubled.
        values: From small to large.
        setting: The whole setting at a value.
    """

    name: str
    values: tuple[int, ...]
    setting: Callable[[int], Setting]


@dataclass(frozen=True, kw_only=True)
class Result:
    """Times along one axis.

    Attributes:
        axis: What is doubled.
        values: Its values.
        settings: The whole setting at every value.
        seconds: CPU-seconds at every value, medians.
        ms_per_step: The same over the steps, in milliseconds.
        ratios: Time over that before, one fewer than values.
    """

    axis: str
    values: tuple[int, ...]
    settings: list[Setting]
    seconds: list[float]
    ms_per_step: list[float]
    ratios: list[float]


def make_axes(base: Setting, *, passes: int) -> list[Axis]:
    """The quantities to double; ``passes`` over all rows where rows come in batches."""

    def doubled(first: int) -> tuple[int, ...]:
        return tuple(first * 2**i for i in range(5))

    def in_batches(rows: int) -> Setting:
        return replace(base, rows=rows, steps=passes * rows // BATCH_ROWS)

    return [
        Axis(name="candidates", values=doubled(16), setting=lambda b: replace(base, candidates=b)),
        Axis(
            name="rows, all in a step", values=doubled(64), setting=lambda m: replace(base, rows=m)
        ),
        Axis(name="rows, in batches", values=doubled(2048), setting=in_batches),
        Axis(
            name="steps", values=doubled(base.steps // 2), setting=lambda s: replace(base, steps=s)
        ),
        Axis(name="hidden neurons", values=doubled(16), setting=lambda h: replace(base, hidden=h)),
    ]


def prepare(setting: Setting) -> Callable[[], Population]:
    """The training to be timed."""
    generator = torch.Generator().manual_seed(0)
    networks = [
        random_network(setting.hidden, generator=generator) for _ in range(setting.candidates)
    ]
    X = torch.randn(setting.rows, N_FEATURES, generator=generator)
    y = (X[:, 0] * X[:, 1] + X[:, 2] > 0).long()
    return lambda: Population(networks, seed=0).fit(X, y, steps=setting.steps)


def random_network(hidden: int, *, generator: torch.Generator) -> Architecture:
    """One hidden layer whose neurons are all live."""
    first = torch.rand(N_FEATURES, hidden, generator=generator) < DENSITY
    source = torch.randint(N_FEATURES, (hidden,), generator=generator)
    first[source, torch.arange(hidden)] = True  # at least one input each
    choices = torch.randint(len(DEFAULT_ACTIVATIONS), (hidden,), generator=generator)
    names = [DEFAULT_ACTIVATIONS[choice] for choice in choices.tolist()]
    return Architecture.from_masks([first, torch.ones(hidden, N_CLASSES)], hidden=names)


def measure(axis: Axis, *, repeats: int) -> Result:
    """Let the values of an axis take turns."""
    settings = [axis.setting(value) for value in axis.values]
    runs = [prepare(setting) for setting in settings]
    rounds = [[timed(run)[0] for run in runs] for _ in range(repeats)]
    seconds = [statistics.median(times) for times in zip(*rounds, strict=True)]
    return Result(
        axis=axis.name,
        values=axis.values,
        settings=settings,
        seconds=seconds,
        ms_per_step=[1e3 * s / setting.steps for s, setting in zip(seconds, settings, strict=True)],
        ratios=[after / before for before, after in pairwise(seconds)],
    )


def show(results: list[Result], *, console: Console, base: Setting) -> None:
    """Print the table."""
    table = Table(
        title=f"CPU time of training, one thread ({base.candidates} candidates, {base.rows} rows, "
        f"{base.steps} steps, {base.hidden} hidden neurons where not said otherwise)"
    )
    table.add_column("doubled")
    for heading in ("value", "CPU-seconds", "ms per step", "ratio (aim 2.0)"):
        table.add_column(heading, justify="right")
    for r in results:
        ratios = ["", *(f"{ratio:.2f}" for ratio in r.ratios)]
        for i, value in enumerate(r.values):
            table.add_row(
                "" if i else r.axis,
                f"{value:,}",
                f"{r.seconds[i]:.3f}",
                f"{r.ms_per_step[i]:.2f}",
                ratios[i],
            )
        mean = statistics.geometric_mean(r.ratios)
        table.add_row("", "", "", "geometric mean", f"{mean:.2f}", style="bold", end_section=True)
    console.print(table)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the steps, one round")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="JSON file to write")
    arguments = parser.parse_args()
    base, passes, repeats = (
        (Setting(steps=20), 1, 1) if arguments.quick else (Setting(steps=100), 5, 3)
    )
    torch.set_num_threads(1)
    with threadpool_limits(1):
        prepare(Setting(candidates=8, steps=3))()  # load what is loaded once
        results = [measure(axis, repeats=repeats) for axis in make_axes(base, passes=passes)]
    show(results, console=Console(width=WIDTH), base=base)
    setting = {"base": asdict(base), "repeats": repeats, "features": N_FEATURES}
    write_report(arguments.out, {"setting": setting, "results": [asdict(r) for r in results]})


if __name__ == "__main__":
    main()
