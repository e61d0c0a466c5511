"""MNIST at a twentieth of the edges: one predicted network against live random, SNIP and pruning.

    python benchmarks/mnist.py MNIST.npz [--model MODEL] [--steps 300] [--seeds 3]

60,000 images of 784 pixels, a tenth of them for validation, 300 hidden neurons; everybody trains
for the same steps with Adam in batches of 512. Every method's learning rate is the best of the grid
on validation rows, seed by seed. The 10,000 test images are looked at once, for the table: means
over the seeds of masks, starts, batches and latents, with their standard error.
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
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
Result = dict[str, float]


def methods(
    task: Task, *, model: MetaModel, options: argparse.Namespace, seed: int
) -> dict[str, Train]:
    """Everybody by name; all draw from the same space."""
    space = SearchSpace(widths=(784, options.hidden, 10), density=options.density)
    n_edges = int(options.density * space.n_possible_edges)
    X, y = task.rows("train")
    proposal = model.predict(task, n_hidden=options.hidden, seed=seed).proposal(n_edges=n_edges)
    assert proposal.start is not None
    start = [proposal.start]
    z, k = proposal.architecture, proposal.architecture.n_live_edges
    live = space.sample_live(generator=generator_for(seed, "live"), n_edges=k)
    dense = space.sample(generator=generator_for(seed, "dense"), n_edges=space.n_possible_edges)
    (snip,) = snip_architectures([dense], task, n_edges=[k], seeds=[seed], batch_seed=seed)

    def fitted(architecture: Architecture, weights: Any = None) -> Train:
        def train(rate: float, steps: int) -> Population:
            population = Population([architecture], seed=seed, start=weights)
            return population.fit(X, y, steps=steps, learning_rate=rate, batch_seed=seed)

        return train

    def pruned(rate: float, steps: int) -> Population:
        return gradually_pruned(
            [dense], task, n_edges=[k], steps=steps, rate=rate, seeds=[seed], batch_seed=seed
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


def best_of_rates(train: Train, task: Task, *, rates: Sequence[float], steps: int) -> Result:
    """Test accuracy at the rate that has the fewest errors on validation rows."""
    started, tried = time.process_time(), []
    for rate in rates:
        population = train(rate, steps)
        error = float(population.losses(*task.rows("validation"), loss="error")[0])
        tried.append((error, rate, population))
    seconds = (time.process_time() - started) / len(rates)
    _, rate, best = min(tried, key=lambda one: one[0])
    accuracy = 1 - float(best.losses(*task.rows("test"), loss="error")[0])
    n_edges = best.architectures[0].n_live_edges
    return {"accuracy": accuracy, "n_edges": n_edges, "rate": rate, "cpu_s": seconds}


def shown(results: dict[str, list[Result]], *, title: str) -> Table:
    """Means over the seeds."""
    table = Table(title=title, title_justify="left")
    for column in ("method", "test accuracy", "edges", "rates", "CPU s a network"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for name, seeds in results.items():
        accuracy = [one["accuracy"] for one in seeds]
        error = statistics.stdev(accuracy) / len(accuracy) ** 0.5 if len(accuracy) > 1 else 0.0
        table.add_row(
            name,
            f"{statistics.fmean(accuracy):.4f} ± {error:.4f}",
            f"{statistics.fmean(one['n_edges'] for one in seeds):.0f}",
            ", ".join(f"{rate:g}" for rate in sorted({one["rate"] for one in seeds})),
            f"{statistics.fmean(one['cpu_s'] for one in seeds):.1f}",
        )
    return table


def main() -> None:
    """Train everybody at every rate, and print the best of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--model", type=Path, help="by default the packaged one")
    parser.add_argument("--hidden", type=int, default=300)
    parser.add_argument("--density", type=float, default=0.05)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "mnist.json"
    )
    options = parser.parse_args()
    task, model = Images.read(options.images).task(), MetaModel.load(options.model)
    results: dict[str, list[Result]] = defaultdict(list)
    for seed in range(options.seeds):
        contestants = methods(task, model=model, options=options, seed=seed)
        for name, train in contestants.items():
            rates = RATES[:1] if name.endswith("no step") else RATES
            results[name].append(best_of_rates(train, task, rates=rates, steps=options.steps))
    described = {name: getattr(options, name) for name in ("steps", "density", "hidden", "seeds")}
    write_report(options.out, {"options": described, "methods": results})
    Console(width=WIDTH).print(shown(results, title=f"MNIST, {options.steps} steps"))


if __name__ == "__main__":
    main()
