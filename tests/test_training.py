"""Training of the meta-model: it learns, and an interruption changes nothing."""

import functools
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
import torch
from test_examples import stored_pairs
from toys import PRIOR, parameters_of, same_parameters, seeded, toy_model, toy_trainer

from graphpred.errors import GraphPredError, InputError, StoreError
from graphpred.files import load_tensors, save_tensors
from graphpred.meta import run
from graphpred.meta.examples import PriorExamples
from graphpred.meta.model import MetaModel
from graphpred.meta.run import RunConfig, checkpoint_of, train_meta_model
from graphpred.meta.training import TrainConfig, Trainer, checkpoint_config
from graphpred.synthetic.prior import PRIOR_VERSION
from graphpred.threads import one_thread

STEPS = 6


def trained(model, **settings):
    """Parameters after a whole training, and its reports."""
    reports = list(toy_trainer(model, **settings).run())
    return parameters_of(model), reports


# Learning


def test_loss_falls():
    model = toy_model()
    source = PriorExamples(model.encoder.describe)
    examples = [source.draw(1, generator)[0] for generator in [seeded()] for _ in range(4)]

    def draw(generator):
        return examples[int(torch.randint(4, (), generator=generator))]

    _, reports = trained(model, steps=160, draw=draw, price_warmup=0.0, learning_rate=3e-3)

    losses = [report.loss for report in reports]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_a_price_makes_networks_sparse():
    model = toy_model()
    source = PriorExamples(model.encoder.describe, config=PRIOR)

    def draw(generator):
        return replace(source.draw(1, generator)[0], price=20.0)

    _, reports = trained(model, steps=60, draw=draw, price_warmup=0.0, learning_rate=3e-3)

    assert reports[-1].density < 0.6 * reports[0].density


def test_reports_say_where_the_training_stands():
    _, reports = trained(toy_model(), steps=4)

    assert [report.step for report in reports] == [1, 2, 3, 4]
    assert {report.steps for report in reports} == {4}
    assert reports[-1].seconds_left == 0
    for report in reports:
        assert math.isfinite(report.loss)
        assert 0 < report.density < 1
        assert report.pair == 0
        assert report.examples_per_second > 0


def test_training_is_reproducible_and_leaves_the_global_generator_alone():
    models = [toy_model() for _ in range(3)]
    before = torch.get_rng_state()

    first, second, other = (
        trained(model, steps=4, seed=seed)[0] for model, seed in zip(models, (0, 0, 1), strict=True)
    )

    assert same_parameters(first, second)
    assert not same_parameters(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_frozen_parameters_stay():
    model = toy_model()
    model.encoder.requires_grad_(False)
    before = parameters_of(model)

    after, _ = trained(model, steps=3)

    assert all(
        torch.equal(before[name], after[name]) == name.startswith("encoder.")
        for name in ("encoder.embed_pair.0.weight", "decoder.slot.weight")
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps and batch must be at least 1"),
        ({"batch": 0}, "steps and batch must be at least 1"),
        ({"alpha": -1.0}, "alpha and beta must be at least 0"),
        ({"beta": -0.1}, "alpha and beta must be at least 0"),
    ],
)
def test_bad_configs_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(**settings)


# Checkpoints


@pytest.mark.parametrize("interrupted_after", [1, 3, 5])
def test_resumed_training_ends_as_an_uninterrupted_one(tmp_path, interrupted_after):
    whole, reports = trained(toy_model(), steps=STEPS)

    first = toy_trainer(toy_model(), steps=STEPS)
    for _ in first.run():
        if first.step == interrupted_after:
            first.save(tmp_path / "c")
            break
    model = toy_model(seed=9)  # other parameters: all must come from the checkpoint
    second = toy_trainer(model, steps=STEPS)
    second.restore(tmp_path / "c")
    resumed = list(second.run())

    assert same_parameters(parameters_of(model), whole)
    assert [report.loss for report in resumed] == [
        report.loss for report in reports[interrupted_after:]
    ]


