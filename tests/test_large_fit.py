"""Large networks, fitted without a matrix and cut."""

import pytest
import torch
from test_sparse_fit import TASKS, WIDTHS, random_network, scores_of
from toys import seeded, toy_task

from graphpred.architecture import Architecture
from graphpred.meta import surgery
from graphpred.meta.large_fit import LargeFit
from graphpred.meta.samples import RowSample
from graphpred.meta.sparse_fit import SparseFit
from graphpred.meta.surgery import draft_size, is_operable, n_operable, operated
from graphpred.searchers import Proposal
from graphpred.weights import Weights


@pytest.fixture(params=TASKS)
def task(request):
    return TASKS[request.param]()


@pytest.fixture(params=WIDTHS)
def proposal(request, task):
    return random_network(task, WIDTHS[request.param])


@pytest.fixture
def sample(task):
    return RowSample.of(task)


def edges_of(fit, tables):
    return torch.cat([table[mask] for table, mask in zip(tables, fit._masks, strict=False)])


def energy(proposal, sample):
    fit = LargeFit(proposal, sample=sample)
    return fit._energy(fit._now)


def unheld(proposal, sample):
    """Without a prior, so that the energy is the data's loss."""
    fit = LargeFit(proposal, sample=sample)
    fit._precision = [0.0] * len(fit._precision)
    return fit


def test_the_network_is_the_one_given(task, proposal, sample):
    fit, other = LargeFit(proposal, sample=sample), SparseFit(proposal, sample=sample)

    assert fit.loss == pytest.approx(other.loss, rel=1e-5)
    assert fit.n_edges == other.n_edges == proposal.architecture.n_edges
    torch.testing.assert_close(fit.edges, other.edges)
    scores = scores_of(fit.proposal(), task, sample.X)
    torch.testing.assert_close(scores, scores_of(proposal, task, sample.X))


def test_gradient_and_curvature_are_those_of_the_whole_matrix(proposal, sample):
    fit, other = unheld(proposal, sample), SparseFit(proposal, sample=sample)
    gradient, curvature = other._system(other._vector())
    at, n_edges = fit._pass(fit._now), fit.n_edges
    way = [mask * torch.randn(mask.shape, generator=seeded(3)) for mask in fit._masks]
    still = [torch.zeros_like(bias) for bias in fit._parts(fit._now)[1]]

    product = edges_of(fit, fit._product(at, [*way, *still]))

    exact = curvature[:n_edges, :n_edges] @ edges_of(fit, way).double()
    close = {"check_dtype": False, "rtol": 1e-3, "atol": 1e-3 * float(exact.abs().max())}
    torch.testing.assert_close(product, exact, **close)
    found = edges_of(fit, fit._backwards(at, at.error))
    close["atol"] = 1e-4 * float(gradient.abs().max())
    torch.testing.assert_close(found, gradient[:n_edges], **close)


@pytest.mark.parametrize("kind", TASKS)
def test_the_diagonal_is_exact_for_one_hidden_layer(kind):
    task = TASKS[kind]()
    proposal, sample = random_network(task, (7,)), RowSample.of(task)
    fit, other = unheld(proposal, sample), SparseFit(proposal, sample=sample)
    _, curvature = other._system(other._vector())

    size = edges_of(fit, fit._size(fit._pass(fit._now)))

    exact = curvature.diagonal()[: fit.n_edges]
    torch.testing.assert_close(
        size, exact, check_dtype=False, rtol=1e-3, atol=1e-3 * float(exact.max())
    )


def test_many_products_give_newtons_step(proposal, sample, monkeypatch):
    monkeypatch.setattr("graphpred.meta.large_fit._PRODUCTS", 200)
    fit = LargeFit(proposal, sample=sample)
    fit._damping = 0.1
    at = fit._pass(fit._now)
    size = fit._size(at)
    wanted = fit._backwards(at, at.error)

    found = fit._solved(at, wanted, size=size)

    back = fit._product(at, found)
    for b, s, f, w in zip(back, size, found, wanted, strict=True):
        torch.testing.assert_close(b + 0.1 * s * f, w, rtol=1e-2, atol=1e-2 * float(w.abs().max()))


def test_steps_lower_the_energy(proposal, sample):
    fit = LargeFit(proposal, sample=sample)
    first = fit._now

    for _ in range(4):
        before = fit._now
        fit.train(1)
        assert fit._energy(fit._now) <= fit._energy(before)
    assert fit._energy(fit._now) < fit._energy(first)


@pytest.mark.parametrize("limit", [2, 9, 15])
def test_a_cut_leaves_live_edges_only(proposal, sample, limit):
    fit = LargeFit(proposal, sample=sample)
    before = set(zip(*fit.edges.tolist(), strict=True))

    fit.cut(limit)

    z = fit.proposal().architecture
    assert fit.n_edges == z.n_edges == z.n_live_edges <= limit
    assert set(zip(*z.edges.tolist(), strict=True)) <= before
    fit.train(2)
    assert fit.n_edges == z.n_edges


