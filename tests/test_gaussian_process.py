"""The Arc kernel, the process, its improvement and its choices against independent formulas."""

import itertools
import math
import statistics
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from proposing import ask_and_tell, family_tasks, log_ratios, made_up, setting_for
from scipy import integrate, stats
from scipy.spatial.distance import cdist

from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.objective import Objective
from graphpred.searchers import search
from graphpred.searchers.arc_kernel import (
    arc_embedding,
    described,
    parameter_groups,
    simplex_embedding,
)
from graphpred.searchers.arc_process import ArcProcess
from graphpred.searchers.gaussian_process import (
    GaussianProcessSearch,
    Optimisation,
    believed,
    expected_improvement,
)
from graphpred.searchers.standardisation import standardised
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace

# The embedding


@given(
    radius=st.floats(0.1, 3),
    angle=st.floats(0.01, 1),
    values=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    active=st.tuples(st.booleans(), st.booleans()),
)
def test_distances_of_numbers_are_those_of_the_three_cases(radius, angle, values, active):
    x = torch.tensor(values, dtype=torch.float64)[:, None]

    a, b = arc_embedding(x, torch.tensor(active)[:, None], radius=radius, angle=angle)

    if all(active):
        expected = radius * math.sqrt(2) * math.sqrt(1 - math.cos(math.pi * angle * (x[0] - x[1])))
    else:
        expected = radius if any(active) else 0.0
    assert float((a - b).norm()) == pytest.approx(expected, abs=1e-7)


@given(
    m=st.integers(2, 6),
    radius=st.floats(0.1, 3),
    angle=st.floats(0.01, 1),
    data=st.data(),
)
def test_distances_of_categories_are_those_of_the_formula(m, radius, angle, data):
    classes = [data.draw(st.none() | st.integers(0, m - 1)) for _ in range(2)]
    one_hot = torch.zeros(2, 1, m, dtype=torch.float64)
    for i, own in enumerate(classes):
        if own is not None:
            one_hot[i, 0, own] = 1

    a, b = simplex_embedding(one_hot, radius=radius, angle=angle)

    alike = 1 - angle
    cosine = (2 * alike + (m - 2) * alike**2) / (1 + (m - 1) * alike**2)
    if None not in classes:
        apart = classes[0] != classes[1]
        expected = radius * math.sqrt(2) * math.sqrt(1 - cosine) if apart else 0.0
    else:
        expected = 0.0 if classes == [None, None] else radius
    assert float((a - b).norm()) == pytest.approx(expected, abs=1e-7)


def test_parameters_are_embedded_side_by_side():
    x = torch.rand(5, 3, generator=generator_for(0), dtype=torch.float64)
    active = torch.rand(5, 3, generator=generator_for(1)) < 0.5

    together = torch.cdist(*[arc_embedding(x, active)] * 2).square()
    apart = sum(
        torch.cdist(*[arc_embedding(x[:, [j]], active[:, [j]])] * 2).square() for j in range(3)
    )

    torch.testing.assert_close(together, apart, atol=1e-7, rtol=0)


def test_embedding_refuses_what_does_not_fit():
    with pytest.raises(InputError, match=r"one shape; got \(2, 1\) and \(1, 2\)"):
        arc_embedding(torch.zeros(2, 1), torch.ones(1, 2, dtype=torch.bool))
    for angle in (0.0, 1.5):
        with pytest.raises(InputError, match=r"angle must be in \(0, 1\]; got"):
            arc_embedding(torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool), angle=angle)
        with pytest.raises(InputError, match=r"angle must be in \(0, 1\]; got"):
            simplex_embedding(torch.zeros(1, 1, 2), angle=angle)


# What describes a network

SPACE = SearchSpace(
    widths=(3, 3, 2), activations=("tanh", "relu"), output_activations=("identity", "sin")
)


def by_hand():
    """Neurons 3 and 5 are on paths, 4 has no input; feature 2 leads nowhere."""
    return Architecture.from_masks(
        [[[1, 0, 1], [1, 0, 0], [0, 0, 0]], [[0, 1], [1, 1], [0, 1]]],
        hidden=["relu", "relu", "tanh"],
        output=["identity", "sin"],
    )


def test_description_by_hand():
    groups = parameter_groups(SPACE)
    row = described(by_hand(), groups=groups)

    parts = row.split([group.n_columns for group in groups])
    log = [math.log(1 + n) for n in range(4)]
    one, two, three = log[1:]
    expected = [
        [two / three, one / three, 0, 1, 1, 0],  # features: read by 2 and 1 of 3
        [two / three, one / three, 0, 1, 1, 0],  # hidden: relu first, 2 and 1 of 3 inputs
        [one / two, one / two, 0, 1, 1, 0],
        [0, two / three, 0, 1],  # outputs: only the second is on a path
        [0, 1, 1, 0, 0, 0],  # relu, tanh, neither
        [0, 0, 0, 1],
    ]
    assert [(group.quantity, group.start, group.stop) for group in groups] == [
        ("fan_out", 0, 3),
        ("fan_in", 3, 6),
        ("fan_out", 3, 6),
        ("fan_in", 6, 8),
        ("activation", 3, 6),
        ("activation", 6, 8),
    ]
    for part, values in zip(parts, expected, strict=True):
        assert part.tolist() == pytest.approx(values)


