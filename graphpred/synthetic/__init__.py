"""A prior over data sets, and data sets whose true structure is known."""

from graphpred.synthetic.functions import FAMILIES
from graphpred.synthetic.known import KnownTask, draw_known
from graphpred.synthetic.prior import PRIOR_VERSION, PriorConfig, draw_task, draw_tasks
from graphpred.synthetic.recovery import (
    Overlap,
    PathScores,
    Recovery,
    path_probabilities,
    path_scores,
    reachable,
    recovery,
)

__all__ = [
    "FAMILIES",
    "PRIOR_VERSION",
    "KnownTask",
    "Overlap",
    "PathScores",
    "PriorConfig",
    "Recovery",
    "draw_known",
    "draw_task",
    "draw_tasks",
    "path_probabilities",
    "path_scores",
    "reachable",
    "recovery",
]
