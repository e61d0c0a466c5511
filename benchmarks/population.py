"""How many networks a CPU-second trains: ``Population`` against what people use in its place.

All contestants run in one process on one thread and take turns; every figure is a median over the
rounds. They train random networks with one hidden layer of as many neurons as features, a mix of
activation classes, Adam with cosine decay and all rows in every step; building the networks and
their final losses are in the time.

- *loop* is as fast as a careful user of plain PyTorch would make it: neurons sorted by activation
  class once, transposed rows so that every class works on contiguous memory, masks folded into the
  starting weights and applied to the gradients in place, fused Adam, no scheduler object. The *live
  loop* is the same after dead neurons were taken out by hand, which ``Population`` does by itself.
- *torch.func* stacks dense masked networks (``stack_module_state``, ``vmap(grad)``), computes every
  activation class on all neurons and picks one by a one-hot mask; fused Adam on the stacks.
- *scikit-learn* is ``MLPClassifier``: dense, relu, no early stopping, as many Adam steps.
- *neat-python* has no gradients. It runs each network forward, row by row, in pure Python; its
  figure is passes over all rows of the same untrained networks, building them not counted, and a
  hundredth of it is the rate of a hundred passes. Install it with ``pip install neat-python``.

``Population``, the loops and torch.func start from the same weights and must reach the same losses;
neat-python and ``Population`` must compute the same scores. The gaps are the largest differences.

The share of the core's peak counts useful flops only: with h live hidden neurons (on a path from
an input to an output) a step of one network is two dense products in the first layer (forward,
weight gradient), 4 m n h, and three in the second (forward, weight gradient, input gradient),
6 m h c. Zeros in the masks of live neurons count as useful, activations, loss and Adam as nothing.
The peak is the best large float32 product of the same run.

    python benchmarks/population.py [--quick] [--out FILE]
"""

import argparse
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from measuring import WIDTH, core_peak, timed, write_report
from peers import FORWARD, TRAINING, Problem
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits
from torch import Tensor

from graphpred.space import DEFAULT_ACTIVATIONS, SearchSpace

N_ROWS, N_CLASSES, DENSITY = 256, 2, 0.2
ASKED = {13: 30.0, 30: 20.0, 64: 12.0}
"""By n: how many times faster than the loop ``Population`` should be."""
TOLERANCE = 1e-4
DEFAULT_OUT = Path(__file__).parent / "results" / "population.json"


@dataclass(frozen=True, kw_only=True)
class Result:
    """Figures of one size.

    Attributes:
        n: Features, and hidden neurons before dead ones are taken out.
        live_neurons: Mean number of live hidden neurons of a network.
        asked: The ratio to the loop that is aimed at.
        rates: Networks per CPU-second of every contestant: trained, or passed forward once.
        ratios: Rate of ``Population`` (forward for neat-python) over a contestant's, medians.
        loss_difference: Largest difference of a final loss from that of ``Population``.
        score_difference: The same for scores and neat-python; None without it.
        gflops: Useful GFLOP per CPU-second of ``Population``.
        peak_gflops: GFLOP per CPU-second of the best large matrix product.
    """

    n: int
    live_neurons: float
    asked: float
    rates: dict[str, float]
    ratios: dict[str, float]
    loss_difference: float
    score_difference: float | None
    gflops: float
    peak_gflops: float


def make_problem(n: int, *, n_networks: int, steps: int) -> Problem:
    """Random networks with one hidden layer of n neurons on n normal features."""
    generator = torch.Generator().manual_seed(n)
    space = SearchSpace(widths=(n, n, N_CLASSES), activations=DEFAULT_ACTIVATIONS, density=DENSITY)
    X = torch.randn(N_ROWS, n, generator=generator)
    y = (X[:, 0] * X[:, 1] + X[:, 2] > 0).long()
    networks = [space.sample(generator=generator) for _ in range(n_networks)]
    return Problem(networks=networks, seeds=list(range(n_networks)), X=X, y=y, steps=steps)


def take_turns(
    problem: Problem, *, repeats: int
) -> tuple[dict[str, list[float]], dict[str, Tensor], float]:
    """Rates of every contestant in every round, what each returned last, and the core's peak."""
    runs, sizes = {}, {}
    for name, contestant in (TRAINING | FORWARD).items():
        part = problem.first(contestant.n_networks or len(problem.networks))
        runs[name], sizes[name] = contestant.prepare(part), len(part.networks)
    rates: dict[str, list[float]] = {name: [] for name in runs}
    returned, peak = {}, 0.0
    for _ in range(repeats):
        peak = max(peak, core_peak())
        for name, run in runs.items():
            seconds, returned[name] = timed(run)
            rates[name].append(sizes[name] / seconds)
    return rates, returned, peak


