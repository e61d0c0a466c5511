"""What successive halving saves, and what it loses, against training every candidate to the end.

A hundred live random architectures of five densities are trained on a subsample of every data set,
once in full and once with ``Halving``; both from the same weights, both choosing by validation 𝔏
among those trained to the end. *Saving* is the ratio of network-steps; *regret*, the best 𝔏 with
halving minus the best 𝔏 in full. One row a price: hopeless is what is hopeless at that price. In
the last row all prices are kept in view at once, as a search for pairs needs it.

The rungs were chosen on the first two thirds of the data sets, each third taken in steps of three;
the figures of the last third, marked *unseen*, had no say.

    python benchmarks/halving.py FOLDER [--quick] [--steps 100 …] [--out FILE]

FOLDER holds tables as ``name.csv.gz`` and their list, ``INDEX.tsv``.
"""

import argparse
import csv
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from measuring import WIDTH, timed, write_report
from rich.console import Console
from rich.table import Table
from torch import Tensor

from graphpred.architecture import Architecture
from graphpred.objective import Objective, default_loss
from graphpred.population import Halving, Population
from graphpred.searchers import SEARCHERS, Ledger, Setting
from graphpred.seeds import generator_for
from graphpred.space import DEFAULT_ACTIVATIONS, SearchSpace
from graphpred.task import Task

N_CANDIDATES, N_ROWS = 100, 600
DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.4)
PRICES = (0.01, 0.1, 1.0)
SAVING_ASKED, REGRET_ASKED = 3.0, 0.002
DEFAULT_OUT = Path(__file__).parent / "results" / "halving.json"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One data set at one price, or at all of them.

    Attributes:
        name: Of the data set.
        unseen: Whether it had no say in the choice of rungs.
        steps: Of a candidate that is trained to the end.
        price: λ; None for all prices at once.
        saving: Network-steps in full over those with halving.
        speed: CPU time in full over that with halving.
        regret: Mean over the prices.
    """

    name: str
    unseen: bool
    steps: int
    price: float | None
    saving: float
    speed: float
    regret: float


def draw(task: Task, *, seed: int) -> list[Architecture]:
    """A hundred live random architectures of the densities in turn."""
    widths = (task.n_features, task.n_features, task.n_outputs)
    space = SearchSpace(widths=widths, activations=DEFAULT_ACTIVATIONS)
    setting = Setting(
        task=task,
        space=space,
        objective=Objective(loss=default_loss(task.kind)),
        densities=DENSITIES,
        steps=100,
        generator=generator_for(seed, task.name),
        seed=seed,
        ledger=Ledger(evaluations=N_CANDIDATES),
    )
    searcher = SEARCHERS["random_live"](setting)
    return [proposal.architecture for proposal in searcher.ask(N_CANDIDATES)]


def compare(task: Task, *, steps: int, unseen: bool) -> Iterator[Case]:
    """Train in full, and with halving for every price and for all of them."""
    networks, loss = draw(task, seed=1), default_loss(task.kind)
    n_edges = torch.tensor([z.n_live_edges for z in networks], dtype=torch.float64)
    costs = torch.tensor(PRICES, dtype=torch.float64)[:, None] / networks[0].n_possible_edges
    costs = costs * n_edges  # (P, B)
    X, y = task.rows("validation")

    def train(promote: Halving | None) -> tuple[float, Population, Tensor]:
        def fit() -> Population:
            population = Population(networks, seed=3)
            return population.fit(*task.rows("train"), steps=steps, promote=promote)

        seconds, population = timed(fit)
        losses = population.losses(X, y, loss=loss)
        losses[population.steps_taken < steps] = torch.inf
        return seconds, population, (losses + costs).min(dim=1).values  # (P,)

    full_seconds, full, best = train(None)
    for price, rows in [*((p, [i]) for i, p in enumerate(PRICES)), (None, [0, 1, 2])]:
        seconds, halved, reached = train(Halving(X=X, y=y, loss=loss, costs=costs[rows]))
        yield Case(
            name=task.name,
            unseen=unseen,
            steps=steps,
            price=price,
            saving=float(full.steps_taken.sum() / halved.steps_taken.sum()),
            speed=full_seconds / seconds,
            regret=float((reached - best)[rows].mean()),
        )


def show(cases: list[Case], *, console: Console) -> None:
    """Print a row for every number of steps and price."""
    n_sets = len({case.name for case in cases})
    title = f"Halving against full training, {N_CANDIDATES} candidates, {n_sets} data sets"
    table = Table(title=title, width=WIDTH)
    for heading in ("steps", "price", "asked", "saving", "CPU", "asked ", "regret", "unseen sets",
                    "no regret", "worst"):  # fmt: skip
        table.add_column(heading, justify="right")
    for steps, price in dict.fromkeys((case.steps, case.price) for case in cases):
        group = [case for case in cases if (case.steps, case.price) == (steps, price)]
        regrets = [case.regret for case in group]
        unseen = [case.regret for case in group if case.unseen]
        table.add_row(
            str(steps),
            "all" if price is None else f"{price:g}",
            f"≥ {SAVING_ASKED:g}×",
            f"{statistics.mean(case.saving for case in group):.2f}×",
            f"{statistics.median(case.speed for case in group):.2f}×",
            f"≤ {REGRET_ASKED:g}",
            f"{statistics.mean(regrets):.4f}",
            f"{statistics.mean(unseen):.4f}" if unseen else "–",
            f"{statistics.mean(regret <= 0 for regret in regrets):.0%}",
            f"{max(regrets):.3f}",
        )
    console.print(table)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="tables and INDEX.tsv")
    parser.add_argument("--quick", action="store_true", help="every tenth data set, 100 steps")
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="JSON file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with (arguments.folder / "INDEX.tsv").open(encoding="utf-8") as index:
        names = [row["name"] for row in csv.DictReader(index, delimiter="\t")]
    chosen = list(enumerate(names))[:: 10 if arguments.quick else 1]
    cases = []
    for number, name in chosen:
        whole = Task.from_source(arguments.folder / f"{name}.csv.gz", name=name)
        task = whole.subsample(N_ROWS, generator=generator_for(0, name))
        for steps in [100] if arguments.quick else arguments.steps:
            cases += compare(task, steps=steps, unseen=number % 3 == 2)
    show(sorted(cases, key=lambda case: case.steps), console=Console(width=WIDTH))
    write_report(arguments.out, {"results": [asdict(case) for case in cases]})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
