"""What can go wrong while pairs are generated, done for real to the command in its own process.

After each fault nothing that was stored is lost, nothing is doubled, the same command goes on, and
the whole is to the last bit what an undisturbed run of one process gives.
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from test_generate import contents, stamps
from typer.testing import CliRunner

import graphpred.pairs.config
from graphpred.cli.main import app
from graphpred.errors import StoreError
from graphpred.files import TEMPORARY_PREFIX
from graphpred.pairs.config import GenerateConfig
from graphpred.pairs.generate import generate_pairs
from graphpred.pairs.store import PairStore

CONFIG = GenerateConfig(n_searches=60, rows=60, evaluations=20, penalties=(0.001, 0.01))
OPTIONS = ("generate", "iris", "--pairs", 60, "--rows", 60, "--evaluations", 20,
           "--penalty", 0.001, "--penalty", 0.01)  # fmt: skip
SHARD_SECONDS = 0.05  # three searches a shard
COMMAND = f"""
import graphpred.pairs.config
graphpred.pairs.config._SHARD_SECONDS = {SHARD_SECONDS}
from graphpred.cli.main import app
app()
"""
CLUSTER = """
from distributed import LocalCluster
if __name__ == "__main__":
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    print(cluster.scheduler_address, flush=True)
    input()
"""
LINUX = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are in /proc")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(graphpred.pairs.config, "_SHARD_SECONDS", SHARD_SECONDS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All pairs of an undisturbed run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphpred.pairs.config, "_SHARD_SECONDS", SHARD_SECONDS)
        out = tmp_path_factory.mktemp("whole")
        list(generate_pairs(["iris"], out=out, config=CONFIG))
    return contents(PairStore(out))


@contextlib.contextmanager
def started(out, *options, **settings):
    """The command, in a process group of its own, which is killed at the end."""
    arguments = [*OPTIONS, "--out", out, *options]
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "400"}, **settings,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def end(process):
    """Exit code and standard error."""
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def wait_for_shards(out, process, *, n=3):
    deadline = time.monotonic() + 120
    while len(PairStore(out).shards) < n:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return stamps(PairStore(out))


def children(pid, *, named):
    """Processes below a process whose command line has a word in it."""
    found = [pid]
    for parent in found:
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, path.read_text().split())
    return [child for child in found[1:] if named in command_line(child)]


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def wait_until_gone(pids, *, seconds=20):
    deadline = time.monotonic() + seconds
    while any(command_line(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def check(out, whole, *, stored=None, unfinished=True):
    """Nothing is lost or doubled now, nor when the run has gone on."""
    store = PairStore(out)
    assert store.verify() == []
    assert stamps(store).keys() >= (stored or {}).keys()  # Dask may make one again, the same
    before = stamps(store)
    n_left = 60 - len(store.searches())
    assert bool(n_left) == unfinished
    *_, last = generate_pairs(["iris"], out=out, config=CONFIG)
    assert last.n_pairs == 2 * n_left
    assert stamps(store).items() >= before.items()
    assert contents(store) == whole
    shown = CliRunner().invoke(app, ["report", str(out), "--verify"])
    assert shown.exit_code == 0
    assert "nothing lost or doubled" in shown.stderr


@LINUX
@pytest.mark.parametrize(("engine", "worker"), [("joblib", "LokyProcess"), ("dask", "spawn_main")])
def test_killed_worker_is_replaced_and_the_run_ends_well(whole, tmp_path, engine, worker):
    with started(tmp_path, "--jobs", 2, "--engine", engine) as process:
        stored = wait_for_shards(tmp_path, process)
        os.kill(children(process.pid, named=worker)[0], signal.SIGKILL)
        code, errors = end(process)

    assert code == 0, errors
    assert ("a worker died" in errors) == (engine == "joblib")  # Dask does it by itself
    assert "Traceback" not in errors
    check(tmp_path, whole, stored=stored, unfinished=False)


@LINUX
def test_killed_parent_takes_its_workers_along(whole, tmp_path):
    with started(tmp_path, "--jobs", 2) as process:
        stored = wait_for_shards(tmp_path, process)
        workers = children(process.pid, named="LokyProcess")
        assert len(workers) == 2
        process.kill()
        wait_until_gone(workers)

    check(tmp_path, whole, stored=stored)


@pytest.mark.parametrize("engine", ["joblib", "dask"])
def test_interrupt_of_all_processes_ends_in_one_sentence(whole, tmp_path, engine):
    with started(tmp_path, "--jobs", 2, "--engine", engine) as process:
        stored = wait_for_shards(tmp_path, process)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does for Ctrl-C
        code, errors = end(process)

    assert code == 130, errors
    assert errors.splitlines()[1:] == ["stopped; files that were finished are whole."]
    check(tmp_path, whole, stored=stored)


def test_scheduler_that_goes_away_ends_the_run_in_one_sentence(whole, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as cluster:  # fmt: skip
        try:
            address = cluster.stdout.readline().strip()
            with started(tmp_path, "--engine", "dask", "--address", address) as process:
                stored = wait_for_shards(tmp_path, process)
                cluster.kill()
                went = time.monotonic()
                code, errors = end(process)
        finally:
            cluster.kill()

    assert time.monotonic() - went < 60
    assert code == 2, errors
    (line,) = errors.splitlines()[1:]
    assert line == f"error: the Dask scheduler at {address} failed: the scheduler went away."
    check(tmp_path, whole, stored=stored)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 96 kB and a way to make it larger; None if this process may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    enlarge = ["mount", "-o", "remount,size=64m", str(folder)]
    yield folder, lambda: subprocess.run(enlarge, check=True)
    subprocess.run(["umount", "-l", str(folder)], check=True)


def limit_files():
    """Let no file grow beyond 8 kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))


