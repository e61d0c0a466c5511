"""What a worker does: search subsamples and store the best architecture at every price.

Everything about search s derives from (seed, s), and nothing from where it runs.
"""

import socket
from dataclasses import dataclass
from pathlib import Path

from graphpred.activations import ACTIVATIONS, Activation, register_activation
from graphpred.architecture import Architecture
from graphpred.errors import InputError, StoreError
from graphpred.objective import Objective, default_loss
from graphpred.pairs.config import GenerateConfig
from graphpred.pairs.pair import Pair
from graphpred.pairs.store import PairStore
from graphpred.searchers import SEARCHERS, Search, SearcherFactory, Trial, search
from graphpred.seeds import derived_seed, generator_for
from graphpred.task import Task
from graphpred.threads import one_thread
from graphpred.weights import Weights


@dataclass(frozen=True, eq=False, kw_only=True)
class ShardWork:
    """A shard to be made, with all that a worker must know: it is a process of its own.

    Attributes:
        subsamples: Number and data of every search, numbers consecutive.
        config: What the searches do.
        target: Name of the target column; None for the last one.
        folder: Of the pair store, absolute.
        activations: All that are registered, the user's own too.
        searcher: What ``config.searcher`` names.
    """

    subsamples: tuple[tuple[int, Task], ...]
    config: GenerateConfig
    target: str | None
    folder: Path
    activations: tuple[Activation, ...]
    searcher: SearcherFactory


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A shard that is stored.

    Attributes:
        name: Of its file.
        searches: Numbers of its searches.
        objectives: 𝔏 of its pairs.
    """

    name: str
    searches: range
    objectives: tuple[float, ...]


def draw_subsample(task: Task, *, number: int, config: GenerateConfig) -> Task:
    """The subsample of a search. Only this small task travels to the worker."""
    generator = generator_for(config.seed, "subsample", number)
    return task.subsample(config.rows, generator=generator)


def begin_search(task: Task, *, number: int, config: GenerateConfig) -> Search:
    """The search of a subsample, not begun."""
    return search(
        task,
        config.space(task),
        searcher=config.searcher,
        objective=Objective(loss=config.loss or default_loss(task.kind)),
        evaluations=config.evaluations,
        cpu_seconds=config.cpu_seconds,
        densities=config.densities,
        steps=config.steps,
        seed=derived_seed(config.seed, "search", number),
    )


def make_shard(work: ShardWork) -> Shard:
    """Search every subsample and store the pairs.

    Raises:
        StoreError: If this process does not see the folder, or cannot write to it.
    """
    store = PairStore(work.folder)
    if store.read_run() is None:
        raise StoreError(
            f"all workers must see {work.folder}, for instance on a network disk; "
            f"a worker on {socket.gethostname()} does not."
        )
    known = {activation.name for activation in ACTIVATIONS}
    for activation in work.activations:
        if activation.name not in known:
            register_activation(activation.name, activation.function)
    SEARCHERS.setdefault(work.config.searcher, work.searcher)
    with one_thread():
        pairs = [
            pair
            for number, task in work.subsamples
            for pair in _search_pairs(task, number=number, config=work.config, target=work.target)
        ]
    searches = range(work.subsamples[0][0], work.subsamples[-1][0] + 1)
    path = store.write(pairs, searches=searches)
    objectives = tuple(pair.objective for pair in pairs)
    return Shard(name=path.name, searches=searches, objectives=objectives)


def _search_pairs(
    task: Task, *, number: int, config: GenerateConfig, target: str | None
) -> list[Pair]:
    """One search, and the best of its trials for every price."""
    running = begin_search(task, number=number, config=config)
    candidates = [_Candidate.of(trial) for trial in running]
    if not candidates:
        raise InputError(f"searcher {config.searcher!r} must try a network or more; it tried none.")
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