def measure(problem: Problem, *, repeats: int) -> Result:
    """Let the contestants take turns and compare their times and results."""
    rates, returned, peak = take_turns(problem, repeats=repeats)
    medians = {name: statistics.median(own) for name, own in rates.items()}

    def ratio(name: str) -> float:
        ours = rates["population_forward" if name in FORWARD else "population"]
        return statistics.median(a / b for a, b in zip(ours, rates[name], strict=True))

    n, live = problem.X.shape[1], mean_live_neurons(problem)
    flops = problem.steps * N_ROWS * live * (4 * n + 6 * N_CLASSES)
    return Result(
        n=n,
        live_neurons=live,
        asked=ASKED[n],
        rates=medians,
        ratios={name: ratio(name) for name in rates if not name.startswith("population")},
        loss_difference=max(
            difference(returned["population"], returned[name]) for name in TRAINING
        ),
        score_difference=(
            difference(returned["population_forward"], returned["neat"])
            if "neat" in returned
            else None
        ),
        gflops=flops * medians["population"] / 1e9,
        peak_gflops=peak,
    )


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference between the networks that both returned; 0 if there are none."""
    differences = (ours[: len(theirs)] - theirs).abs()
    return float(differences.max()) if len(theirs) else 0.0


def mean_live_neurons(problem: Problem) -> float:
    """Live hidden neurons of a network."""
    return statistics.mean(z.without_dead_neurons()[0].widths[1] for z in problem.networks)


def show_loops(results: list[Result], *, console: Console) -> None:
    """Print the comparison with plain PyTorch."""
    table = Table(title="Plain PyTorch, one network at a time: networks trained per CPU-second")
    for heading in (
        "n",
        "Population",
        "loop",
        "live loop",
        "asked",
        "reached",
        "reached, live loop",
        "loss gap",
        "GFLOP/s",
        "of peak",
    ):
        table.add_column(heading, justify="right")
    for r in results:
        table.add_row(
            str(r.n),
            *(f"{r.rates[name]:.1f}" for name in ("population", "loop", "loop_live")),
            f"{r.asked:.0f}×",
            *(f"{r.ratios[name]:.1f}×" for name in ("loop", "loop_live")),
            f"{r.loss_difference:.0e}",
            f"{r.gflops:.1f}",
            f"{r.gflops / r.peak_gflops:.0%}",
        )
    console.print(table)


def show_libraries(results: list[Result], *, console: Console) -> None:
    """Print the comparison with other libraries that train."""
    table = Table(title="Other libraries: networks trained per CPU-second")
    for heading in ("n", "Population", "torch.func", "ratio", "scikit-learn, dense", "ratio"):
        table.add_column(heading, justify="right")
    for r in results:
        table.add_row(
            str(r.n),
            f"{r.rates['population']:.1f}",
            f"{r.rates['torch_func']:.1f}",
            f"{r.ratios['torch_func']:.1f}×",
            f"{r.rates['scikit_learn']:.1f}",
            f"{r.ratios['scikit_learn']:.1f}×",
        )
    console.print(table)


def show_forward(results: list[Result], *, console: Console) -> None:
    """Print the comparison with neat-python, which does not train."""
    title = "Forward only, one pass over the rows: passes of a network per CPU-second"
    table = Table(title=title)
    for heading in (
        "n",
        "Population, forward",
        "neat-python",
        "ratio",
        "score gap",
        "neat-python, 100 passes",
        "Population, 100 steps",
    ):
        table.add_column(heading, justify="right")
    for r in results:
        ours = f"{r.rates['population_forward']:.0f}"
        trained = f"{r.rates['population']:.1f}"
        if "neat" not in r.rates:
            table.add_row(str(r.n), ours, *"––––", trained)
            continue
        neat = r.rates["neat"]
        figures = (f"{neat:.1f}", f"{r.ratios['neat']:.0f}×", f"{r.score_difference:.0e}")
        table.add_row(str(r.n), ours, *figures, f"{neat / 100:.2f}", trained)
    console.print(table)
    if "neat" not in FORWARD:
        console.print("neat-python is missing; install it with: pip install neat-python")


def main() -> int:
    """Run the benchmark; 1 if the contestants disagree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="16 networks, which flatter the loop; two rounds"
    )
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="JSON file to write")
    arguments = parser.parse_args()
    n_networks, repeats, steps = (16, 2, 100) if arguments.quick else (64, 5, 100)
    torch.set_num_threads(1)
    console = Console(width=WIDTH)
    with threadpool_limits(1):
        take_turns(make_problem(5, n_networks=2, steps=3), repeats=1)  # load what is loaded once
        results = [
            measure(make_problem(n, n_networks=n_networks, steps=steps), repeats=repeats)
            for n in ASKED
        ]
    console.print(
        f"One thread, {N_ROWS} rows, {N_CLASSES} classes, density {DENSITY}, "
        f"{len(DEFAULT_ACTIVATIONS)} activation classes, {steps} steps, {n_networks} networks; "
        f"matrix products peak at {max(r.peak_gflops for r in results):.0f} GFLOP/s."
    )
    for show in (show_loops, show_libraries, show_forward):
        show(results, console=console)
    setting = {"n_networks": n_networks, "repeats": repeats, "steps": steps, "rows": N_ROWS}
    write_report(
        arguments.out, {"setting": setting, "results": [asdict(result) for result in results]}
    )
    wrong = [
        r.n
        for r in results
        if not (r.loss_difference <= TOLERANCE and (r.score_difference or 0.0) <= TOLERANCE)
    ]
    if wrong:
        console.print(f"Losses or scores differ by more than {TOLERANCE} at n = {wrong}.")
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
