"""What the parts of a prediction are worth: the packaged model without each of them.

    python benchmarks/ablation.py FOLDER [--quick] [--out JSON]

The tuning half of the data sets in FOLDER, κ of 1 and 4, first split. Mean test loss (error, or 1 −
R², at most 1) of the predicted networks without a step, and with fresh weights after 300 steps.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from measuring import WIDTH, write_report
from rich.console import Console
from rich.table import Table
from torch import Tensor

from graphpred.experiments.predicted import trained, trained_afresh
from graphpred.experiments.protocol import Cell, cells, data_sets
from graphpred.experiments.rivals import rate_of
from graphpred.meta import draft, model, surgery
from graphpred.meta.model import MetaConfig, MetaModel
from graphpred.searchers import Proposal

KAPPAS, STEPS, QUICK_SETS = [1.0, 4.0], 300, 3
MIDDLE_PRICE = 0.1
Predict = Callable[[Cell], Proposal]


def variants() -> dict[str, Predict]:
    """Every variant's network for a cell."""
    whole = MetaModel.load()
    many, single = MetaModel.load(), MetaModel.load()
    many.decoder.refiner.n_rounds, single.decoder.refiner.n_rounds = 15, 1
    blind, unguided = MetaModel.load(), MetaModel.load()
    with torch.no_grad():
        blind.decoder.drafter.relate.weight.zero_()
        unguided.decoder.drafter.relate.weight[:, 0].zero_()
    rows = MetaModel(MetaConfig(encoder="row_attention"))
    return {
        "whole": _fitted(whole),
        "encoder of rows, not trained": _fitted(rows),
        "drafts compared, not fitted and cut": _near(whole),
        "fitted as large networks are": _patched(whole, surgery, "_MOST_EXACT", 1),
        "15 rounds": _fitted(many),
        "1 round": _fitted(single),
        "no direct path from statistics": _fitted(blind),
        "no linear guess in it": _fitted(unguided),
        "blind to the price": _patched(whole, draft, "_context", _without_price),
        "one latent for all neurons": _patched(whole, model, "draw_latents", _one_latent),
        "two hidden layers": _deep(whole, n_layers=2),
        "three hidden layers": _deep(whole, n_layers=3),
    }


def _patched(whole: MetaModel, module: ModuleType, name: str, other: Any) -> Predict:
    """With something else of that name in a module."""

    def predict(cell: Cell) -> Proposal:
        with mock.patch.object(module, name, other):
            return _fitted(whole)(cell)

    return predict


def _without_price(
    sizes: tuple[int, int, int], prices: Tensor, *, context: Any = draft._context
) -> Tensor:
    """The networks see the middle price; an edge still costs its own."""
    return context(sizes, torch.full_like(prices, MIDDLE_PRICE))


def _one_latent(n_hidden: int, *, generator: torch.Generator) -> Tensor:
    """All hidden neurons start alike."""
    return torch.randn(1, draft.LATENT_SIZE, generator=generator).expand(n_hidden, -1)


def _fitted(one: MetaModel) -> Predict:
    def predict(cell: Cell) -> Proposal:
        return one.predict(cell.task, seed=cell.seed).proposal(n_edges=cell.n_edges)

    return predict


def _near(one: MetaModel) -> Predict:
    def predict(cell: Cell) -> Proposal:
        return one.predict(cell.task, seed=cell.seed).near(cell.n_edges).chosen(cell.n_edges)

    return predict


def _deep(one: MetaModel, *, n_layers: int) -> Predict:
    def predict(cell: Cell) -> Proposal:
        hidden = [cell.task.n_features] * n_layers
        return one.predict(cell.task, n_hidden=hidden, seed=cell.seed).proposal(
            n_edges=cell.n_edges
        )

    return predict


def losses(predict: Predict, cell: Cell) -> tuple[float, float]:
    """Test loss without a step, and of fresh weights."""
    proposal = predict(cell)
    start = trained(replace(cell, steps=0), [proposal], rate=0.0).best_of(1, steps=0)
    fresh = trained_afresh(cell, [proposal], rate=rate_of("fresh", cell.steps))
    return min(start.loss, 1.0), min(fresh.best_of(1, steps=cell.steps).loss, 1.0)


def main() -> None:
    """Predict with every variant, print the table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--quick", action="store_true", help="a few sets")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sets = list(data_sets(options.data, half="tuning"))[: QUICK_SETS if options.quick else None]
    budgets = [
        (one.task.is_classification, one)
        for data in sets
        for one in cells(data.load(), seed=0, kappas=KAPPAS, steps=[STEPS])
    ]
    table = Table(title=f"Without a part: {len(budgets)} cells of {len(sets)} sets", width=WIDTH)
    for heading in ("", "no step", "classes", "regression", "fresh, 300 steps"):
        table.add_column(heading, justify="right" if heading else "left")
    report: dict[str, Any] = {}
    for name, predict in variants().items():
        found = [(is_class, *losses(predict, cell)) for is_class, cell in budgets]
        means = {
            "no step": statistics.fmean(loss for _, loss, _ in found),
            "classes": statistics.fmean([loss for kind, loss, _ in found if kind] or [0.0]),
            "regression": statistics.fmean([loss for kind, loss, _ in found if not kind] or [0.0]),
            "fresh": statistics.fmean(loss for _, _, loss in found),
        }
        report[name] = means
        table.add_row(name, *(f"{mean:.4f}" for mean in means.values()))
    Console(width=WIDTH).print(table)
    out = options.out or Path(__file__).parent / "results" / "ablation.json"
    write_report(out, {"cells": len(budgets), "variants": report})


if __name__ == "__main__":
    main()
