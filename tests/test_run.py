"""A whole training, from folders of pairs to a model file, and its interruptions."""

import functools
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from test_examples import stored_pairs
from toys import parameters_of, same_parameters, toy_task

from graphpred.errors import GraphPredError, InputError, StoreError
from graphpred.meta import run
from graphpred.meta.examples import TRAINING_ROWS, PriorExamples
from graphpred.meta.model import MetaModel
from graphpred.meta.run import RunConfig, checkpoint_of, train_meta_model
from graphpred.meta.training import TrainConfig, Trainer
from graphpred.synthetic.prior import PRIOR_VERSION
from graphpred.threads import one_thread

STEPS = 6


def make_small(patch):
    patch.setattr(run, "TrainConfig", functools.partial(TrainConfig, batch=2))
    patch.setattr(run, "FAMILIAR_SETS", 8)


@pytest.fixture(autouse=True)
def small_runs(monkeypatch):
    make_small(monkeypatch)


def train(out, *, resume=False, stop=lambda: False, **config):
    config = RunConfig(**{"steps": STEPS, "seed": 1} | config)
    return list(train_meta_model(config, out=out, resume=resume, stop=stop))


@pytest.fixture(scope="module", autouse=True)
def single_thread():
    """The same bits in this process and in another: what two threads give depends on the past."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Parameters of an uninterrupted run on the prior."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        out = tmp_path_factory.mktemp("run") / "m.safetensors"
        train(out)
    return parameters_of(MetaModel.load(out))


def test_training_on_the_prior_alone_writes_a_model_with_a_card(tmp_path):
    out = tmp_path / "m.safetensors"

    reports = train(out, steps=2)

    assert [report.step for report in reports] == [1, 2]
    card = MetaModel.load(out).card
    assert card["name"] == "trained on the synthetic prior"
    assert (card["steps"], card["batch"], card["pairs"]) == (2, 2, 0)
    assert (card["synthetic prior"], card["seed"]) == (PRIOR_VERSION, 1)
    assert card["last step"]["fit"] == reports[-1].fit
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.parametrize("prior", [False, True])
def test_training_on_pairs(tmp_path, prior):
    folder = stored_pairs(tmp_path / "pairs")

    reports = train(tmp_path / "m", steps=3, pairs=(str(folder),), prior=prior)

    card = MetaModel.load(tmp_path / "m").card
    assert max(report.pair for report in reports) > 0
    assert card["data sets"] == ["iris"]
    assert card["synthetic prior"] == (PRIOR_VERSION if prior else None)
    assert card["pairs"] == 4


def test_the_model_that_comes_out_knows_what_its_training_data_were_like(tmp_path):
    train(tmp_path / "m", steps=1)

    model = MetaModel.load(tmp_path / "m")

    assert model.familiarity.is_known
    assert 0 <= model.predict(toy_task()).familiarity <= 1


def test_stopped_and_resumed_run_is_the_uninterrupted_one(tmp_path, uninterrupted):
    out = tmp_path / "m"
    seen = []

    for report in train_meta_model(
        RunConfig(steps=STEPS, seed=1), out=out, stop=lambda: len(seen) == 2
    ):
        seen.append(report)
    assert checkpoint_of(out).exists()
    assert not out.exists()
    train(out, resume=True)

    assert same_parameters(parameters_of(MetaModel.load(out)), uninterrupted)
    assert not checkpoint_of(out).exists()


def test_run_resumed_after_kill_9_is_the_uninterrupted_one(tmp_path, uninterrupted):
    script = f"""
        import functools, time
        from graphpred.meta import run, training
        from graphpred.meta.training import TrainConfig, Trainer

        run.TrainConfig = functools.partial(TrainConfig, batch=2)
        Trainer.run = functools.partialmethod(Trainer.run, every=0.0)  # a checkpoint every step
        config = run.RunConfig(steps={STEPS}, seed=1)
        for report in run.train_meta_model(config, out="m"):
            print(report.step, flush=True)
            time.sleep(60 if report.step == 3 else 0)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    steps = [process.stdout.readline() for _ in range(3)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert steps == [b"1\n", b"2\n", b"3\n"]
    assert not (tmp_path / "m").exists()

    reports = train(tmp_path / "m", resume=True)

    assert [report.step for report in reports] == list(range(4, STEPS + 1))
    assert same_parameters(parameters_of(MetaModel.load(tmp_path / "m")), uninterrupted)


def test_minutes_become_steps_that_a_resumed_run_keeps(tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "probe", lambda trainer: 10.0)
    config = RunConfig(minutes=0.5)
    first = []

    for report in train_meta_model(config, out=tmp_path / "m", stop=lambda: bool(first)):
        first.append(report)
    rest = list(train_meta_model(config, out=tmp_path / "m", resume=True))

    assert [(report.step, report.steps) for report in first] == [(1, 3)]
    assert [(report.step, report.steps) for report in rest] == [(2, 3), (3, 3)]


def learned(model):
    """Parameters, without what is known of the training data."""
    return dict(model.named_parameters())


def test_training_goes_on_from_a_model(tmp_path):
    train(tmp_path / "first", steps=1)
    start = MetaModel.load(tmp_path / "first")

    train(tmp_path / "second", steps=1, start=str(tmp_path / "first"))

    second = MetaModel.load(tmp_path / "second")
    expected = MetaModel.load(tmp_path / "first")
    source = PriorExamples(functools.partial(expected.describe, limit=TRAINING_ROWS))
    config = TrainConfig(steps=1, batch=2, seed=1)
    trainer = Trainer(expected, draw=source.draw, config=config)
    list(trainer.run())
    trainer.take_average()
    assert same_parameters(learned(second), learned(expected))
    assert not same_parameters(learned(second), learned(start))
    assert second.card["started from"] == str(tmp_path / "first")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 2, "minutes": 1.0}, "exactly one of steps and minutes"),
        ({"steps": None, "minutes": None}, "exactly one of steps and minutes"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": None, "minutes": 0.0}, "minutes must be a positive number"),
    ],
)
def test_bad_run_configs_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        RunConfig(**settings)


