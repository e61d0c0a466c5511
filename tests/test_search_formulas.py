"""Central formulas of AdaNet, evolution, Q-learning and the Gaussian process, computed anew."""

import itertools
import math
import statistics

import numpy as np
import pytest
import torch
from search_conformance import tiny_space, tiny_task
from sklearn.linear_model import Lasso

from graphpred.objective import Objective
from graphpred.searchers import SEARCHERS, search
from graphpred.searchers.adanet_mixture import Mixture
from graphpred.searchers.arc_kernel import arc_embedding, simplex_embedding
from graphpred.searchers.base import Ledger, Setting, evaluate
from graphpred.searchers.construction import Action
from graphpred.searchers.evolution import Evolution, EvolutionSearch
from graphpred.searchers.gaussian_process import expected_improvement
from graphpred.searchers.q_learning import QTable, Transition
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace
from graphpred.split import Split
from graphpred.task import Task

# Arc kernel


@pytest.mark.parametrize(("radius", "angle"), [(1.0, 0.5), (2.5, 1.0), (0.3, 0.1)])
def test_distances_on_arcs_are_those_of_the_three_cases(radius, angle):
    x = torch.rand(12, 1, generator=generator_for(0), dtype=torch.float64)
    active = torch.arange(12).unsqueeze(1) % 3 > 0

    points = arc_embedding(x, active, radius=radius, angle=angle)

    for i, j in itertools.product(range(12), repeat=2):
        if not active[i] and not active[j]:
            expected = 0.0
        elif active[i] and active[j]:
            apart = float(x[i] - x[j])
            cosine = math.cos(math.pi * angle * apart)
            expected = radius * math.sqrt(2) * math.sqrt(max(0.0, 1 - cosine))
        else:
            expected = radius
        assert float((points[i] - points[j]).norm()) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("angle", [0.2, 0.7, 1.0])
@pytest.mark.parametrize("m", [2, 6])
def test_categories_are_corners_of_a_simplex_around_the_absent_one(angle, m):
    one_hot = torch.cat([torch.eye(m), torch.zeros(1, m)]).unsqueeze(1).double()

    points = simplex_embedding(one_hot, radius=1.7, angle=angle)

    norm = math.sqrt(1 + (m - 1) * (1 - angle) ** 2)
    expected = np.full((m, m), (1 - angle) / norm * 1.7)
    np.fill_diagonal(expected, 1.7 / norm)
    np.testing.assert_allclose(points[:m].numpy(), expected, atol=1e-12)
    assert points[m].abs().max() == 0
    np.testing.assert_allclose(points[:m].norm(dim=1).numpy(), 1.7, atol=1e-12)


