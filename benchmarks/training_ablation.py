"""What the parts of meta-training are worth: the packaged model trained on a set's own pairs.

    python benchmarks/training_ablation.py [--quick] [--cache FOLDER] [--out JSON]

Sets that scikit-learn ships; pairs of subsamples by random search. Every variant goes on from the
packaged model for as many steps, and predicts for the whole set. Test error, or 1 − R², of drafts
(what training changes), of what is fitted and cut, and of fresh weights; edges of the draft at the
pairs' middle price, and its closeness to the pairs' architectures. A stopped run goes on.
"""

import argparse
import math
import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from measuring import WIDTH, write_report
from rich.console import Console
from rich.table import Table
from torch import Tensor

from graphpred import closeness
from graphpred.experiments.own_model import OWN_RATE, Contest, own_pairs
from graphpred.experiments.parts import kept
from graphpred.meta import relaxed
from graphpred.meta.examples import TRAINING_ROWS, Draw, Example, PairExamples, PriorExamples
from graphpred.meta.model import MetaModel
from graphpred.meta.training import TrainConfig, Trainer
from graphpred.pairs.generate import GenerateConfig
from graphpred.pairs.pair import Pair
from graphpred.task import Task

SETS, N_HIDDEN, KAPPAS, LATENTS, SEED = ("breast_cancer", "diabetes", "digits"), 16, (2, 8), 2, 1
COMPARED = 12
"""Pairs whose architectures are compared with a draft."""
Change = Callable[[list[Example], torch.Generator], list[Example]]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to train.

    Attributes:
        alpha: Cost of a false edge.
        beta: Cost of a missed edge.
        matched: Whether hidden neurons are matched to the pair's.
        change: Of the examples of a step.
    """

    alpha: float = TrainConfig.alpha
    beta: float = TrainConfig.beta
    matched: bool = True
    change: Change = lambda examples, generator: examples

    def patched(self) -> AbstractContextManager[Any]:
        """Where neurons keep their order unless they are matched."""
        return nullcontext() if self.matched else mock.patch.object(relaxed, "_match", _in_order)


def _in_order(predicted: Tensor, wanted: Tensor, *, alpha: float, beta: float) -> Tensor:
    return torch.arange(wanted.shape[1])


def _unpaired(examples: list[Example], generator: torch.Generator) -> list[Example]:
    return [replace(example, architecture=None) for example in examples]


def _one_latent(examples: list[Example], generator: torch.Generator) -> list[Example]:
    return [replace(e, latents=e.latents[:1].expand_as(e.latents)) for e in examples]


def variants(model: MetaModel) -> dict[str, Variant | None]:
    """Every variant by name; None is the model as it is."""
    prior = PriorExamples(partial(model.describe, limit=TRAINING_ROWS))

    def mixed(examples: list[Example], generator: torch.Generator) -> list[Example]:
        half = len(examples) // 2
        return prior.draw(half, generator) + examples[half:]

    return {
        "not trained": None,
        "whole": Variant(),
        "half from the prior": Variant(change=mixed),
        "without the pairs' architectures": Variant(change=_unpaired),
        "without matching": Variant(matched=False),
        "one latent for all neurons": Variant(change=_one_latent),
        "alpha and beta exchanged": Variant(alpha=0.005, beta=0.01),
        "ten times both": Variant(alpha=0.1, beta=0.05),
        "ten times both, exchanged": Variant(alpha=0.05, beta=0.1),
    }


def measured(name: str, label: str, *, steps: int, pairs: list[Pair]) -> dict[str, float]:
    """Figures of one variant on one set."""
    model = MetaModel.load()
    variant = variants(model)[label]
    if variant is not None:
        _train(model, pairs, variant=variant, steps=steps)
    task = Task.from_source(name, seed=SEED)
    n_hidden = pairs[0].architecture.widths[1]
    losses = []
    for kappa in KAPPAS:
        n_edges = int(kappa * (task.n_features + task.n_outputs))
        contest = Contest(
            task=task, n_hidden=n_hidden, n_edges=n_edges, steps=300, latents=LATENTS, seed=SEED
        )
        losses.append(contest.losses(model))
    found = {form: statistics.fmean(loss[form] for loss in losses) for form in losses[0]}
    price = statistics.geometric_mean(max(pair.price, 1e-6) for pair in pairs)
    nearest = sorted(pairs, key=lambda pair: abs(math.log(max(pair.price, 1e-6) / price)))
    z = model.predict(task, n_hidden=n_hidden, price=price, seed=SEED).architecture()
    apart = [
        closeness(pair.architecture, z, alpha=0.01, beta=0.005, align=True)
        / (0.005 * max(1, pair.architecture.n_edges))
        for pair in nearest[:COMPARED]
    ]
    return found | {"edges": z.n_live_edges, "apart": statistics.fmean(apart)}


def _train(model: MetaModel, pairs: list[Pair], *, variant: Variant, steps: int) -> None:
    own = PairExamples(pairs, describe=partial(model.describe, limit=TRAINING_ROWS), seed=SEED)
    config = TrainConfig(
        steps=steps, learning_rate=OWN_RATE, alpha=variant.alpha, beta=variant.beta, seed=SEED
    )

    def draw(k: int, generator: torch.Generator) -> list[Example]:
        return variant.change(own.draw(k, generator), generator)

    changed: Draw = draw
    trainer = Trainer(model, draw=changed, config=config)
    with variant.patched():
        for _ in trainer.run():
            pass
    trainer.take_average()
    model.eval()


def main() -> None:
    """Train and predict with every variant, print the table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--quick", action="store_true", help="one set, a few steps")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--searches", type=int, default=24)
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache/training_ablation"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sets = options.sets[:1] if options.quick else options.sets
    steps, searches = (3, 4) if options.quick else (options.steps, options.searches)
    columns = ("draft", "no step", "fresh weights", "edges", "apart")
    table = Table(title=f"{steps} steps on the pairs of {', '.join(sets)}", width=WIDTH)
    for heading in ("", *columns):
        table.add_column(heading, justify="right" if heading else "left")
    report: dict[str, Any] = {label: {} for label in variants(MetaModel.load())}
    for name in sets:
        n_hidden = min(Task.from_source(name, seed=SEED).n_features, N_HIDDEN)
        pairs = own_pairs(
            name,
            out=options.cache / f"{name}-{searches}-pairs",
            config=GenerateConfig(n_searches=searches, n_hidden=n_hidden, seed=SEED),
        )
        for label, found in report.items():
            make = partial(measured, name, label, steps=steps, pairs=pairs)
            path = options.cache / f"{name}-{searches}-{steps}-{label.replace(' ', '_')}.json"
            found[name] = kept(path, make)
            print(name, label, {k: round(v, 4) for k, v in found[name].items()}, flush=True)
    for label, found in report.items():
        means = [statistics.fmean(one[column] for one in found.values()) for column in columns]
        table.add_row(label, *(f"{mean:.4g}" for mean in means))
    Console(width=WIDTH).print(table)
    out = options.out or Path(__file__).parent / "results" / "training_ablation.json"
    write_report(out, {"steps": steps, "searches": searches, "variants": report})


if __name__ == "__main__":
    main()
