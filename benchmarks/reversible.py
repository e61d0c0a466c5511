"""Training that is run backwards: exactness, bits kept, hypergradients, memory, and its use.

    python benchmarks/reversible.py [--steps 1000] [--rounds 20] [--out FILE]

*Exactness* of a descent of many steps and back, with the bits that its buffer grows by: what
rounding loses, log2(1/β); what the numbers in the buffer have; what it takes in whole limbs of 32
bits, and what limbs of 64 would take.

*Hypergradients* against central differences of the same training in plain float64.

*Memory* of the way back through the same training, every way in a process of its own. Counted are
the bytes that must outlast a step: the reversible state and buffer; the weights of all steps, the
least that any backpropagation from memory keeps; the tensors that autograd saves for an unrolled
training, every storage once. Beside them stands what the process's largest resident set grew by
beyond that of two steps. Counted bytes decide: a resident set changes by pages and by what the
allocator holds back, of which the reversible way needs less than there is noise.

*Use*: networks of scikit-learn's sets trained with tuned schedules and decay, beside the best of
random constant rates and decays, as many trainings and four times as many, since a round of tuning
costs several trainings (the table's last title says how many); all choose on validation rows.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from measuring import WIDTH, timed, write_report
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from graphpred.architecture import Architecture
from graphpred.network import Signature, SparseNetwork
from graphpred.reversible import (
    Descent,
    Schedule,
    TuningConfig,
    hypergradients,
    tune_training,
)
from graphpred.reversible.fixed_point import DENOMINATOR
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace
from graphpred.task import Task
from graphpred.weights import initial_weights

DATA = ("breast_cancer", "wine", "diabetes", "digits")
N_HIDDEN = 10
RATE = 0.3
WAYS = ("reversible", "weights of all steps", "unrolled autograd")
MIB = 2**20
DEARER = 4
DEFAULT_OUT = Path(__file__).parent / "results" / "reversible.json"


class Problem:
    """Cross-entropy of a dense network on breast_cancer, with decay a layer and gates on edges."""

    def __init__(self) -> None:
        task = Task.from_source("breast_cancer")
        widths = (task.n_features, N_HIDDEN, task.n_outputs)
        masks = [torch.ones(widths[:2]), torch.ones(widths[1:])]
        z = Architecture.from_masks(masks, hidden=["tanh"] * N_HIDDEN)
        weights = initial_weights(z, seed=0)
        self.network = SparseNetwork(z, weights, signature=Signature.of(task))
        self.n_edges = z.n_edges
        self.groups = torch.cat([z.layer[z.edges[1]], z.layer[z.widths[0] :]]) - 1
        self.start = torch.cat([weights.edge, weights.bias]).double()
        self.train, self.validation = (
            (X.double(), y) for X, y in (task.rows("train"), task.rows("validation"))
        )
        gates = torch.randn(z.n_edges, generator=generator_for(0, "gates"), dtype=torch.float64)
        self.theta = {"decay": torch.tensor([1e-3, 1e-2], dtype=torch.float64), "gates": gates}

    def _fit(self, w: Tensor, theta: Mapping[str, Tensor], rows: tuple[Tensor, Tensor]) -> Tensor:
        edge = w[: self.n_edges] * theta["gates"].sigmoid()
        parameters = {"edge": edge, "bias": w[self.n_edges :]}
        scores = functional_call(self.network, parameters, (rows[0],))
        return functional.cross_entropy(scores, rows[1])

    def loss(self, w: Tensor, theta: Mapping[str, Tensor], step: int) -> Tensor:
        """The same rows at every step."""
        decay = theta["decay"][self.groups[: self.n_edges]]
        return self._fit(w, theta, self.train) + decay @ w[: self.n_edges].square() / 2

    def outer(self, w: Tensor, theta: Mapping[str, Tensor]) -> Tensor:
        """On validation rows."""
        return self._fit(w, theta, self.validation)

    def schedule(self, steps: int, *, momentum: float = 0.9) -> Schedule:
        """One learning rate."""
        return Schedule.constant(self.groups, steps=steps, rate=RATE, momentum=momentum)

    def gradient(self, w: Tensor, step: int, *, graph: bool) -> Tensor:
        """∇L at w, which must require one."""
        return torch.autograd.grad(self.loss(w, self.theta, step), w, create_graph=graph)[0]


def plain(problem: Problem, parts: Mapping[str, Tensor]) -> float:
    """The outer loss of a training in float64 with the given start, rates, momentum and θ."""
    w, v = parts["start"], torch.zeros_like(parts["start"])
    for step, (rate, beta) in enumerate(zip(parts["rates"], parts["momentum"], strict=True)):
        w = w.detach().requires_grad_()
        (g,) = torch.autograd.grad(problem.loss(w, parts, step), w)
        v = beta * v - (1 - beta) * g
        w = w.detach() + rate[problem.groups] * v
    return float(problem.outer(w, parts))


def exactness(problem: Problem, *, steps: int) -> list[dict[str, Any]]:
    """There and back at several momenta."""
    rows = []
    for momentum in (0.5, 0.9, 0.99):
        schedule = problem.schedule(steps, momentum=momentum)
        descent = Descent(problem.loss, problem.start, schedule=schedule, theta=problem.theta)
        descent.run()
        buffer, n_limbs = descent.buffer, len(descent.buffer.limbs)
        figures = {
            "momentum": momentum,
            "lost": math.log2(DENOMINATOR / schedule.numerator(0)),
            "held": float(buffer.bit_lengths.mean()) / steps,
            "stored": 32 * n_limbs / steps,
            "stored64": 64 * math.ceil(n_limbs / 2) / steps,
        }
        while descent.step:
            descent.backward()
        rows.append(figures | {"exact": descent.is_at_start})
    return rows


def differences(problem: Problem, *, steps: int = 50, entries: int = 12) -> dict[str, float]:
    """Relative error of hypergradients, over random entries of each kind."""
    schedule = problem.schedule(steps)
    momentum = torch.full((steps,), schedule.numerator(0) / DENOMINATOR, dtype=torch.float64)
    found = hypergradients(
        problem.loss,
        problem.start,
        outer=problem.outer,
        schedule=schedule,
        theta=problem.theta,
    )
    parts = {"start": problem.start, "rates": schedule.rates, "momentum": momentum}
    parts |= problem.theta
    exact = {"start": found.start, "rates": found.rates, "momentum": found.momentum} | found.theta
    errors = {}
    for name, tensor in parts.items():
        order = torch.randperm(tensor.numel(), generator=generator_for(0, name))[:entries]
        epsilon = 1e-4 * max(float(tensor.abs().max()), 1e-2)
        estimates = []
        for entry in order.tolist():
            sides = []
            for sign in (1, -1):
                moved = tensor.clone()
                moved.view(-1)[entry] += sign * epsilon
                sides.append(plain(problem, parts | {name: moved}))
            estimates.append((sides[0] - sides[1]) / (2 * epsilon))
        wanted = torch.tensor(estimates, dtype=torch.float64)
        error = exact[name].flatten()[order] - wanted
        errors[name] = float(error.norm() / wanted.norm())
    return errors


def peak() -> int:
    """Largest resident set of this process so far, bytes."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def unroll(problem: Problem, *, steps: int) -> Tensor:
    """The outer loss as a graph through a whole training."""
    rates = torch.full((steps, 2), RATE, dtype=torch.float64, requires_grad=True)
    w, v = problem.start.clone().requires_grad_(), torch.zeros_like(problem.start)
    for step in range(steps):
        v = 0.9 * v - 0.1 * problem.gradient(w, step, graph=True)
        w = w + rates[step, problem.groups] * v
    return problem.outer(w, problem.theta)


