"""Trains the packaged meta-model on the synthetic prior and writes it with its card.

    python docs/make_meta_model.py

Takes about an hour on one core. Stopped, it goes on from its checkpoint when it is started again.
"""

import argparse
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from rich.console import Console

from graphpred.meta.examples import TRAINING_ROWS, PriorExamples
from graphpred.meta.model import PACKAGED, MetaConfig, MetaModel
from graphpred.meta.refinement import PRICE_FACTOR
from graphpred.meta.relaxed import edge_loss, fit_loss, loss_scale, network_scores
from graphpred.meta.run import checkpoint_of, learn_familiarity
from graphpred.meta.training import TrainConfig, Trainer
from graphpred.seeds import generator_for
from graphpred.synthetic import PRIOR_VERSION

SEED = 0
RECIPE = TrainConfig(steps=1200, batch=16, learning_rate=7e-4, seed=SEED)
HELD_OUT = 128
"""Data sets of other seeds on which the objective is measured."""
EVERY = 50
"""Steps between lines that say how far it is."""


@torch.no_grad()
def objective(model: MetaModel, prior: PriorExamples) -> float:
    """Loss of drafts on fresh rows plus the price of their edges, as training weighs them."""
    model.eval()
    found = []
    for example in prior.draw(HELD_OUT, generator_for(SEED, "held out")):
        prices = torch.tensor([example.price])
        last = model([example.description], prices=prices, latents=[example.latents])[-1]
        fit = fit_loss(network_scores(last, example.X.unsqueeze(0)), [example.y])
        wanted = fit + PRICE_FACTOR * prices * edge_loss(last)
        is_regression = example.y.is_floating_point()
        found.append(float(wanted / loss_scale(last, is_regression=is_regression)))
    return sum(found) / len(found)


def main() -> None:
    """Train, or go on, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    folder = Path(__file__).parent.parent / "data"
    parser.add_argument("--out", type=Path, default=folder / PACKAGED)
    out, console = parser.parse_args().out, Console()
    torch.set_num_threads(1)
    model = MetaModel(MetaConfig(seed=SEED))
    prior = PriorExamples(partial(model.describe, limit=TRAINING_ROWS))
    before = objective(model, prior)
    trainer = Trainer(model, draw=prior.draw, config=RECIPE)
    checkpoint = checkpoint_of(out)
    if checkpoint.exists():
        trainer.restore(checkpoint)
    for report in trainer.run(checkpoint=checkpoint):
        if report.step % EVERY == 0:
            left = report.seconds_left / 60
            console.print(f"{report.step} of {report.steps} steps, {left:.0f} min left")
    trainer.take_average()
    learn_familiarity(model, draw=prior.draw, seed=SEED)
    after = objective(model, prior)
    model.card = {
        "name": "the packaged model: trained on the synthetic prior",
        "graphpred": version("graphpred"),
        "data sets": [],
        "pairs": 0,
        "synthetic prior": PRIOR_VERSION,
        "started from": None,
        **asdict(RECIPE),
        "objective on other synthetic data sets": {"initial": before, "trained": after},
    }
    model.save(out)
    checkpoint.unlink()
    console.print(f"{out}: objective {before:.4f} before, {after:.4f} after training.")


if __name__ == "__main__":
    main()