@pytest.mark.parametrize(("mean", "deviation", "best"), [(0.3, 0.5, 0.1), (-1, 0.2, 0), (2, 1, 0)])
def test_expected_improvement_is_the_integral_of_the_gain(mean, deviation, best):
    f = np.linspace(mean - 12 * deviation, mean + 12 * deviation, 200_001)
    density = np.exp(-(((f - mean) / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi))
    gain = np.trapezoid(np.maximum(best - f, 0) * density, f)

    found = expected_improvement(
        torch.tensor([mean], dtype=torch.float64),
        torch.tensor([deviation**2], dtype=torch.float64),
        best=best,
    )

    assert float(found) == pytest.approx(gain, abs=1e-7)


# Q-learning


def test_a_replay_is_the_update_of_bellman_in_reverse():
    table = QTable(n_activations=2, n_fan_ins=2)
    first, second = (0, 0, 0, 5), (0, 1, 0, 3)
    table.row(second)[1][0] = 4.0  # another way on from there is worth more
    steps = [
        Transition(state=first, action=Action(activation=1, fan_in=0), fan_ins=(0, 1),
                   n_activations=2),
        Transition(state=second, action=Action(activation=0, fan_in=0), fan_ins=(0, 1),
                   n_activations=2),
    ]  # fmt: skip

    table.replay(steps, reward=2.0, rate=0.25)

    assert table.row(second)[0][0] == pytest.approx(0.25 * 2.0)
    assert table.row(first)[0][1] == pytest.approx(0.25 * 4.0)
    table.replay(steps, reward=2.0, rate=0.25)
    assert table.row(second)[0][0] == pytest.approx(0.75 * 0.5 + 0.25 * 2.0)
    assert table.row(first)[0][1] == pytest.approx(0.75 * 1.0 + 0.25 * 4.0)


# Evolution


def test_the_oldest_dies_however_good_it_was():
    task = tiny_task()
    setting = Setting(
        task=task,
        space=tiny_space(task),
        objective=Objective(),
        densities=(0.5,),
        steps=1,
        generator=generator_for(0),
        seed=0,
        ledger=Ledger(evaluations=1),
    )
    searcher = EvolutionSearch(setting, evolution=Evolution(population=4, tournament=2))
    told = []
    while len(told) < 14:
        trials = evaluate(searcher.ask(3), setting=setting, first_number=len(told))
        searcher.tell(trials)
        told += trials
        alive = searcher.state()["alive"]
        assert [objective for objective, _ in alive] == [t.objective for t in told][-4:]


@pytest.fixture(scope="module")
def parity():
    """Two classes by the signs of two of ten features."""
    X = torch.randn(400, 10, generator=generator_for("formulas"))
    y = (X[:, 3] * X[:, 7] > 0).long()
    parts = [torch.arange(a, b) for a, b in itertools.pairwise((0, 200, 380, 400))]
    return Task.from_arrays(X, y, kind="classification", split=Split(*parts))


def objectives(task, searcher, *, seed):
    space = SearchSpace(widths=(10, 10, 2), density=0.1)
    objective = Objective(loss="log_loss")
    trials = search(task, space, searcher=searcher, objective=objective, evaluations=200, seed=seed)
    return [trial.objective for trial in trials]


def test_evolution_beats_live_random_search_on_a_parity_of_two_features(parity):
    evolved, drawn = (
        statistics.fmean(min(objectives(parity, name, seed=seed)) for seed in range(4))
        for name in ("evolution", "random_live")
    )

    assert evolved < drawn


def test_q_learning_writes_better_networks_when_it_is_greedy(parity):
    early, late = [], []
    for seed in range(4):
        found = objectives(parity, "q_learning", seed=seed)
        early += found[:100]  # ε is 1
        late += found[-30:]

    assert statistics.fmean(late) < statistics.fmean(early)


# AdaNet


@pytest.mark.parametrize("gamma", [0.02, 0.2])
def test_the_convex_step_is_the_lasso(gamma):
    generator = generator_for("lasso")
    outputs = torch.randn(80, 6, generator=generator, dtype=torch.float64) * 3 + 1
    y = outputs[:, :1] - 0.5 * outputs[:, 3:4] + torch.randn(80, 1, generator=generator)
    mixture = Mixture(outputs=outputs, y=y, gamma=torch.full((6, 1), gamma, dtype=torch.float64))

    weight, bias = mixture.minimised(
        torch.zeros(6, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64), steps=5000
    )

    lasso = Lasso(alpha=gamma / 2, tol=1e-12, max_iter=100_000).fit(
        outputs.numpy(), y[:, 0].numpy()
    )
    np.testing.assert_allclose(weight[:, 0].numpy(), lasso.coef_, atol=1e-5)
    np.testing.assert_allclose(bias.numpy(), lasso.intercept_, atol=1e-4)
    assert set(np.flatnonzero(weight[:, 0].numpy())) == set(np.flatnonzero(lasso.coef_))


def test_an_ensemble_is_one_network_with_edges_past_layers(parity):
    space = SearchSpace(widths=(10, 6, 6, 2), density=0.4)

    trials = list(search(parity, space, searcher="adanet", evaluations=60, seed=0))

    assert "adanet" in SEARCHERS
    skips = []
    for trial in trials:
        z = trial.architecture
        layer = torch.bucketize(z.edges, torch.tensor(z.starts[1:-1]), right=True)
        skips.append(bool((layer[1] - layer[0] > 1).any()))
        assert z.n_edges <= space.n_edges
    assert any(skips)
