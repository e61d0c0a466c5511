"""Many sparse networks trained at the same time."""

from graphpred.population.halving import Halving
from graphpred.population.population import (
    FITTED_RATE,
    LEARNING_RATE,
    TUNING_RATE,
    Population,
)

__all__ = ["FITTED_RATE", "LEARNING_RATE", "TUNING_RATE", "Halving", "Population"]
