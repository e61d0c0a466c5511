"""``python -m graphpred.experiments NAME [--quick]``: one experiment of the paper."""

import argparse
from importlib import import_module
from pathlib import Path

import torch
from rich.console import Console

EXPERIMENTS = {
    "known_structure": "synthetic data of known structure: recovery of edges, and what C, α and β, "
    "the number of pairs and the size of subsamples do",
    "plane": "two classes in the plane: the networks that are found, drawn",
    "mnist": "pairs from subsamples of MNIST, a meta-model, a prediction for the whole set",
}
"""Every experiment by the name of its module in this package, with what it is.

A module has ``run(*, data, quick, out)``, which writes figures below ``out`` and returns tables.
"""
WIDTH = 100


def main(arguments: list[str] | None = None) -> None:
    """Run one and print its tables."""
    described = "\n".join(f"  {name}: {text}" for name, text in EXPERIMENTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m graphpred.experiments",
        description=f"Experiments:\n{described}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=list(EXPERIMENTS))
    parser.add_argument("--data", type=Path, help="an .npz file of images, for mnist")
    parser.add_argument("--quick", action="store_true", help="a small form, under two minutes")
    parser.add_argument("--out", type=Path, default=Path("experiments"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    run = import_module(f"graphpred.experiments.{options.name}").run
    console = Console(width=WIDTH)
    for table in run(data=options.data, quick=options.quick, out=options.out / options.name):
        console.print(table)


if __name__ == "__main__":
    main()
