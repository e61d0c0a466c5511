"""graphpred: predict which sparse neural network to train on a data set.

>>> import graphpred
>>> space = graphpred.SearchSpace(widths=(4, 4, 3), activations=("relu", "tanh"), density=0.5)
>>> space.log2_size
32.0
"""

from graphpred.activations import register_activation
from graphpred.architecture import Architecture
from graphpred.errors import GraphPredError
from graphpred.estimators import GraphPredClassifier, GraphPredRegressor
from graphpred.matching import closeness
from graphpred.meta.encoders import DatasetEncoder, Embedding
from graphpred.meta.model import MetaModel
from graphpred.meta.prediction import Prediction
from graphpred.network import SparseNetwork
from graphpred.objective import Objective
from graphpred.pairs.store import PairStore
from graphpred.population import Population
from graphpred.search import SEARCHERS, search, tune_penalty
from graphpred.space import SearchSpace
from graphpred.task import Task

__all__ = [
    "SEARCHERS",
    "Architecture",
    "DatasetEncoder",
    "Embedding",
    "GraphPredClassifier",
    "GraphPredError",
    "GraphPredRegressor",
    "MetaModel",
    "Objective",
    "PairStore",
    "Population",
    "Prediction",
    "SearchSpace",
    "SparseNetwork",
    "Task",
    "closeness",
    "register_activation",
    "search",
    "tune_penalty",
]
