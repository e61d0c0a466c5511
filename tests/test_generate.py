"""Generation of pairs: what is stored, and that nothing can disturb it."""

import itertools
import math
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
import torch
from sklearn.datasets import load_iris
from test_pairs import content

import graphpred.pairs.config
from graphpred.activations import register_activation
from graphpred.errors import DataError, GraphPredError, InputError, StoreError
from graphpred.files import TEMPORARY_PREFIX
from graphpred.network import Signature, SparseNetwork
from graphpred.objective import Objective
from graphpred.pairs.config import DEFAULT_PRICES, GenerateConfig
from graphpred.pairs.generate import generate_pairs
from graphpred.pairs.store import PairStore
from graphpred.population import Population
from graphpred.searchers import search
from graphpred.space import SearchSpace
from graphpred.task import Task

CONFIG = GenerateConfig(
    n_searches=5,
    rows=40,
    evaluations=1,
    steps=10,
    densities=(0.2, 0.5, 0.9),
    prices=(0.001, 0.3, 3.0),
    n_hidden=4,
    seed=3,
)
SOURCES = ("iris", "wine")


def cut_shards(patch, *, searches=2):
    """A few searches a shard instead of hundreds."""
    seconds = CONFIG.seconds(Task.from_source(SOURCES[0]))
    patch.setattr(graphpred.pairs.config, "_SHARD_SECONDS", (searches - 0.5) * seconds)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    cut_shards(monkeypatch)


def generated(out, *, config=CONFIG, sources=SOURCES, **settings):
    progress = list(generate_pairs(sources, out=out, config=config, **settings))
    return PairStore(out), progress


def contents(store):
    """All pairs without the one field that may differ."""
    return [content(pair, ignore=["cpu_seconds"]) for pair in store]