def saved_bytes(problem: Problem, *, steps: int) -> int:
    """Bytes that autograd saves for the way back, each storage once."""
    storages = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage  # held, so that no address is used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = unroll(problem, steps=steps)
    assert value.requires_grad
    return sum(storage.nbytes() for storage in storages.values())


def go(problem: Problem, way: str, *, steps: int) -> int:
    """Train and come back one way; bytes that it keeps, 0 if they must be counted apart."""
    if way == "reversible":
        schedule = problem.schedule(steps)
        return hypergradients(
            problem.loss,
            problem.start,
            outer=problem.outer,
            schedule=schedule,
            theta=problem.theta,
        ).n_bytes
    if way == "unrolled autograd":
        unroll(problem, steps=steps).backward()
        return 0
    w, v, kept = problem.start, torch.zeros_like(problem.start), []
    for step in range(steps):
        kept.append(w)
        v = 0.9 * v - 0.1 * problem.gradient(w.detach().requires_grad_(), step, graph=False)
        w = w + RATE * v
    return sum(w.nbytes for w in kept)


def one_way(way: str, *, steps: int) -> dict[str, int]:
    """Memory of one way, in this process."""
    problem = Problem()
    go(problem, way, steps=2)
    before = peak()
    kept = go(problem, way, steps=steps)
    grown = peak() - before
    return {"kept": kept or saved_bytes(problem, steps=steps), "grown": grown}


