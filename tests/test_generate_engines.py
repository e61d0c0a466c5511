"""Engines and budgets: the same pairs from each engine, one clear error where there are none."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import joblib
import pytest
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import _ExecutorManagerThread
from test_generate import CONFIG, contents, cut_shards, generated, shard_names, stamps
from typer.testing import CliRunner

import graphpred.pairs.engines
import graphpred.pairs.generate
from graphpred.cli.main import app
from graphpred.errors import EngineError, InputError, StoreError
from graphpred.pairs.config import GenerateConfig, missing_shards
from graphpred.pairs.engines import ENGINES, Engine, start_engine
from graphpred.pairs.generate import MAX_RESTARTS
from graphpred.pairs.store import PairStore
from graphpred.pairs.work import ShardWork, draw_subsample, make_shard
from graphpred.searchers import SEARCHERS, search
from graphpred.searchers.base import BATCH
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace
from graphpred.task import Task


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    cut_shards(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of this process alone."""
    with pytest.MonkeyPatch.context() as patch:
        cut_shards(patch)
        store, progress = generated(tmp_path_factory.mktemp("whole"))
    return store, progress


def test_stop_between_taking_a_task_and_sending_it_is_clean(monkeypatch):
    """The thread that takes a task for the one that ended sends it only after the stop began."""
    taken, failed, process = threading.Event(), [], _ExecutorManagerThread.process_result_item

    def process_slowly(thread, item):
        process(thread, item)  # and take a task
        taken.set()
        time.sleep(0.3)

    monkeypatch.setattr(_ExecutorManagerThread, "process_result_item", process_slowly)
    monkeypatch.setattr(threading, "excepthook", failed.append)
    with start_engine("joblib", jobs=2) as engine:
        results = engine.parallel()(joblib.delayed(abs)(-n) for n in range(1, 100))
        assert next(results) > 0
        assert taken.wait(60)
        with pytest.warns(UserWarning, match="cancelled"):
            results.close()
        assert not failed
        assert sorted(engine.parallel()(joblib.delayed(abs)(-n) for n in range(4))) == [0, 1, 2, 3]
    get_reusable_executor().shutdown()  # workers that grow from so little count as leaking


def test_processes_and_dask_give_the_same_pairs_bit_for_bit(whole, tmp_path):
    for engine in ("joblib", "dask"):
        store, progress = generated(tmp_path / engine, engine=engine, jobs=2)

        assert contents(store) == contents(whole[0])
        assert shard_names(store) == shard_names(whole[0])
        assert progress[-1] == whole[1][-1]
        assert store.verify() == []


@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="the extra 'ray' is not installed")
def test_ray_gives_the_same_pairs_bit_for_bit_and_nothing_on_standard_error(whole, tmp_path):
    code = (
        "import sys, test_generate as t, graphpred.pairs.config as c;"
        f"c._SHARD_SECONDS = {1.5 * CONFIG.seconds(Task.from_source('iris'))};"
        "t.generated(sys.argv[1], engine='ray', jobs=2)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        check=False, capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert contents(PairStore(tmp_path)) == contents(whole[0])


def test_finished_run_starts_no_engine(whole, monkeypatch):
    monkeypatch.setitem(ENGINES, "dask", lambda jobs, address: pytest.fail("it was started"))
    before = stamps(whole[0])

    _, progress = generated(whole[0].folder, engine="dask")

    assert [step.n_done for step in progress] == [5]
    assert stamps(whole[0]) == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "spark"}, "engine must be one of joblib, dask, ray; got 'spark'"),
        ({"address": "tcp://here:1"}, "engine 'joblib' has none, got 'tcp://here:1'"),
        ({"jobs": 0}, "jobs must be at least 1; got 0"),
    ],
)
def test_engines_that_cannot_be_are_refused_before_the_folder_is_claimed(
    tmp_path, settings, message
):
    with pytest.raises(InputError, match=message):
        generated(tmp_path / "out", **settings)

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("engine", "package"), [("dask", "dask"), ("dask", "distributed"), ("ray", "ray")]
)
def test_missing_extra_says_what_to_install(tmp_path, monkeypatch, engine, package):
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(EngineError, match=rf"pip install 'graphpred\[{engine}\]'"):
        generated(tmp_path, engine=engine)


