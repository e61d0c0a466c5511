"""Running a comparison: every method on every data set and split, one file each, resumable.

A cell is a data set, a split and a method. Notation: n features, c outputs, N = n·h + h·c possible
edges, κ the ceiling of K in units of n + c, λ = C·N the price of an edge.
"""

import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import joblib
import pandas as pd

from graphpred.compare.references import REFERENCES, reference_point
from graphpred.compare.trajectory import Point, trajectory
from graphpred.errors import EngineError, InputError, StoreError
from graphpred.experiments.protocol import MAX_ROWS, limited
from graphpred.files import make_folder, whole_file
from graphpred.objective import Objective, default_loss
from graphpred.pairs.engines import start_engine
from graphpred.searchers import SEARCHERS, search
from graphpred.space import SearchSpace
from graphpred.task import Task

_CELLS = "cells"
_SETTINGS = "settings.json"
RESULTS = "results.parquet"
_NEEDS = {"gaussian_process": ("gpytorch", "rivals")}
"""Package, and extra of graphpred, without which a searcher cannot run."""
_ENUMERATES = {"exhaustive"}  # tiny spaces only


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """What all methods are given alike.

    Attributes:
        methods: Keys of ``SEARCHERS``; empty for all that can run.
        evaluations: Budget of a search.
        seeds: Splits of every data set, and seeds of the searches on them.
        kappa: κ: networks have at most κ·(n + c) edges, and at most N / 2.
        price: λ = C·N.
        steps: Training steps of a candidate.
        n_hidden: Hidden neurons; as many as features by default.
        rows: Of a data set; larger ones are drawn from.

    Raises:
        InputError: If a field is out of its range or a method does not exist.
    """

    methods: tuple[str, ...] = ()
    evaluations: int = 100
    seeds: int = 3
    kappa: float = 2.0
    price: float = 0.1
    steps: int = 100
    n_hidden: int | None = None
    rows: int = MAX_ROWS

    def __post_init__(self) -> None:
        unknown = set(self.methods) - set(SEARCHERS)
        if unknown:
            raise InputError(
                f"methods must be some of {', '.join(SEARCHERS)}, or all; "
                f"got {', '.join(sorted(unknown))}."
            )
        for name in ("evaluations", "seeds", "steps", "rows"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1; got {getattr(self, name)}.")
        if not self.kappa > 0 or not self.price >= 0:
            raise InputError(
                f"kappa must be positive and price at least 0; got {self.kappa}, {self.price}."
            )
        if self.n_hidden is not None and self.n_hidden < 1:
            raise InputError(f"n_hidden must be at least 1; got {self.n_hidden}.")

    @cached_property
    def chosen(self) -> tuple[str, ...]:
        """The methods: those named, or all that can run in spaces of any size."""
        able = (name for name in SEARCHERS if name not in _ENUMERATES and not missing(name))
        return self.methods or tuple(able)

    @property
    def settings(self) -> dict[str, Any]:
        """What must be the same for results to stand in one table."""
        return {k: v for k, v in asdict(self).items() if k not in ("methods", "seeds")}


def missing(method: str) -> str | None:
    """The extra of graphpred that a method needs and that is not installed."""
    package, extra = _NEEDS.get(method, ("graphpred", ""))
    return None if find_spec(package) else extra


@dataclass(frozen=True, eq=False, kw_only=True)
class Cell:
    """A data set with one split, and a method.

    Attributes:
        task: With the split of ``seed``.
        seed: Of split and search.
        method: A key of ``SEARCHERS`` or ``REFERENCES``.
    """

    task: Task
    seed: int
    method: str

    @property
    def key(self) -> str:
        """Name of its file, which depends on the data and not on where they lie."""
        digest = hashlib.blake2b(self.task.digest.encode(), digest_size=4).hexdigest()
        name = "".join(c if c.isalnum() or c in "-_" else "-" for c in self.task.name)
        return f"{name}-{digest}-split{self.seed}-{self.method}"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a comparison is.

    Attributes:
        n_done: Cells that are finished.
        n_cells: All of them.
        last: The cell that was finished last.
    """

    n_done: int
    n_cells: int
    last: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison:
    """What a folder holds of a comparison.

    Attributes:
        settings: Of ``CompareConfig.settings``.
        points: All points of all cells: those of ``trajectory`` with the columns ``data``,
            ``kind``, ``seed``, ``method`` and ``is_reference``.
    """

    settings: dict[str, Any]
    points: pd.DataFrame

    @classmethod
    def load(cls, folder: str | Path) -> "Comparison":
        """Read what ``run_comparison`` wrote; a ``StoreError`` if there is nothing whole."""
        folder = Path(folder)
        try:
            settings = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
            return cls(settings=settings, points=pd.read_parquet(folder / RESULTS))
        except (OSError, ValueError) as error:
            raise StoreError(f"{folder} must hold a finished comparison: {error}.") from error


def run_comparison(
    sources: Sequence[str],
    *,
    out: str | Path,
    config: CompareConfig | None = None,
    target: str | None = None,
    jobs: int = 1,
) -> Iterator[Progress]:
    """Run what is missing below a folder, and gather it in ``RESULTS``.

    Args:
        sources: Tables, or names of scikit-learn's sets.
        out: Folder; a comparison with the same settings in it goes on.
        config: What all methods are given.
        target: Column to predict, in every source.
        jobs: Worker processes of one thread.

    Raises:
        InputError: If the folder holds a comparison with other settings.
        GraphPredError: If a data set cannot be used, or a method cannot run on it.
    """
    config, out = config or CompareConfig(), Path(out)
    _begin(out, config=config)
    tasks = [limited(Task.from_source(s, target=target), n_rows=config.rows) for s in sources]
    cells = [
        Cell(task=task.resplit(seed), seed=seed, method=method)
        for task in tasks
        for seed in range(config.seeds)
        for method in (*REFERENCES, *config.chosen)
    ]
    paths = [out / _CELLS / f"{cell.key}.parquet" for cell in cells]
    left = [(cell, path) for cell, path in zip(cells, paths, strict=True) if not path.exists()]
    n_done = len(cells) - len(left)
    yield Progress(n_done=n_done, n_cells=len(cells), last="")
    work = [joblib.delayed(_run)(cell, path, config=config) for cell, path in left]
    with closing(_done(work, jobs=jobs)) as keys:
        for n_more, key in enumerate(keys, start=1):
            yield Progress(n_done=n_done + n_more, n_cells=len(cells), last=key)
    whole = pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)
    _write(whole, out / RESULTS)


def _done(work: list[Any], *, jobs: int) -> Generator[str, None, None]:
    """The key of every cell as it is finished."""
    with start_engine("joblib", jobs=jobs) as engine:
        try:
            yield from engine.run(work)
        except engine.lost as error:
            raise EngineError(
                "a worker died, killed or out of memory; finished cells are whole, and the same "
                "command goes on."
            ) from error


def _begin(out: Path, *, config: CompareConfig) -> None:
    """Make the folder, or see that it is of the same comparison."""
    make_folder(out / _CELLS)
    path = out / _SETTINGS
    if not path.exists():
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(config.settings, indent=2) + "\n", encoding="utf-8")
        return
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoreError(f"{path} must be JSON: {error}.") from error
    for name, value in config.settings.items():
        if stored.get(name) != value:
            raise InputError(
                f"{out} holds a comparison with {name} {stored.get(name)}, which must stay; "
                f"got {value}. Choose another folder."
            )


def _run(cell: Cell, path: Path, *, config: CompareConfig) -> str:
    """Run one cell and write its file; its key."""
    task = cell.task
    h = config.n_hidden or task.n_features
    n_possible = task.n_features * h + h * task.n_outputs
    objective = Objective(loss=default_loss(task.kind), penalty=config.price / n_possible)
    if cell.method in REFERENCES:
        points = [reference_point(cell.method, task=task, objective=objective, seed=cell.seed)]
    else:
        points = _searched(cell, objective=objective, config=config, n_hidden=h)
    known = {
        "data": task.name,
        "kind": task.kind,
        "seed": cell.seed,
        "method": cell.method,
        "is_reference": cell.method in REFERENCES,
    }
    _write(pd.DataFrame([known | vars(point) for point in points]), path)
    return cell.key


def _searched(
    cell: Cell, *, objective: Objective, config: CompareConfig, n_hidden: int
) -> list[Point]:
    task = cell.task
    n, c = task.n_features, task.n_outputs
    space = SearchSpace(widths=(n, n_hidden, c))
    most = max(2 * c, min(int(config.kappa * (n + c)), space.n_possible_edges // 2))
    running = search(
        task,
        space,
        searcher=cell.method,
        objective=objective,
        evaluations=config.evaluations,
        densities=(min(1.0, most / space.n_possible_edges),),
        steps=config.steps,
        seed=cell.seed,
    )
    return trajectory(running, task=task, objective=objective)


def _write(frame: pd.DataFrame, path: Path) -> None:
    with whole_file(path) as temporary:
        frame.to_parquet(temporary, index=False)
