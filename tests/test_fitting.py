"""From a task and a meta-model to a trained network."""

from dataclasses import replace

import pytest
import torch
from toys import rebuilt, seeded, silent_model, toy_task

from graphpred import fitting
from graphpred.errors import InputError
from graphpred.fitting import FRONT_PRICES, REPORTED_LOSSES, FitConfig, fit_predicted
from graphpred.meta.model import MetaModel
from graphpred.meta.moments import Moments
from graphpred.meta.prediction import Prediction
from graphpred.network import SparseNetwork
from graphpred.objective import Objective, default_loss
from graphpred.population import FITTED_RATE, TUNING_RATE, Population
from graphpred.report import network_summary, network_warnings, verify_file
from graphpred.seeds import generator_for
from graphpred.task import Task

STEPS = 15
KINDS = ("classification", "regression")


def task_of(kind, **settings):
    return toy_task(kind, n=6, c=3 if kind == "classification" else 1, m_test=20, m=90, **settings)


@pytest.fixture(scope="module", params=KINDS)
def task(request):
    return task_of(request.param)


def fit(task, model, **config):
    return fit_predicted(task, model, config=FitConfig(**{"steps": STEPS} | config))


def same_network(first, second):
    return (
        first.architecture == second.architecture
        and torch.equal(first.edge, second.edge)
        and torch.equal(first.bias, second.bias)
    )


@pytest.mark.parametrize("density", [0.08, 0.2, 0.5, 1.0])
def test_density_is_a_ceiling_of_live_edges(task, meta_model, density):
    network = fit(task, meta_model, density=density).network

    n_possible = 36 + 6 * task.n_outputs
    assert network.facts["n_possible_edges"] == n_possible
    assert network.architecture.n_live_edges <= density * n_possible
    assert network.architecture.n_live_edges == network.architecture.n_edges


def test_too_low_a_density_is_refused(task, meta_model):
    with pytest.raises(InputError, match="2 edges or more"):
        fit(task, meta_model, density=0.01)


def test_penalty_is_the_price_of_one_edge(task, meta_model):
    fitted = fit(task, meta_model, penalty=0.004)

    n_possible = 36 + 6 * task.n_outputs
    expected = meta_model.predict(task, price=0.004 * n_possible).fitted()
    assert fitted.network.facts["price"] == pytest.approx(0.004 * n_possible)
    assert fitted.network.facts["penalty"] == pytest.approx(0.004)
    assert torch.equal(fitted.prediction.probabilities[0], expected.probabilities[0])
    assert fitted.network.architecture == expected.chosen().architecture


def test_without_either_the_best_of_ten_prices_by_validation_is_kept(task, meta_model):
    prediction = meta_model.predict(task)
    proposals = [one.chosen() for one in prediction.along(FRONT_PRICES)]
    population = Population([p.architecture for p in proposals], start=[p.start for p in proposals])
    population.fit(*task.rows("train"), steps=STEPS, learning_rate=TUNING_RATE)
    losses = population.losses(*task.rows("validation"), loss=default_loss(task.kind))
    sizes = [p.architecture.n_edges for p in proposals]
    best = min(range(10), key=lambda i: (float(losses[i]), sizes[i]))

    network = fit(task, meta_model).network

    assert network.facts["price"] == pytest.approx(FRONT_PRICES[best])
    expected = prediction.at(FRONT_PRICES[best]).fitted().chosen()
    assert network.architecture == expected.architecture
    alone = Population([expected.architecture], start=[expected.start])
    alone.fit(*task.rows("train"), steps=STEPS, learning_rate=FITTED_RATE)
    # Decoded alone its sums add up in another order, and Adam enlarges the last bits: far below
    # what its steps are together, which another network would differ by; or a hundredth of weights
    # that are large.
    mine, other = network.edge.data, alone.weights[0].edge
    torch.testing.assert_close(mine, other, atol=FITTED_RATE, rtol=0.01)


@pytest.mark.parametrize(
    "changed",
    [
        {"meta.surgery._MOST_EXACT": 1, "meta.surgery._MOST_POSSIBLE": 1},  # it is not fitted
        {"fitting.FIT_LIMIT": 10},  # or not to all rows
    ],
)
def test_weights_that_have_not_seen_all_rows_take_larger_steps(
    task, meta_model, changed, monkeypatch
):
    ways = []
    for values in ({}, changed):
        for name, value in values.items():
            monkeypatch.setattr(f"graphpred.{name}", value)
        start = meta_model.predict(task).proposal(density=0.3).start.edge
        ways.append(
            float((fit(task, meta_model, density=0.3).network.edge.data - start).abs().max())
        )

    assert 0 < ways[0] <= 1.5 * STEPS * FITTED_RATE < ways[1] <= 1.5 * STEPS * TUNING_RATE


