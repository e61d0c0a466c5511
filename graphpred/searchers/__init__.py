"""Searchers behind one protocol, one ledger and one driver."""

from graphpred.searchers.adanet import AdaNet
from graphpred.searchers.base import (
    SEARCHERS,
    Ledger,
    Proposal,
    SearcherFactory,
    Setting,
    Trial,
    plugged_in,
)
from graphpred.searchers.driver import Search, SearchState, search
from graphpred.searchers.evolution import EvolutionSearch
from graphpred.searchers.exhaustive import ExhaustiveSearch
from graphpred.searchers.gaussian_process import GaussianProcessSearch
from graphpred.searchers.halving import HalvingSearch
from graphpred.searchers.l0_gates import l0_gates_search
from graphpred.searchers.nasnet import NasnetSearch
from graphpred.searchers.ppo import ppo_search
from graphpred.searchers.pruning import (
    gradual_pruning_search,
    magnitude_pruning_search,
    snip_search,
)
from graphpred.searchers.q_learning import QLearningSearch
from graphpred.searchers.random import random_live_search, random_search
from graphpred.searchers.reinforce import independent_search, reinforce_search
from graphpred.searchers.rigl import rigl_search, set_search
from graphpred.searchers.tuning import TunedPenalty, tune_penalty

SEARCHERS["random"] = random_search
SEARCHERS["random_live"] = random_live_search
SEARCHERS["exhaustive"] = ExhaustiveSearch
SEARCHERS["halving"] = HalvingSearch
SEARCHERS["adanet"] = AdaNet
SEARCHERS["evolution"] = EvolutionSearch
SEARCHERS["q_learning"] = QLearningSearch
SEARCHERS["reinforce"] = reinforce_search
SEARCHERS["reinforce_independent"] = independent_search
SEARCHERS["ppo"] = ppo_search
SEARCHERS["nasnet"] = NasnetSearch
SEARCHERS["magnitude_pruning"] = magnitude_pruning_search
SEARCHERS["gradual_pruning"] = gradual_pruning_search
SEARCHERS["snip"] = snip_search
SEARCHERS["rigl"] = rigl_search
SEARCHERS["set"] = set_search
SEARCHERS["l0_gates"] = l0_gates_search
SEARCHERS["gaussian_process"] = GaussianProcessSearch
SEARCHERS["meta_model"] = plugged_in("graphpred.meta.searcher:MetaModelSearch")

__all__ = [
    "SEARCHERS",
    "Ledger",
    "Proposal",
    "Search",
    "SearchState",
    "SearcherFactory",
    "Setting",
    "Trial",
    "TunedPenalty",
    "search",
    "tune_penalty",
]
