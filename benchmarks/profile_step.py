"""Where a training step's time goes.

A population of 64 networks is trained under Python's profiler; the time inside every PyTorch
function counts for a part of the step, and what is left is Python itself and the making of the
block. The profiler adds a little to every call, so small parts look larger than they are.

    python benchmarks/profile_step.py [--quick] [--out FILE]
"""

import argparse
import cProfile
import pstats
from pathlib import Path

import torch
from measuring import WIDTH, write_report
from population import make_problem
from rich.console import Console
from rich.table import Table

from graphpred.population import Population

DEFAULT_OUT = Path(__file__).parent / "results" / "profile_step.json"
PARTS = {
    "gradient of the weights: products of rows": ("per_sample", " mm", ".mm"),
    "sums of rows: forward, and back to hidden layers": ("embedding_bag", "matmul"),
    "activations, their derivatives, and the loss": (
        "sigmoid", "sin", "cos", "exp", "mul", "abs", "sign", "neg", "add", "sub", "clamp",
        "threshold", "leaky", "tanh", "softplus", "softmax", "_ops.aten.}", "Object", "aten",
    ),
    "Adam": ("_fused_adam",),
    "copies and views": (
        "copy_", "split", "index", "view", "flatten", "unflatten", "narrow", "select", "__len__",
        "zeros", "empty", "new_",
    ),
}  # fmt: skip
"""Parts of a step by words in the names of the functions; the first part that fits."""


def part_of(name: str) -> str | None:
    """The part of the step that a built-in function belongs to."""
    for part, words in PARTS.items():
        if any(word in name for word in words):
            return part
    return None


def profile(n: int, *, steps: int) -> dict[str, float]:
    """Milliseconds per step of every part; the whole under ``"step"``."""
    problem = make_problem(n, n_networks=64, steps=steps)
    population = Population(problem.networks, seed=problem.seeds)
    population.fit(problem.X, problem.y, steps=5)
    profiler = cProfile.Profile()
    profiler.runcall(population.fit, problem.X, problem.y, steps=steps)
    statistics = pstats.Stats(profiler)
    total = statistics.total_tt  # type: ignore[attr-defined]
    parts = dict.fromkeys(PARTS, 0.0)
    for (file, _, name), (_, _, own, _, _) in statistics.stats.items():  # type: ignore[attr-defined]
        part = part_of(name) if file == "~" else None
        if part:
            parts[part] += own
    parts["Python, and laying out the block"] = total - sum(parts.values())
    return {part: seconds / steps * 1e3 for part, seconds in {**parts, "step": total}.items()}


def main() -> int:
    """Profile three sizes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="JSON file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    steps = 30 if arguments.quick else 300
    results = {n: profile(n, steps=steps) for n in (13, 30, 64)}
    table = Table(title="Milliseconds per step of 64 networks, m = 256", width=WIDTH)
    table.add_column("part of the step")
    for n in results:
        table.add_column(f"n = {n}", justify="right")
        table.add_column("share", justify="right")
    for part in results[13]:
        cells = []
        for parts in results.values():
            cells += [f"{parts[part]:.3f}", f"{parts[part] / parts['step']:.0%}"]
        table.add_row(part, *cells)
    Console(width=WIDTH).print(table)
    write_report(arguments.out, {"results": results})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