def test_order_of_hidden_neurons_and_dead_ones_do_not_count():
    space = SearchSpace(widths=(4, 6, 5, 3), activations=("tanh", "relu", "sin"))
    groups = parameter_groups(space)
    generator = generator_for("order")

    for _ in range(20):
        z = space.sample(generator=generator, n_edges=14)
        order = torch.cat(
            [
                start + torch.randperm(width, generator=generator)
                if 0 < k < 3
                else start + torch.arange(width)
                for k, (start, width) in enumerate(zip(z.starts, z.widths, strict=False))
            ]
        )
        activation = z.activation.clone()
        alive = z.edges[:, z.live].flatten().unique()
        dead = torch.ones(z.n_neurons, dtype=torch.bool)
        dead[alive] = False
        dead[: z.widths[0]] = False
        activation[dead] = 3
        other = Architecture(edges=z.edges, activation=activation, widths=z.widths)
        row = described(z, groups=groups)
        assert torch.equal(row, described(z.permuted(order), groups=groups))
        assert torch.equal(row, described(other.without_dead_edges(), groups=groups))


def test_space_without_hidden_layer_or_choice_has_fewer_groups():
    space = SearchSpace(widths=(4, 2))
    z = space.sample(generator=generator_for(0), n_edges=4)

    groups = parameter_groups(space)

    assert [group.quantity for group in groups] == ["fan_out", "fan_in"]
    assert described(z, groups=groups).shape == (12,)


# The process


def random_data(n, *, seed=0):
    space = SearchSpace(widths=(4, 6, 2), activations=("tanh", "relu", "sin"))
    generator = generator_for("process", seed)
    networks = [space.sample_live(generator=generator, n_edges=4 + i % 12) for i in range(n)]
    groups = parameter_groups(space)
    x = torch.stack([described(z, groups=groups) for z in networks])
    return x, torch.randn(n, generator=generator, dtype=torch.float64), groups


def perturbed(process, seed=0):
    """With hyperparameters that are not those of the beginning."""
    generator = generator_for("perturbed", seed)
    for parameter in process.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data += 0.5 * noise
    return process


def covariance_by_hand(process, x):
    """s k(φ, φ') in numpy, with points from the formulas."""
    points, start = [], 0
    for i, group in enumerate(process.groups):
        columns = x[:, start : start + group.n_columns].numpy()
        start += group.n_columns
        radius = math.exp(float(process.log_radius.detach()[i])) / math.sqrt(group.size)
        angle = 1 / (1 + math.exp(-float(process.angle_logit.detach()[i])))
        if group.classes:
            m = len(group.classes)
            for own in np.split(columns, group.size, axis=1):
                corners = np.full((m, m), 1 - angle)
                np.fill_diagonal(corners, 1.0)
                corners /= math.sqrt(1 + (m - 1) * (1 - angle) ** 2)
                points.append(radius * own @ corners)
        else:
            values, present = columns[:, : group.size], columns[:, group.size :]
            points += [radius * f(math.pi * angle * values) * present for f in (np.sin, np.cos)]
    phi = np.concatenate(points, axis=1)
    r = math.sqrt(5) * cdist(phi, phi)
    scale = float(process.covariance.outputscale.detach())
    return scale * (1 + r + r**2 / 3) * np.exp(-r)


def test_posterior_is_that_of_linear_algebra():
    x, y, groups = random_data(40)
    process = perturbed(ArcProcess(x[:30], y[:30], groups=groups))

    mean, covariance = process.posterior(x)

    full = covariance_by_hand(process, x)
    known, cross = full[:30, :30] + process.noise * np.eye(30), full[:30]
    np.testing.assert_allclose(mean, cross.T @ np.linalg.solve(known, y[:30].numpy()), atol=1e-7)
    expected = full - cross.T @ np.linalg.solve(known, cross)
    np.testing.assert_allclose(covariance, expected, atol=1e-7)


def log_posterior(process, x, y):
    """Log of marginal likelihood times prior, by scipy."""
    covariance = covariance_by_hand(process, x) + process.noise * np.eye(len(x))
    value = stats.multivariate_normal(cov=covariance).logpdf(y.numpy())
    for parameter in (process.log_radius, process.angle_logit):
        value += stats.norm.logpdf(parameter.detach().numpy()).sum()
    value += stats.lognorm.logpdf(float(process.covariance.outputscale.detach()), 1.0)
    return value + stats.lognorm.logpdf(process.noise, 1.0, scale=math.exp(-2))


