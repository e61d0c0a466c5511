"""The prior over data sets: what can be drawn, and drawing it many data sets at a time.

Data sets are drawn in groups that share a shape, so that every operation serves a whole group;
everything else differs from one to the next. Notation: b data sets of a group, n features, m rows
of which the first m_train are for training, c classes or outputs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from graphpred.errors import InputError
from graphpred.seeds import log_uniform
from graphpred.split import Split
from graphpred.synthetic.features import draw_columns, scaled
from graphpred.synthetic.functions import FAMILIES, draw_parts, draw_scores
from graphpred.synthetic.targets import draw_classes, draw_quantities
from graphpred.task import Task

PRIOR_VERSION = 4
"""Grows when the same seed and config begin to give other data sets."""

GROUP = 16
"""Data sets that share a shape, by default."""


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """Ranges of the prior; every range includes its ends.

    Attributes:
        features: n, drawn log-uniformly.
        classes: c of a classification, small numbers more often.
        outputs: c of a regression, small numbers more often.
        train_rows: Training rows, drawn log-uniformly.
        validation_rows: Rows beside them.
        regression_share: Share of data sets whose target is a quantity.
        families: Families of functions to choose from, keys of ``FAMILIES``.
        noise: Highest noise in the scores of classes, in their deviations; lower levels are more
            common.
        output_noise: Highest noise in quantities, in deviations of the score; all levels are alike.
        label_noise: Highest share of rows whose class is drawn blindly.
        imbalance: Highest deviation of the logarithm of class sizes; 0 wants equal ones.
        missing: Highest share of missing values in a column.

    Raises:
        InputError: If a range is empty, too low or too high.
    """

    features: tuple[int, int] = (2, 100)
    classes: tuple[int, int] = (2, 10)
    outputs: tuple[int, int] = (1, 3)
    train_rows: tuple[int, int] = (200, 1000)
    validation_rows: int = 128
    regression_share: float = 0.35
    families: tuple[str, ...] = tuple(FAMILIES)
    noise: float = 0.6
    output_noise: float = 1.3
    label_noise: float = 0.03
    imbalance: float = 1.5
    missing: float = 0.4

    def __post_init__(self) -> None:
        ranges = (("features", 1), ("classes", 2), ("outputs", 1), ("train_rows", 20))
        for name, least in ranges:
            low, high = getattr(self, name)
            if not least <= low <= high:
                raise InputError(f"{name} must be a range from {least} up; got {(low, high)}.")
        if self.validation_rows < 1:
            raise InputError(f"validation_rows must be at least 1; got {self.validation_rows}.")
        for name in ("regression_share", "label_noise", "missing"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be in [0, 1]; got {getattr(self, name)}.")
        for name in ("noise", "output_noise", "imbalance"):
            if not 0 <= getattr(self, name) < torch.inf:
                raise InputError(
                    f"{name} must be 0 or a finite number above; got {getattr(self, name)}."
                )
        if not self.families or not set(self.families) <= set(FAMILIES):
            raise InputError(
                f"families must be some of {', '.join(FAMILIES)}; got {self.families}."
            )


def draw_task(*, generator: torch.Generator, config: PriorConfig | None = None) -> Task:
    """Draw one data set: training and validation rows, no test rows.

    Many at a time are drawn much faster; see ``draw_tasks``.

    Args:
        generator: Source of randomness.
        config: Ranges.

    >>> config = PriorConfig(regression_share=0.0)
    >>> task = draw_task(generator=torch.Generator().manual_seed(0), config=config)
    >>> task.kind, task.X.shape == (task.n_rows, task.n_features)
    ('classification', True)
    """
    return draw_tasks(1, generator=generator, config=config)[0]


def draw_tasks(
    k: int,
    *,
    generator: torch.Generator,
    config: PriorConfig | None = None,
    group: int = GROUP,
) -> list[Task]:
    """Draw k data sets in groups of one shape and kind; neighbours are of one group.

    They depend on the state of the generator and the arguments alone.

    Args:
        k: How many.
        generator: Source of randomness.
        config: Ranges.
        group: Size of a group. Large ones are fast; 1 gives every data set its own shape.

    Raises:
        InputError: If k is below 0 or ``group`` below 1.

    >>> tasks = draw_tasks(12, generator=torch.Generator().manual_seed(0), group=4)
    >>> len(tasks), len({task.X.shape for task in tasks})
    (12, 3)
    """
    if k < 0 or group < 1:
        raise InputError(f"k must be at least 0 and group at least 1; got {k} and {group}.")
    config = config or PriorConfig()
    tasks: list[Task] = []
    while len(tasks) < k:
        tasks += _draw_group(min(group, k - len(tasks)), config=config, generator=generator)
    return tasks


def _draw_group(b: int, *, config: PriorConfig, generator: torch.Generator) -> list[Task]:
    """At most b data sets of one shape: those whose training rows show two classes."""
    n = log_uniform(*config.features, generator=generator)
    m_train = log_uniform(*config.train_rows, generator=generator)
    m = m_train + config.validation_rows
    is_regression = _uniform(generator) < config.regression_share
    c = _n_outputs(config.outputs if is_regression else config.classes, generator=generator)
    parts = draw_parts(b, families=config.families, generator=generator)
    columns = draw_columns(
        (b, n, m),
        m_train=m_train,
        clustered=(parts == list(FAMILIES).index("clusters")).any(dim=1),
        max_missing=config.missing,
        generator=generator,
    )
    scores = draw_scores(
        columns.values, c, parts=parts, cluster=columns.cluster, generator=generator
    )
    order = torch.randperm(n, generator=generator)
    X = columns.observed()[:, order].transpose(1, 2).contiguous()  # (b, m, n)
    if is_regression:
        outputs = draw_quantities(scores, noise=config.output_noise, generator=generator)
        y = scaled(outputs, m_train=m_train).transpose(1, 2).contiguous()  # (b, m, c)
        return _tasks(X, y, m_train=m_train, class_names=_names("y", c))
    y = draw_classes(
        scores,
        noise=config.noise,
        label_noise=config.label_noise,
        imbalance=config.imbalance,
        generator=generator,
    )  # (b, m)
    sizes = torch.nn.functional.one_hot(y[:, :m_train], c).sum(dim=1)  # (b, c)
    usable = (sizes >= 2).sum(dim=1) >= 2
    return _tasks(X[usable], y[usable], m_train=m_train, class_names=_names("", c))


def _tasks(X: Tensor, y: Tensor, *, m_train: int, class_names: tuple[str, ...]) -> list[Task]:
    """A task per data set; ``(b, m, n)`` and ``(b, m)`` or ``(b, m, c)``."""
    _, m, n = X.shape
    is_regression = y.is_floating_point()
    rows = torch.arange(m)
    split = Split(train=rows[:m_train], validation=rows[m_train:], test=rows[:0])
    n_scales = len(class_names) if is_regression else 0
    return [
        Task(
            X=features,
            y=target,
            kind="regression" if is_regression else "classification",
            split=split,
            feature_names=_names("x", n),
            class_names=class_names,
            name="synthetic",
            source="synthetic",
            digest="",
            encoder=None,
            target_mean=(0.0,) * n_scales,
            target_scale=(1.0,) * n_scales,
            origin=rows,
        )
        for features, target in zip(X, y, strict=True)
    ]


def _names(prefix: str, n: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{j}" for j in range(n))


def _n_outputs(bounds: tuple[int, int], *, generator: torch.Generator) -> int:
    low, high = bounds
    return low + int((high - low + 1) * _uniform(generator) ** 2.5)


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))
