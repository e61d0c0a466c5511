"""Data sets, halves, splits, cells, and the pool of rivals."""

import gzip

import numpy as np
import pandas as pd
import pytest
import torch
from toys import toy_task

from graphpred.errors import DataError, StoreError
from graphpred.experiments import pool as pool_module
from graphpred.experiments.outcome import Outcome
from graphpred.experiments.pool import Pool
from graphpred.experiments.protocol import (
    FAMILIES,
    TUNING_SETS,
    Cell,
    DataSet,
    cells,
    data_sets,
    limited,
)
from graphpred.experiments.rivals import RATES, RIVALS, Rival, rate_of
from graphpred.objective import default_loss
from graphpred.population import Population
from graphpred.task import Task

KINDS = {"classification": 3, "regression": 1}


def toy_cell(kind="classification", *, kappa=1.0, n_edges=8, steps=6, seed=0):
    task = toy_task(kind, n=5, c=KINDS[kind], m=100, m_test=30)
    return Cell(task=task, seed=seed, kappa=kappa, n_edges=n_edges, steps=steps)


def rows_of(task, part):
    return set(task.origin[getattr(task.split, part)].tolist())


# Data sets


def test_no_family_is_divided():
    for family in set(FAMILIES.values()):
        members = [name for name, own in FAMILIES.items() if own == family]
        assert len({name in TUNING_SETS for name in members}) == 1


def test_folder_is_read_by_its_list(tmp_path):
    with gzip.open(tmp_path / "adult.csv.gz", "wt") as file:
        file.write("a,target\n" + "".join(f"{i},{i % 4}\n" for i in range(40)))
    (tmp_path / "INDEX.tsv").write_text("name\ttask\nadult\tregression\nwine\tbinary\n")

    tuning, table = (data_sets([tmp_path, "iris"], half=half) for half in ("tuning", "table"))

    assert [one.name for one in tuning] == ["adult"]
    assert tuning[0].load().kind == "regression"
    assert [(one.name, one.family) for one in table] == [("wine", "wine"), ("iris", "iris")]


def test_missing_list_and_empty_half_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"INDEX\.tsv"):
        data_sets([tmp_path])
    with pytest.raises(DataError, match="tuning"):
        data_sets(["wine"], half="tuning")


# Splits


@pytest.fixture(scope="module")
def large():
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"a": generator.normal(size=900), "b": generator.normal(size=900)})
    return Task.from_source(frame.assign(target=(frame.a > 0).map({True: "x", False: "y"})))


def test_large_sets_are_cut_and_keep_their_shares(large):
    small = limited(large, n_rows=400)
    sizes = [len(rows_of(small, part)) for part in ("train", "validation", "test")]

    assert sizes == [200, 100, 100]
    assert rows_of(small, "test") <= rows_of(large, "test")
    assert torch.equal(small.origin, limited(large, n_rows=400).origin)
    assert limited(large, n_rows=900) is large


def test_test_rows_are_never_trained_on_whatever_the_seed(large):
    small = limited(large, n_rows=400)
    splits = [cells(small, seed=seed, kappas=[1.0])[0].task for seed in range(3)]

    for task in splits:
        assert rows_of(task, "test") == rows_of(small, "test")
        assert not rows_of(task, "fit") & rows_of(large, "test")
    assert len({frozenset(rows_of(task, "train")) for task in splits}) == 3


def test_same_seed_gives_the_same_split_scaled_by_its_training_rows():
    data_set = DataSet(name="wine", source="wine")
    first, second = (cells(data_set.load(), seed=2)[0].task for _ in range(2))
    X, _ = first.rows("train")

    assert torch.equal(first.X, second.X)
    assert torch.allclose(X.mean(dim=0), torch.zeros(X.shape[1]), atol=1e-5)


def test_cells_keep_between_two_edges_an_output_and_half_of_all():
    task = toy_task(n=5, c=3)  # n + c = 8, N = 40

    found = cells(task, seed=0, kappas=(0.5, 1, 2, 4), steps=(10, 20))

    assert [(cell.n_edges, cell.steps) for cell in found] == [(8, 10), (8, 20), (16, 10), (16, 20)]


# The pool


@pytest.fixture
def trained(monkeypatch):
    """Small chunks, and the numbers of the candidates that are trained."""
    numbers = []

    def run(cell, own, rate):
        numbers.extend(own)
        return RIVALS["live"].run(cell, own, rate)

    rivals = {"live": Rival(run=run, n_candidates=12, chunk=4)}
    monkeypatch.setattr(pool_module, "RIVALS", rivals)
    return numbers


