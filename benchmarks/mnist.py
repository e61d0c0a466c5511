"""MNIST at a twentieth of the edges: one predicted network against live random, SNIP and pruning.

    python benchmarks/mnist.py MNIST.npz [--model MODEL] [--steps 300]

60,000 images of 784 pixels, a tenth of them for validation, 300 hidden neurons; everybody trains
for the same steps with Adam in batches of 512. Every method's learning rate is the best of the grid
on validation rows. The 10,000 test images are looked at once, for the table.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import WIDTH, write_report
from rich.console import Console
from rich.table import Table

from graphpred.architecture import Architecture
from graphpred.experiments.images import Images
from graphpred.meta.model import MetaModel
from graphpred.population import Population
from graphpred.searchers.sparsified import gradually_pruned, snip_architectures
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace
from graphpred.task import Task

RATES = (0.001, 0.003, 0.01, 0.03)
Train = Callable[[float, int], Population]
"""A population of one network from a learning rate and a number of steps."""


def methods(task: Task, *, model: MetaModel, options: argparse.Namespace) -> dict[str, Train]:
    """Everybody by name; all draw from the same space."""
    space = SearchSpace(widths=(784, options.hidden, 10), density=options.density)
    n_edges = int(options.density * space.n_possible_edges)
    X, y = task.rows("train")
    proposal = model.predict(task, n_hidden=options.hidden).proposal(n_edges=n_edges)
    assert proposal.start is not None
    start = [proposal.start]
    z, k = proposal.architecture, proposal.architecture.n_live_edges
    live = space.sample_live(generator=generator_for(0, "live"), n_edges=k)
    dense = space.sample(generator=generator_for(0, "dense"), n_edges=space.n_possible_edges)
    (snip,) = snip_architectures([dense], task, n_edges=[k], seeds=[0], batch_seed=0)

    def fitted(architecture: Architecture, weights: Any = None) -> Train:
        def train(rate: float, steps: int) -> Population:
            population = Population([architecture], seed=0, start=weights)
            return population.fit(X, y, steps=steps, learning_rate=rate, batch_seed=0)

        return train

    def pruned(rate: float, steps: int) -> Population:
        return gradually_pruned(
            [dense], task, n_edges=[k], steps=steps, rate=rate, seeds=[0], batch_seed=0
        )

    return {
        "predicted, no step": lambda rate, steps: fitted(z, start)(rate, 0),
        "predicted": fitted(z, start),
        "predicted structure, fresh weights": fitted(z),
        "live random": fitted(live),
        "SNIP": fitted(snip),
        "gradual pruning": pruned,
        "dense": fitted(dense),
    }


def main() -> None:
    """Train everybody at every rate, and print the best of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--model", type=Path, help="by default the packaged one")
    parser.add_argument("--hidden", type=int, default=300)
    parser.add_argument("--density", type=float, default=0.05)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "mnist.json"
    )
    options = parser.parse_args()
    task = Images.read(options.images).task()
    contestants = methods(task, model=MetaModel.load(options.model), options=options)
    table = Table(title=f"MNIST, {options.steps} steps", title_justify="left")
    for column in ("method", "test accuracy", "edges", "rate", "CPU s a network"):
        table.add_column(column, justify="left" if column == "method" else "right")
    results: dict[str, dict[str, float]] = {}
    for name, train in contestants.items():
        started, tried = time.process_time(), []
        rates = RATES[:1] if name.endswith("no step") else RATES
        for rate in rates:
            population = train(rate, options.steps)
            error = float(population.losses(*task.rows("validation"), loss="error")[0])
            tried.append((error, rate, population))
        seconds = (time.process_time() - started) / len(rates)
        _, rate, best = min(tried, key=lambda one: one[0])
        accuracy = 1 - float(best.losses(*task.rows("test"), loss="error")[0])
        n_edges = best.architectures[0].n_live_edges
        results[name] = {"accuracy": accuracy, "n_edges": n_edges, "rate": rate, "cpu_s": seconds}
        table.add_row(name, f"{accuracy:.4f}", str(n_edges), f"{rate:g}", f"{seconds:.0f}")
    described = {"steps": options.steps, "density": options.density, "hidden": options.hidden}
    write_report(options.out, {"options": described, "methods": results})
    Console(width=WIDTH).print(table)


if __name__ == "__main__":
    main()
