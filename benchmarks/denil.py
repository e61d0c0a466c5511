"""MNIST with a quarter of the weights learned and the others predicted, beside all of them learned.

    python benchmarks/denil.py MNIST.npz [--epochs 10] [--seeds 3] [--kept 0.25] [--out FILE]

A 784-500-500-10 network of rectified units, everybody trained alike: Adam from 1e-3 falling
linearly to zero, batches of 256, on all 60,000 images. *Predicted*: kernel of pixels in the first
layer, covariance in the second. *Blind*: as many weights, each unit sees its known inputs alone
(the identity as kernel), the paper's control. The classifier is dense and not counted. Kernel and
ridge were chosen on held-out training images at a few epochs; test images are looked at once.

The last lines predict weights without training: those of the dense networks' first layer, from the
same share of their rows, with the other layers as trained. Error is that of the weights not known,
over the weights' own size, from pixels that vary.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import WIDTH, write_report
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from graphpred.factored import (
    DenseLayer,
    FactoredConfig,
    FactoredLayer,
    dense_network,
    factored_network,
    pixel_kernel,
    predict_weights,
    train_classifier,
)
from graphpred.seeds import generator_for

WIDTHS = (784, 500, 500, 10)
BATCH = 256
DEFAULT_OUT = Path(__file__).parent / "results" / "denil.json"

Rows = tuple[Tensor, Tensor]


def read(path: Path) -> tuple[Rows, Rows]:
    """Training and test digits, pixels in [0, 1]."""
    with np.load(path) as arrays:
        parts = [
            (
                torch.from_numpy(arrays[f"X_{part}"].reshape(-1, 784).astype(np.float32)) / 255,
                torch.from_numpy(arrays[f"y_{part}"].astype(np.int64)),
            )
            for part in ("train", "test")
        ]
    return parts[0], parts[1]


def blind_network(*, kept: float, seed: int) -> nn.Sequential:
    """Predicts zeros for the weights that are not known."""
    generator, layers = generator_for(seed, "blind"), []
    for n_inputs, n_units in itertools.pairwise(WIDTHS[:3]):
        kernel = torch.eye(n_inputs, dtype=torch.float64)
        layer = FactoredLayer(
            kernel,
            n_units,
            kept=kept,
            n_blocks=FactoredConfig.n_blocks,
            ridge=1e-6,
            generator=generator,
        )
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers, DenseLayer(*WIDTHS[2:], generator=generator))


def contestants(X: Tensor, *, kept: float) -> dict[str, Callable[[int], nn.Sequential]]:
    """Networks by name, from a seed."""
    config = FactoredConfig(kept=kept, image=(28, 28))
    return {
        "dense": lambda seed: dense_network(WIDTHS, generator=generator_for(seed, "dense")),
        "predicted": lambda seed: factored_network(
            X, widths=WIDTHS, generator=generator_for(seed, "factored"), config=config
        ),
        "blind": lambda seed: blind_network(kept=kept, seed=seed),
    }


@torch.no_grad()
def accuracy(network: nn.Module, rows: Rows) -> float:
    """Share of rows classified right."""
    X, y = rows
    return float((network(X).argmax(dim=1) == y).double().mean())


def n_learned(network: nn.Sequential) -> int:
    """Weights of all layers but the classifier that are parameters; biases are not counted."""
    hidden = list(network)[:-1]
    return sum(p.numel() for layer in hidden for p in layer.parameters() if p.ndim == 2)


@torch.no_grad()
def predicted_afterwards(
    network: nn.Sequential, rows: Rows, *, varies: Tensor, kept: float, seed: int
) -> dict[str, float]:
    """Predict most of a trained first layer by the pixels' kernel; the network is put back."""
    layer = network[0]
    assert isinstance(layer, DenseLayer)
    trained = layer.weight.clone()
    order = torch.randperm(len(trained), generator=generator_for(seed, "rows"))
    indices = order[: int(kept * len(order))]
    unknown = varies.clone()
    unknown[indices] = False
    kernel = pixel_kernel(28, 28, length_scale=FactoredConfig.length_scale)
    predicted = predict_weights(trained[indices], indices, kernel=kernel)
    predicted[indices] = trained[indices]
    layer.weight.copy_(predicted)
    figures = {
        "accuracy": accuracy(network, rows),
        "error": float((predicted - trained)[unknown].norm() / trained[unknown].norm()),
    }
    predicted[unknown] = 0.0
    layer.weight.copy_(predicted)
    figures["accuracy with zeros"] = accuracy(network, rows)
    layer.weight.copy_(trained)
    return figures


def main() -> None:
    """Train everybody, print the table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kept", type=float, default=0.25)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train, test = read(options.images)
    varies = train[0].amax(dim=0) > train[0].amin(dim=0)  # (784,)
    results: dict[str, dict[str, Any]] = {}
    afterwards: list[dict[str, float]] = []
    for name, make in contestants(train[0], kept=options.kept).items():
        accuracies, started = [], time.process_time()
        for seed in range(options.seeds):
            network = make(seed)
            train_classifier(
                network, train[0], y=train[1], epochs=options.epochs, batch=BATCH, seed=seed
            )
            accuracies.append(accuracy(network, test))
            if name == "dense":
                afterwards.append(
                    predicted_afterwards(network, test, varies=varies, kept=options.kept, seed=seed)
                )
        seconds = (time.process_time() - started) / options.seeds
        results[name] = {"test": accuracies, "learned": n_learned(network), "cpu_s": seconds}
    described = {"epochs": options.epochs, "seeds": options.seeds, "kept": options.kept}
    report = {"options": described, "methods": results, "afterwards": afterwards}
    write_report(options.out, report)
    print_tables(report)


def print_tables(report: dict[str, Any]) -> None:
    """What the figures say."""
    options, results = report["options"], report["methods"]
    title = f"MNIST, {options['epochs']} epochs, means of {options['seeds']} seeds"
    table = Table(title=title, title_justify="left")
    for column in ("network", "test accuracy, %", "spread", "lost, points", "weights", "CPU s"):
        table.add_column(column, justify="left" if column == "network" else "right")
    full = statistics.fmean(results["dense"]["test"])
    for name, figures in results.items():
        mean = statistics.fmean(figures["test"])
        table.add_row(
            name,
            f"{100 * mean:.2f}",
            f"{100 * (max(figures['test']) - min(figures['test'])):.2f}",
            f"{100 * (full - mean):.2f}",
            f"{figures['learned']:,}",
            f"{figures['cpu_s']:.0f}",
        )
    console = Console(width=WIDTH)
    console.print(table)
    means = {
        key: statistics.fmean(one[key] for one in report["afterwards"])
        for key in report["afterwards"][0]
    }
    console.print(
        f"First layer of trained dense networks, {options['kept']:.0%} of its rows known, "
        f"no training after: {100 * means['accuracy']:.2f} % with the others predicted, "
        f"{100 * means['accuracy with zeros']:.2f} % with zeros; "
        f"error of predicted weights {means['error']:.2f}."
    )


if __name__ == "__main__":
    main()
