"""Writes the packaged meta-model with its card.

    python docs/make_meta_model.py [--steps 1200] [--out FILE]

It has its initial parameters and knows what data sets of the prior are like. With steps, it is
trained on the prior first, about half a second a step on one core; stopped, that goes on from its
checkpoint when it is started again. What training is worth: docs/meta-model.md.
"""

import argparse
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
BATCH, RATE = 16, 7e-4
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


def trained(model: MetaModel, prior: PriorExamples, *, steps: int, out: Path) -> None:
    """Train in place, or go on with it."""
    console, checkpoint = Console(), checkpoint_of(out)
    config = TrainConfig(steps=steps, batch=BATCH, learning_rate=RATE, seed=SEED)
    trainer = Trainer(model, draw=prior.draw, config=config)
    if checkpoint.exists():
        trainer.restore(checkpoint)
    for report in trainer.run(checkpoint=checkpoint):
        if report.step % EVERY == 0:
            left = report.seconds_left / 60
            console.print(f"{report.step} of {report.steps} steps, {left:.0f} min left")
    trainer.take_average()


def main() -> None:
    """Train if that is asked for, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=0)
    folder = Path(__file__).parent.parent / "data"
    parser.add_argument("--out", type=Path, default=folder / PACKAGED)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = MetaModel(MetaConfig(seed=SEED))
    prior = PriorExamples(partial(model.describe, limit=TRAINING_ROWS))
    figures = {"initial": objective(model, prior)}
    if options.steps:
        trained(model, prior, steps=options.steps, out=options.out)
        figures["trained"] = objective(model, prior)
    learn_familiarity(model, draw=prior.draw, seed=SEED)
    how = "trained on the synthetic prior" if options.steps else "initial parameters"
    model.card = {
        "name": f"the packaged model: {how}",
        "graphpred": version("graphpred"),
        "data sets": [],
        "pairs": 0,
        "synthetic prior": PRIOR_VERSION,
        "started from": None,
        "steps": options.steps,
        "batch": BATCH if options.steps else 0,
        "learning rate": RATE if options.steps else None,
        "seed": SEED,
        "objective on synthetic data sets it has not seen": figures,
    }
    model.save(options.out)
    checkpoint_of(options.out).unlink(missing_ok=True)
    Console().print(f"{options.out}: {figures}")


if __name__ == "__main__":
    main()