def shard_names(store):
    return [path.name.removesuffix(".parquet") for path in store.shards]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of one process."""
    with pytest.MonkeyPatch.context() as patch:
        cut_shards(patch)
        return generated(tmp_path_factory.mktemp("whole"))


def rebuilt(pair):
    """The subsample of a pair, from what the pair says."""
    task = Task.from_source(pair.source, target=pair.target, seed=pair.split_seed)
    assert task.digest == pair.digest
    return task.take(
        train=torch.tensor(pair.train_rows), validation=torch.tensor(pair.validation_rows)
    )


def test_every_search_gives_a_pair_per_price(whole):
    store, _ = whole

    keys = [(pair.search, pair.price) for pair in store]
    assert keys == [(s, price) for s in range(5) for price in CONFIG.prices]
    assert len(store) == 15
    assert store.verify() == []
    assert shard_names(store) == [
        "pairs-00000000-00000001",
        "pairs-00000002-00000003",
        "pairs-00000004-00000004",
    ]
    assert [pair.source for pair in store][::3] == ["iris", "wine", "iris", "wine", "iris"]
    assert {(pair.evaluations, pair.network_steps) for pair in store} == {(10, 100)}
    assert all(pair.cpu_seconds > 0 for pair in store)


def test_progress_counts_searches_and_pairs(whole):
    store, progress = whole

    assert [step.n_done for step in progress] == [0, 2, 4, 5]
    assert [step.n_pairs for step in progress] == [0, 6, 12, 15]
    assert {step.n_searches for step in progress} == {5}
    assert math.isnan(progress[0].best)
    assert math.isnan(progress[0].median)
    objectives = sorted(pair.objective for pair in store)
    assert progress[-1].best == objectives[0]
    assert progress[-1].median == objectives[7]


def test_facts_of_a_pair_agree(whole):
    store, _ = whole

    for pair in store:
        z, task = pair.architecture, rebuilt(pair)
        n = task.n_features * 4 + 4 * task.n_outputs
        assert z.widths == (task.n_features, 4, task.n_outputs)
        assert z.n_edges == z.n_live_edges
        assert pair.penalty == pytest.approx(pair.price / n)
        assert pair.objective == pytest.approx(pair.loss + pair.penalty * z.n_edges)
        assert (pair.kind, pair.loss_name, pair.searcher) == ("classification", "error", "random")
        assert (pair.feature_names, pair.class_names) == (task.feature_names, task.class_names)
        assert len(pair.train_rows) + len(pair.validation_rows) == 40


def test_dearer_edges_are_fewer(whole):
    store, _ = whole

    n_edges = [pair.architecture.n_edges for pair in store]
    for first in range(0, 15, 3):
        assert n_edges[first] >= n_edges[first + 1] >= n_edges[first + 2]
    assert sum(n_edges[0::3]) > sum(n_edges[2::3])


def test_every_search_has_its_own_subsample(whole):
    store, _ = whole

    drawn = {(pair.source, pair.train_rows, pair.validation_rows) for pair in store}

    assert len(drawn) == 5
    assert len({pair.search_seed for pair in store}) == 5


def test_stored_rows_are_never_test_rows(whole):
    store, _ = whole

    for source in SOURCES:
        used = set()
        for pair in store:
            if pair.source == source:
                assert not set(pair.train_rows) & set(pair.validation_rows)
                used.update(pair.train_rows, pair.validation_rows)
        assert used
        for seed in (0, 3):
            assert used.isdisjoint(Task.from_source(source, seed=seed).split.test.tolist())


def test_stored_rows_and_weights_give_the_stored_loss(whole):
    store, _ = whole

    for pair in store:
        task = rebuilt(pair)
        network = SparseNetwork(pair.architecture, pair.weights, signature=Signature.of(task))
        for part, stored in (("train", pair.train_loss), ("validation", pair.loss)):
            X, y = task.rows(part)
            scores = network(X).detach().T[None]
            loss = Objective(loss=pair.loss_name).losses(scores, y).item()
            assert loss == pytest.approx(stored, abs=1e-6)


def test_pair_of_a_price_has_the_least_objective_of_its_search(whole):
    store, _ = whole

    for pair in store:
        task = rebuilt(pair)
        trials = list(
            search(
                task,
                SearchSpace(widths=pair.architecture.widths),
                evaluations=1,
                steps=10,
                densities=CONFIG.densities,
                seed=pair.search_seed,
            )
        )
        values = [t.loss + pair.penalty * t.architecture.n_live_edges for t in trials]
        assert len(values) == 10
        assert pair.objective == min(values)
        chosen = trials[pair.trial]
        assert chosen.architecture.without_dead_edges() == pair.architecture
        assert torch.equal(chosen.weights.edge[chosen.architecture.live], pair.weights.edge)


def test_number_of_workers_changes_nothing(whole, tmp_path):
    store, progress = generated(tmp_path, jobs=2)

    assert contents(store) == contents(whole[0])
    assert shard_names(store) == shard_names(whole[0])
    assert progress[-1] == whole[1][-1]


def test_another_seed_gives_other_pairs(whole, tmp_path):
    store, _ = generated(tmp_path, config=replace(CONFIG, n_searches=2, seed=4))

    for pair, other in zip(store, whole[0], strict=False):
        assert (pair.search, pair.source) == (other.search, other.source)
        assert pair.train_rows != other.train_rows
        assert pair.search_seed != other.search_seed


def test_global_generator_is_left_alone(tmp_path):
    before = torch.get_rng_state()

    generated(tmp_path, config=replace(CONFIG, n_searches=1))

    assert torch.equal(before, torch.get_rng_state())


def stamps(store):
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in store.shards}


@pytest.mark.parametrize("jobs", [1, 2])
def test_deleted_shard_is_made_again_and_no_other(whole, tmp_path, jobs):
    config = replace(CONFIG, n_searches=4)
    store, _ = generated(tmp_path, config=config)
    store.shards[0].unlink()
    left = stamps(store)

    _, progress = generated(tmp_path, config=config, jobs=jobs)

    assert [(step.n_done, step.n_pairs) for step in progress] == [(2, 0), (4, 6)]
    assert stamps(store).items() >= left.items()
    assert contents(store) == contents(whole[0])[:12]


@pytest.mark.parametrize("jobs", [1, 2])
def test_run_that_was_stopped_makes_the_missing_pairs(whole, tmp_path, jobs):
    running = generate_pairs(SOURCES, out=tmp_path, config=CONFIG, jobs=jobs)
    next(running)
    next(running)
    running.close()
    store = PairStore(tmp_path)
    assert 0 < len(store) <= 15
    left = stamps(store)

    generated(tmp_path, jobs=jobs)

    assert stamps(store).items() >= left.items()
    assert contents(store) == contents(whole[0])
    assert store.verify() == []


def test_finished_run_does_nothing_more(whole):
    store, _ = whole
    before = stamps(store)

    _, progress = generated(store.folder)

    assert [(step.n_done, step.n_pairs) for step in progress] == [(5, 0)]
    assert stamps(store) == before


KILLED = """
    import sys, time
    import graphpred.files, graphpred.pairs.config as config, graphpred.pairs.generate as generate

    config._SHARD_SECONDS = 0.01
    flush, shards = graphpred.files._flush, []

    def slow_flush(path):
        if path.suffix != ".json" and path.is_file():
            shards.append(path)
            if len(shards) == 3:  # run.json is the first
                print("writing", flush=True)
                time.sleep(60)
        flush(path)

    graphpred.files._flush = slow_flush
    run = generate.GenerateConfig(
        n_searches=5, rows=40, evaluations=1, steps=10, densities=(0.2, 0.5, 0.9),
        prices=(0.001, 0.3, 3.0), n_hidden=4, seed=3,
    )
    list(generate.generate_pairs(("iris", "wine"), out=sys.argv[1], config=run))
