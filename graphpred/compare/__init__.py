"""All searchers on the same data, space, objective and budget, under one ledger."""

from graphpred.compare.contest import CompareConfig, Comparison, Progress, run_comparison
from graphpred.compare.page import comparison_report, write_page
from graphpred.compare.scores import comparison_summary

__all__ = [
    "CompareConfig",
    "Comparison",
    "Progress",
    "comparison_report",
    "comparison_summary",
    "run_comparison",
    "write_page",
]
