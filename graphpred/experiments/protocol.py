"""The protocol of every benchmark of predictions: data sets, halves, splits and cells.

Half of the data sets serve to tune, the other half make the table. A *cell* is a data set with a
split, a budget of live edges and a number of training steps. Everybody is trained on the training
part, chosen by the validation part and reported on the test part: half and a quarter and a quarter
of the rows. The test part depends on the data alone; a seed draws the other two.
Notation: n features, c classes or outputs, N = n² + n·c possible edges, κ budgets in units of
n + c, K* live edges.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from graphpred.errors import DataError
from graphpred.objective import Kind
from graphpred.seeds import derived_seed, generator_for
from graphpred.space import SearchSpace
from graphpred.split import TEST_SHARE, stratified_draw
from graphpred.task import Task

Half = Literal["tuning", "table", "all"]

MAX_ROWS = 4000
"""Rows of a data set, test rows included; larger ones are drawn from."""
KAPPAS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Budgets in units of n + c: 1 is what one dense hidden neuron takes."""
STEPS = (100, 300, 1000)
"""Training steps; the main table is of 300."""

_TUNING = """
    adult credit_g ionosphere kr_vs_kp sick heart_statlog hepatitis cylinder_bands tokyo1 htru2
    spectf house_votes
    vehicle cmc ann_thyroid eucalyptus soybean mfeat_zernike mfeat_karhunen steel_faults
    elevators ailerons bank32nh kin8nm puma8NH abalone stock triazines plasma_retinol wind
    kegg_directed
"""
TUNING_SETS = frozenset(_TUNING.split())
"""The half that learning rates and our own choices are tuned on; every other set is in the table.

Two-class, many-class and regression sets, few and many classes and near-noise sets are in either
half, and a family of ``FAMILIES`` is never divided. The sets that scikit-learn ships are in the
table.
"""

_FAMILIES = {
    "wisconsin": "wdbc breast_cancer wisconsin_prognostic",
    "autos": "autos auto_price",
    "optdigits": "optdigits digits",
    "mfeat": "mfeat_zernike mfeat_karhunen",
    "thyroid": "sick ann_thyroid",
    "expert_models": "nursery car",
    "aircraft": "elevators ailerons",
    "simulators": "bank32nh kin8nm puma8NH",
    "census": "cal_housing house_16H",
}
FAMILIES = {name: family for family, names in _FAMILIES.items() for name in names.split()}
"""Family of every set that is related to another: the same patients, cars, digits or simulator.

Intervals are drawn over families; a set without one is its own.
"""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Where a data set is and what is known of it before it is read.

    Attributes:
        name: What to call it.
        source: A file, or a name in scikit-learn.
        kind: What its target is; guessed if None.
    """

    name: str
    source: str
    kind: Kind | None = None

    @property
    def family(self) -> str:
        """The sets it is related to."""
        return FAMILIES.get(self.name, self.name)

    @property
    def half(self) -> Half:
        """``"tuning"`` or ``"table"``."""
        return "tuning" if self.name in TUNING_SETS else "table"

    def load(self) -> Task:
        """Read it, with the split of seed 0 and at most ``MAX_ROWS`` rows."""
        return limited(Task.from_source(self.source, kind=self.kind, name=self.name))


@dataclass(frozen=True, eq=False, kw_only=True)
class Cell:
    """What all methods are given alike.

    Attributes:
        task: The data set, with the split of ``seed``.
        seed: Of the split and of every draw.
        kappa: κ.
        n_edges: Largest K* of a network.
        steps: Training steps of a network.
    """

    task: Task
    seed: int
    kappa: float
    n_edges: int
    steps: int

    @property
    def space(self) -> SearchSpace:
        """The paper's: as many hidden neurons as features."""
        n, c = self.task.n_features, self.task.n_outputs
        return SearchSpace(widths=(n, n, c))

    def own_seed(self, *purpose: str | int) -> int:
        """A seed for every purpose; the number of steps has no say."""
        return derived_seed(self.task.digest, self.seed, f"{self.kappa:g}", *purpose)

    def generator(self, *purpose: str | int) -> torch.Generator:
        """A generator for every purpose; see ``own_seed``."""
        return torch.Generator().manual_seed(self.own_seed(*purpose))


def data_sets(sources: Sequence[str | Path], *, half: Half = "all") -> list[DataSet]:
    """The data sets of one half.

    Args:
        sources: Folders of ``name.csv.gz`` with their list ``INDEX.tsv``, which has columns
            ``name`` and ``task``; files, or names of sets that scikit-learn ships.
        half: Which ones to keep.

    Raises:
        DataError: If a folder has no list, or nothing is left.

    >>> [(one.name, one.half) for one in data_sets(["iris", "wine"])]
    [('iris', 'table'), ('wine', 'table')]
    """
    found: list[DataSet] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            found += _listed(path)
        else:
            found.append(DataSet(name=path.name.split(".")[0], source=str(source)))
    kept = [one for one in found if half in ("all", one.half)]
    if not kept:
        raise DataError(f"there must be data sets in the half {half!r}; there are none.")
    return kept


def _listed(folder: Path) -> list[DataSet]:
    try:
        with (folder / "INDEX.tsv").open(encoding="utf-8", newline="") as index:
            rows = list(csv.DictReader(index, delimiter="\t"))
    except OSError as error:
        raise DataError(f"{folder} must hold a list of its sets, INDEX.tsv: {error}.") from error
    return [
        DataSet(
            name=row["name"],
            source=str(folder / f"{row['name']}.csv.gz"),
            kind="regression" if row["task"] == "regression" else "classification",
        )
        for row in rows
    ]


def limited(task: Task, *, n_rows: int = MAX_ROWS) -> Task:
    """The task, or a smaller one of drawn rows, in which test rows keep their share."""
    if task.n_rows <= n_rows:
        return task
    n_test = round(TEST_SHARE * n_rows)
    split = task.split

    def drawn(rows: Tensor, n_drawn: int, purpose: str) -> Tensor:
        generator = generator_for(task.digest, "rows", purpose)
        chosen = stratified_draw(task.y[rows], n_drawn, generator=generator, at_least=1)
        return task.origin[rows[chosen]]

    n_validation = round((n_rows - n_test) * len(split.validation) / len(split.fit))
    return task.take(
        train=drawn(split.train, n_rows - n_test - n_validation, "train"),
        validation=drawn(split.validation, n_validation, "validation"),
        test=drawn(split.test, n_test, "test"),
    )


def cells(
    task: Task, *, seed: int, kappas: Sequence[float] = KAPPAS, steps: Sequence[int] = (300,)
) -> list[Cell]:
    """The cells of one data set and seed: those with 2c ≤ K* ≤ N/2.

    Args:
        task: As ``DataSet.load`` gives it.
        seed: Draws its training and validation rows anew.
        kappas: Budgets.
        steps: Numbers of training steps.
    """
    n, c = task.n_features, task.n_outputs
    split = task.resplit(seed)
    return [
        Cell(task=split, seed=seed, kappa=kappa, n_edges=n_edges, steps=n_steps)
        for kappa in kappas
        if 2 * c <= (n_edges := int(kappa * (n + c))) <= (n * n + n * c) / 2
        for n_steps in steps
    ]
