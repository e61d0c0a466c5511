"""Pairs from data sets: draw subsamples, search each, keep the best architecture at every price.

One search over a grid of densities gives a pair for every price of a grid, since its trials know
L and K. Dead edges are removed before 𝔏 = L + C·K is compared: they change nothing but K.
Neither the engine, nor the number of workers, nor an interruption changes what is stored: a shard
holds a fixed range of searches, and a run makes the shards that are not there.
"""

import bisect
import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import joblib

from graphpred.activations import ACTIVATIONS
from graphpred.errors import EngineError, InputError, StoreError
from graphpred.objective import LOSSES
from graphpred.pairs.config import GenerateConfig, missing_shards
from graphpred.pairs.engines import Engine, check_engine, start_engine
from graphpred.pairs.store import PairStore
from graphpred.pairs.work import Shard, ShardWork, begin_search, draw_subsample, make_shard
from graphpred.searchers import SEARCHERS
from graphpred.task import Task

__all__ = ["MAX_RESTARTS", "GenerateConfig", "Progress", "generate_pairs"]

MAX_RESTARTS = 3
"""How often workers may die in a row, with no shard stored in between, before a run gives up."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is.

    Attributes:
        n_done: Searches whose pairs are stored, those of earlier runs too.
        n_searches: Searches in all.
        n_pairs: Pairs stored by this run.
        pairs_per_search: Pairs that a search gives.
        best: Least 𝔏 of this run so far; NaN before the first pair.
        median: Median 𝔏 of this run so far.
        n_restarts: How often workers died and were replaced.
    """

    n_done: int
    n_searches: int
    n_pairs: int
    pairs_per_search: int
    best: float
    median: float
    n_restarts: int = 0


def generate_pairs(
    sources: Sequence[str | Path],
    *,
    out: str | Path,
    config: GenerateConfig | None = None,
    target: str | None = None,
    jobs: int = 1,
    engine: str = "joblib",
    address: str | None = None,
) -> Iterator[Progress]:
    """Search subsamples of data sets and store the pairs; a run that was stopped goes on.

    Args:
        sources: Data sets that ``Task.from_source`` reads; searches take them in turn.
        out: Folder of the pair store. Workers write there themselves, so those on other machines
            must see it under the same path.
        config: What to do; the same as before if the folder holds a run, except that
            ``n_searches`` may grow.
        target: Name of the target column of every source; the last column by default.
        jobs: Workers to start; they never change what is stored.
        engine: ``"joblib"`` for processes of this machine, ``"dask"`` or ``"ray"``.
        address: Of a running Dask scheduler or Ray cluster, whose workers are taken instead.

    Yields:
        Progress at the start, after every shard, and when workers died and are replaced.

    Raises:
        DataError: If a source cannot be read.
        StoreError: If the folder holds a run that was asked for something else, is not writable,
            or is not seen by a worker.
        EngineError: If workers cannot be had, or are lost for good.
    """
    config = config or GenerateConfig()
    if jobs < 1:
        raise InputError(f"jobs must be at least 1; got {jobs}.")
    if not sources:
        raise InputError("generate needs at least one data set; got none.")
    check_engine(engine, address=address)
    tasks = [Task.from_source(source, target=target, seed=config.seed) for source in sources]
    for number, task in enumerate(tasks):
        _check(config, task, number=number)
    store = PairStore(Path(out).absolute())
    _claim(store, tasks, target=target, config=config)
    store.remove_unfinished()
    store.remove_contained()
    run = _Run(tasks, config=config, target=target, store=store)
    missing = run.missing()
    if not missing:
        yield run.progress()
        return
    with start_engine(engine, jobs=min(jobs, len(missing)), address=address) as ready:
        yield run.progress()
        with closing(_made(missing, run=run, engine=ready)) as shards:
            for shard in shards:
                if shard is not None:
                    run.add(shard)
                yield run.progress()
    store.remove_contained()