"""


def test_run_killed_while_it_writes_goes_on_unharmed(whole, tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        process.kill()
    store = PairStore(tmp_path)
    assert list(tmp_path.glob(f"{TEMPORARY_PREFIX}*"))  # it was torn in the middle of a shard
    assert shard_names(store) == ["pairs-00000000-00000001"]
    assert store.verify() == []

    generated(tmp_path)

    assert store.verify() == []
    assert contents(store) == contents(whole[0])
    store.remove_unfinished(older_than=0)
    assert not list(tmp_path.glob(f"{TEMPORARY_PREFIX}*"))


def test_run_may_grow(whole, tmp_path):
    for n_searches in (1, 4, 5):
        store, progress = generated(tmp_path, config=replace(CONFIG, n_searches=n_searches))
        assert progress[-1].n_done == n_searches

    assert contents(store) == contents(whole[0])
    assert store.verify() == []
    assert store.read_run()["n_searches"] == 5
    _, progress = generated(tmp_path, config=replace(CONFIG, n_searches=2))
    assert (progress[-1].n_done, progress[-1].n_pairs) == (2, 0)
    assert store.read_run()["n_searches"] == 5


def test_grown_run_with_gaps_makes_exactly_the_missing_searches(whole, tmp_path, monkeypatch):
    cut_shards(monkeypatch, searches=3)
    for n_searches in (1, 2, 3):
        store, _ = generated(tmp_path, config=replace(CONFIG, n_searches=n_searches))
    store.shards[2].unlink()
    store.shards[0].unlink()

    _, progress = generated(tmp_path, config=replace(CONFIG, n_searches=3))

    assert progress[-1].n_pairs == 6
    assert shard_names(store) == [f"pairs-0000000{s}-0000000{s}" for s in range(3)]
    assert store.verify() == []
    assert contents(store) == contents(whole[0])[:9]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "seed must be 3; got 4"),
        ({"rows": 41}, "rows must be 40; got 41"),
        ({"steps": 11}, "steps must be 10; got 11"),
        ({"evaluations": 2}, "evaluations must be 1; got 2"),
        ({"prices": (1.0,)}, r"prices must be \[0\.001, 0\.3, 3\.0\]; got \[1\.0\]"),
        ({"penalties": (1.0,)}, r"penalties must be \[\]; got \[1\.0\]"),
        ({"densities": (0.5,)}, r"densities must be \[0\.2, 0\.5, 0\.9\]; got \[0\.5\]"),
        ({"searcher": "random_live"}, "searcher must be random; got random_live"),
        ({"n_hidden": None}, "n_hidden must be 4; got None"),
        ({"activations": ("relu",)}, r"activations must be \['identity'.*; got \['relu'\]"),
        ({"loss": "error"}, "loss must be None; got error"),
    ],
)
def test_folder_of_another_run_is_refused(whole, change, message):
    store, _ = whole
    before = stamps(store)

    with pytest.raises(StoreError, match=f"holds pairs of another run; .*{message}"):
        generated(store.folder, config=replace(CONFIG, **change))

    assert stamps(store) == before
    assert store.read_run()["seed"] == 3


def test_folder_of_other_data_is_refused(whole, tmp_path):
    store, _ = whole

    with pytest.raises(StoreError, match=r"another run; .*sources must be .*wine.*; got .*iris"):
        generated(store.folder, sources=["iris"])
    (tmp_path / "pairs-00000000-00000000.parquet").write_bytes(store.shards[0].read_bytes())
    with pytest.raises(StoreError, match="must be empty or hold a run; it has shards but no run"):
        generated(tmp_path)


def write_csv(path, *, shift=0.0):
    frame = load_iris(as_frame=True).frame
    frame["petal length (cm)"] += shift
    frame[["target", *frame.columns[:-1]]].to_csv(path, index=False)  # the target is first
    return path


def test_source_may_be_a_file_with_a_named_target(tmp_path):
    path = write_csv(tmp_path / "flowers.csv")
    config = replace(CONFIG, n_searches=2)

    store, _ = generated(tmp_path / "pairs", config=config, sources=[path], target="target")

    for pair in store:
        assert (pair.target, pair.class_names) == ("target", ("0", "1", "2"))
        task = rebuilt(pair)
        population = Population([pair.architecture], start=[pair.weights])
        (loss,) = population.losses(*task.rows("validation")).tolist()
        assert loss == pytest.approx(pair.loss, abs=1e-6)
    write_csv(path, shift=1.0)
    with pytest.raises(StoreError, match="sources must be"):
        generated(tmp_path / "pairs", config=config, sources=[path], target="target")


def test_regression_and_penalties(tmp_path):
    config = replace(CONFIG, n_searches=2, penalties=(0.0, 0.02), loss="mae", rows=60)

    store, _ = generated(tmp_path, config=config, sources=["diabetes"])

    assert [(pair.search, pair.penalty) for pair in store] == [
        (0, 0.0),
        (0, 0.02),
        (1, 0.0),
        (1, 0.02),
    ]
    for pair in store:
        assert (pair.kind, pair.loss_name) == ("regression", "mae")
        assert pair.price == pytest.approx(pair.penalty * 4 * 11)
        task = rebuilt(pair)
        population = Population([pair.architecture], start=[pair.weights])
        (loss,) = population.losses(*task.rows("validation"), loss="mae").tolist()
        assert loss == pytest.approx(pair.loss, abs=1e-6)
        assert pair.objective == pytest.approx(loss + pair.penalty * pair.architecture.n_edges)


def test_default_prices_are_ten_up_to_three():
    assert len(DEFAULT_PRICES) == 10
    assert DEFAULT_PRICES[0] == 0.01
    assert DEFAULT_PRICES[-1] == pytest.approx(3.0)
    ratios = [b / a for a, b in itertools.pairwise(DEFAULT_PRICES)]
    assert max(ratios) == pytest.approx(min(ratios), rel=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_searches": 0}, "n_searches must be at least 1; got 0"),
        ({"rows": 0}, "rows must be at least 1; got 0"),
        ({"evaluations": -1}, "evaluations must be at least 1; got -1"),
        ({"steps": 0}, "steps must be at least 1; got 0"),
        ({"n_hidden": 0}, "n_hidden must be at least 1; got 0"),
        ({"steps": 101}, "must hold one candidate of 101 steps; got 1"),
        ({"densities": ()}, r"densities must be in \(0, 1\]; got \[\]"),
        ({"densities": (0.5, 1.5)}, r"densities must be in \(0, 1\]"),
        ({"prices": (-0.1,)}, r"at least 0; got -0\.1"),
        ({"penalties": (math.nan,)}, "at least 0; got nan"),
        ({"searcher": "oracle"}, "searcher must be one of random.*; got 'oracle'"),
        ({"loss": "hinge"}, "loss must be one of error.*; got 'hinge'"),
    ],
)
def test_impossible_requests_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(CONFIG, **change)


@pytest.mark.parametrize(
    ("sources", "change", "message"),
    [
        ([], {}, "at least one data set; got none"),
        (["iris", "nothing.csv"], {}, "nothing.csv"),
        (["iris", "diabetes"], {"loss": "error"}, "loss 'error' is for classification; diabetes"),
        (["iris", "digits"], {"rows": 10}, "n_rows must be at least 20 for digits; got 10"),
        (["iris"], {"activations": ("hat",)}, "must be one of .*; got 'hat'"),
        (["iris"], {"searcher": "exhaustive", "n_hidden": 9}, "at most 65536 architectures"),
    ],
)
def test_unusable_data_is_refused_before_the_folder_is_claimed(tmp_path, sources, change, message):
    out = tmp_path / "pairs"

    with pytest.raises(GraphPredError, match=message):
        generated(out, sources=sources, config=replace(CONFIG, **change))

    assert not out.exists()


def test_missing_target_is_named(tmp_path):
    path = write_csv(tmp_path / "flowers.csv")

    with pytest.raises(DataError, match="colour"):
        generated(tmp_path / "pairs", sources=[path], target="colour")


def test_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="file"):
        generated(tmp_path / "file")


def test_what_a_user_registers_reaches_the_workers(tmp_path, registry):
    register_activation("cube", lambda x: x**3)
    config = GenerateConfig(n_searches=2, rows=60, evaluations=130, activations=("cube",))

    list(generate_pairs(["iris"], out=tmp_path, config=config, jobs=2))

    assert {name for pair in PairStore(tmp_path) for name in pair.architecture.activations[0]} == {
        "cube"
    }