def test_prices_of_the_front_are_ten_over_three_decades():
    assert len(FRONT_PRICES) == 10
    assert FRONT_PRICES[0] == pytest.approx(0.003)
    assert FRONT_PRICES[-1] == pytest.approx(3)


def test_candidates_are_drawn_and_the_best_by_validation_kept(task, meta_model):
    fits = {k: fit(task, meta_model, density=0.2, candidates=k).network for k in (1, 6)}

    loss = REPORTED_LOSSES[task.kind][0]
    validation = {k: f.facts["losses"]["after"]["validation"][loss] for k, f in fits.items()}
    assert fits[6].facts["candidates"] == 6
    assert validation[6] <= validation[1]
    for network in fits.values():
        assert network.architecture.n_live_edges <= 0.2 * network.facts["n_possible_edges"]


def test_no_step_leaves_the_predicted_weights_untouched(task, meta_model):
    proposal = meta_model.predict(task).proposal(density=0.3)

    network = fit(task, meta_model, density=0.3, steps=0).network

    assert network.architecture == proposal.architecture
    assert torch.equal(network.edge, proposal.start.edge)
    assert torch.equal(network.bias, proposal.start.bias)
    losses = network.facts["losses"]
    assert losses["before"] == losses["after"]


def test_steps_change_the_weights_and_lower_the_training_loss(task, meta_model):
    loss = {"classification": "log_loss", "regression": "mse"}[task.kind]

    network = fit(task, meta_model, density=0.5, steps=60).network

    losses = network.facts["losses"]
    assert losses["after"]["train"][loss] < losses["before"]["train"][loss]


def without_validation(task):
    """The task whose validation rows are training rows."""
    split = replace(task.split, train=task.split.fit, validation=task.split.validation[:0])
    return replace(task, split=split)


@pytest.mark.parametrize("settings", [{"density": 0.5}, {"penalty": 0.003}])
def test_without_choices_all_rows_are_predicted_for_if_asked(task, meta_model, settings):
    wide = fit(task, meta_model, train_on="fit", **settings).network

    expected = fit(without_validation(task), meta_model, **settings).network
    assert same_network(wide, expected)
    assert set(wide.facts["losses"]["after"]) == {"train", "test"}
    assert not same_network(wide, fit(task, meta_model, **settings).network)


@pytest.fixture
def sizes(monkeypatch):
    """Edges of the option that is chosen, fit after fit."""
    seen, best = [], fitting._best

    def noted(options, **settings):
        number = best(options, **settings)
        seen.append(options[number][1].architecture.n_edges)
        return number

    monkeypatch.setattr(fitting, "_best", noted)
    return seen


@pytest.mark.parametrize("candidates", [1, 3])
def test_edges_are_chosen_without_validation_rows_and_predicted_with_them(
    task, meta_model, candidates, sizes
):
    chosen = fit(task, meta_model, candidates=candidates).network
    wide = fit(task, meta_model, train_on="fit", candidates=candidates, steps=STEPS)

    price, limit = chosen.facts["price"], sizes[-1] or None
    assert sizes[0] == sizes[1]
    assert wide.network.facts["price"] == price
    members = [meta_model.predict(without_validation(task), price=price)]
    generator = generator_for(0, "candidates")
    members += members[0].redraw(candidates - 1, generator=generator)
    architectures = [member.fitted(limit).chosen(limit).architecture for member in members]
    assert wide.network.architecture in architectures


@pytest.mark.parametrize("train_on", ["train", "fit"])
@pytest.mark.parametrize("hidden", [None, (4, 3)])
def test_the_network_has_the_number_of_edges_that_was_chosen(sizes, train_on, hidden):
    task = Task.from_source("iris")
    for seed in range(3):
        config = FitConfig(seed=seed, steps=STEPS, train_on=train_on, n_hidden=hidden)
        network = fit_predicted(task, MetaModel.load(), config=config).network
        assert sizes[-1] // 2 < network.architecture.n_live_edges <= sizes[-1]


@pytest.mark.parametrize(("part", "rate"), [("train", TUNING_RATE), ("fit", FITTED_RATE)])
def test_a_draft_that_is_chosen_is_trained_in_small_steps_if_it_is_fitted(
    task, meta_model, monkeypatch, part, rate
):
    rates = []
    monkeypatch.setattr(fitting, "_best", lambda options, **settings: 1)
    monkeypatch.setattr(
        Prediction,
        "fitted_draws",
        lambda self, k, *, limit, generator: self.redraw(k, generator=generator),
    )
    monkeypatch.setattr(
        Population,
        "fit",
        lambda self, *rows, learning_rate, **settings: rates.append(learning_rate),
    )

    fit(task, meta_model, density=0.4, candidates=2, train_on=part, steps=STEPS)

    assert rates == [rate]


