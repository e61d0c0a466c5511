"""Training of the meta-model: it learns, and an interruption changes nothing."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from toys import PRIOR, parameters_of, same_parameters, seeded, toy_model, toy_trainer

from graphpred.errors import InputError, StoreError
from graphpred.files import load_tensors, save_tensors
from graphpred.meta import training
from graphpred.meta.examples import PriorExamples
from graphpred.meta.training import TrainConfig, Trainer, checkpoint_config
from graphpred.space import DEFAULT_ACTIVATIONS, SearchSpace
from graphpred.threads import one_thread

STEPS = 6


@pytest.fixture(scope="module", autouse=True)
def single_thread():
    """The same bits in this process and in another: what two threads give depends on the past."""
    with one_thread():
        yield


def trained(model, **settings):
    """Parameters after a whole training, and its reports."""
    reports = list(toy_trainer(model, **settings).run())
    return parameters_of(model), reports


# Learning


def fixed_batch(model, *, price=None, n=4):
    """The same data sets in every step, so that losses can be compared."""
    source = PriorExamples(model.describe, config=PRIOR)
    examples = source.draw(n, seeded())
    if price is not None:
        examples = [replace(example, price=price) for example in examples]
    return lambda k, generator: examples


def trained_on(model, draw, *, steps):
    config = TrainConfig(steps=steps, batch=4, learning_rate=3e-3)
    return list(Trainer(model, draw=draw, config=config).run())


def test_loss_falls():
    model = toy_model()

    reports = trained_on(model, fixed_batch(model), steps=60)

    assert reports[-1].loss < 0.92 * reports[0].loss
    assert reports[-1].fit < 0.92 * reports[0].fit


def test_edges_that_cost_nothing_are_more(monkeypatch):
    """The model that pays for edges learns to do with fewer than the one that does not."""
    densities = []
    for factor in (0.0, 3.0):
        monkeypatch.setattr(training, "PRICE_FACTOR", factor)
        model = toy_model()
        reports = trained_on(model, fixed_batch(model, price=0.5), steps=60)
        densities.append(reports[-1].density)

    assert densities[1] < 0.8 * densities[0]


def test_activation_classes_are_learned_from_pairs_alone():
    """What they are used for on synthetic data sets is not what real ones need."""
    before = toy_model().decoder.drafter.activation.bias
    alone, paired = toy_model(), toy_model()
    (example, *_) = fixed_batch(alone)(4, seeded())
    widths = (example.X.shape[1], len(example.latents), example.description.sample.y.shape[1])
    space = SearchSpace(widths=widths, activations=("abs",))
    z = space.sample_live(generator=seeded(), n_edges=6)

    trained_on(alone, lambda k, generator: [example], steps=3)
    trained_on(paired, lambda k, generator: [replace(example, architecture=z)], steps=3)

    assert torch.equal(alone.decoder.drafter.activation.bias, before)
    change = paired.decoder.drafter.activation.bias - before
    assert change.argmax() == DEFAULT_ACTIVATIONS.index("abs")


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
        for name in ("encoder.embed_pair.0.weight", "decoder.drafter.slot.weight")
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


# One step


def some_examples(model, *, shapes):
    """Examples of several shapes, one after the other, n of each."""
    sources = [PriorExamples(model.describe, config=replace(PRIOR, **shape)) for shape in shapes]
    generator = seeded(2)
    return [source.draw(1, generator)[0] for source in sources for _ in range(2)]


SHAPES = (
    {"features": (3, 3), "classes": (2, 2), "regression_share": 0.0},
    {"features": (5, 5), "classes": (4, 4), "regression_share": 0.0},
    {"features": (3, 3), "outputs": (2, 2), "regression_share": 1.0},
)


def same_width(examples):
    return [replace(example, latents=example.latents[:2]) for example in examples]


def gradients_of(examples):
    """Of a first step, by name; nothing is clipped as a whole, and nothing learned."""
    model = toy_model()
    config = TrainConfig(steps=1, batch=len(examples))
    list(Trainer(model, draw=lambda k, generator: examples, config=config).run())
    taught = model.named_parameters()
    return {name: p.grad.double() for name, p in taught if p.grad is not None}


def test_examples_of_several_shapes_make_one_step(monkeypatch):
    monkeypatch.setattr(
        training.nn.utils, "clip_grad_norm_", lambda parameters, limit: torch.tensor(torch.nan)
    )
    examples = same_width(some_examples(toy_model(), shapes=SHAPES))
    mixed = [examples[i] for i in (4, 0, 2, 5, 1, 3)]

    together = gradients_of(mixed)

    alone = [gradients_of(examples[start : start + 2]) for start in (0, 2, 4)]
    for name, gradient in together.items():
        expected = sum(gradients[name] for gradients in alone) / 3
        torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-3, msg=name)


def test_reports_of_several_shapes_are_means_over_all_examples():
    examples = same_width(some_examples(toy_model(), shapes=SHAPES))

    def first_report(those):
        config = TrainConfig(steps=1, batch=len(those))
        return next(Trainer(toy_model(), draw=lambda k, generator: those, config=config).run())

    together, alone = first_report(examples), [first_report([one]) for one in examples]

    for name in ("fit", "density", "loss"):
        mean = sum(getattr(report, name) for report in alone) / len(alone)
        assert getattr(together, name) == pytest.approx(mean, rel=1e-4)


def test_a_step_without_finite_gradients_is_skipped():
    model = toy_model()
    good = some_examples(model, shapes=SHAPES[2:])[0]
    batches = [[good], [replace(good, y=good.y * torch.nan)], [good]]
    trainer = toy_trainer(model, steps=3)
    trainer._draw = lambda k, generator: batches[trainer.step]

    seen = [parameters_of(model)]
    for _ in trainer.run():
        seen.append(parameters_of(model))

    assert [same_parameters(*pair) for pair in pairwise(seen)] == [False, True, False]
    assert all(value.isfinite().all() for value in seen[-1].values())


def test_average_is_that_of_the_parameters_after_every_step():
    model = toy_model()
    trainer = toy_trainer(model, steps=STEPS)
    expected = {name: p.double() for name, p in parameters_of(model).items()}

    for report in trainer.run():
        kept = min(0.99, report.step / (report.step + 9))
        for name, value in parameters_of(model).items():
            expected[name] = kept * expected[name] + (1 - kept) * value
    last = parameters_of(model)
    trainer.take_average()

    assert not same_parameters(last, parameters_of(model))
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.double(), expected[name], atol=1e-6, rtol=1e-5)


# Checkpoints


@pytest.mark.parametrize("interrupted_after", [1, 3, 5])
def test_resumed_training_ends_as_an_uninterrupted_one(tmp_path, interrupted_after):
    uninterrupted = toy_trainer(toy_model(), steps=STEPS)
    reports = list(uninterrupted.run())
    whole = parameters_of(uninterrupted.model)

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
    uninterrupted.take_average()
    second.take_average()
    assert same_parameters(parameters_of(model), parameters_of(uninterrupted.model))
    assert not same_parameters(parameters_of(model), whole)


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