def test_full_disk_ends_the_run_in_one_sentence(whole, small_disk, tmp_path):
    if small_disk is None:  # then the first shard fails, not a later one
        out, settings, reason = tmp_path / "pairs", {"preexec_fn": limit_files}, "File too large"
    else:
        out, settings, reason = small_disk[0] / "pairs", {}, "No space left on device"
    with started(out, "--jobs", 2, **settings) as process:
        code, errors = end(process)

    assert code == 2, errors
    (line,) = errors.splitlines()[1:]
    assert "could not be written: " in line
    assert reason in line
    assert not list(out.glob(f"{TEMPORARY_PREFIX}*"))
    if small_disk is not None:
        assert PairStore(out).shards
        small_disk[1]()
    check(out, whole)


def test_shard_cut_in_half_is_named_and_made_again(whole, tmp_path):
    list(generate_pairs(["iris"], out=tmp_path, config=CONFIG))
    store = PairStore(tmp_path)
    shard = store.shards[4]
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])

    for command in (["report", tmp_path, "--verify"], [*OPTIONS, "--jobs", 1, "--out", tmp_path]):
        result = CliRunner().invoke(app, list(map(str, command)))
        assert result.exit_code == 2
        assert shard.name in result.stderr
        assert "Delete it and run generate again" in result.stderr.replace("\n", " ")

    shard.unlink()
    check(tmp_path, whole)


def test_two_runs_of_two_lengths_at_once_fill_one_folder(whole, tmp_path):
    with (
        started(tmp_path, "--jobs", 1) as long,
        started(tmp_path, "--jobs", 1, "--pairs", 50) as short,
    ):
        codes = end(long), end(short)

    assert [code for code, _ in codes] == [0, 0], codes
    check(tmp_path, whole, unfinished=False)


def test_two_different_runs_at_once_cannot_share_a_folder(whole, tmp_path):
    with (
        started(tmp_path, "--jobs", 1) as first,
        started(tmp_path, "--jobs", 1, "--seed", 1) as second,
    ):
        results = end(first), end(second)

    assert sorted(code for code, _ in results) == [0, 2], results
    refused = next(errors for code, errors in results if code == 2)
    assert "holds pairs of another run" in refused
    assert "seed must be" in refused
    assert PairStore(tmp_path).verify() == []
    assert len(PairStore(tmp_path)) == 120


def test_only_the_first_of_two_claims_holds(tmp_path):
    store = PairStore(tmp_path)

    assert store.claim({"seed": 1}) == {"seed": 1}
    assert store.claim({"seed": 2}) == {"seed": 1}

    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(StoreError, match="must be readable JSON"):
        store.claim({"seed": 3})


def test_claim_works_on_disks_without_links(tmp_path, monkeypatch):
    def fail(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", fail)
    store = PairStore(tmp_path)

    assert store.claim({"seed": 1}) == {"seed": 1}
    assert store.claim({"seed": 2}) == {"seed": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_contained_shards_go_unless_the_larger_one_is_broken(tmp_path):
    for n_searches in (1, 4, 6):
        config = replace(CONFIG, n_searches=n_searches)
        list(generate_pairs(["iris"], out=tmp_path, config=config))
    store = PairStore(tmp_path)
    names = [path.name for path in store.shards]
    assert names == [
        f"pairs-0000000{a}-0000000{b}.parquet" for a, b in ((0, 0), (1, 2), (3, 3), (4, 5))
    ]
    pairs = [pair for pair in store if pair.search in (3, 4, 5)]
    larger = store.write(pairs, searches=range(3, 6))
    good = larger.read_bytes()

    larger.write_bytes(good[:-9])
    store.remove_contained()
    assert [path.name for path in store.shards] == sorted([*names, larger.name])

    larger.write_bytes(good)
    store.remove_contained()
    assert [path.name for path in store.shards] == [*names[:2], larger.name]
    assert store.verify() == []