def test_a_chosen_candidate_keeps_its_edges_and_sees_the_validation_rows(task, meta_model):
    settings = {"density": 0.4, "candidates": 4}
    chosen = fit(task, meta_model, **settings).network
    wide = fit(task, meta_model, train_on="fit", **settings).network
    untouched = fit(task, meta_model, train_on="fit", steps=0, **settings).network

    assert wide.architecture == chosen.architecture
    loss = {"classification": "log_loss", "regression": "mse"}[task.kind]
    X, y = task.rows("fit")
    narrow, wider = (
        float(Population([one.architecture], start=[one.weights]).losses(X, y, loss=loss)[0])
        for one in (chosen, wide)
    )
    assert wider < narrow
    before = fit(task, meta_model, steps=0, **settings).network
    assert same_network(untouched, before)


def test_sums_over_training_rows_are_not_for_others(task, meta_model):
    with pytest.raises(InputError, match="train_on must be 'train'"):
        fit_predicted(
            task,
            meta_model,
            config=FitConfig(density=0.3, train_on="fit"),
            moments=Moments.of(task),
        )


def test_hidden_width_is_obeyed(task, meta_model):
    network = fit(task, meta_model, density=0.5, n_hidden=9).network

    assert network.architecture.widths == (6, 9, task.n_outputs)


@pytest.mark.parametrize(
    "config", [{"density": 0.3, "candidates": 2}, {"penalty": 0.0005}, {"candidates": 2}]
)
def test_several_hidden_layers(task, meta_model, config, tmp_path):
    before = torch.get_rng_state()
    first, second = (fit(task, meta_model, n_hidden=(5, 3), seed=4, **config) for _ in range(2))
    network = first.network
    network.save(tmp_path / "net")

    loaded = SparseNetwork.load(tmp_path / "net")

    z, n_possible = network.architecture, 6 * 5 + 5 * 3 + 3 * task.n_outputs
    assert same_network(first.network, second.network)
    assert torch.equal(before, torch.get_rng_state())
    assert z.widths == (6, 5, 3, task.n_outputs)
    assert network.facts["n_possible_edges"] == n_possible
    assert 0 < network.facts["n_live_edges"] == z.n_edges <= config.get("density", 1) * n_possible
    if "penalty" in config:
        assert network.facts["penalty"] == pytest.approx(config["penalty"])
    assert verify_file(tmp_path / "net") == []
    assert same_network(loaded, network)
    assert set(loaded.evidence) == {
        "probability_1",
        "probability_2",
        "probability_3",
        "activation_probability",
    }
    for k, table in enumerate(first.prediction.probabilities, start=1):
        assert torch.equal(loaded.evidence[f"probability_{k}"], table)
    assert all(edge["probability"] >= 0.5 for edge in network_summary(loaded)["edges"])
    assert all(neuron["probability"] > 0 for neuron in network_summary(loaded)["neurons"])


@pytest.mark.parametrize("config", [{"density": 0.3}, {"penalty": 0.002, "candidates": 3}, {}])
def test_same_seed_gives_the_same_network_and_the_global_generator_is_left_alone(
    task, meta_model, config
):
    before = torch.get_rng_state()

    first, second = (fit(task, meta_model, seed=4, **config).network for _ in range(2))

    assert same_network(first, second)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("config", [{"density": 0.3}, {"candidates": 3, "density": 0.3}, {}])
def test_test_rows_change_nothing(task, meta_model, config):
    X, y = task.X.clone(), task.y.clone()
    X[task.split.test] = torch.nan
    y[task.split.test] = 0

    first = fit(task, meta_model, **config).network
    second = fit(rebuilt(task, X=X, y=y), meta_model, **config).network

    assert same_network(first, second)
    losses, spoiled = first.facts["losses"], second.facts["losses"]
    assert losses["after"]["validation"] == spoiled["after"]["validation"]
    assert losses["after"]["test"] != spoiled["after"]["test"]


def test_validation_rows_are_not_trained_on(meta_model, task):
    X = task.X.clone()
    X[task.split.validation] = 100.0

    first = fit(task, meta_model, density=0.3).network
    second = fit(rebuilt(task, X=X), meta_model, density=0.3).network

    assert same_network(first, second)


def test_losses_are_those_of_the_network(task, meta_model):
    network = fit(task, meta_model, density=0.4).network

    for part, losses in network.facts["losses"]["after"].items():
        X, y = task.rows(part)
        scores = network(X).detach().T[None]
        for name in REPORTED_LOSSES[task.kind]:
            expected = float(Objective(loss=name).losses(scores, y)[0])
            assert losses[name] == pytest.approx(expected, abs=1e-5)


