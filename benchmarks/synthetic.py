"""What drawing a synthetic data set costs beside training the meta-model on it.

CPU milliseconds per data set on one thread: drawn alone (``draw_task``), drawn sixteen at a time
(``draw_tasks``), and what a training step does with one: its statistics, forward and backward pass
and its share of the optimiser's step, in batches of sixteen. The last column is the second over
the third. The first row draws shapes as the prior does; the others fix them..

    python benchmarks/synthetic.py [--quick] [--out FILE]
"""

import argparse
import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from graphpred.files import whole_file
from graphpred.meta.examples import PriorExamples
from graphpred.meta.model import MetaModel
from graphpred.meta.training import TrainConfig, Trainer
from graphpred.seeds import generator_for
from graphpred.synthetic import PRIOR_VERSION, PriorConfig, draw_task, draw_tasks

BATCH = 16
SHAPES = ((100, 5, 2), (500, 20, 3), (1000, 20, 10), (1000, 100, 10), (1000, 100, 50))
DEFAULT_OUT = Path(__file__).parent / "results" / "synthetic.json"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One row of the table; times are CPU milliseconds per data set.

    Attributes:
        shape: Training rows, features and classes; None for those of the prior.
        alone: Drawn one at a time.
        together: Drawn sixteen at a time.
        step: What training does with it, without drawing it.
        share: ``together / step``.
    """

    shape: tuple[int, int, int] | None
    alone: float
    together: float
    step: float
    share: float


def config_of(shape: tuple[int, int, int] | None) -> PriorConfig:
    """The prior of one shape."""
    if shape is None:
        return PriorConfig()
    m, n, c = shape
    return PriorConfig(
        train_rows=(m, m), features=(n, n), classes=(c, c), outputs=(c, c), regression_share=0.25
    )


def milliseconds(run: Callable[[int], object], *, repeats: int, per: int) -> float:
    """Mean CPU time of a run, whose number it is given, over ``per`` data sets."""
    times = []
    for repeat in range(repeats):
        started = time.process_time()
        run(repeat)
        times.append(1000 * (time.process_time() - started) / per)
    return statistics.mean(times)


def step_milliseconds(config: PriorConfig, *, steps: int) -> float:
    """CPU time of a training step per data set: describing it and learning from it."""
    model = MetaModel()
    describing = 0.0

    def describe(task: object) -> object:
        nonlocal describing
        started = time.process_time()
        description = model.describe(task)
        describing += time.process_time() - started
        return description

    source, generator = PriorExamples(describe, config=config), generator_for(0, "examples")
    examples = source.draw(BATCH * steps, generator)
    supply = itertools.cycle(examples)
    trainer = Trainer(
        model,
        draw=lambda k, _: list(itertools.islice(supply, k)),
        config=TrainConfig(steps=2 * steps, batch=BATCH),
    )
    reports = trainer.run()
    for _ in range(steps):  # the first pass over the examples warms up
        next(reports)
    learning = milliseconds(lambda _: next(reports), repeats=steps, per=BATCH)
    return 1000 * describing / len(examples) + learning


def measure(shape: tuple[int, int, int] | None, *, repeats: int) -> Result:
    """Time one row of the table."""
    config = config_of(shape)
    draw_tasks(BATCH, generator=generator_for(0, "warm"), config=config)
    together = milliseconds(
        lambda i: draw_tasks(BATCH, generator=generator_for(0, i), config=config),
        repeats=4 * repeats,
        per=BATCH,
    )
    alone = milliseconds(
        lambda i: draw_task(generator=generator_for(0, i), config=config),
        repeats=8 * repeats,
        per=1,
    )
    step = step_milliseconds(config, steps=repeats)
    return Result(shape=shape, alone=alone, together=together, step=step, share=together / step)


def show(results: list[Result], *, console: Console) -> None:
    """Print the table."""
    table = Table(title="CPU milliseconds per data set, one thread")
    for heading in ("rows", "features", "classes", "draw alone", "of sixteen", "step", "share"):
        table.add_column(heading, justify="right")
    for r in results:
        shape = map(str, r.shape) if r.shape else ("prior", "prior", "prior")
        times = (f"{ms:.2f}" for ms in (r.alone, r.together, r.step))
        table.add_row(*shape, *times, f"{100 * r.share:.1f} %")
    console.print(table)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repeats")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="JSON file to write")
    arguments = parser.parse_args()
    repeats = 3 if arguments.quick else 12
    torch.set_num_threads(1)
    console = Console()
    results = [measure(None, repeats=4 * repeats)]
    results += [measure(shape, repeats=repeats) for shape in SHAPES]
    show(results, console=console)
    report = {
        "setting": {"repeats": repeats, "batch": BATCH, "prior": PRIOR_VERSION},
        "machine": {"torch": torch.__version__, "processor": platform.machine()},
        "results": [asdict(result) for result in results],
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(arguments.out) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
