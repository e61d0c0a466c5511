"""The rivals: budgets, and each against an independent formula."""

from dataclasses import replace

import pytest
import torch
from sklearn.linear_model import Lasso, Ridge
from test_protocol import KINDS, toy_cell
from toys import toy_task

from graphpred.activations import ACTIVATIONS
from graphpred.experiments.contest import EDGE_FREQUENCIES, NEAREST, contest, pair_figures
from graphpred.experiments.linear import l1_path, ridge_coefficients, ridge_network
from graphpred.experiments.pool import Pool
from graphpred.experiments.predicted import Front, front, hypervolume, shuffled
from graphpred.experiments.protocol import DataSet, cells
from graphpred.experiments.rivals import RIVALS
from graphpred.pairs.generate import GenerateConfig, generate_pairs
from graphpred.pairs.store import PairStore
from graphpred.population import Population
from graphpred.searchers.sparsified import (
    gradually_pruned,
    saliency,
    snip_architectures,
    strongest_live,
)
from graphpred.space import SearchSpace
from graphpred.weights import initial_weights

BUDGETED = [name for name, rival in RIVALS.items() if rival.budgeted]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def dense(widths, *, n_networks=2):
    space = SearchSpace(widths=widths)
    return [
        space.sample(generator=torch.Generator().manual_seed(i), n_edges=space.n_possible_edges)
        for i in range(n_networks)
    ]


# Budgets


@pytest.mark.parametrize("name", RIVALS)
def test_every_rival_runs_and_keeps_to_its_budget(name, kind):
    cell, rival = toy_cell(kind), RIVALS[name]
    numbers = range(min(4, rival.n_candidates))

    outcome = rival.run(cell, numbers, 0.03)

    assert bool(outcome.test.isfinite().all())
    if rival.budgeted:
        assert len(outcome) == len(numbers)
        assert float(outcome.n_edges.max()) <= cell.n_edges
        assert float(outcome.n_edges.min()) >= min(cell.n_edges, cell.task.n_features + 1) - 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_edges", [2, 3, 7, 12, 40, 100])
def test_strongest_live_edges_are_live_and_as_many_as_allowed(seed, n_edges):
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.rand(5, 4, generator=generator), torch.rand(4, 3, generator=generator)

    masks = strongest_live(first, second, n_edges=n_edges)

    assert torch.equal(masks[0].any(dim=0), masks[1].any(dim=1))
    n_taken = int(masks[0].sum() + masks[1].sum())
    assert min(n_edges, 32) - 1 <= n_taken <= min(n_edges, 32)


def test_strongest_live_edges_are_those_above_a_threshold():
    first = torch.tensor([[0.9, 0.1], [0.8, 0.2], [-torch.inf, 0.3]])
    second = torch.tensor([[0.7], [0.6]])

    masks = strongest_live(first, second, n_edges=3)
    rest = strongest_live(first, second, n_edges=20)

    assert masks[0].tolist() == [[True, False], [True, False], [False, False]]
    assert masks[1].tolist() == [[True], [False]]
    assert not rest[0][2, 0]
    assert int(rest[0].sum() + rest[1].sum()) == 7


# Pruning and SNIP


def test_pruning_nothing_is_dense_training(kind):
    task = toy_task(kind, n=5, c=KINDS[kind], m=100, m_test=30)
    networks = dense((5, 5, KINDS[kind]))
    X, y = task.rows("train")

    pruned = gradually_pruned(
        networks,
        task,
        n_edges=[networks[0].n_edges] * 2,
        steps=30,
        rate=0.03,
        seeds=[1, 2],
        batch_seed=0,
    )

    trained = Population(networks, seed=[1, 2]).fit(X, y, steps=30, learning_rate=0.03)
    assert pruned.architectures == tuple(networks)
    assert torch.allclose(pruned.scores(X), trained.scores(X), atol=1e-4)