def same(first, second):
    return all(
        torch.equal(getattr(first, name), getattr(second, name))
        for name in ("validation", "test", "standard_error", "n_edges")
    )


def test_small_pool_is_the_beginning_of_a_large_one(tmp_path, trained):
    small = Pool(tmp_path / "a").outcome("live", toy_cell(), n_candidates=6)
    large = Pool(tmp_path / "b").outcome("live", toy_cell())

    assert (len(small), len(large)) == (6, 12)
    assert same(small, large[:6])


def test_pool_goes_on_after_it_was_stopped(tmp_path, trained):
    pool = Pool(tmp_path)
    chunks = pool.chunks("live", toy_cell())
    whole = pool.outcome("live", toy_cell())
    chunks[1].path.unlink()
    (chunks[1].path.parent / ".unfinished-1").write_bytes(b"half")
    trained.clear()

    again = pool.outcome("live", toy_cell())

    assert trained == [4, 5, 6, 7]
    assert same(whole, again)


def test_pool_tells_cells_apart(tmp_path):
    pool, base = Pool(tmp_path), toy_cell()
    others = [toy_cell(seed=1), toy_cell(kappa=2.0), toy_cell(steps=200), toy_cell("regression")]
    paths = {pool.chunks("live", cell)[0].path for cell in (base, *others)}

    assert len(paths) == 5
    assert pool.chunks("dense", base) == pool.chunks("dense", toy_cell(kappa=2.0))
    assert pool.chunks("l1", base) == pool.chunks("l1", toy_cell(steps=200))


def test_same_candidates_whatever_the_number_of_steps():
    short, long = toy_cell(steps=1), toy_cell(steps=200)

    assert short.own_seed("live", 3) == long.own_seed("live", 3)
    assert short.own_seed("live", 3) != toy_cell(seed=1).own_seed("live", 3)


def test_damaged_chunk_is_named(tmp_path):
    pool = Pool(tmp_path)
    path = pool.chunks("linear", toy_cell())[0].path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no parquet")

    with pytest.raises(StoreError, match="chunk of a pool"):
        pool.outcome("linear", toy_cell())


def test_figure_is_the_best_by_validation_with_the_cost_of_all(tmp_path):
    cell = toy_cell()
    pool = Pool(tmp_path)
    outcome = pool.outcome("snip", cell)

    figure = pool.figure("snip", cell)

    assert figure.loss == float(outcome.test[outcome.validation.argmin()])
    assert (figure.networks, figure.network_steps) == (8, 8 * cell.steps)
    assert figure.cpu_seconds == pytest.approx(float(outcome.cpu_seconds.sum()))


def test_nearest_tuned_rate_is_taken(monkeypatch):
    monkeypatch.setitem(RATES, "live", {100: 0.1, 1000: 0.01})

    assert [rate_of("live", steps) for steps in (5, 300, 900)] == [0.1, 0.1, 0.01]


# Outcomes


def test_outcome_is_measured_as_populations_measure(generator):
    cell = toy_cell()
    space = cell.space
    networks = [space.sample_live(generator=generator, n_edges=8) for _ in range(3)]
    population = Population(networks)

    outcome = Outcome.measured(cell.task, population.scores, n_edges=[8, 8, 8])

    loss = default_loss(cell.task.kind)
    X, y = cell.task.rows("test")
    assert torch.equal(outcome.test, population.losses(X, y, loss=loss))
    error = outcome.test
    assert torch.allclose(outcome.standard_error, (error * (1 - error) / len(y)).sqrt())


def test_best_of_is_the_mean_over_disjoint_groups():
    plain = torch.arange(5, dtype=torch.float64)
    outcome = Outcome(
        validation=torch.tensor([0.3, 0.1, 0.2, 0.4, 0.0], dtype=torch.float64),
        test=plain,
        standard_error=plain,
        balanced_error=plain,
        n_edges=plain,
        cpu_seconds=torch.ones(5, dtype=torch.float64),
    )

    figure = outcome.best_of(2, steps=10)

    assert figure.loss == 1.5  # candidates 1 and 2; the fifth has no partner
    assert (figure.network_steps, figure.cpu_seconds) == (20, 2.0)
    assert outcome.within(2).n_edges.tolist() == [0, 1, 2]
