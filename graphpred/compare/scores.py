"""Scores of a comparison: ranks, equivalent budgets and anytime curves.

Ranks are compared by Friedman's test and Nemenyi's critical difference (Demšar, "Statistical
comparisons of classifiers over multiple data sets", 2006): two methods differ with 95 % confidence
if their mean ranks over N data sets are further apart than q √(k (k + 1) / 6N).
Notation: k methods, N data sets; 𝔏 the objective on the test part of the network that the
validation part chose.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import friedmanchisquare, rankdata, studentized_range

from graphpred.compare.contest import Comparison
from graphpred.compare.trajectory import COSTS

_STEPS = (1, 2, 3, 5)
BASELINES = ("random_live", "random")
"""Methods whose evaluations others are worth; the first that takes part."""
FEWEST_FOR_RANKS = 3
"""Methods that Friedman's test needs."""
_FIGURES = ("test_objective", "test_loss", "n_edges", *COSTS)


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Mean ranks at one budget; 1 is best.

    Attributes:
        budget: Evaluations.
        mean: By method.
        critical_difference: Of two mean ranks; NaN for fewer than three methods or two data sets.
        p_value: Of Friedman's test that all methods are alike; NaN likewise.
        n_sets: N.
    """

    budget: float
    mean: dict[str, float]
    critical_difference: float
    p_value: float
    n_sets: int


def budgets(most: float) -> list[int]:
    """1, 2, 3, 5, 10, 20, 30, 50, … up to the whole budget.

    >>> budgets(20)
    [1, 2, 3, 5, 10, 20]
    """
    steps = [step * 10**power for power in range(9) for step in _STEPS if step * 10**power < most]
    return [*steps, int(most)]


def at_budget(
    points: pd.DataFrame, budget: float, *, currency: str = "evaluations"
) -> pd.DataFrame:
    """The last point of every cell that a budget pays for: one row a data set, split and method."""
    within = points[points[currency] <= budget + 1e-9]
    return within.groupby(["data", "seed", "method"], sort=False).tail(1)


def table_of(
    points: pd.DataFrame, budget: float, *, figure: str = "test_objective"
) -> pd.DataFrame:
    """Means over the splits: a row a data set, a column a method; without reference lines."""
    searched = points[~points["is_reference"]]
    return at_budget(searched, budget).pivot_table(
        index="data", columns="method", values=figure, aggfunc="mean", sort=False
    )


def ranks_at(points: pd.DataFrame, budget: float) -> Ranks:
    """Ranks of the mean 𝔏 of every data set, averaged over the data sets."""
    table = table_of(points, budget)
    values = table.to_numpy()
    n_sets, k = values.shape
    mean = rankdata(values, axis=1).mean(axis=0)
    if k < FEWEST_FOR_RANKS or n_sets < 2:
        difference = p_value = math.nan
    else:
        difference = critical_difference(k, n_sets)
        p_value = float(friedmanchisquare(*values.T).pvalue)
    return Ranks(
        budget=budget,
        mean=dict(zip(table.columns, mean.tolist(), strict=True)),
        critical_difference=difference,
        p_value=p_value,
        n_sets=n_sets,
    )


def critical_difference(k: int, n_sets: int, *, level: float = 0.05) -> float:
    """Nemenyi's, of the mean ranks of k methods over some data sets.

    >>> round(critical_difference(4, 14), 2)
    1.25
    """
    q = float(studentized_range.ppf(1 - level, k, np.inf)) / math.sqrt(2)
    return q * math.sqrt(k * (k + 1) / (6 * n_sets))


def equivalent_evaluations(
    points: pd.DataFrame, budget: float, *, method: str, baseline: str
) -> float:
    """Evaluations of a baseline that one method is worth after its own budget.

    For every data set: the least number after which the baseline's mean 𝔏 is no more than the
    method's; ∞ if that was never reached. The median over the data sets.
    """
    goals = table_of(points, budget)[method].to_numpy()  # (N,)
    steps = [0, *budgets(float(points["evaluations"].max()))]
    curve = np.stack([table_of(points, step)[baseline].to_numpy() for step in steps])
    reached = curve <= goals + 1e-12  # (steps, N)
    needed = np.where(reached.any(axis=0), np.asarray(steps)[reached.argmax(axis=0)], np.inf)
    return float(np.median(needed))


def regret_curve(
    points: pd.DataFrame, *, method: str, currency: str = "evaluations"
) -> pd.DataFrame:
    """Quartiles of what a method has yet to gain after every budget.

    Regret is (𝔏 − 𝔏_best) / (𝔏_constant − 𝔏_best): 1 for the best constant, 0 for the best that any
    searcher's mean had reached in the end.

    Returns:
        Columns ``budget``, ``low``, ``median``, ``high``, over data sets and splits.
    """
    searched = points[~points["is_reference"]]
    best = table_of(points, math.inf).min(axis=1)
    constant = searched.groupby("data", sort=False)["test_objective"].first()
    own = searched[searched["method"] == method]
    steps = budgets(float(own["evaluations"].max())) if currency == "evaluations" else _seconds(own)
    rows = []
    for step in steps:
        reached = at_budget(own, step, currency=currency)
        gap = (constant - best).clip(lower=1e-9).loc[reached["data"]].to_numpy()
        regret = (reached["test_objective"].to_numpy() - best.loc[reached["data"]].to_numpy()) / gap
        rows.append((step, *np.quantile(regret, [0.25, 0.5, 0.75])))
    return pd.DataFrame(rows, columns=["budget", "low", "median", "high"])


def _seconds(own: pd.DataFrame) -> list[float]:
    """CPU seconds at which a method is looked at, evenly on a log scale."""
    spent = own["cpu_seconds"]
    first = float(spent[spent > 0].quantile(0.02))
    last = float(own.groupby(["data", "seed"])["cpu_seconds"].max().median())
    return [float(s) for s in np.geomspace(max(first, 1e-3), max(last, 2e-3), 16)]


def comparison_summary(comparison: Comparison) -> dict[str, Any]:
    """Everything that the report shows, as plain JSON types."""
    points = comparison.points
    most = float(comparison.settings["evaluations"])
    last = at_budget(points, math.inf)
    searched = last.loc[~last["is_reference"], "method"].unique().tolist()
    baseline = next((name for name in BASELINES if name in searched), None)
    methods: dict[str, dict[str, Any]] = {
        str(name): {
            "is_reference": bool(own["is_reference"].iloc[0]),
            **{figure: float(own.groupby("data")[figure].mean().mean()) for figure in _FIGURES},
            "spread": float(own["test_objective"].groupby(own["data"]).std(ddof=0).mean()),
        }
        for name, own in last.groupby("method", sort=False)
    }
    for name in searched if baseline else ():
        methods[name]["equivalent_evaluations"] = {
            str(budget): equivalent_evaluations(points, budget, method=name, baseline=str(baseline))
            for budget in _budgets_shown(most)
        }
    return {
        "settings": comparison.settings,
        "data": last["data"].unique().tolist(),
        "n_splits": int(last["seed"].nunique()),
        "baseline": baseline,
        "methods": methods,
        "ranks": [vars(ranks_at(points, budget)) for budget in _budgets_shown(most)],
        "per_data_set": {
            name: own.groupby("method", sort=False)["test_objective"].mean().to_dict()
            for name, own in last.groupby("data", sort=False)
        },
    }


def _budgets_shown(most: float) -> list[int]:
    """1, 10, 100, … and the whole budget."""
    return [b for b in budgets(most) if b == int(most) or str(b).strip("0") == "1"]
