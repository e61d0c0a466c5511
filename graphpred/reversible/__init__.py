"""Training that can be run backwards, and hyperparameters tuned by its exact gradient."""

from graphpred.reversible.descent import (
    Descent,
    Hypergradients,
    Schedule,
    hypergradients,
)
from graphpred.reversible.fixed_point import BitBuffer, DivergenceError
from graphpred.reversible.tuning import Tuned, TuningConfig, tune_training

__all__ = [
    "BitBuffer",
    "Descent",
    "DivergenceError",
    "Hypergradients",
    "Schedule",
    "Tuned",
    "TuningConfig",
    "hypergradients",
    "tune_training",
]