class _Run:
    """The state of a run: what is done and what it gave.

    Args:
        tasks: The data sets that the searches take in turn.
        config: What the searches do.
        target: Name of the target column.
        store: Where the pairs go.
    """

    def __init__(
        self, tasks: list[Task], *, config: GenerateConfig, target: str | None, store: PairStore
    ) -> None:
        self._tasks, self._config, self._target, self._store = tasks, config, target, store
        self._done = store.searches() & set(range(config.n_searches))
        self._objectives: list[float] = []  # sorted
        self.n_restarts = 0

    def missing(self) -> list[range]:
        """The searches of every shard that is to be made."""
        return list(missing_shards(self._tasks, config=self._config, done=self._done))

    def work(self, searches: range) -> ShardWork:
        """What a worker is sent."""
        tasks, config = self._tasks, self._config
        subsamples = (
            (number, draw_subsample(tasks[number % len(tasks)], number=number, config=config))
            for number in searches
        )
        return ShardWork(
            subsamples=tuple(subsamples),
            config=config,
            target=self._target,
            folder=self._store.folder,
            activations=tuple(ACTIVATIONS),
            searcher=SEARCHERS[config.searcher],
        )

    def add(self, shard: Shard) -> None:
        """Count a shard that a worker says it has stored."""
        path = self._store.folder / shard.name
        if not path.is_file():
            raise StoreError(
                f"workers must write to the folder that this process sees, for instance on a "
                f"network disk; {path} was stored and is not there."
            )
        self._done.update(shard.searches)
        for value in shard.objectives:
            bisect.insort(self._objectives, value)

    def progress(self) -> Progress:
        """How far the run is."""
        values = self._objectives
        n, middle = len(values), len(values) // 2
        return Progress(
            n_done=len(self._done),
            n_searches=self._config.n_searches,
            n_pairs=n,
            pairs_per_search=self._config.pairs_per_search,
            best=values[0] if n else math.nan,
            median=(values[(n - 1) // 2] + values[middle]) / 2 if n else math.nan,
            n_restarts=self.n_restarts,
        )


def _made(
    missing: list[range], *, run: _Run, engine: Engine
) -> Generator[Shard | None, None, None]:
    """Every shard as it is made; None whenever workers died and others take over."""
    left = {searches.start: searches for searches in missing}
    in_a_row = 0
    while left:
        try:
            work = [joblib.delayed(make_shard)(run.work(searches)) for searches in left.values()]
            with closing(engine.run(work)) as shards:
                for shard in shards:
                    del left[shard.searches.start]
                    in_a_row = 0
                    yield shard
        except engine.lost as error:
            if not left:
                return
            in_a_row += 1
            if in_a_row > MAX_RESTARTS:
                raise EngineError(
                    f"workers died {in_a_row} times in a row, killed or out of memory; what was "
                    "stored is whole, and the same command goes on."
                ) from error
            run.n_restarts += 1
            yield None


def _check(config: GenerateConfig, task: Task, *, number: int) -> None:
    """Refuse a data set that could not be searched now, before the folder is claimed."""
    if config.loss is not None and LOSSES[config.loss][1] != task.kind:
        raise InputError(
            f"loss {config.loss!r} is for {LOSSES[config.loss][1]}; {task.name} is a {task.kind}."
        )
    begin_search(draw_subsample(task, number=number, config=config), number=number, config=config)


def _claim(
    store: PairStore, tasks: list[Task], *, target: str | None, config: GenerateConfig
) -> None:
    """Note the run in its folder, or check that it is the run noted there."""
    sources = [{"source": task.source, "digest": task.digest} for task in tasks]
    run = {"sources": sources, "target": target, **_plain(asdict(config))}
    earlier = store.read_run()
    if earlier is None:
        if store.shards:
            raise StoreError(
                f"{store.folder} must be empty or hold a run; it has shards but no run."
            )
        earlier = store.claim(run)
    for name in sorted(run.keys() | earlier.keys()):
        if name != "n_searches" and run.get(name) != earlier.get(name):
            raise StoreError(
                f"{store.folder} holds pairs of another run; to add to it, {name} must be "
                f"{earlier.get(name)}; got {run.get(name)}."
            )
    run["n_searches"] = max(config.n_searches, earlier["n_searches"])
    if run != earlier:
        store.write_run(run)


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in config.items()}