def test_a_cut_takes_what_is_least_salient():
    task = toy_task(n=5)
    fit = LargeFit(random_network(task, (7,), n_edges=30), sample=RowSample.of(task))
    saliency, edges = fit.saliency(), fit.edges
    least = saliency.argsort()[0]

    fit.cut(fit.n_edges - 1)

    left = set(zip(*fit.edges.tolist(), strict=True))
    assert tuple(edges[:, least].tolist()) not in left


def test_large_networks_are_made_of_one_draft(task, proposal, sample, monkeypatch):
    monkeypatch.setattr(surgery, "_MOST_EXACT", 5)
    limit = 12
    short = LargeFit(proposal, sample=sample)
    short.cut(limit)

    outcome = operated([proposal], sample=sample, limit=limit)

    z = outcome.proposal.architecture
    assert 2 <= z.n_edges == z.n_live_edges <= limit
    assert energy(outcome.proposal, sample) < energy(short.proposal(), sample)
    left = outcome.probability >= 0.5
    assert int(left.sum()) == z.n_edges
    torch.testing.assert_close(outcome.edges[:, left], z.edges)
    assert outcome.edges.shape[1] == proposal.architecture.n_edges
    assert draft_size(limit) == 120
    assert n_operable(limit) >= 1


def test_few_features_hold_weights_back_less():
    """With the precision of many features a smooth function of two would be lost."""
    X = torch.randn(300, 2, generator=seeded())
    y = (3 * X[:, :1]).sin() * (2 * X[:, 1:]).cos()
    sample = RowSample(X=X, y=y, is_regression=True)
    task = toy_task("regression", n=2, c=1)
    fit = LargeFit(random_network(task, (40,), n_edges=120), sample=sample)

    for _ in range(12):
        fit.train(5)

    assert fit.loss < 0.3 * float(y.square().mean()) / 2


@pytest.mark.parametrize("most", [0, 2_000])
def test_neurons_without_edges_do_not_change_the_noise(monkeypatch, most):
    monkeypatch.setattr("graphpred.meta.large_fit._MOST_WEIGHED", most)
    task = toy_task("regression", n=5, c=1)
    proposal, sample = random_network(task, (7,)), RowSample.of(task)
    z, start = proposal.architecture, proposal.start
    n, h, c = z.widths
    place = torch.cat([torch.arange(n + h), torch.tensor([n + h + 90])])
    activation = torch.zeros(n + h + 90 + c, dtype=torch.int64)
    activation[place] = z.activation
    wide = Architecture(edges=place[z.edges], activation=activation, widths=(n, h + 90, c))
    bias = torch.cat([start.bias[:h], torch.zeros(90), start.bias[h:]])
    other = Proposal(architecture=wide, start=Weights(edge=start.edge, bias=bias))

    alone, beside = (LargeFit(one, sample=sample) for one in (proposal, other))

    assert alone._evident_noise() == pytest.approx(beside._evident_noise(), rel=1e-4)
    assert alone.loss == pytest.approx(beside.loss, rel=1e-5)


@pytest.mark.parametrize("most", [0, 2_000])
def test_noise_is_found(monkeypatch, most):
    monkeypatch.setattr("graphpred.meta.large_fit._MOST_WEIGHED", most)
    X = torch.randn(600, 5, generator=seeded())
    y = X[:, :1] - X[:, 1:2] + 0.5 * torch.randn(600, 1, generator=seeded(1))
    sample = RowSample(X=X, y=y, is_regression=True)
    task = toy_task("regression", n=5, c=1)
    fit = LargeFit(random_network(task, (7,), n_edges=42), sample=sample)

    for _ in range(10):
        fit.train(4)

    assert fit._noise == pytest.approx(1 / 0.5**2, rel=0.25)


def test_a_large_network_is_no_worse_than_its_draft_only_cut(task, sample, monkeypatch):
    monkeypatch.setattr(surgery, "_MOST_EXACT", 5)
    for hidden in WIDTHS.values():
        draft = operated([random_network(task, hidden)], sample=sample, limit=24).proposal
        plain = LargeFit(draft, sample=sample)
        plain.cut(16)

        outcome = operated([draft], sample=sample, limit=16)

        assert LargeFit(outcome.proposal, sample=sample).loss <= plain.loss + 1e-6


def test_work_is_limited(task, sample, monkeypatch):
    monkeypatch.setattr("graphpred.meta.large_fit._MOST_WORK", 20 * 50)
    monkeypatch.setattr("graphpred.meta.large_fit._FEWEST_ROWS", 30)
    proposal = random_network(task, (7,))

    fit = LargeFit(proposal, sample=sample)

    assert fit._x.shape[1] == 30


def test_spaces_that_are_too_large_are_told():
    assert is_operable(2, widths=(3, 4, 2))
    assert not is_operable(1, widths=(3, 4, 2))
    assert not is_operable(2, widths=(3, 4, 4, 2))
    assert is_operable(10_000, widths=(784, 300, 10))
    assert not is_operable(10_000, widths=(5_000, 5_000, 10))
    assert is_operable(800, widths=(5_000, 5_000, 10))