def test_fit_climbs_marginal_likelihood_times_prior():
    x, _, groups = random_data(40)
    truth = perturbed(ArcProcess(x, x[:, 0], groups=groups), seed=3)
    covariance = covariance_by_hand(truth, x) + 0.01 * np.eye(40)
    noise = torch.randn(40, generator=generator_for("truth"), dtype=torch.float64)
    y = torch.from_numpy(np.linalg.cholesky(covariance)) @ noise

    values = []
    for steps in (0, 10, 100, 300):
        process = ArcProcess(x, y, groups=groups)
        process.fit(steps=steps)
        values.append(log_posterior(process, x, y))

    assert values[0] < values[1] < values[2]
    assert values[3] == pytest.approx(values[2], abs=0.5)  # a maximum
    assert values[3] > log_posterior(truth, x, y)
    lengthscale = process.covariance.base_kernel.lengthscale
    assert float(lengthscale.detach()) == pytest.approx(1.0)


def test_process_leaves_the_global_generators_alone():
    x, y, groups = random_data(40)
    before = torch.get_rng_state()

    process = ArcProcess(x, y, groups=groups)
    process.fit(steps=3)
    process.posterior(x)

    assert torch.equal(torch.get_rng_state(), before)


# Improvement and choice


@given(mean=st.floats(-3, 3), deviation=st.floats(0.05, 2), best=st.floats(-3, 3))
def test_expected_improvement_is_the_integral(mean, deviation, best):
    normal = stats.norm(mean, deviation)
    expected, _ = (
        integrate.quad(
            lambda f: (best - f) * normal.pdf(f), mean - 12 * deviation, best, points=[mean]
        )
        if best > mean - 12 * deviation
        else (0.0, 0.0)
    )

    found = expected_improvement(
        torch.tensor([mean], dtype=torch.float64),
        torch.tensor([deviation**2], dtype=torch.float64),
        best=best,
    )

    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_improvement_without_doubt_is_the_difference():
    found = expected_improvement(torch.tensor([0.2, 0.7]), torch.tensor([0.0, -1e-9]), best=0.5)

    assert found.tolist() == pytest.approx([0.3, 0.0], abs=1e-5)


def test_choices_are_those_of_a_process_that_saw_its_own_mean():
    x, y, groups = random_data(50, seed=2)
    known, new = x[:20], x[20:]
    process = perturbed(ArcProcess(known, y[:20], groups=groups))
    mean, covariance = process.posterior(x)
    best = float(mean[:20].min())

    chosen = believed(mean[20:], covariance[20:, 20:], best=best, noise=process.noise, n=6)

    full, believed_y, rows = covariance_by_hand(process, x), y[:20].tolist(), list(range(20))
    for i in chosen:
        K = full[np.ix_(rows, rows)] + process.noise * np.eye(len(rows))
        cross = full[np.ix_(rows, range(20, 50))]
        mu = cross.T @ np.linalg.solve(K, believed_y)
        variance = full.diagonal()[20:] - np.einsum("ij,ij->j", cross, np.linalg.solve(K, cross))
        z = (best - mu) / np.sqrt(variance)
        improvement = (best - mu) * stats.norm.cdf(z) + np.sqrt(variance) * stats.norm.pdf(z)
        improvement[[j - 20 for j in rows[20:]]] = -1
        assert improvement[i] == pytest.approx(improvement.max(), abs=1e-9)
        rows.append(20 + i)
        believed_y.append(mu[i])
        best = min(best, mu[i])
    assert len(set(chosen)) == len(chosen) == 6
    assert len(new) == 30


# The search


def searcher_after(objectives, **how):
    """A search that knows networks with the given objectives."""
    space = SearchSpace(widths=(4, 6, 2), activations=("tanh", "relu", "sin"), density=0.4)
    searcher = GaussianProcessSearch(setting_for(space), optimisation=Optimisation(**how))
    generator = generator_for("known")
    networks = [space.sample_live(generator=generator, n_edges=14) for _ in objectives]
    searcher.tell([made_up(z, value) for z, value in zip(networks, objectives, strict=True)])
    return searcher, networks


def test_the_process_knows_the_best_and_the_last_only():
    objectives = torch.rand(50, generator=generator_for("objectives")).tolist()
    searcher, _ = searcher_after(objectives, most_known=11)

    x, y = searcher._known()

    ranked = sorted(range(50), key=objectives.__getitem__)
    best = ranked[:5]
    last = [i for i in range(50) if i not in best][-6:]
    everything = standardised(objectives)
    assert y.tolist() == pytest.approx([everything[i] for i in best + last])
    assert torch.equal(x, searcher.state()["columns"][best + last])


