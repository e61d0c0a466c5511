"""Pairs from data sets: draw subsamples, search each, keep the best architecture at every price.

One search over a grid of densities gives a pair for every price of a grid, since its trials know
L and K. Dead edges are removed before 𝔏 = L + C·K is compared: they change nothing but K.
Everything about search s derives from (seed, s), so neither the number of workers nor an
interruption changes what is stored.
"""

import itertools
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import joblib

from graphpred.activations import ACTIVATIONS, Activation, register_activation
from graphpred.architecture import Architecture
from graphpred.errors import InputError, StoreError
from graphpred.objective import LOSSES, Objective, default_loss
from graphpred.pairs.pair import Pair
from graphpred.pairs.store import PairStore
from graphpred.searchers import SEARCHERS, Search, SearcherFactory, Trial, search
from graphpred.searchers.base import STEPS_PER_EVALUATION
from graphpred.seeds import derived_seed, generator_for
from graphpred.space import DEFAULT_ACTIVATIONS, SearchSpace
from graphpred.task import Task
from graphpred.weights import Weights

DEFAULT_DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.4)
DEFAULT_PRICES = tuple(round(0.01 * 300 ** (i / 9), 6) for i in range(10))
"""Ten prices λ = C·N from 0.01 to 3, evenly spaced by logarithm."""
_SHARD_EVALUATIONS = 250  # about the evaluations behind one shard: a second of work or more


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """What the searches are asked to do.

    Attributes:
        n_searches: Subsamples to search; each gives a pair per price.
        rows: Rows of a subsample; a third of them is for validation.
        evaluations: Budget of a search.
        steps: Training steps of a candidate.
        densities: Densities at which random searchers draw, in turn.
        prices: λ = C·N for every pair of a search; leave out if ``penalties`` are given.
        penalties: C itself, instead of prices.
        loss: Name of L; by default that of the task's kind.
        searcher: A key of ``SEARCHERS``.
        n_hidden: Width of the hidden layer; by default the number of features.
        activations: Names of the activation classes of hidden neurons.
        seed: Seed of everything.

    Raises:
        InputError: If a field is out of its range.
    """

    n_searches: int = 100
    rows: int = 300
    evaluations: int = 100
    steps: int = 100
    densities: tuple[float, ...] = DEFAULT_DENSITIES
    prices: tuple[float, ...] = DEFAULT_PRICES
    penalties: tuple[float, ...] = ()
    loss: str | None = None
    searcher: str = "random"
    n_hidden: int | None = None
    activations: tuple[str, ...] = DEFAULT_ACTIVATIONS
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_searches", "rows", "evaluations", "steps", "n_hidden"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1; got {value}.")
        if self.steps > STEPS_PER_EVALUATION * self.evaluations:
            raise InputError(
                f"evaluations, {STEPS_PER_EVALUATION} steps each, must hold one candidate of "
                f"{self.steps} steps; got {self.evaluations}."
            )
        if not self.densities or not all(0 < d <= 1 for d in self.densities):
            raise InputError(f"densities must be in (0, 1]; got {list(self.densities)}.")
        for c in (*self.prices, *self.penalties):
            if not (math.isfinite(c) and c >= 0):
                raise InputError(f"prices and penalties must be numbers of at least 0; got {c}.")
        if self.searcher not in SEARCHERS:
            known = ", ".join(SEARCHERS)
            raise InputError(f"searcher must be one of {known}; got {self.searcher!r}.")
        if self.loss is not None and self.loss not in LOSSES:
            raise InputError(f"loss must be one of {', '.join(LOSSES)}; got {self.loss!r}.")

    def space(self, task: Task) -> SearchSpace:
        """The search space of a task: one hidden layer, as in the paper."""
        widths = (task.n_features, self.n_hidden or task.n_features, task.n_outputs)
        return SearchSpace(widths=widths, activations=self.activations)

    def costs(self, space: SearchSpace) -> list[tuple[float, float]]:
        """Price λ and penalty C of every pair of a search."""
        n = space.n_possible_edges
        if self.penalties:
            return [(c * n, c) for c in self.penalties]
        return [(price, price / n) for price in self.prices]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is.

    Attributes:
        n_done: Searches whose pairs are stored, those of earlier runs too.
        n_searches: Searches in all.
        n_pairs: Pairs stored by this run.
        best: Least 𝔏 of this run so far; NaN before the first pair.
        median: Median 𝔏 of this run so far.
    """

    n_done: int
    n_searches: int
    n_pairs: int
    best: float
    median: float


def generate_pairs(
    sources: Sequence[str | Path],
    *,
    out: str | Path,
    config: GenerateConfig | None = None,
    target: str | None = None,
    jobs: int = 1,
) -> Iterator[Progress]:
    """Search subsamples of data sets and store the pairs; a run that was stopped goes on.

    Args:
        sources: Data sets that ``Task.from_source`` reads; searches take them in turn.
        out: Folder of the pair store.
        config: What to do; the same as before if the folder holds a run, except that
            ``n_searches`` may grow.
        target: Name of the target column of every source; the last column by default.
        jobs: Worker processes; they never change what is stored.

    Yields:
        Progress at the start and after every shard.

    Raises:
        DataError: If a source cannot be read.
        StoreError: If the folder holds a run that was asked for something else, or is not
            writable.
    """
    config = config or GenerateConfig()
    if jobs < 1:
        raise InputError(f"jobs must be at least 1; got {jobs}.")
    if not sources:
        raise InputError("generate needs at least one data set; got none.")
    tasks = [Task.from_source(source, target=target, seed=config.seed) for source in sources]
    for number, task in enumerate(tasks):
        _check(config, task, number=number)
    store = PairStore(out)
    _claim(store, tasks, target=target, config=config)
    store.remove_unfinished()
    done = store.searches() & set(range(config.n_searches))
    chunks = list(_missing(done, config=config))
    objectives: list[float] = []
    yield _progress(done, objectives, config=config)
    registered = tuple(ACTIVATIONS), SEARCHERS[config.searcher]
    work = (
        joblib.delayed(_make_shard)(
            [
                (number, _draw(tasks[number % len(tasks)], number=number, config=config))
                for number in chunk
            ],
            config=config,
            target=target,
            folder=store.folder,
            registered=registered,
        )
        for chunk in chunks
    )
    n_jobs = min(jobs, max(1, len(chunks)))
    parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    results = parallel(work)
    try:
        for numbers, values in results:
            done.update(numbers)
            objectives.extend(values)
            yield _progress(done, objectives, config=config)
    finally:
        with warnings.catch_warnings():  # joblib warns that what is stopped is not finished
            warnings.simplefilter("ignore", UserWarning)
            results.close()


def _check(config: GenerateConfig, task: Task, *, number: int) -> None:
    """Refuse a data set that could not be searched now, before the folder is claimed."""
    if config.loss is not None and LOSSES[config.loss][1] != task.kind:
        raise InputError(
            f"loss {config.loss!r} is for {LOSSES[config.loss][1]}; {task.name} is a {task.kind}."
        )
    _search(_draw(task, number=number, config=config), number=number, config=config)


def _claim(
    store: PairStore, tasks: list[Task], *, target: str | None, config: GenerateConfig
) -> None:
    """Note the run in its folder, or check that it is the run noted there."""
    sources = [{"source": task.source, "digest": task.digest} for task in tasks]
    run = {"sources": sources, "target": target, **_plain(asdict(config))}
    earlier = store.read_run()
    if earlier is not None:
        for name in sorted(run.keys() | earlier.keys()):
            if name != "n_searches" and run.get(name) != earlier.get(name):
                raise StoreError(
                    f"{store.folder} holds pairs of another run; to add to it, {name} must be "
                    f"{earlier.get(name)}; got {run.get(name)}."
                )
        run["n_searches"] = max(config.n_searches, earlier["n_searches"])
    elif store.shards:
        raise StoreError(f"{store.folder} must be empty or hold a run; it has shards but no run.")
    if run != earlier:
        store.write_run(run)


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in config.items()}


def _missing(done: set[int], *, config: GenerateConfig) -> Iterator[range]:
    """Ranges of searches that make one shard each, cut at fixed numbers."""
    size = max(1, math.ceil(_SHARD_EVALUATIONS / config.evaluations))
    left = [s for s in range(config.n_searches) if s not in done]
    # Consecutive numbers minus their positions are equal: an earlier, shorter run may leave gaps.
    keyed = itertools.groupby(
        enumerate(left), key=lambda item: (item[1] // size, item[1] - item[0])
    )
    for _, members in keyed:
        block = [s for _, s in members]
        yield range(block[0], block[-1] + 1)


def _progress(done: set[int], objectives: list[float], *, config: GenerateConfig) -> Progress:
    return Progress(
        n_done=len(done),
        n_searches=config.n_searches,
        n_pairs=len(objectives),
        best=min(objectives, default=math.nan),
        median=median(objectives) if objectives else math.nan,
    )


def _draw(task: Task, *, number: int, config: GenerateConfig) -> Task:
    """The subsample of a search. Only this small task travels to the worker."""
    generator = generator_for(config.seed, "subsample", number)
    return task.subsample(config.rows, generator=generator)


def _search(task: Task, *, number: int, config: GenerateConfig) -> Search:
    """The search of a subsample, not begun."""
    return search(
        task,
        config.space(task),
        searcher=config.searcher,
        objective=Objective(loss=config.loss or default_loss(task.kind)),
        evaluations=config.evaluations,
        densities=config.densities,
        steps=config.steps,
        seed=derived_seed(config.seed, "search", number),
    )


def _make_shard(
    subsamples: list[tuple[int, Task]],
    *,
    config: GenerateConfig,
    target: str | None,
    folder: Path,
    registered: tuple[tuple[Activation, ...], SearcherFactory],
) -> tuple[list[int], list[float]]:
    """Search every subsample and store the pairs: what a worker does.

    A worker is a process of its own, so it is told what the user has registered.

    Returns:
        The numbers of the searches and 𝔏 of their pairs.
    """
    activations, factory = registered
    known = {activation.name for activation in ACTIVATIONS}
    for activation in activations:
        if activation.name not in known:
            register_activation(activation.name, activation.function)
    SEARCHERS.setdefault(config.searcher, factory)
    pairs = [
        pair
        for number, task in subsamples
        for pair in _search_pairs(task, number=number, config=config, target=target)
    ]
    numbers = [number for number, _ in subsamples]
    PairStore(folder).write(pairs, searches=range(numbers[0], numbers[-1] + 1))
    return numbers, [pair.objective for pair in pairs]


def _search_pairs(
    task: Task, *, number: int, config: GenerateConfig, target: str | None
) -> list[Pair]:
    """One search, and the best of its trials for every price."""
    running = _search(task, number=number, config=config)
    candidates = [_Candidate.of(trial) for trial in running]
    pairs = []
    for price, penalty in config.costs(config.space(task)):
        best = min(candidates, key=lambda candidate: candidate.rank(penalty))
        pairs.append(
            Pair(
                search=number,
                price=price,
                source=task.source,
                digest=task.digest,
                target=target,
                kind=task.kind,
                split_seed=config.seed,
                train_rows=tuple(task.origin[task.split.train].tolist()),
                validation_rows=tuple(task.origin[task.split.validation].tolist()),
                feature_names=task.feature_names,
                class_names=task.class_names,
                loss_name=config.loss or default_loss(task.kind),
                penalty=penalty,
                architecture=best.architecture,
                weights=best.weights,
                train_loss=best.trial.train_loss,
                loss=best.trial.loss,
                objective=best.rank(penalty)[0],
                searcher=config.searcher,
                seed=config.seed,
                search_seed=derived_seed(config.seed, "search", number),
                trial=best.trial.number,
                evaluations=running.ledger.networks,
                network_steps=running.ledger.network_steps,
                cpu_seconds=running.ledger.cpu_seconds,
            )
        )
    return pairs


@dataclass(frozen=True, eq=False, kw_only=True)
class _Candidate:
    """A trial without its dead edges."""

    trial: Trial
    architecture: Architecture
    weights: Weights

    @classmethod
    def of(cls, trial: Trial) -> "_Candidate":
        z = trial.architecture
        weights = Weights(edge=trial.weights.edge[z.live], bias=trial.weights.bias)
        return cls(trial=trial, architecture=z.without_dead_edges(), weights=weights)

    def rank(self, penalty: float) -> tuple[float, int, int]:
        """𝔏 at a penalty; fewer edges, then the earlier trial, decide between equals."""
        n_edges = self.architecture.n_edges
        return self.trial.loss + penalty * n_edges, n_edges, self.trial.number