def address_of(server):
    return f"tcp://127.0.0.1:{server.getsockname()[1]}"


def test_scheduler_that_is_not_there_gets_one_line_in_a_bounded_time(tmp_path, monkeypatch):
    monkeypatch.setattr(graphpred.pairs.engines, "_CONNECT_SECONDS", 1.0)
    with socket.socket() as closed, socket.socket() as silent:
        closed.bind(("127.0.0.1", 0))
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        addresses = ["nonsense", "odd://here:1", "here:there", address_of(closed)]
        for address in [*addresses, address_of(silent)]:
            started = time.monotonic()
            result = CliRunner().invoke(
                app,
                ["generate", "iris", "--rows", "60", "--out", str(tmp_path / "out"),
                 "--engine", "dask", "--address", address],
            )  # fmt: skip
            assert result.exit_code == 2
            assert result.stdout == ""
            assert result.stderr.count("\n") == 1
            assert f"a Dask scheduler must be running at {address}" in result.stderr
            assert time.monotonic() - started < 10


class _Dying:
    """Stands for a ``joblib.Parallel`` whose workers die after a few shards."""

    def __init__(self, shards):
        self.shards = shards

    def __call__(self, tasks):
        for _, (function, arguments, _) in zip(range(self.shards), tasks, strict=False):
            yield function(*arguments)
        raise BrokenProcessPool("killed")


def dying_engine(monkeypatch, shards):
    pools = iter(shards)
    engine = Engine(parallel=lambda: _Dying(next(pools)), lost=(BrokenProcessPool,))

    class Started:
        def __enter__(self):
            return engine

        def __exit__(self, *error):
            pass

    monkeypatch.setitem(ENGINES, "joblib", lambda jobs, address: Started())


def test_workers_that_die_are_replaced_and_counted(whole, tmp_path, monkeypatch):
    dying_engine(monkeypatch, [1, 0, 0, 1, 0, 9])

    store, progress = generated(tmp_path)

    assert [step.n_restarts for step in progress] == [0, 0, 1, 2, 3, 3, 4, 5, 5]
    assert [step.n_done for step in progress] == [0, 2, 2, 2, 2, 4, 4, 4, 5]
    assert replace(progress[-1], n_restarts=0) == whole[1][-1]
    assert shard_names(store) == shard_names(whole[0])
    assert contents(store) == contents(whole[0])


def test_workers_that_die_again_and_again_end_the_run(tmp_path, monkeypatch):
    dying_engine(monkeypatch, [1] + [0] * (MAX_RESTARTS + 1))

    with pytest.raises(EngineError, match=f"died {MAX_RESTARTS + 1} times in a row.*goes on"):
        generated(tmp_path)

    assert len(PairStore(tmp_path).shards) == 1
    assert PairStore(tmp_path).verify() == []


def some_work(folder):
    task = Task.from_source("iris")
    return ShardWork(
        subsamples=((0, draw_subsample(task, number=0, config=CONFIG)),),
        config=CONFIG,
        target=None,
        folder=folder,
        activations=(),
        searcher=SEARCHERS["random"],
    )


def test_worker_that_does_not_see_the_folder_says_so(tmp_path):
    with pytest.raises(StoreError, match=r"all workers must see .*elsewhere.* a worker on .* not"):
        make_shard(some_work(tmp_path / "elsewhere"))

    assert not (tmp_path / "elsewhere").exists()


def test_shard_that_was_written_elsewhere_is_missed(tmp_path, monkeypatch):
    write = PairStore.write

    def elsewhere(store, pairs, *, searches):
        return write(PairStore(tmp_path / "elsewhere"), pairs, searches=searches)

    monkeypatch.setattr(PairStore, "write", elsewhere)
    with pytest.raises(StoreError, match="was stored and is not there"):
        generated(tmp_path / "here")


