"""AdaNet: the convex step, complexities, frozen ensembles, rounds, and what the paper promises."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from search_conformance import SearcherConformance, tiny_task
from torch.nn import functional

from graphpred.errors import InputError
from graphpred.network import Signature, SparseNetwork
from graphpred.objective import Objective
from graphpred.population import LEARNING_RATE
from graphpred.searchers import SEARCHERS, search
from graphpred.searchers.adanet import AdaNet, AdaNetConfig
from graphpred.searchers.adanet_config import complexity, rademacher_bound
from graphpred.searchers.adanet_ensemble import Ensemble, Wiring
from graphpred.searchers.adanet_growth import Candidate, Growth, trained_beside
from graphpred.searchers.adanet_mixture import Mixture
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace
from graphpred.task import Task
from graphpred.weights import initial_weights

# The convex step


def made_up_mixture(kind, *, scalar, seed=0, m=60, p=5, c=3, highest=0.05):
    """Correlated outputs that are far from centred; one weight that must stay zero."""
    generator = generator_for("mixture", seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    units = normal(m, p) @ normal(p, p) + 3
    outputs = units.unsqueeze(2) * normal(1, p, c) if scalar else units
    gamma = highest * torch.rand((p,) if scalar else (p, c), generator=generator).double()
    gamma.view(-1)[1] = math.inf
    if kind == "classes":
        y = torch.randint(c, (m,), generator=generator)
    else:
        y = (units[:, :2].sum(dim=1, keepdim=True) * normal(1, c) + normal(m, c)).float()
    return Mixture(outputs=outputs, y=y, gamma=gamma)


def start_of(mixture, c=3):
    return torch.zeros_like(mixture.gamma), torch.zeros(c, dtype=torch.float64)


def phi(mixture, weight, bias):
    """Φ in the plainest words."""
    if mixture.outputs.dim() == 2:
        scores = mixture.outputs @ weight + bias
    else:
        scores = sum(w * mixture.outputs[:, j] for j, w in enumerate(weight)) + bias
    if mixture.y.is_floating_point():
        return ((scores - mixture.y) ** 2).mean()
    return functional.cross_entropy(scores, mixture.y)


def least_by_scipy(mixture, c=3):
    """Least F by L-BFGS-B over w = w⁺ − w⁻, both at least zero."""
    n, shape = mixture.gamma.numel(), mixture.gamma.shape
    gamma = mixture.gamma.flatten()
    allowed = [(0, 0 if g == math.inf else None) for g in gamma.tolist()]
    price = torch.where(gamma < math.inf, gamma, 0.0)

    def value_and_gradient(flat):
        x = torch.tensor(flat, requires_grad=True)
        weight = (x[:n] - x[n : 2 * n]).reshape(shape)
        value = phi(mixture, weight, x[2 * n :]) + price @ (x[:n] + x[n : 2 * n])
        value.backward()
        return value.item(), x.grad.numpy()

    return minimize(
        value_and_gradient,
        np.zeros(2 * n + c),
        jac=True,
        method="L-BFGS-B",
        bounds=allowed * 2 + [(None, None)] * c,
        options={"maxiter": 20_000, "maxfun": 100_000, "ftol": 1e-15, "gtol": 1e-10},
    ).fun


@pytest.mark.parametrize("scalar", [False, True])
@pytest.mark.parametrize("kind", ["classes", "targets"])
def test_convex_step_reaches_the_minimum_of_scipy(kind, scalar):
    mixture = made_up_mixture(kind, scalar=scalar)

    weight, bias = mixture.minimised(*start_of(mixture), steps=2000)

    assert mixture.value(weight, bias) == pytest.approx(least_by_scipy(mixture), abs=1e-8)
    assert weight.flatten()[1] == 0
    assert (weight != 0).any()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["classes", "targets"]),
    scalar=st.booleans(),
    highest=st.sampled_from([0.01, 0.1, 0.5]),
)
def test_convex_step_ends_where_no_subgradient_leads_down(seed, kind, scalar, highest):
    mixture = made_up_mixture(kind, scalar=scalar, seed=seed, highest=highest)

    weight, bias = mixture.minimised(*start_of(mixture), steps=5000)

    w, b = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    phi(mixture, w, b).backward()
    used = weight != 0
    assert (w.grad + mixture.gamma * weight.sign())[used].abs().max() < 1e-5 if used.any() else True
    assert (w.grad.abs() <= mixture.gamma + 1e-5)[~used].all()
    assert b.grad.abs().max() < 1e-5


@pytest.mark.parametrize("steps", [0, 1, 3, 20])
@pytest.mark.parametrize("kind", ["classes", "targets"])
def test_convex_step_never_raises_f(kind, steps):
    for scalar in (False, True):
        mixture = made_up_mixture(kind, scalar=scalar)
        weight = torch.where(mixture.gamma < math.inf, 0.7, 0.0)
        start = weight.double(), torch.ones(3, dtype=torch.float64)

        found = mixture.minimised(*start, steps=steps)

        assert mixture.value(*found) <= mixture.value(*start)


def test_a_constant_unit_loses_its_weight_to_the_bias():
    outputs = torch.randn(40, 2, generator=generator_for(0)).double()
    outputs[:, 1] = 0.3
    for gamma in (0.0, 0.01):
        mixture = Mixture(
            outputs=outputs,
            y=(2 * outputs[:, :1] + 1).float(),
            gamma=torch.full((2, 1), gamma).double(),
        )

        weight, bias = mixture.minimised(torch.ones(2, 1).double(), torch.zeros(1), steps=200)

        assert weight[1] == 0
        assert weight[0] == pytest.approx(2, abs=0.02)
        assert bias == pytest.approx(1, abs=0.01)


# Complexity


def drawn_subnetwork(
    task, space, *, depth, n_units=2, fan_in=2, ensemble=None, seed=0, cross="all"
):
    growth = Growth(
        space=space,
        n_units=n_units,
        fan_in=fan_in,
        cross=cross,
        outputs=tuple(range(task.n_outputs)),
    )
    ensemble = ensemble or Ensemble.empty(task, scalar=False)
    return growth.draw(ensemble, depth=depth, n_edges=1000, generator=generator_for(seed))


def test_rademacher_bound_is_the_formula_of_the_paper():
    bound = rademacher_bound(
        (4, 9), largest=3.0, n_features=7, n_rows=50, norm_bound=1.1, exponent=2.0
    )

    norms = (2 * 1.1) * (2 * 1.1)
    assert bound == pytest.approx(3.0 * norms * 6.0 * np.sqrt(np.log(14) / 100))
    endless = rademacher_bound((4, 9), largest=3.0, n_features=7, n_rows=50, exponent=math.inf)
    assert endless == pytest.approx(3.0 * 4 * np.sqrt(np.log(14) / 100))


@pytest.mark.parametrize("mixture", ["vector", "scalar"])
def test_complexities_of_a_subnetwork(mixture):
    task = tiny_task("regression")
    space = SearchSpace(widths=(2, 4, 4, 1))
    subnetwork = drawn_subnetwork(task, space, depth=2)
    outputs = torch.randn(24, 4, generator=generator_for(3))
    X, _ = task.rows("train")

    r = {
        name: complexity(
            subnetwork, outputs, X=X, config=AdaNetConfig(complexity=name, mixture=mixture)
        ).numpy()
        for name in ("rademacher", "spread", "depth")
    }

    spread = outputs.numpy().astype(float).std(axis=0)
    if mixture == "scalar":
        spread = np.sqrt((spread[2:] ** 2).mean(keepdims=True))
    bound = np.abs(X.numpy()).max() * 4 * 2 * np.sqrt(np.log(4) / 48)
    np.testing.assert_allclose(r["spread"], spread, rtol=1e-6)
    np.testing.assert_allclose(r["depth"], np.full(len(spread), 2**0.5))
    np.testing.assert_allclose(r["rademacher"], np.full(len(spread), bound), rtol=1e-6)


# Ensembles


def grown_ensemble(task, space, *, scalar, depths=(1, 2, 2)):
    """Subnetworks trained one after the other."""
    ensemble = Ensemble.empty(task, scalar=scalar)
    X, _ = task.rows("train")
    for seed, depth in enumerate(depths):
        subnetwork = drawn_subnetwork(task, space, depth=depth, ensemble=ensemble, seed=seed)
        candidate = Candidate(ensemble=ensemble, subnetwork=subnetwork, seed=seed)
        (parts,) = trained_beside([candidate], task=task, space=space, steps=20, batch_seed=0)
        outputs = subnetwork.units.outputs(
            torch.cat([X, ensemble.outputs], dim=1), weight=parts.into_units, bias=parts.bias
        )
        r = complexity(
            subnetwork, outputs, X=X, config=AdaNetConfig(mixture="scalar" if scalar else "vector")
        )
        ensemble = ensemble.joined(subnetwork, parts=parts, outputs=outputs, complexity=r)
    return ensemble


@pytest.mark.parametrize("scalar", [False, True])
@pytest.mark.parametrize("kind", ["four-classes", "regression"])
def test_an_ensemble_is_one_network_that_puts_out_its_scores(kind, scalar):
    task = tiny_task(kind)
    space = SearchSpace(widths=(2, 6, 6, task.n_outputs))
    ensemble = grown_ensemble(task, space, scalar=scalar)
    mixture = Mixture(outputs=ensemble.mixed, y=task.rows("train")[1], gamma=ensemble.mixture)

    z, weights = ensemble.network(space)
    network = SparseNetwork(z, weights, signature=Signature.of(task))

    scores = network(task.rows("train")[0]).detach().double()
    torch.testing.assert_close(scores, ensemble.scores, atol=1e-5, rtol=1e-5)
    mixed = mixture.scores(ensemble.mixture, ensemble.shift)
    torch.testing.assert_close(mixed, ensemble.scores)
    assert z.has_skip_edges
    assert z.n_edges == z.n_live_edges == ensemble.n_edges
    into_outputs = int((z.layer[z.edges[1]] == 3).sum())
    assert into_outputs == 3 * 2 * task.n_outputs  # two units of a last layer in each of three
    assert z.n_edges - into_outputs == ensemble.units.edges.shape[1]


@pytest.mark.parametrize("scalar", [False, True])
def test_pruning_keeps_the_scores_and_leaves_live_edges_only(scalar):
    task = tiny_task("four-classes")
    space = SearchSpace(widths=(2, 6, 6, 4))
    ensemble = grown_ensemble(task, space, scalar=scalar)
    ensemble.mixture[0 if scalar else slice(0, 2)] = 0  # the first subnetwork is out

    pruned = ensemble.pruned()

    z, _ = pruned.network(space)
    whole, _ = ensemble.network(space)
    torch.testing.assert_close(pruned.scores, ensemble.scores)
    assert z.n_edges == z.n_live_edges == whole.n_live_edges == pruned.n_edges
    assert pruned.n_edges < grown_ensemble(task, space, scalar=scalar).n_edges
    assert pruned.pruned().n_edges == pruned.n_edges
    unused = ensemble.mixture.clone().zero_()
    ensemble.mixture.copy_(unused)
    assert len(ensemble.pruned().units) == ensemble.pruned().n_edges == 0


def adam_beside(candidate, *, task, space, steps):
    """The same training by autograd: Adam with cosine decay on top of frozen scores."""
    ensemble, subnetwork = candidate.ensemble, candidate.subnetwork
    X, y = task.rows("train")
    n = task.n_features + len(ensemble.units)
    wiring = Wiring.of(subnetwork.units, subnetwork.readout, n_inputs=n, space=space)
    network = SparseNetwork(
        wiring.architecture,
        initial_weights(wiring.architecture, seed=candidate.seed),
        signature=Signature(
            kind=task.kind,
            feature_names=tuple(map(str, range(n))),
            class_names=task.class_names,
            target_mean=task.target_mean,
            target_scale=task.target_scale,
        ),
    )
    inputs = torch.cat([X, ensemble.outputs], dim=1)
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * (1 + math.cos(math.pi * step / steps)) / 2
        optimiser.zero_grad()
        scores = network(inputs) + ensemble.scores.float()
        loss = functional.mse_loss if y.is_floating_point() else functional.cross_entropy
        loss(scores, y).backward()
        optimiser.step()
    return wiring.parts(network.weights)


@pytest.mark.parametrize("kind", ["two-classes", "four-classes", "regression"])
def test_candidates_train_on_what_their_frozen_ensembles_leave_over(kind):
    task = tiny_task(kind)
    space = SearchSpace(widths=(2, 9, 9, task.n_outputs), activations=("tanh", "sin", "gaussian"))
    small = grown_ensemble(task, space, scalar=False, depths=(1,))
    large = grown_ensemble(task, space, scalar=False, depths=(1, 2))
    before = large.scores.clone()
    candidates = [
        Candidate(
            ensemble=ensemble,
            subnetwork=drawn_subnetwork(task, space, depth=depth, ensemble=ensemble, seed=9),
            seed=seed,
        )
        for seed, (ensemble, depth) in enumerate([(small, 1), (large, 2), (large, 1)])
    ]

    together = trained_beside(candidates, task=task, space=space, steps=15, batch_seed=0)

    assert torch.equal(before, large.scores)
    for candidate, parts in zip(candidates, together, strict=True):
        alone = adam_beside(candidate, task=task, space=space, steps=15)
        for name, value in vars(alone).items():
            torch.testing.assert_close(getattr(parts, name), value, atol=2e-4, rtol=2e-3)


@pytest.mark.parametrize("cross", ["all", "previous", "none"])
def test_cross_connections_lead_from_the_layer_below_of_the_units_allowed(cross):
    task = tiny_task("regression")
    space = SearchSpace(widths=(2, 9, 9, 1))
    ensemble = grown_ensemble(task, space, scalar=False, depths=(1, 2))
    n, n_units = task.n_features, len(ensemble.units)

    read = set()
    for seed in range(30):
        new = drawn_subnetwork(
            task, space, depth=2, fan_in=3, ensemble=ensemble, seed=seed, cross=cross
        ).units
        source, target = new.edges
        second = target >= n + n_units + 2
        read |= set(source[second & (source < n + n_units)].tolist())
        assert (source[~second] < n).all()
        assert set(source[second & (source >= n + n_units)].tolist()) == {
            n + n_units,
            n + n_units + 1,
        }

    below = ensemble.units.layer == 1
    allowed = {
        "all": below,
        "previous": below & (ensemble.subnetwork == 1),
        "none": torch.zeros_like(below),
    }[cross]
    assert read == {n + i for i in allowed.nonzero().flatten().tolist()}


# Rounds


class Watched(AdaNet):
    """Remembers every decision: the runs before and after, the candidates and their values."""

    decisions = ()

    def _decide(self, places, grown, values):
        before = list(self._runs)
        super()._decide(places, grown, values)
        self.decisions = (*self.decisions, (before, list(self._runs), places, grown, values))


def watched_search(task, space, *, config=None, **settings):
    made = []

    def factory(setting):
        made.append(Watched(setting, config=config))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SEARCHERS, "adanet", factory)
        trials = list(search(task, space, searcher="adanet", **settings))
    return trials, made[0].decisions


def additive_task(kind="regression", *, m=120, n=4, noise=0.1, seed=0):
    generator = generator_for("additive", seed)
    X = torch.randn(m, n, generator=generator)
    value = torch.sin(2 * X[:, 0]) + X[:, 1].abs() - X[:, 2]
    value = value + noise * torch.randn(m, generator=generator)
    y = value if kind == "regression" else (value > value.median()).long()
    return Task.from_arrays(X, y, generator=generator)


@pytest.mark.parametrize("selection", ["training", "hold_out"])
@pytest.mark.parametrize("mixture", ["vector", "scalar"])
def test_a_run_keeps_its_better_candidate_and_ends_when_nothing_falls(selection, mixture):
    task = additive_task(noise=2.0 if selection == "hold_out" else 0.1)
    space = SearchSpace(widths=(4, 6, 6, 1), density=0.4)
    config = AdaNetConfig(selection=selection, mixture=mixture, n_units=1)

    trials, decisions = watched_search(
        task, space, config=config, evaluations=60, seed=3, objective=Objective(loss="mse")
    )

    numbers, gone_on, ended, depths = iter(trials), 0, 0, set()
    for before, after, places, grown, values in decisions:
        of_round = [next(numbers) for _ in grown]
        for one, trial, value in zip(grown, of_round, values, strict=True):
            expected = trial.objective if selection == "hold_out" else one.value
            assert value[0] == expected
        for i in set(places):
            own = [j for j, place in enumerate(places) if place == i]
            depth = [grown[j].candidate.subnetwork.depth for j in own]
            least = min(values[j] for j in own)
            if len(own) == 2:
                assert depth == ([1, 2] if before[i].depth == 1 else [2, 2])
            if least < before[i].least:
                assert after[i].least == least
                assert after[i].n_rounds == before[i].n_rounds + 1
                assert after[i].ensemble is grown[min(own, key=values.__getitem__)].ensemble
                gone_on += 1
                depths.add(after[i].depth)
            else:
                assert (after[i].n_rounds, len(after[i].ensemble.units)) == (0, 0)
                ended += 1
    assert gone_on > 5
    assert depths == {1, 2}
    if selection == "hold_out":
        assert ended


def test_f_is_the_training_loss_and_the_price_of_the_mixture():
    task = additive_task("classification")
    space = SearchSpace(widths=(4, 6, 6, 2), density=0.4)
    config = AdaNetConfig(complexity="depth", complexity_weight=0.02, norm_weight=0.01, n_units=1)

    trials, decisions = watched_search(
        task, space, config=config, evaluations=30, objective=Objective(loss="log_loss")
    )

    grown = [one for decision in decisions for one in decision[3]]
    assert len(grown) == len(trials) == 30
    for one, trial in zip(grown, trials, strict=True):
        ensemble = one.ensemble
        price = 0.0
        for weight, r in zip(
            ensemble.to_outputs.abs().sum(dim=1), ensemble.complexity, strict=True
        ):
            price += float(weight) * (0.02 * float(r) + 0.01)
        assert one.value == pytest.approx(trial.train_loss + price, abs=1e-5)


def test_a_high_price_drops_units_and_frees_their_edges():
    task = additive_task()
    space = SearchSpace(widths=(4, 8, 1), density=0.8)
    n_edges = {}
    for weight in (0.0, 0.03, 100.0):
        config = AdaNetConfig(complexity="depth", complexity_weight=weight)
        trials, _ = watched_search(
            task, space, config=config, evaluations=40, objective=Objective(loss="mse")
        )
        n_edges[weight] = np.mean([trial.architecture.n_edges for trial in trials])

    assert n_edges[0.0] > n_edges[0.03] > n_edges[100.0] == 0


def test_rounds_end_at_the_most_rounds():
    task = additive_task()
    space = SearchSpace(widths=(4, 8, 1), density=0.8)

    _, decisions = watched_search(
        task, space, config=AdaNetConfig(n_rounds=2, n_units=1, n_runs=1), evaluations=20
    )

    rounds = [before[0].n_rounds for before, *_ in decisions]
    assert set(rounds) == {0, 1}
    assert rounds.count(0) >= 3


@pytest.mark.parametrize("kind", ["regression", "classification"])
@pytest.mark.parametrize(
    ("widths", "filled"),
    [((3,), 0.75), ((6, 6), 0.75), ((2, 5, 3), 0.4)],  # the last has room for two subnetworks
)
def test_the_density_is_a_ceiling_for_the_whole_ensemble(kind, widths, filled):
    task = additive_task(kind)
    space = SearchSpace(widths=(4, *widths, task.n_outputs))
    densities = (0.2, 0.6)

    trials, decisions = watched_search(task, space, densities=densities, evaluations=60)

    most = [max(space.n_layers, space.n_edges_at(density)) for density in densities]
    edges = [trial.architecture.n_edges for trial in trials]
    ceilings = [before[i].n_edges for before, _, places, *_ in decisions for i in places]
    assert set(ceilings) == set(most)
    assert all(own <= ceiling for own, ceiling in zip(edges, ceilings, strict=True))
    assert max(edges) >= filled * max(most)
    for trial in trials:
        z = trial.architecture
        assert z.n_edges == z.n_live_edges
        assert all(own <= width for own, width in zip(z.widths, space.widths, strict=True))


def test_masks_have_the_density_of_the_space_if_the_units_are_given():
    task = additive_task(n=10)
    space = SearchSpace(widths=(10, 10, 1), density=0.3)

    _, decisions = watched_search(
        task, space, config=AdaNetConfig(n_units=2), evaluations=8, seed=2
    )

    first = [one.candidate.subnetwork for one in decisions[0][3]]
    assert [subnetwork.fan_in for subnetwork in first] == [(3,), (3,)]
    assert [len(subnetwork.units) for subnetwork in first] == [2, 2]


def test_candidates_cost_what_others_do():
    task = additive_task()
    space = SearchSpace(widths=(4, 6, 1), density=0.5)
    for steps, n in ((100, 7), (30, 23), (1, 700)):
        running = search(task, space, searcher="adanet", evaluations=7, steps=steps)
        trials = list(running)
        assert len(trials) == running.ledger.networks == n
        assert running.ledger.network_steps == n * steps


@pytest.mark.parametrize(
    "space",
    [
        SearchSpace(widths=(1, 4, 1), density=0.7),
        SearchSpace(widths=(1, 3, 3, 1), density=0.05),
        SearchSpace(widths=(1, 1, 1, 1, 1), density=1.0),
    ],
)
@pytest.mark.parametrize("steps", [7, 33])
def test_one_input_and_one_output(space, steps):
    X = torch.randn(20, 1, generator=generator_for(0))
    task = Task.from_arrays(X, X[:, 0].abs(), generator=generator_for(1))

    trials = list(search(task, space, searcher="adanet", evaluations=1, steps=steps))

    assert len(trials) == 100 // steps
    assert any(trial.architecture.n_edges >= 2 for trial in trials)


def test_hopeless_objectives_do_not_stop_it():
    task = additive_task()
    space = SearchSpace(widths=(4, 6, 6, 1), activations=("square",), density=0.5)
    worthless = Objective(loss="mse", penalty=lambda n_edges: math.exp(n_edges * 400))
    for selection in ("training", "hold_out"):
        config = AdaNetConfig(selection=selection)
        trials, _ = watched_search(task, space, config=config, objective=worthless, evaluations=10)
        assert len(trials) == 10
        assert any(math.isinf(trial.objective) for trial in trials)


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"complexity": "size"}, "complexity must be one of rademacher, spread, depth; got 'size'"),
        ({"mixture": "matrix"}, "mixture must be one of vector, scalar; got 'matrix'"),
        ({"selection": "test"}, "selection must be one of training, hold_out; got 'test'"),
        ({"cross": "some"}, "cross must be one of all, previous, none; got 'some'"),
        ({"complexity_weight": -1.0}, r"complexity_weight must be at least 0; got -1\.0"),
        ({"norm_weight": math.inf}, "norm_weight must be at least 0; got inf"),
        ({"mixture_share": 1.0}, r"mixture_share in \[0, 1\); got 1\.0, 2\.0, 1\.0"),
        ({"n_units": 0}, "n_units must be at least 1; got 0"),
        ({"n_rounds": 0}, "n_rounds must be at least 1; got 0"),
    ],
)
def test_settings_must_make_sense(settings, message):
    with pytest.raises(InputError, match=message):
        AdaNetConfig(**settings)


@pytest.mark.parametrize(
    "space",
    [
        SearchSpace(widths=(4, 1)),
        SearchSpace(widths=(4, 5, 1), output_activations=("tanh",)),
    ],
)
def test_a_space_must_have_a_hidden_layer_and_linear_outputs(space):
    with pytest.raises(InputError, match="needs a hidden layer and the output activation identity"):
        list(search(additive_task(), space, searcher="adanet"))


VARIANTS = {
    "scalar": AdaNetConfig(mixture="scalar", complexity="spread", cross="none"),
    "hold_out": AdaNetConfig(selection="hold_out", complexity="depth", n_units=1),
    "untrained": AdaNetConfig(mixture="scalar", mixture_share=0.0, cross="previous", n_runs=1),
}


class TestVariants(SearcherConformance):
    @pytest.fixture(params=VARIANTS)
    def searcher(self, request, monkeypatch):
        monkeypatch.setitem(
            SEARCHERS, "variant", lambda setting: AdaNet(setting, config=VARIANTS[request.param])
        )
        return "variant"


def test_a_search_of_a_deep_space_goes_on_from_its_state():
    task, space = additive_task(), SearchSpace(widths=(4, 5, 5, 1), density=0.5)
    whole = list(search(task, space, searcher="adanet", evaluations=40, seed=5))
    stopped = search(task, space, searcher="adanet", evaluations=40, seed=5)
    for _ in range(25):
        next(stopped)

    rest = list(search(task, space, searcher="adanet", evaluations=40, seed=5, after=stopped.state))

    assert 0 < len(rest) < 40
    for one, other in zip(rest, whole[-len(rest) :], strict=True):
        assert one.architecture == other.architecture
        assert torch.equal(one.weights.edge, other.weights.edge)


# What the paper promises


def target_of_depth(name, *, seed):
    """A linear target, or a sine of absolute values, which one layer of units cannot make."""
    generator = generator_for("depth", name, seed)
    X = torch.randn(300, 6, generator=generator)
    if name == "linear":
        value = X @ torch.randn(6, generator=generator)
    else:
        value = torch.sin(2 * (X[:, 0].abs() + X[:, 1].abs()))
    value = value / value.std() + 0.1 * torch.randn(300, generator=generator)
    return Task.from_arrays(X, value, generator=generator)


def depth_of(z):
    """The last hidden layer that has edges."""
    layers = z.layer[z.edges[1]]
    return int(layers[layers < z.n_layers].max())


def deeper_choices(decisions):
    """Of the rounds that offered depths 1 and 2, whether the deeper subnetwork was the better."""
    for before, _, places, _, values in decisions:
        for i in set(places):
            own = [j for j, place in enumerate(places) if place == i]
            if before[i].depth == 1 and len(own) == 2:
                yield values[own[1]] < values[own[0]]


def test_depth_grows_only_where_it_pays():
    activations = ("identity", "tanh", "sin", "abs")
    space = SearchSpace(widths=(6, 8, 8, 1), activations=activations, density=0.3)
    depths, deeper = {}, {}
    for name in ("linear", "composed"):
        depths[name], deeper[name] = [], []
        for seed in range(5):
            trials, decisions = watched_search(
                target_of_depth(name, seed=seed),
                space,
                objective=Objective(loss="mse"),
                evaluations=100,
                seed=seed,
            )
            best = min(trials, key=lambda trial: trial.objective)
            depths[name].append(depth_of(best.architecture))
            deeper[name] += deeper_choices(decisions)

    assert np.mean(deeper["linear"]) < np.mean(deeper["composed"]) - 0.1
    assert sum(depth == 1 for depth in depths["linear"]) >= 4
    assert sum(depth == 2 for depth in depths["composed"]) >= 4


def four_class_task(seed):
    """The family on which AdaNet must beat random search: the largest of four sums of tanh units.

    Every unit has a random 40 % of ten features.
    """
    generator = generator_for("four classes", seed)
    X = torch.randn(340, 10, generator=generator)
    mask = torch.rand(10, 4, generator=generator) < 0.4
    hidden = torch.tanh(X @ (mask * torch.randn(10, 4, generator=generator)))
    scores = hidden @ torch.randn(4, 4, generator=generator)
    return Task.from_arrays(X, scores.argmax(dim=1), kind="classification", generator=generator)


def test_it_beats_live_random_search_at_equal_evaluations():
    objective = Objective(loss="log_loss")
    gains = []
    for seed in range(6):
        task = four_class_task(seed)
        space = SearchSpace(widths=(10, 10, 10, task.n_outputs), density=0.2)
        best = {
            searcher: min(
                trial.objective
                for trial in search(
                    task, space, searcher=searcher, objective=objective, evaluations=100, seed=seed
                )
            )
            for searcher in ("random_live", "adanet")
        }
        gains.append(best["random_live"] - best["adanet"])

    assert np.mean(gains) > 0.02
    assert sum(gain > 0 for gain in gains) >= 3