@pytest.mark.parametrize("where", ["after the report", "at once"])
def test_a_stopped_training_leaves_a_checkpoint_to_go_on_from(tmp_path, where):
    whole, _ = trained(toy_model(), steps=STEPS)
    answers = [where == "at once"]

    first = toy_trainer(toy_model(), steps=STEPS)
    for report in first.run(checkpoint=tmp_path / "c", stop=lambda: answers[-1]):
        answers.append(report.step == 2)  # as a Ctrl-C while the report is shown
    assert first.step == (0 if where == "at once" else 2)
    model = toy_model()
    second = toy_trainer(model, steps=STEPS)
    second.restore(tmp_path / "c")
    list(second.run())

    assert same_parameters(parameters_of(model), whole)


def test_checkpoints_are_written_meanwhile(tmp_path):
    trainer = toy_trainer(toy_model(), steps=4)

    steps = []
    for _ in trainer.run(checkpoint=tmp_path / "c", every=0.0):
        _, metadata = load_tensors(tmp_path / "c", what="a checkpoint")
        steps.append(json.loads(metadata["graphpred_checkpoint"])["step"])

    assert steps == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "change", [{"steps": 7}, {"batch": 2}, {"learning_rate": 0.1}, {"seed": 5}, {"alpha": 1.0}]
)
def test_a_checkpoint_of_another_config_is_refused(tmp_path, change):
    toy_trainer(toy_model(), steps=STEPS).save(tmp_path / "c")
    (name,) = change

    with pytest.raises(StoreError, match=f"{name} must be"):
        toy_trainer(toy_model(), **{"steps": STEPS} | change).restore(tmp_path / "c")


def test_broken_and_foreign_checkpoints_are_refused(tmp_path):
    trainer = toy_trainer(toy_model(), steps=STEPS)
    trainer.save(tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    (tmp_path / "torn").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text").write_text("no checkpoint")
    save_tensors(tmp_path / "other", {"a": torch.zeros(1)}, metadata={})

    for name in ("absent", "torn", "text", "other"):
        with pytest.raises(StoreError, match="checkpoint of a training"):
            trainer.restore(tmp_path / name)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    toy_trainer(toy_model(), steps=STEPS).save(tmp_path / "c")
    other = toy_trainer(toy_model(activations=("relu", "tanh")), steps=STEPS)

    with pytest.raises(StoreError, match="a model like this one"):
        other.restore(tmp_path / "c")


def test_checkpoint_knows_its_config(tmp_path):
    trainer = toy_trainer(toy_model(), steps=17, batch=3)
    trainer.save(tmp_path / "c")

    assert TrainConfig(**checkpoint_config(tmp_path / "c")) == trainer.config


def test_probe_leaves_no_trace():
    expected, _ = trained(toy_model(), steps=STEPS)
    model = toy_model()
    trainer = toy_trainer(model, steps=STEPS)

    seconds = trainer.probe()

    assert seconds > 0
    assert same_parameters(parameters_of(model), parameters_of(toy_model()))
    list(trainer.run())
    assert same_parameters(parameters_of(model), expected)


# A whole run, from folders of pairs to a model file


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(run, "TrainConfig", functools.partial(TrainConfig, batch=2))


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
        patch.setattr(run, "TrainConfig", functools.partial(TrainConfig, batch=2))
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
        from graphpred.meta import run
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


def test_training_goes_on_from_a_model(tmp_path):
    train(tmp_path / "first", steps=1)
    start = MetaModel.load(tmp_path / "first")

    train(tmp_path / "second", steps=1, start=str(tmp_path / "first"))

    second = MetaModel.load(tmp_path / "second")
    expected = MetaModel.load(tmp_path / "first")
    source = PriorExamples(expected.encoder.describe)
    config = TrainConfig(steps=1, batch=2, seed=1)
    list(Trainer(expected, draw=source.draw, config=config).run())
    assert same_parameters(parameters_of(second), parameters_of(expected))
    assert not same_parameters(parameters_of(second), parameters_of(start))
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