def test_only_what_is_wrong_with_packages_is_taken_for_a_missing_extra(monkeypatch):
    def broken(jobs, address):
        raise ImportError("something else", name="numpy")

    monkeypatch.setitem(ENGINES, "dask", broken)
    with pytest.raises(ImportError, match="something else"), start_engine("dask", jobs=1):
        pass


@pytest.mark.parametrize("evaluations", [1, 20, 100, 1000])
@pytest.mark.parametrize("sources", [("iris",), ("iris", "digits"), ("breast_cancer",)])
def test_shards_hold_a_second_of_work_and_are_cut_at_fixed_numbers(
    sources, evaluations, monkeypatch
):
    monkeypatch.undo()
    tasks = [Task.from_source(source) for source in sources]
    config = GenerateConfig(n_searches=200, evaluations=evaluations)

    shards = list(missing_shards(tasks, config=config, done=set()))

    assert [s for shard in shards for s in shard] == list(range(200))
    for shard in shards[:-1]:
        assert sum(config.seconds(tasks[s % len(tasks)]) for s in shard) >= 1.5
    shorter = list(missing_shards(tasks, config=replace(config, n_searches=150), done=set()))
    assert shorter[:-1] == shards[: len(shorter) - 1]
    rest = list(missing_shards(tasks, config=config, done=set(range(10, 150))))
    ends = {shard.stop for shard in shards} | {10}
    assert [s for shard in rest for s in shard] == [*range(10), *range(150, 200)]
    assert all(shard.stop in ends for shard in rest)


def test_folder_of_other_cuts_is_resumed(whole, tmp_path, monkeypatch):
    cut_shards(monkeypatch, searches=3)
    store, _ = generated(tmp_path)
    assert shard_names(store) == ["pairs-00000000-00000002", "pairs-00000003-00000004"]
    store.shards[1].unlink()
    cut_shards(monkeypatch)

    generated(tmp_path)

    assert shard_names(store) == [
        "pairs-00000000-00000002", "pairs-00000003-00000003", "pairs-00000004-00000004",
    ]  # fmt: skip
    assert contents(store) == contents(whole[0])


def test_folder_from_before_the_cpu_budget_is_resumed(whole, tmp_path):
    store, _ = generated(tmp_path, config=replace(CONFIG, n_searches=2))
    run = json.loads((tmp_path / "run.json").read_text())
    assert run.pop("cpu_seconds") is None
    (tmp_path / "run.json").write_text(json.dumps(run))

    generated(tmp_path)

    assert contents(store) == contents(whole[0])
    with pytest.raises(StoreError, match=r"cpu_seconds must be None; got 1\.5"):
        generated(tmp_path, config=replace(CONFIG, cpu_seconds=1.5))


@pytest.mark.parametrize("searcher", SEARCHERS)
def test_search_ends_when_either_budget_is_spent(searcher):
    task = Task.from_source("iris").subsample(60, generator=generator_for("cpu"))
    space = SearchSpace(widths=(task.n_features, 1, task.n_outputs), activations=("relu",))

    hurried = search(task, space, searcher=searcher, evaluations=10**5, cpu_seconds=1e-9)
    patient = search(task, space, searcher=searcher, evaluations=2, cpu_seconds=1e9)

    n_trials = sum(1 for _ in hurried)
    assert n_trials > 0
    assert hurried.ledger.cpu_seconds < 20
    assert hurried.ledger.network_steps < 10**6
    list(patient)
    assert patient.ledger.network_steps <= 200


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_cpu_seconds_must_be_a_positive_number(seconds):
    with pytest.raises(InputError, match="cpu_seconds must be a positive number; got"):
        replace(CONFIG, cpu_seconds=seconds)
    task = Task.from_source("iris")
    with pytest.raises(InputError, match="cpu_seconds must be a positive number; got"):
        search(task, CONFIG.space(task), cpu_seconds=seconds)


def test_cpu_seconds_bound_what_generate_trains(tmp_path):
    config = replace(CONFIG, n_searches=1, evaluations=1000, steps=100, cpu_seconds=1e-6)

    store, _ = generated(tmp_path, config=config, sources=["iris"])

    assert {pair.evaluations for pair in store} == {BATCH}
    assert len(store) == 3
