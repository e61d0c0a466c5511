"""What the meta-model is trained on: views of pairs, and endless synthetic data sets."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from graphpred.architecture import Architecture
from graphpred.errors import StoreError
from graphpred.meta.draft import LATENT_SIZE
from graphpred.meta.model import Description
from graphpred.objective import Kind
from graphpred.pairs.pair import Pair
from graphpred.seeds import generator_for
from graphpred.synthetic.prior import PriorConfig, draw_tasks
from graphpred.task import Task

Describe = Callable[[Task], Description]
_Origin = tuple[str, str | None, str, int]
_Rows = tuple[_Origin, tuple[int, ...], tuple[int, ...]]
MAX_ROWS = 128
"""Fresh rows of a data set that one step looks at."""
PRICE_BOUNDS = (1e-4, 0.2)
"""Bounds of λ / n, about the price of as many edges as there are features and outputs."""
TRAINING_ROWS = 512
"""Rows of a data set that refinement sees in training."""
GROUP = 8
"""Neighbouring examples of one shape, which are decoded together."""
_MAX_INPUT_EDGES = 6000  # features times hidden neurons, of synthetic data sets
_VIEWS_PER_SEARCH = 6
_VIEWS_PER_SOURCE = 48


@dataclass(frozen=True, eq=False, kw_only=True)
class Example:
    """One data set of a training step.

    Attributes:
        description: What the model keeps of its training rows.
        X: Fresh rows. Float, shape ``(m, n)``.
        y: Their classes, int64 ``(m,)``, or targets, float ``(m, c)``.
        price: λ.
        latents: Of the hidden neurons, ``(h, LATENT_SIZE)``.
        architecture: Z_j, if there is a pair.
    """

    description: Description
    X: Tensor
    y: Tensor
    price: float
    latents: Tensor
    architecture: Architecture | None = None


Draw = Callable[[int, torch.Generator], list[Example]]
"""Draws a number of examples; depends on the generator alone."""


class PriorExamples:
    """Examples from the synthetic prior."""

    def __init__(self, describe: Describe, *, config: PriorConfig | None = None) -> None:
        self._describe = describe
        self._config = config

    def draw(self, k: int, generator: torch.Generator) -> list[Example]:
        """New data sets, each with a price and a hidden width around the number of features."""
        tasks = draw_tasks(k, generator=generator, config=self._config, group=GROUP)
        examples, shape = [], None
        for task in tasks:
            if shape != (task.X.shape, task.kind, task.n_outputs):
                shape = (task.X.shape, task.kind, task.n_outputs)
                n_hidden = _hidden_width(task.n_features, generator=generator)
            examples.append(self._example(task, n_hidden=n_hidden, generator=generator))
        return examples

    def _example(self, task: Task, *, n_hidden: int, generator: torch.Generator) -> Example:
        low, high = (math.log(bound) for bound in PRICE_BOUNDS)
        relative = math.exp(low + (high - low) * float(torch.rand((), generator=generator)))
        price = relative * task.n_features
        view = _View(description=self._describe(task), task=task)
        return _example(view, price=price, n_hidden=n_hidden, generator=generator)


def _hidden_width(n_features: int, *, generator: torch.Generator) -> int:
    """Half to twice as many hidden neurons as features."""
    factor = math.exp(1.5 * float(torch.rand((), generator=generator)) - 0.75)
    return max(2, min(round(factor * n_features), _MAX_INPUT_EDGES // n_features))


@dataclass(frozen=True, eq=False, kw_only=True)
class _View:
    """A split of some rows, described."""

    description: Description
    task: Task


class PairExamples:
    """Examples from pairs: their own rows split anew, or rows of all pairs of the same data set.

    Args:
        pairs: The pairs.
        describe: The model's ``describe``.
        tasks: Data sets by digest, for pairs whose source cannot be read again.
        seed: Seed of the views.

    Raises:
        StoreError: If there is no pair, or a source has changed since.
    """

    def __init__(
        self,
        pairs: Iterable[Pair],
        *,
        describe: Describe,
        tasks: dict[str, Task] | None = None,
        seed: int = 0,
    ) -> None:
        self._pairs = [pair for pair in pairs if len(pair.architecture.widths) == 3]
        if not self._pairs:
            raise StoreError("training needs pairs with one hidden layer; got none.")
        self._describe = describe
        self._alike: dict[Any, list[Pair]] = defaultdict(list)
        for pair in self._pairs:
            self._alike[pair.architecture.widths, pair.kind].append(pair)
        self._own: dict[_Rows, list[_View]] = {}
        self._shared: dict[_Origin, list[_View]] = {}
        bases = _rebuild(self._pairs, tasks or {})
        rows: dict[_Origin, set[int]] = defaultdict(set)
        for pair in self._pairs:
            rows[_origin_of(pair)].update(pair.train_rows, pair.validation_rows)
        generator = generator_for(seed, "views")
        for pair in self._pairs:
            key = _rows_of(pair)
            if key not in self._own:
                own = [*pair.train_rows, *pair.validation_rows]
                self._own[key] = self._views(
                    bases[_origin_of(pair)], own, n_views=_VIEWS_PER_SEARCH, generator=generator
                )
        for origin, members in rows.items():
            self._shared[origin] = self._views(
                bases[origin], sorted(members), n_views=_VIEWS_PER_SOURCE, generator=generator
            )

    def _views(
        self, base: Task, rows: Sequence[int], *, n_views: int, generator: torch.Generator
    ) -> list[_View]:
        """Splits of rows into described ones, half to nine tenths, and fresh ones."""
        members = torch.tensor(sorted(rows))
        views = []
        for _ in range(n_views):
            share = 0.5 + 0.4 * float(torch.rand((), generator=generator))
            order = members[torch.randperm(len(members), generator=generator)]
            cut = max(2, min(len(order) - 1, round(share * len(order))))
            task = base.take(train=order[:cut], validation=order[cut:])
            views.append(_View(description=self._describe(task), task=task))
        return views

    def draw(self, k: int, generator: torch.Generator) -> list[Example]:
        """Pairs, each with a view of its own rows or of its data set's."""
        examples: list[Example] = []
        while len(examples) < k:
            first = _one_of(self._pairs, generator=generator)
            alike = self._alike[first.architecture.widths, first.kind]
            size = min(GROUP, k - len(examples))
            members = [first, *(_one_of(alike, generator=generator) for _ in range(size - 1))]
            examples += [self._example(pair, generator=generator) for pair in members]
        return examples

    def _example(self, pair: Pair, *, generator: torch.Generator) -> Example:
        own = bool(torch.rand((), generator=generator) < 0.5)
        views = self._own[_rows_of(pair)] if own else self._shared[_origin_of(pair)]
        return _example(
            views[int(torch.randint(len(views), (), generator=generator))],
            price=max(pair.price, 1e-6),
            n_hidden=pair.architecture.widths[1],
            architecture=pair.architecture,
            generator=generator,
        )


