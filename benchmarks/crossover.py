"""From which density a first layer is better computed as one dense product.

One block of networks with one hidden layer, all neurons live, takes training steps with its first
layer as sums of chosen rows and as a matrix product; the ratio of the times says which is better.
``graphpred.population.layout.DENSE_FROM`` is the density at which they break even.

    python benchmarks/crossover.py [--quick] [--out FILE]
"""

import argparse
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from measuring import WIDTH, timed, write_report
from rich.console import Console
from rich.table import Table

from graphpred.architecture import Architecture
from graphpred.population import layout
from graphpred.population.population import Population
from graphpred.space import DEFAULT_ACTIVATIONS

N_ROWS, N_CLASSES = 256, 2
DEFAULT_OUT = Path(__file__).parent / "results" / "crossover.json"


@dataclass(frozen=True, kw_only=True)
class Result:
    """Milliseconds of CPU time per step, and the ratio of sparse to dense."""

    n: int
    density: float
    sparse: float
    dense: float
    ratio: float


def make_networks(n: int, *, density: float, n_networks: int, n_hidden: int) -> list[Architecture]:
    """Networks whose neurons all have inputs and feed all outputs."""
    generator = torch.Generator().manual_seed(n)
    networks = []
    for _ in range(n_networks):
        chosen = torch.rand(n, n_hidden, generator=generator).argsort(dim=0) < max(1, density * n)
        drawn = torch.randint(len(DEFAULT_ACTIVATIONS), (n_hidden,), generator=generator)
        networks.append(
            Architecture.from_masks(
                [chosen, torch.ones(n_hidden, N_CLASSES)],
                hidden=[DEFAULT_ACTIVATIONS[i] for i in drawn.tolist()],
            )
        )
    return networks


def step_time(networks: list[Architecture], *, dense: bool, steps: int) -> float:
    """Milliseconds of CPU time per training step."""
    X = torch.randn(N_ROWS, networks[0].widths[0], generator=torch.Generator().manual_seed(1))
    y = (X[:, 0] > 0).long()
    before, layout.DENSE_FROM = layout.DENSE_FROM, -1.0 if dense else 2.0
    try:
        population = Population(networks, seed=0)
        start, _ = timed(lambda: population.fit(X, y, steps=1))
        seconds, _ = timed(lambda: population.fit(X, y, steps=1 + steps))
    finally:
        layout.DENSE_FROM = before
    return (seconds - start) / steps * 1e3


def measure(n: int, *, density: float, repeats: int, steps: int) -> Result:
    """Both ways in turn; medians."""
    networks = make_networks(n, density=density, n_networks=32, n_hidden=16)
    pairs = [
        [step_time(networks, dense=dense, steps=steps) for dense in (False, True)]
        for _ in range(repeats)
    ]
    sparse, dense = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    return Result(n=n, density=density, sparse=sparse, dense=dense, ratio=ratio)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two sizes, two repeats")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="JSON file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sizes, repeats, steps = (
        ((30, 64), 2, 10) if arguments.quick else ((13, 30, 64, 200, 784), 5, 40)
    )
    table = Table(title="Milliseconds per step, 32 networks of 16 neurons", width=WIDTH)
    for heading in ("n", "density", "sparse", "dense", "sparse / dense"):
        table.add_column(heading, justify="right")
    results = []
    for n in sizes:
        for density in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0):
            result = measure(n, density=density, repeats=repeats, steps=steps)
            results.append(result)
            table.add_row(
                str(n),
                f"{density:g}",
                f"{result.sparse:.2f}",
                f"{result.dense:.2f}",
                f"{result.ratio:.2f}",
            )
    Console(width=WIDTH).print(table)
    write_report(arguments.out, {"results": [asdict(result) for result in results]})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
