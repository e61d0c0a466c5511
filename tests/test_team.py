"""Several processes that train together: as one would, and clear when one is lost."""

import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap

import pytest
import torch
from test_examples import stored_pairs
from toys import parameters_of, team_trainings

from graphpred.errors import EngineError, InputError
from graphpred.files import load_tensors
from graphpred.meta import run
from graphpred.meta.model import MetaModel
from graphpred.meta.run import RunConfig, checkpoint_of, train_meta_model
from graphpred.meta.team import ALONE, Team, start_team
from graphpred.meta.training import checkpoint_config
from graphpred.threads import one_thread

CLOSE = {"atol": 1e-4, "rtol": 0}


@pytest.fixture(scope="module", autouse=True)
def single_thread():
    with one_thread():
        yield


TRAININGS = {
    "one step": {"steps": 1},
    "three steps": {"steps": 3},
    "interrupted": {"steps": 3, "last": 1},
}


def checkpoint_tensors(folder):
    """Parameters, their average and the optimiser's state."""
    return load_tensors(folder / "checkpoint", what="a checkpoint")[0]


def assert_alike(first, second):
    first, second = checkpoint_tensors(first), checkpoint_tensors(second)
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], **CLOSE, msg=name)


@pytest.fixture(scope="module")
def losses(tmp_path_factory):
    """A folder of trainings by one process and by two, and their losses.

    Each goes on from what the other was interrupted in, too.
    """
    root, losses = tmp_path_factory.mktemp("teams"), {}
    for size in (1, 2):
        for name in (*TRAININGS, "resumed"):
            (root / str(size) / name).mkdir(parents=True)
    losses[1] = team_trainings(ALONE, root / "1", TRAININGS)
    shutil.copy(root / "1/interrupted/checkpoint", root / "2/resumed")
    trainings = TRAININGS | {"resumed": {"steps": 3, "resume": True}}
    arguments = (str(root / "2"), trainings)
    with start_team(2, work=team_trainings, arguments=arguments) as team:
        losses[2] = team_trainings(team, *arguments)
    shutil.copy(root / "2/interrupted/checkpoint", root / "1/resumed")
    losses[1] |= team_trainings(ALONE, root / "1", {"resumed": trainings["resumed"]})
    return root, losses


def test_one_process_has_nobody_to_ask():
    values = torch.tensor([1.0, 2.0])
    parameter = torch.zeros(2, requires_grad=True)

    ALONE.add(values)
    ALONE.add_gradients([parameter])

    assert values.tolist() == [1.0, 2.0]
    assert parameter.grad is None
    assert ALONE.is_first
    assert ALONE.share([1, 2, 3]) == [1, 2, 3]
    assert (ALONE.agreed(7), ALONE.any(True), ALONE.any(False)) == (7, True, False)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_shares_are_everything_once_and_even(size):
    shares = [Team(rank=rank, size=size).share(range(7)) for rank in range(size)]

    assert sorted(i for share in shares for i in share) == list(range(7))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def members():
    """Processes of a team that live; joblib's idle workers, which stay for minutes, are none."""
    spawned = multiprocessing.context.SpawnProcess
    return [one for one in multiprocessing.active_children() if isinstance(one, spawned)]


@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_take_the_steps_of_one(losses, name):
    root, losses = losses

    assert_alike(root / "1" / name, root / "2" / name)
    assert losses[2][name] == pytest.approx(losses[1][name], abs=1e-4)
    assert members() == []


def test_steps_are_larger_than_what_may_differ(losses):
    root, _ = losses
    name = "model.decoder.drafter.slot.weight"

    first, last = (
        checkpoint_tensors(root / "1" / steps)[name] for steps in ("one step", "three steps")
    )

    assert (first - last).abs().max() > 5 * CLOSE["atol"]


@pytest.mark.parametrize("size", [1, 2])
def test_a_checkpoint_is_one_for_any_number_of_processes(losses, size):
    root, losses = losses

    assert_alike(root / str(size) / "resumed", root / "1/three steps")
    assert losses[size]["resumed"] == pytest.approx(losses[1]["three steps"][1:], abs=1e-4)


def test_a_lost_process_is_a_clear_error_and_the_training_goes_on_from_there(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "FAMILIAR_SETS", 8)
    out = tmp_path / "m"
    config = RunConfig(pairs=(str(stored_pairs(tmp_path / "pairs")),), steps=3)
    reports = train_meta_model(config, out=out, processes=2)
    assert next(reports).step == 1
    (other,) = members()

    os.kill(other.pid, signal.SIGKILL)
    with pytest.raises(EngineError, match="process of the training was lost"):
        list(reports)

    assert checkpoint_config(checkpoint_of(out))["steps"] == 3
    assert not out.exists()
    rest = list(train_meta_model(config, out=out, resume=True))
    assert [report.step for report in rest] == [2, 3]
    assert parameters_of(MetaModel.load(out))


def test_processes_that_end_at_once_are_a_clear_error(monkeypatch):
    monkeypatch.setattr(multiprocessing.get_context("spawn").Process, "start", lambda self: None)
    monkeypatch.setattr(
        multiprocessing.get_context("spawn").Process, "is_alive", lambda self: False
    )

    with (
        pytest.raises(EngineError, match="could not be started"),
        start_team(2, work=team_trainings),
    ):
        pass


def test_a_number_of_processes_must_be_positive(tmp_path):
    with pytest.raises(InputError, match="processes must be at least 1; got 0"):
        next(train_meta_model(RunConfig(steps=1), out=tmp_path / "m", processes=0))


def torchrun_environment(rank, *, size, port):
    """What ``torchrun`` sets."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_torchrun_decides_on_the_number_of_processes(monkeypatch):
    for name, value in torchrun_environment(0, size=1, port=free_port()).items():
        monkeypatch.setenv(name, value)

    with start_team(None, work=team_trainings) as team:
        assert team == ALONE
    with (
        pytest.raises(InputError, match="must be the 1 of torchrun; got 2"),
        start_team(2, work=team_trainings),
    ):
        pass


def test_processes_of_torchrun_train_together(tmp_path):
    stored_pairs(tmp_path / "pairs")
    port = free_port()
    script = """
        from graphpred.meta import run
        run.FAMILIAR_SETS = 8
        from graphpred.cli.main import app
        app()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), "train", "pairs", "--steps", "2"]

    processes = [
        subprocess.Popen(
            [*command, "--out", "m", "--json"],
            cwd=tmp_path,
            env=os.environ | torchrun_environment(rank, size=2, port=port),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    (shown, told), (nothing, quiet) = (process.communicate(timeout=120) for process in processes)

    assert [process.returncode for process in processes] == [0, 0], told + quiet
    assert '"steps": 2' in shown
    assert (nothing, quiet) == ("", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "pairs"]
