"""How many networks a CPU-second trains: ``Population`` against one network at a time.

The loop is as fast as a careful user of plain PyTorch would make it: neurons sorted by activation
class once, transposed rows so that every class works on contiguous memory, masks folded into the
starting weights and applied to the gradients in place, fused Adam, no scheduler object. It is run
on the architectures as they are drawn, and once more after their dead neurons were taken out by
hand, which ``Population`` does by itself. All train the same networks from the same weights with
the same steps and must reach the same losses. Contestants take turns; the table has medians.

    python benchmarks/population.py [--quick] [--out FILE]
"""

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from graphpred.activations import ACTIVATIONS
from graphpred.architecture import Architecture
from graphpred.files import whole_file
from graphpred.population import LEARNING_RATE, Population
from graphpred.space import DEFAULT_ACTIVATIONS, SearchSpace
from graphpred.weights import Weights, initial_weights

N_ROWS, N_CLASSES, DENSITY = 256, 2, 0.2
TOLERANCE = 1e-4
DEFAULT_OUT = Path(__file__).parent / "results" / "population.json"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Networks and data of one row of the table."""

    networks: list[Architecture]
    seeds: list[int]
    X: Tensor
    y: Tensor
    steps: int


@dataclass(frozen=True, kw_only=True)
class Result:
    """One row of the table; rates are networks per CPU-second.

    Attributes:
        n: Features and hidden neurons.
        population: Rate of ``Population``, median of the repeats.
        loop: Rate of the plain loop.
        loop_live: Rate of the plain loop after dead neurons were taken out.
        ratio: ``population / loop``, median over the repeats.
        ratio_live: ``population / loop_live``, median over the repeats.
        difference: Largest difference of a final loss from that of the loop.
    """

    n: int
    population: float
    loop: float
    loop_live: float
    ratio: float
    ratio_live: float
    difference: float


def make_problem(n: int, *, n_networks: int, steps: int) -> Problem:
    """Random networks with one hidden layer of n neurons on n normal features."""
    generator = torch.Generator().manual_seed(n)
    space = SearchSpace(widths=(n, n, N_CLASSES), activations=DEFAULT_ACTIVATIONS, density=DENSITY)
    X = torch.randn(N_ROWS, n, generator=generator)
    y = (X[:, 0] * X[:, 1] + X[:, 2] > 0).long()
    networks = [space.sample(generator=generator) for _ in range(n_networks)]
    return Problem(networks=networks, seeds=list(range(n_networks)), X=X, y=y, steps=steps)


def run_population(problem: Problem) -> list[float]:
    """Final training losses of all networks, trained together."""
    population = Population(problem.networks, seed=problem.seeds)
    population.fit(problem.X, problem.y, steps=problem.steps)
    return population.losses(problem.X, problem.y, loss="log_loss").tolist()


def run_loop(problem: Problem, *, without_dead_neurons: bool) -> list[float]:
    """Final training losses of all networks, trained one after another."""
    inputs = problem.X.T.contiguous()  # (n, m)
    n, losses = len(inputs), []
    for z, seed in zip(problem.networks, problem.seeds, strict=True):
        weights = initial_weights(z, seed=seed)
        if without_dead_neurons:
            edge = weights.edge[z.live]
            z, kept = z.without_dead_neurons()  # noqa: PLW2901
            weights = Weights(edge=edge, bias=weights.bias[kept[n:] - n])
        losses.append(train_alone(z, weights, inputs, problem.y, steps=problem.steps))
    return losses


def train_alone(
    z: Architecture, weights: Weights, inputs: Tensor, y: Tensor, *, steps: int
) -> float:
    """Train one network with one hidden layer; its final loss."""
    n, n_hidden, _ = z.widths
    classes = z.activation[n : n + n_hidden]
    order = classes.argsort(stable=True)  # hidden neurons by activation class
    indices, counts = classes[order].unique_consecutive(return_counts=True)
    functions = [ACTIVATIONS[index].function for index in indices.tolist()]
    sizes = counts.tolist()
    dense, mask = torch.zeros(2, z.n_neurons, z.n_neurons)
    dense[z.edges[0], z.edges[1]] = weights.edge
    mask[z.edges[0, z.live], z.edges[1, z.live]] = 1.0

    def first(matrix: Tensor) -> Tensor:
        return matrix[:n, n : n + n_hidden][:, order].T.contiguous()  # (n_hidden, n)

    def second(matrix: Tensor) -> Tensor:
        return matrix[n : n + n_hidden, n + n_hidden :][order].T.contiguous()  # (c, n_hidden)

    W1, W2 = first(dense).requires_grad_(), second(dense).requires_grad_()
    b1 = weights.bias[:n_hidden][order].unsqueeze(1).requires_grad_()  # (n_hidden, 1)
    b2 = weights.bias[n_hidden:].unsqueeze(1).clone().requires_grad_()  # (c, 1)
    mask_1, mask_2 = first(mask), second(mask)
    optimizer = torch.optim.Adam([W1, b1, W2, b2], lr=LEARNING_RATE, fused=True)

    def loss() -> Tensor:
        summed = torch.addmm(b1, W1, inputs)  # (n_hidden, m)
        fired = [f(part) for f, part in zip(functions, summed.split(sizes), strict=True)]
        hidden = torch.cat(fired) if len(fired) > 1 else fired[0]
        return functional.cross_entropy(torch.addmm(b2, W2, hidden).T, y)

    for step in range(steps):
        optimizer.param_groups[0]["lr"] = (
            LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        )
        optimizer.zero_grad()
        loss().backward()
        W1.grad.mul_(mask_1)
        W2.grad.mul_(mask_2)
        optimizer.step()
    with torch.no_grad():
        return float(loss())


CONTESTANTS: dict[str, Callable[[Problem], list[float]]] = {
    "population": run_population,
    "loop": lambda problem: run_loop(problem, without_dead_neurons=False),
    "loop_live": lambda problem: run_loop(problem, without_dead_neurons=True),
}


def measure(problem: Problem, *, repeats: int) -> Result:
    """Let the contestants take turns and compare their times and losses."""
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    losses = {}
    for _ in range(repeats):
        for name, run in CONTESTANTS.items():
            started = time.process_time()
            losses[name] = torch.tensor(run(problem), dtype=torch.float64)
            seconds[name].append(time.process_time() - started)

    def rate(name: str) -> float:
        return len(problem.networks) / statistics.median(seconds[name])

    def ratio(name: str) -> float:
        pairs = zip(seconds[name], seconds["population"], strict=True)
        return statistics.median(slow / fast for slow, fast in pairs)

    return Result(
        n=problem.X.shape[1],
        population=rate("population"),
        loop=rate("loop"),
        loop_live=rate("loop_live"),
        ratio=ratio("loop"),
        ratio_live=ratio("loop_live"),
        difference=max(float((losses[name] - losses["population"]).abs().max()) for name in losses),
    )


def show(results: list[Result], *, title: str, console: Console) -> None:
    """Print the table."""
    table = Table(title=title)
    for heading in (
        "n = n_1",
        "Population",
        "loop",
        "loop, live neurons",
        "ratio",
        "ratio, live neurons",
        "largest loss difference",
    ):
        table.add_column(heading, justify="right")
    for r in results:
        table.add_row(
            str(r.n),
            *(f"{rate:.1f}" for rate in (r.population, r.loop, r.loop_live)),
            *(f"{ratio:.1f}×" for ratio in (r.ratio, r.ratio_live)),
            f"{r.difference:.1e}",
        )
    console.print(table)


def main() -> int:
    """Run the benchmark; 1 if the contestants disagree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer networks, two repeats")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="JSON file to write")
    arguments = parser.parse_args()
    n_networks, repeats, steps = (16, 2, 100) if arguments.quick else (64, 5, 100)
    torch.set_num_threads(1)
    console = Console()
    for run in CONTESTANTS.values():  # load what is loaded once
        run(make_problem(5, n_networks=2, steps=3))
    results = [
        measure(make_problem(n, n_networks=n_networks, steps=steps), repeats=repeats)
        for n in (13, 30, 64)
    ]
    title = (
        f"Networks per CPU-second, one thread (m = {N_ROWS}, c = {N_CLASSES}, density {DENSITY}, "
        f"{len(DEFAULT_ACTIVATIONS)} activations, {steps} steps)"
    )
    show(results, title=title, console=console)
    report = {
        "setting": {"n_networks": n_networks, "repeats": repeats, "steps": steps, "rows": N_ROWS},
        "machine": {"torch": torch.__version__, "processor": platform.machine()},
        "results": [asdict(result) for result in results],
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(arguments.out) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    wrong = [r.n for r in results if not r.difference <= TOLERANCE]
    if wrong:
        console.print(f"Losses differ by more than {TOLERANCE} at n = {wrong}.")
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
