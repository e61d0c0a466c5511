"""Are edges as often true as they are likely? Fits what turns saliencies into probabilities.

    python benchmarks/calibration.py [--sets 90]

Synthetic sets of known structure are drawn, of many shapes, sizes and levels of noise, with other
seeds than those of ``recovery.py``. Four numbers that bend the probabilities of edges that a
prediction kept, and of those it did not, are chosen so that the probability of a path from a
feature to an output loses least (in nats). They are printed as the constants of
``graphpred.meta.surgery`` should be.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from measuring import WIDTH, write_report
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize
from torch import Tensor

from graphpred.errors import InputError
from graphpred.meta import surgery
from graphpred.meta.model import MetaModel
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace
from graphpred.synthetic import draw_known
from graphpred.synthetic.recovery import calibration_error, path_probabilities, reachable

ACTIVATIONS = ("relu", "tanh", "sin", "gaussian")
Bend = Sequence[float]
"""Log factor and shift of the log odds of edges that are left; log factor and log power of twice
the probability of others."""


@dataclass(frozen=True, eq=False)
class Known:
    """Predicted probabilities of edges, and the paths that there are, ``(n, c)``."""

    probabilities: tuple[Tensor, ...]
    paths: NDArray[np.bool_]


def draw(number: int, model: MetaModel) -> Known | None:
    """A set and its prediction; None if the drawn structure makes no data set."""
    generator = generator_for(number, "calibration")

    def between(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    def log_between(low: float, high: float) -> float:
        return low * (high / low) ** float(torch.rand((), generator=generator))

    is_regression = between(0, 1) == 1
    n, h, c = between(6, 24), between(3, 10), between(1, 3) if is_regression else between(2, 5)
    try:
        known = draw_known(
            SearchSpace(widths=(n, h, c), activations=ACTIVATIONS, density=log_between(0.12, 0.45)),
            generator=generator,
            n_rows=round(log_between(300, 4000)),
            noise=log_between(0.05, 0.4),
            kind="regression" if is_regression else "classification",
            n_irrelevant=between(0, n),
        )
    except InputError:
        return None
    fitted = model.predict(known.task).fitted(known.architecture.n_edges)
    return Known(fitted.probabilities, reachable(known.architecture).numpy())


def bent(probability: Tensor, bend: Bend) -> Tensor:
    """Probabilities of edges after four numbers have bent them."""
    factor, shift, scale, power = bend
    p = probability.double().clamp(1e-9, 1 - 1e-9)
    left = torch.sigmoid(math.exp(factor) * torch.logit(p) + shift).clamp(min=0.5)
    gone = (math.exp(scale) * (2 * p) ** math.exp(power)).clamp(max=0.499)
    return torch.where(probability >= 0.5, left, gone)


def paths(sets: Sequence[Known], bend: Bend) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Probability of every path of all sets, and whether it is there."""
    likely = [path_probabilities([bent(p, bend) for p in one.probabilities]) for one in sets]
    return (
        np.concatenate([one.numpy().ravel() for one in likely]),
        np.concatenate([one.paths.ravel() for one in sets]),
    )


def loss(bend: Bend, sets: Sequence[Known]) -> float:
    """Mean cross-entropy of the paths, in nats."""
    likely, true = paths(sets, bend)
    return -float(np.log(np.where(true, likely, 1 - likely) + 1e-6).mean())


def constants(bend: Bend) -> dict[str, float]:
    """Those of ``graphpred.meta.surgery``, bent."""
    shift = bend[1]
    factor, scale, power = (math.exp(bend[i]) for i in (0, 2, 3))
    return {
        "_LEFT_SLOPE": factor * surgery._LEFT_SLOPE,
        "_LEFT_SHIFT": factor * surgery._LEFT_SHIFT + shift,
        "_GONE": scale * (2 * surgery._GONE) ** power,
        "_GONE_POWER": power * surgery._GONE_POWER,
    }


def main() -> None:
    """Draw sets, fit, print the constants and how often paths are true."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=90)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = MetaModel.load()
    sets = [one for i in range(options.sets) if (one := draw(i, model)) is not None]
    before = [0.0, 0.0, math.log(0.5), 0.0]
    fitted = minimize(loss, before, args=(sets,), method="Nelder-Mead", options={"maxiter": 120})
    table = Table(title=f"Paths of {len(sets)} sets", width=WIDTH)
    for column in ("", "nats", "calibration error"):
        table.add_column(column, justify="right")
    report: dict[str, object] = {"sets": len(sets), "constants": constants(fitted.x)}
    for name, bend in (("as they are", before), ("bent", fitted.x)):
        error = calibration_error(*paths(sets, bend))
        report[name] = {"nats": loss(bend, sets), "calibration error": error}
        table.add_row(name, f"{loss(bend, sets):.3f}", f"{error:.3f}")
    console = Console(width=WIDTH)
    console.print(table)
    console.print(constants(fitted.x))
    write_report(options.out or Path(__file__).parent / "results" / "calibration.json", report)


if __name__ == "__main__":
    main()
