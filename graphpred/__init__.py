"""graphpred: predict which sparse neural network to train on a data set.

Names are imported when they are first used, so that ``import graphpred`` is quick and worker
processes load only what they need.

>>> import graphpred
>>> space = graphpred.SearchSpace(widths=(4, 4, 3), activations=("relu", "tanh"), density=0.5)
>>> space.log2_size
32.0
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphpred.activations import register_activation as register_activation
    from graphpred.architecture import Architecture as Architecture
    from graphpred.errors import GraphPredError as GraphPredError
    from graphpred.estimators import GraphPredClassifier as GraphPredClassifier
    from graphpred.estimators import GraphPredRegressor as GraphPredRegressor
    from graphpred.matching import closeness as closeness
    from graphpred.meta.deeper import DeepPrediction as DeepPrediction
    from graphpred.meta.encoders import DatasetEncoder as DatasetEncoder
    from graphpred.meta.encoders import Embedding as Embedding
    from graphpred.meta.model import MetaModel as MetaModel
    from graphpred.meta.prediction import Prediction as Prediction
    from graphpred.network import SparseNetwork as SparseNetwork
    from graphpred.objective import Objective as Objective
    from graphpred.pairs.store import PairStore as PairStore
    from graphpred.population import Population as Population
    from graphpred.searchers import SEARCHERS as SEARCHERS
    from graphpred.searchers import search as search
    from graphpred.searchers import tune_penalty as tune_penalty
    from graphpred.space import SearchSpace as SearchSpace
    from graphpred.task import Task as Task

_HOMES = {
    "Architecture": "graphpred.architecture",
    "DatasetEncoder": "graphpred.meta.encoders",
    "DeepPrediction": "graphpred.meta.deeper",
    "Embedding": "graphpred.meta.encoders",
    "GraphPredClassifier": "graphpred.estimators",
    "GraphPredError": "graphpred.errors",
    "GraphPredRegressor": "graphpred.estimators",
    "MetaModel": "graphpred.meta.model",
    "Objective": "graphpred.objective",
    "PairStore": "graphpred.pairs.store",
    "Population": "graphpred.population",
    "Prediction": "graphpred.meta.prediction",
    "SEARCHERS": "graphpred.searchers",
    "SearchSpace": "graphpred.space",
    "SparseNetwork": "graphpred.network",
    "Task": "graphpred.task",
    "closeness": "graphpred.matching",
    "register_activation": "graphpred.activations",
    "search": "graphpred.searchers",
    "tune_penalty": "graphpred.searchers",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'graphpred' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