def _one_of(pairs: Sequence[Pair], *, generator: torch.Generator) -> Pair:
    return pairs[int(torch.randint(len(pairs), (), generator=generator))]


def _rows_of(pair: Pair) -> _Rows:
    """Which rows a pair was found on; numbers of searches repeat from folder to folder."""
    return _origin_of(pair), pair.train_rows, pair.validation_rows


def _origin_of(pair: Pair) -> _Origin:
    """What a pair's features depend on: which columns vary depends on the training rows."""
    return pair.digest, pair.target, pair.kind, pair.split_seed


def _example(
    view: _View,
    *,
    price: float,
    n_hidden: int,
    generator: torch.Generator,
    architecture: Architecture | None = None,
) -> Example:
    X, y = view.task.rows("validation")
    chosen = torch.randperm(len(X), generator=generator)[:MAX_ROWS]
    return Example(
        description=view.description,
        X=X[chosen],
        y=y[chosen],
        price=price,
        latents=torch.randn(n_hidden, LATENT_SIZE, generator=generator),
        architecture=architecture,
    )


def _rebuild(pairs: list[Pair], tasks: dict[str, Task]) -> dict[_Origin, Task]:
    """Read every source once more; it must be what the pairs were made from."""
    bases: dict[_Origin, Task] = {}
    for pair in pairs:
        origin = _origin_of(pair)
        if origin in bases:
            continue
        base = tasks.get(pair.digest) or Task.from_source(
            pair.source,
            target=pair.target,
            kind=cast("Kind", pair.kind),
            seed=pair.split_seed,
        )
        if base.digest != pair.digest or base.feature_names != pair.feature_names:
            raise StoreError(
                f"{pair.source} must hold the data that the pairs were made from; it has changed."
            )
        bases[origin] = base
    return bases