def memory(*, steps: int) -> dict[str, dict[str, int]]:
    """All ways, each in a fresh process."""
    figures = {}
    for way in WAYS:
        command = [sys.executable, __file__, "--way", way, "--steps", str(steps)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        figures[way] = json.loads(answer)
    return figures


def test_loss(network: SparseNetwork, task: Task) -> float:
    """Cross-entropy or squared error on test rows, which nothing was chosen by."""
    X, y = task.rows("test")
    loss = functional.cross_entropy if task.is_classification else functional.mse_loss
    return float(loss(network(X), y).detach())


def use(name: str, *, rounds: int, steps: int = 100) -> dict[str, list[float]]:
    """Validation and test loss: untuned, by random constants, tuned."""
    task = Task.from_source(name)
    space = SearchSpace(
        widths=(task.n_features, N_HIDDEN, task.n_outputs),
        activations=("relu", "tanh"),
        density=0.5,
    )
    z = space.sample(generator=generator_for(0, name))

    def constant(config: TuningConfig) -> list[float]:
        once = tune_training(z, task, steps=steps, rounds=0, config=config)
        return [once.losses[0], test_loss(once.network, task)]

    generator = generator_for(0, "random", name)
    uniform = torch.rand(DEARER * (rounds + 1), 2, generator=generator)
    drawn = 10 ** (uniform * torch.tensor([2.5, 4.0]) - torch.tensor([2.0, 5.0]))
    tried = [constant(TuningConfig(rate=rate, decay=decay)) for rate, decay in drawn.tolist()]
    tuned = tune_training(z, task, hyper=("rates", "decay"), steps=steps, rounds=rounds)
    return {
        "first": constant(TuningConfig()),
        "random": min(tried[: rounds + 1]),
        f"random ×{DEARER}": min(tried),
        "tuned": [min(tuned.losses), test_loss(tuned.network, task)],
    }


def cost_of_a_round(problem: Problem, *, steps: int = 200) -> float:
    """CPU time of a training and the way back, in trainings."""

    def train() -> Tensor:
        w, v = problem.start, torch.zeros_like(problem.start)
        for step in range(steps):
            g = problem.gradient(w.detach().requires_grad_(), step, graph=False)
            v = 0.9 * v - 0.1 * g
            w = w + RATE * v
        return w

    def there_and_back() -> int:
        return go(problem, "reversible", steps=steps)

    train(), there_and_back()
    ratios = [timed(there_and_back)[0] / timed(train)[0] for _ in range(5)]
    return statistics.median(ratios)


def table_of(title: str, columns: tuple[str, ...], rows: list[list[str]]) -> Table:
    """Numbers to the right."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right")
    for row in rows:
        table.add_row(*row)
    return table


def tables(report: dict[str, Any], *, steps: int) -> list[Table]:
    """What the figures say."""
    bits = [
        [f"{row['momentum']}", "yes" if row["exact"] else "NO"]
        + [f"{row[name]:.3f}" for name in ("lost", "held", "stored", "stored64")]
        for row in report["exactness"]
    ]
    least = report["memory"]["reversible"]["kept"]
    kept = [
        [way, f"{f['kept'] / 1024:,.0f}", f"{f['kept'] / least:,.0f}×", f"{f['grown'] / MIB:.1f}"]
        for way, f in report["memory"].items()
    ]
    losses = [
        [name, *(f"{validation:.3f} / {test:.3f}" for validation, test in figures.values())]
        for name, figures in report["use"].items()
    ]
    return [
        table_of(
            f"Bits a step and parameter, {steps} steps and back",
            ("momentum", "exact", "log2(1/β)", "held", "in 32-bit limbs", "in 64-bit limbs"),
            bits,
        ),
        table_of(
            "Hypergradients against central differences, 50 steps",
            ("by", "relative error"),
            [[name, f"{error:.1e}"] for name, error in report["differences"].items()],
        ),
        table_of(
            f"Memory of the way back, {steps} steps",
            ("way", "kept, KiB", "of the reversible", "peak grew by, MiB"),
            kept,
        ),
        table_of(
            f"Loss, validation / test; a round costs {report['cost_of_a_round']:.1f} trainings",
            ("data", "first", "random", f"random ×{DEARER}", "tuned"),
            losses,
        ),
    ]


def main() -> None:
    """Measure everything, print the tables and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--way", choices=WAYS, help="measure the memory of one way and stop")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.way:
        print(json.dumps(one_way(options.way, steps=options.steps)))
        return
    problem = Problem()
    report = {
        "options": {"steps": options.steps, "rounds": options.rounds},
        "n_parameters": len(problem.start),
        "exactness": exactness(problem, steps=options.steps),
        "differences": differences(problem),
        "memory": memory(steps=options.steps),
        "cost_of_a_round": cost_of_a_round(problem),
        "use": {name: use(name, rounds=options.rounds) for name in DATA},
    }
    write_report(options.out, report)
    console = Console(width=WIDTH)
    for table in tables(report, steps=options.steps):
        console.print(table)


if __name__ == "__main__":
    main()