def test_a_missing_folder_is_a_clear_error_before_anything_is_done(tmp_path):
    with pytest.raises(StoreError, match=r"absent.* must be writable"):
        train(tmp_path / "absent" / "m")


def test_missing_pairs_are_a_clear_error(tmp_path):
    with pytest.raises(StoreError, match="must hold pairs"):
        train(tmp_path / "m", pairs=(str(tmp_path),))


def test_a_missing_start_is_a_clear_error(tmp_path):
    with pytest.raises(StoreError, match="there is no such file"):
        train(tmp_path / "m", start=str(tmp_path / "absent"))


def test_an_unfinished_training_is_not_overwritten(tmp_path):
    checkpoint_of(tmp_path / "m").write_bytes(b"dear")

    with pytest.raises(StoreError, match="unfinished training; resume it"):
        train(tmp_path / "m")

    assert checkpoint_of(tmp_path / "m").read_bytes() == b"dear"


def test_there_must_be_something_to_resume(tmp_path):
    with pytest.raises(StoreError, match="no unfinished training"):
        train(tmp_path / "m", resume=True)


def test_a_torn_checkpoint_is_a_clear_error(tmp_path):
    checkpoint_of(tmp_path / "m").write_bytes(b"torn")

    with pytest.raises(GraphPredError, match="checkpoint of a training"):
        train(tmp_path / "m", resume=True)


def test_a_changed_source_is_refused(tmp_path):
    folder = stored_pairs(tmp_path / "pairs", source="iris", digest="0f" * 16)

    with pytest.raises(StoreError, match="it has changed"):
        train(tmp_path / "m", pairs=(str(folder),))