def test_hyperparameters_are_fitted_when_there_are_a_quarter_more_networks():
    space = SearchSpace(widths=(4, 6, 2), density=0.4)
    searcher = GaussianProcessSearch(
        setting_for(space), optimisation=Optimisation(first=8, batch=1, children=5, fit_steps=2)
    )
    fitted = []

    def value(z):
        fitted.append(searcher.state()["n_fitted"])
        return float(z.n_edges_per_layer[0])

    ask_and_tell(searcher, value, n=20)

    assert [n for n, _ in itertools.groupby(fitted)] == [0, 8, 10, 13, 17]


def test_networks_without_a_finite_objective_do_no_harm():
    searcher, _ = searcher_after([math.inf] * 25)
    assert len(searcher.ask(10)) == 10  # random

    searcher, networks = searcher_after([math.inf, 0.5, math.nan, 0.7] * 6)
    assert len(searcher.ask(10)) == 10
    parents = [z for _, z in searcher.state()["parents"]]
    assert set(parents) <= {networks[i] for i in range(24) if i % 2}


def test_candidates_are_near_the_best():
    value = [0.1] * 3 + [0.9] * 27
    searcher, networks = searcher_after(value, parents=3, children=60, random=5)

    candidates = searcher._candidates()

    def nearest(z):
        own = set(map(tuple, z.edges.T.tolist()))
        return max(len(own & set(map(tuple, best.edges.T.tolist()))) for best in networks[:3])

    assert len(set(candidates)) == len(candidates) > 50
    assert statistics.mean(nearest(z) for z in candidates[:-5]) > 10  # of 14 edges


def test_without_gpytorch_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gpytorch", None)
    monkeypatch.delitem(sys.modules, "graphpred.searchers.arc_process")

    with pytest.raises(InputError, match=r"gpytorch: pip install 'graphpred\[rivals\]'"):
        GaussianProcessSearch(setting_for(SearchSpace(widths=(4, 6, 2))))


# Faithfulness


def flat(z, *, groups):
    """The same columns as if every neuron had its parameters, dead edges and all."""
    degrees = {
        name: torch.bincount(ends, minlength=z.n_neurons)
        for name, ends in zip(("fan_out", "fan_in"), z.edges, strict=True)
    }
    hidden = range(z.starts[1], z.starts[-2])
    order = sorted(
        hidden, key=lambda i: (int(z.activation[i]), -degrees["fan_in"][i], -degrees["fan_out"][i])
    )
    order = [*range(z.starts[1]), *order, *range(z.starts[-2], z.n_neurons)]
    widths = (1, *z.widths, 1)
    columns = []
    for group in groups:
        own = order[group.start : group.stop]
        if group.classes:
            columns += [float(z.activation[i] == c) for i in own for c in group.classes]
            continue
        offset = 0 if group.quantity == "fan_in" else 2
        most = [widths[int(z.layer[i]) + offset] for i in own]
        values = degrees[group.quantity][own]
        columns += [math.log(1 + d) / math.log(1 + n) for d, n in zip(values, most, strict=True)]
        columns += [1.0] * len(own)
    return torch.tensor(columns, dtype=torch.float64)


def held_out_log_density(describe, trials, *, groups, n_known):
    """Mean log density of the objectives of networks that the process does not know."""
    x = torch.stack([describe(trial.architecture, groups=groups) for trial in trials])
    y = torch.tensor(standardised([trial.objective for trial in trials]), dtype=torch.float64)
    process = ArcProcess(x[:n_known], y[:n_known], groups=groups)
    process.fit(steps=100)
    mean, covariance = process.posterior(x[n_known:])
    deviation = (covariance.diagonal() + process.noise).sqrt()
    return float(torch.distributions.Normal(mean, deviation).log_prob(y[n_known:]).mean())


def test_conditions_predict_better_than_none_where_most_neurons_are_dead():
    space = SearchSpace(widths=(8, 24, 2), density=0.15)
    groups = parameter_groups(space)
    gains, alive = [], []

    for seed, task in enumerate(family_tasks("network", 5, seed=2)):
        trials = list(
            search(task, space, objective=Objective(loss="log_loss"), evaluations=240, seed=seed)
        )
        alive += [len(t.architecture.edges[1, t.architecture.live].unique()) - 2 for t in trials]
        conditional, unconditional = (
            held_out_log_density(describe, trials, groups=groups, n_known=120)
            for describe in (described, flat)
        )
        gains.append(conditional - unconditional)

    assert statistics.mean(alive) < 6  # of 24
    assert min(gains) > 0


def test_search_beats_live_random_search_on_networks():
    ratios = log_ratios("gaussian_process", family_tasks("network", 4, seed=12), evaluations=100)

    assert statistics.mean(ratios) < 0
