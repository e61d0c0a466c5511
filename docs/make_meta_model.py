"""Writes the packaged meta-model: the initial parameters, and what synthetic data sets are like.

    python docs/make_meta_model.py

Training on the synthetic prior does not improve predictions for real data sets yet; see
docs/meta-model.md.
"""

from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from graphpred.meta.examples import TRAINING_ROWS, PriorExamples
from graphpred.meta.model import PACKAGED, MetaConfig, MetaModel
from graphpred.meta.run import learn_familiarity
from graphpred.synthetic import PRIOR_VERSION

SEED = 0


def main() -> None:
    """Write the file."""
    torch.set_num_threads(1)
    model = MetaModel(MetaConfig(seed=SEED))
    prior = PriorExamples(partial(model.describe, limit=TRAINING_ROWS))
    learn_familiarity(model, draw=prior.draw, seed=SEED)
    model.card = {
        "name": "the packaged model: initial parameters",
        "graphpred": version("graphpred"),
        "data sets": [],
        "pairs": 0,
        "synthetic prior": PRIOR_VERSION,
        "started from": None,
        "steps": 0,
        "batch": 0,
        "seed": SEED,
    }
    model.save(Path(__file__).parent.parent / "data" / PACKAGED)


if __name__ == "__main__":
    main()