def test_pruning_ends_at_its_budget_and_learns():
    task = toy_task(n=5, c=3, m=200, m_test=50)
    networks = dense((5, 5, 3))

    pruned = gradually_pruned(
        networks, task, n_edges=[15, 15], steps=100, rate=0.03, seeds=[1, 2], batch_seed=0
    )

    assert all(14 <= z.n_live_edges == z.n_edges <= 15 for z in pruned.architectures)
    before = Population(pruned.architectures, seed=[1, 2])
    X, y = task.rows("train")
    assert bool((pruned.losses(X, y) < before.losses(X, y)).all())


def test_saliency_is_what_autograd_gives():
    task = toy_task(n=3, c=3, m=40)
    z = dense((3, 2, 3), n_networks=1)[0]
    weights = initial_weights(z, seed=5)
    X, y = task.rows("train")
    W1 = weights.edge[:6].view(3, 2).clone().requires_grad_()
    W2 = weights.edge[6:].view(2, 3).clone().requires_grad_()
    functions = [ACTIVATIONS[int(i)].function for i in z.activation[3:5]]
    hidden = torch.stack([f(column) for f, column in zip(functions, (X @ W1).T, strict=True)])

    torch.nn.functional.cross_entropy(hidden.T @ W2, y).backward()

    expected = torch.cat([(w * w.grad).abs().flatten() for w in (W1, W2)]).detach()
    assert torch.allclose(saliency([z], task, seeds=[5], batch_seed=0)[0], expected, atol=1e-5)


def test_snip_keeps_the_most_salient_edges():
    task = toy_task(n=5, c=3, m=100)
    networks = dense((5, 5, 3))

    kept = snip_architectures(networks, task, n_edges=[10, 10], seeds=[1, 2], batch_seed=0)

    for z, whole, scores in zip(
        kept, networks, saliency(networks, task, seeds=[1, 2], batch_seed=0), strict=True
    ):
        chosen = {tuple(edge) for edge in z.edges.T.tolist()}
        strength = dict(zip(map(tuple, whole.edges.T.tolist()), scores.tolist(), strict=True))
        assert 9 <= len(chosen) <= 10
        assert max(strength, key=strength.get) in chosen or len(chosen) == 9


# Linear models