def test_constant_is_the_best_one_of_the_training_rows():
    task, regression = task_of("classification"), task_of("regression")
    model = silent_model()

    classes = fit(task, model, density=0.3).network.facts["losses"]["constant"]
    quantity = fit(regression, model, density=0.3).network.facts["losses"]["constant"]

    share = torch.bincount(task.rows("train")[1]).double() / len(task.split.train)
    y = task.rows("test")[1]
    assert classes["test"]["error"] == pytest.approx(float((y != share.argmax()).double().mean()))
    assert classes["test"]["log_loss"] == pytest.approx(float(-share[y].log().mean()), rel=1e-5)
    y = regression.rows("test")[1].double()
    mean = regression.rows("train")[1].double().mean()
    assert quantity["test"]["mse"] == pytest.approx(float((y - mean).square().mean()), rel=1e-5)
    assert quantity["train"]["unexplained"] == pytest.approx(1, rel=1e-5)


def test_facts_and_evidence_are_complete(task, meta_model):
    config = {"density": 0.3, "steps": 7, "candidates": 2, "seed": 5}
    fitted = fit(task, meta_model, **config)
    network, facts = fitted.network, fitted.network.facts

    assert facts["task"]["kind"] == task.kind
    assert facts["task"]["parts"] == {"train": 48, "validation": 22, "test": 20}
    assert facts["task"]["n_features"] == 6
    assert facts["n_live_edges"] == network.architecture.n_live_edges
    assert facts["density"] == facts["n_live_edges"] / facts["n_possible_edges"]
    assert [facts[name] for name in ("steps", "candidates", "seed")] == [7, 2, 5]
    assert facts["penalty"] is facts["price"] is None
    assert set(facts["losses"]) == {"before", "after", "constant"}
    assert facts["activation_names"] == list(meta_model.config.activations)
    first, second = fitted.prediction.probabilities
    assert torch.equal(network.evidence["probability_1"], first)
    assert torch.equal(network.evidence["probability_2"], second)
    assert network.evidence["activation_probability"].shape == (6, 6)


def test_network_with_its_facts_comes_back_from_disk(task, meta_model, tmp_path):
    network = fit(task, meta_model, density=0.3).network
    network.save(tmp_path / "net")

    loaded = SparseNetwork.load(tmp_path / "net")

    assert same_network(loaded, network)
    assert loaded.facts == network.facts
    assert torch.equal(loaded.evidence["probability_1"], network.evidence["probability_1"])


def test_an_empty_network_says_so(task):
    network = fit(task, silent_model(), penalty=0.01).network

    assert network.architecture.n_edges == 0
    assert any("empty" in warning for warning in network_warnings(network))


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_not_better_than_a_constant_says_so(kind):
    network = fit(task_of(kind), silent_model(), penalty=0.01, steps=0).network

    (notice,) = [w for w in network_warnings(network) if "not better than" in w]
    assert "validation" in notice


def test_a_useful_network_has_nothing_to_say(meta_model):
    X = torch.randn(200, 3, generator=seeded())
    y = (X[:, 0] + X[:, 1] > 0).long()
    task = Task.from_arrays(X.numpy(), y.numpy(), generator=seeded())

    network = fit(task, meta_model, density=0.8, steps=100).network

    assert network_warnings(network) == []
    assert network.facts["losses"]["after"]["validation"]["error"] < 0.15


def test_no_test_rows_no_test_losses(meta_model):
    facts = fit(toy_task(), meta_model, density=0.3).network.facts

    assert set(facts["losses"]["after"]) == {"train", "validation"}


@pytest.mark.parametrize("config", [{}, {"density": 0.3, "candidates": 2}])
def test_choices_need_validation_rows(meta_model, config):
    task = toy_task()
    rows = task.split.fit
    without = task.take(train=rows, validation=rows[:0])

    with pytest.raises(InputError, match="must have validation rows"):
        fit(without, meta_model, **config)


def test_without_choices_no_validation_rows_are_needed(meta_model):
    task = toy_task()
    rows = task.split.fit

    facts = fit(task.take(train=rows, validation=rows[:0]), meta_model, density=0.3).network.facts

    assert set(facts["losses"]["after"]) == {"train"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"density": 0.2, "penalty": 0.1}, "not both"),
        ({"density": 0.0}, "density must be in"),
        ({"density": 1.1}, "density must be in"),
        ({"penalty": 0.0}, "penalty must be a positive"),
        ({"penalty": -1.0}, "penalty must be a positive"),
        ({"steps": -1}, "steps must be at least 0"),
        ({"candidates": 0}, "candidates must be at least 1"),
    ],
)
def test_bad_configs_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        FitConfig(**settings)
