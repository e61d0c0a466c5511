"""Searchers behind one protocol, one ledger and one driver."""

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
from graphpred.searchers.exhaustive import ExhaustiveSearch
from graphpred.searchers.halving import HalvingSearch
from graphpred.searchers.random import random_live_search, random_search
from graphpred.searchers.tuning import TunedPenalty, tune_penalty

SEARCHERS["random"] = random_search
SEARCHERS["random_live"] = random_live_search
SEARCHERS["exhaustive"] = ExhaustiveSearch
SEARCHERS["halving"] = HalvingSearch
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