def test_l1_path_goes_from_no_coefficient_to_many(kind):
    task = toy_task(kind, n=5, c=KINDS[kind], m=100, m_test=30)

    outcome = l1_path(task)

    penalised = outcome.n_edges[: len(outcome) // 2]
    assert float(penalised[0]) <= 1
    assert float(penalised[-1]) >= 2 / 3 * 5 * KINDS[kind]
    assert torch.equal(penalised, outcome.n_edges[len(outcome) // 2 :])


def test_l1_in_a_cell_has_no_more_coefficients_than_edges(tmp_path):
    for n_edges in (6, 10):
        figure = Pool(tmp_path).figure("l1", toy_cell(n_edges=n_edges))
        assert figure.n_edges <= n_edges


def test_lasso_is_scikit_learns():
    task = toy_task("regression", n=5, c=1, m=200, m_test=40)
    X, y = (part.numpy() for part in task.rows("train"))
    test_X, test_y = (part.numpy() for part in task.rows("test"))
    largest = float(abs(X.T @ (y - y.mean())).max()) / len(X)

    outcome = l1_path(task)

    for k in (5, 15, 25):
        penalty = largest * 10 ** (-3 * k / 39)
        expected = 1 - Lasso(alpha=penalty, tol=1e-8).fit(X, y[:, 0]).score(test_X, test_y)
        assert float(outcome.test[k]) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("c", [1, 3])
def test_all_ridge_coefficients_are_ridge_itself(c):
    kind = "regression" if c == 1 else "classification"
    task = toy_task(kind, n=5, c=c, m=100, m_test=30)
    X, y = task.rows("train")
    Y = y if c == 1 else torch.nn.functional.one_hot(y, c).float()

    z, weights = ridge_network(task, penalty=0.1, n_edges=5 * c + c)
    scores = Population([z], start=[weights]).scores(task.X)[0]

    ridge = Ridge(alpha=0.1 * len(X)).fit(X.numpy(), Y.numpy())
    expected = torch.from_numpy(ridge.predict(task.X.numpy())).float().reshape(-1, c)
    assert z.n_live_edges == 5 * c + c
    assert torch.allclose(scores.T, expected, atol=1e-4)


def test_few_ridge_coefficients_are_the_largest():
    task = toy_task(n=5, c=3, m=100)
    W, _ = ridge_coefficients(task, 0.1)

    z, weights = ridge_network(task, penalty=0.1, n_edges=8)

    first = weights.edge[: z.n_edges_per_layer[0]].abs()
    assert z.n_live_edges <= 8
    assert float(first.max()) == pytest.approx(float(W.abs().max()))


def test_two_classes_need_one_ridge_unit():
    task = toy_task(n=5, c=2, m=100, m_test=30)

    z, weights = ridge_network(task, penalty=0.1, n_edges=6)
    scores = Population([z], start=[weights]).scores(task.X)[0]

    W, intercepts = ridge_coefficients(task, 0.1)
    expected = (task.X @ W + intercepts).argmax(dim=1)
    assert z.n_live_edges == 6
    assert torch.equal(scores.argmax(dim=0), expected)


# Predictions


def test_contest_has_all_methods_at_equal_budgets(tmp_path, meta_model, kind):
    cell = toy_cell(kind, n_edges=8, steps=4)
    data_set = DataSet(name="toy", source="toy")

    result = contest(data_set, cell, pool=Pool(tmp_path), model=meta_model, n_live=10)

    unlimited = {"dense", "linear", "boosting"}
    assert {"live, best of 10", "paper, best of 1", "predicted, no step"} <= set(result.figures)
    for name, figure in result.figures.items():
        assert name in unlimited or figure.n_edges <= cell.n_edges, name
    assert result.figures["predicted, no step"].network_steps == 0
    assert result.figures["predicted, best of 32"].network_steps == 32 * 4


def test_architectures_of_pairs_join_if_they_fit(tmp_path):
    config = GenerateConfig(n_searches=2, evaluations=5, rows=60)
    for _ in generate_pairs(["iris"], out=tmp_path / "pairs", config=config):
        pass
    pairs = list(PairStore(tmp_path / "pairs"))
    data_set = DataSet(name="iris", source="iris")
    cell = cells(data_set.load(), seed=0, kappas=[2.0], steps=[5])[0]

    assert set(pair_figures(cell, pairs)) == {EDGE_FREQUENCIES, NEAREST}
    assert pair_figures(toy_cell(), pairs) == {}


def test_shuffling_touches_training_targets_alone():
    cell = toy_cell()

    task = shuffled(cell)

    for part in ("validation", "test"):
        assert torch.equal(task.rows(part)[1], cell.task.rows(part)[1])
    assert torch.equal(task.rows("train")[0], cell.task.rows("train")[0])
    assert not torch.equal(task.rows("train")[1], cell.task.rows("train")[1])


def test_front_counts_prices_and_live_candidates(tmp_path, meta_model):
    budgets = [toy_cell(steps=2), toy_cell(steps=2, kappa=2.0, n_edges=16)]

    found = front(meta_model, budgets, pool=Pool(tmp_path), family="toy")

    assert isinstance(found, Front)
    assert -1 <= found.correlation <= 1
    assert 0 <= found.hypervolume <= 1
    assert 0 <= found.live_hypervolume <= 1


def test_hypervolume_is_the_area_of_what_validation_prefers():
    cell = toy_cell("regression")  # N = 30, a constant has loss 1
    outcome = RIVALS["live"].run(cell, range(3), 0.03)
    values = {"n_edges": [1.0, 30**0.5, 30**0.5], "validation": [0.5, 0.4, 0.6]}
    values |= {"test": [0.5, 0.2, 0.0]}
    outcome = replace(
        outcome, **{k: torch.tensor(v, dtype=torch.float64) for k, v in values.items()}
    )

    assert hypervolume(outcome, cell) == pytest.approx(0.5 + 0.3 * 0.5)
