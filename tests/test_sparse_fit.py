"""Sparse networks that are fitted by Newton's method, and cut."""

import pytest
import torch
from toys import seeded, toy_task

from graphpred.activations import activation_index
from graphpred.architecture import Architecture
from graphpred.meta import surgery
from graphpred.meta.large_fit import LargeFit
from graphpred.meta.samples import RowSample
from graphpred.meta.sparse_fit import SparseFit
from graphpred.meta.surgery import _Cutter, _side_by_side, draft_size, n_operable, operated
from graphpred.network import Signature, SparseNetwork
from graphpred.searchers import Proposal
from graphpred.space import SearchSpace
from graphpred.weights import Weights

TASKS = {
    "two classes": lambda: toy_task(n=5, c=2),
    "three classes": lambda: toy_task(n=5),
    "a quantity": lambda: toy_task("regression", n=5, c=1),
    "two quantities": lambda: toy_task("regression", n=5, c=2),
}
WIDTHS = {"one layer": (7,), "two layers": (6, 4)}
SMOOTH = ("tanh", "sin", "gaussian")


@pytest.fixture(params=TASKS)
def task(request):
    return TASKS[request.param]()


@pytest.fixture(params=WIDTHS)
def proposal(request, task):
    return random_network(task, WIDTHS[request.param])


def random_network(task, hidden, *, n_edges=24, seed=0):
    widths = (task.n_features, *hidden, task.n_outputs)
    space = SearchSpace(widths=widths, activations=SMOOTH)
    z = space.sample(generator=seeded(seed), n_edges=n_edges).without_dead_edges()
    generator = seeded(seed + 1)
    edge = 0.7 * torch.randn(z.n_edges, generator=generator)
    n_biases = z.n_neurons - widths[0]
    return Proposal(
        architecture=z,
        start=Weights(edge=edge, bias=0.1 * torch.randn(n_biases, generator=generator)),
    )


def scores_of(proposal, task, X):
    with torch.no_grad():
        return SparseNetwork(proposal.architecture, proposal.start, signature=Signature.of(task))(X)


def test_loss_is_that_of_the_network(task, proposal):
    sample = RowSample.of(task)
    scores = scores_of(proposal, task, sample.X).double()

    loss = SparseFit(proposal, sample=sample).loss

    if task.is_classification:
        expected = -(scores.log_softmax(dim=1) * sample.y).sum(dim=1).mean()
    else:
        expected = torch.nn.functional.huber_loss(
            scores, sample.y.double(), delta=3.0, reduction="sum"
        ) / len(scores)
    assert loss == pytest.approx(float(expected), rel=1e-5)


def test_gradient_is_that_of_autograd(task, proposal):
    fit = SparseFit(proposal, sample=RowSample.of(task))
    vector = fit._vector()

    def loss(v):
        scores = fit._forward(v, fit._matrix(v))[0][fit._layers[-1]]
        if task.is_classification:
            return -(scores.log_softmax(dim=0) * fit._y).sum()
        return torch.nn.functional.huber_loss(scores, fit._y, delta=3.0, reduction="sum")

    expected = torch.func.jacfwd(loss)(vector)

    gradient, _ = fit._system(vector)

    torch.testing.assert_close(gradient, expected)


def test_curvature_is_that_of_gauss_and_newton(task, proposal):
    """J^T Λ J by autograd's Jacobian of the scores, Λ the loss's curvature by its Hessian."""
    sample = RowSample.of(task, limit=12)
    fit = SparseFit(proposal, sample=sample)
    vector = fit._vector()

    def scores(v):
        return fit._forward(v, fit._matrix(v))[0][fit._layers[-1]].T  # (q, c)

    J = torch.func.jacfwd(scores)(vector)  # (q, c, P)
    expected = torch.zeros(len(vector), len(vector), dtype=torch.float64)
    for row, (own, y) in enumerate(zip(scores(vector), fit._y.T, strict=True)):
        if task.is_classification:
            p = own.softmax(dim=0)
            inner = torch.diag(p) - torch.outer(p, p)
        else:
            inner = torch.diag(3.0 / (own - y).abs().clamp(min=3.0))
        expected += J[row].T @ inner @ J[row]

    _, curvature = fit._system(vector)

    torch.testing.assert_close(curvature, expected, rtol=1e-3, atol=1e-4)


def test_steps_lower_the_energy_and_the_loss(task, proposal):
    fit = SparseFit(proposal, sample=RowSample.of(task))
    before, loss = fit.energy, fit.loss

    fit.train(1)
    assert fit.energy < before
    fit.train(20)

    assert fit.loss < loss


def test_a_linear_network_becomes_ridge_regression():
    """One neuron a feature with a weight of its own: nothing but a linear model."""
    task = toy_task("regression", n=3, c=1)
    widths = (3, 3, 1)
    edges = torch.tensor([[0, 1, 2, 3, 4, 5], [3, 4, 5, 6, 6, 6]])
    identity = activation_index("identity")
    z = Architecture(edges=edges, activation=torch.full((7,), identity), widths=widths)
    proposal = Proposal(architecture=z, start=Weights(edge=torch.ones(6), bias=torch.zeros(4)))
    sample = RowSample.of(task)

    fit = SparseFit(proposal, sample=sample)
    fit.train(60)

    X = torch.cat([sample.X, torch.ones(len(sample.X), 1)], dim=1).double()
    best = torch.linalg.lstsq(X, sample.y.double()).solution
    error = float((X @ best - sample.y).square().sum() / 2 / len(X))
    assert error <= fit.loss < 1.1 * error + 1e-3


@pytest.mark.parametrize("limit", [20, 9, 4, 2])
def test_a_cut_leaves_live_edges_only(task, proposal, limit):
    fit = SparseFit(proposal, sample=RowSample.of(task))
    fit.train(3)
    before = {tuple(edge) for edge in fit.edges.T.tolist()}

    fit.cut(limit)

    z = fit.proposal().architecture
    assert z.n_live_edges == z.n_edges == fit.n_edges <= limit
    assert {tuple(edge) for edge in z.edges.T.tolist()} <= before
    fit.train(2)  # goes on with what is left, were it nothing


def test_the_least_salient_edge_goes_first():
    task = toy_task("regression", n=4, c=1)
    fit = SparseFit(random_network(task, (3,), n_edges=13), sample=RowSample.of(task))
    fit.train(10)
    saliency, edges = fit.saliency(), fit.edges
    lifetime = fit._lifetime(saliency.argsort().argsort())
    assert int((lifetime == 0).sum()) == 1  # no other dies with it
    least = int(saliency.argmin())

    fit.cut(fit.n_edges - 1)

    assert tuple(edges[:, least].tolist()) not in {tuple(e) for e in fit.edges.T.tolist()}


def test_saliency_is_what_the_energy_rises_by_when_an_edge_goes():
    """Twice that, at the minimum, if the rest is fitted again: the brain surgeon's promise."""
    task = toy_task("regression", n=4, c=1)
    fit = Settled(random_network(task, (3,), n_edges=13), sample=RowSample.of(task))
    fit.train(80)
    saliency, before = fit.saliency(), fit.energy

    fit.cut(fit.n_edges - 1)
    fit.train(40)

    assert fit.n_edges == len(saliency) - 1
    assert fit.energy - before == pytest.approx(float(saliency.min()) / 2, rel=0.3, abs=0.3)


class Settled(SparseFit):
    """With precisions that stay."""

    def _weigh(self, vector, curvature):
        curved = self._noise * curvature
        curved.diagonal().add_(self._prior() + 1e-6)
        return torch.linalg.inv(curved)


def test_fitting_leaves_the_proposal_and_the_global_generator_alone(task, proposal):
    before, state = proposal.start.edge.clone(), torch.get_rng_state()

    operated([proposal], sample=RowSample.of(task), limit=8)

    assert torch.equal(proposal.start.edge, before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("limit", [15, 8])
def test_what_is_left_is_probable_and_what_went_is_not(task, limit):
    proposal = random_network(task, (7,))
    outcome = operated([proposal], sample=RowSample.of(task), limit=limit)

    z = outcome.proposal.architecture
    left = {tuple(edge) for edge in z.edges.T.tolist()}
    had = {tuple(edge) for edge in outcome.edges.T.tolist()}
    assert had >= left | {tuple(edge) for edge in proposal.architecture.edges.T.tolist()}
    assert len(had) == outcome.edges.shape[1]
    assert 0 < z.n_edges <= limit
    for edge, probability in zip(outcome.edges.T.tolist(), outcome.probability, strict=True):
        assert (probability >= 0.5) == (tuple(edge) in left)
        assert 0 < probability <= 1


def cut_down(task, *, seed, limit=8, n_drafts=1):
    """Some drafts in one wide space, cut."""
    sample = RowSample.of(task)
    drafts = [random_network(task, (7,), n_edges=40, seed=seed + i) for i in range(n_drafts)]
    cutter = _Cutter(limit=limit, most=(7,))
    return cutter, [cutter.cut(SparseFit(one, sample=sample)) for one in _side_by_side(drafts)]


@pytest.mark.parametrize("most_exact", [800, 5])
def test_a_quick_network_is_fitted_in_fewer_steps_and_not_larger(task, monkeypatch, most_exact):
    monkeypatch.setattr(surgery, "_MOST_EXACT", most_exact)
    sample = RowSample.of(task)
    draft = random_network(task, (7,), n_edges=24)
    taken = []
    for kind in (SparseFit, LargeFit):
        original = kind.train

        def counted(self, n_steps, original=original):
            taken[-1] += n_steps
            original(self, n_steps)

        monkeypatch.setattr(kind, "train", counted)
    losses = []
    for quick in (False, True):
        taken.append(0)
        made = operated([draft], sample=sample, limit=12, quick=quick).proposal
        assert 0 < made.architecture.n_live_edges == made.architecture.n_edges <= 12
        losses.append(SparseFit(made, sample=sample).loss)
    untouched = SparseFit(draft, sample=sample)
    untouched.cut(12)

    assert 0 < taken[1] < taken[0] / 2
    assert losses[1] < untouched.loss


def test_little_quick_networks_grow(task, monkeypatch):
    grown = []
    monkeypatch.setattr(SparseFit, "grow", lambda self, n_edges: grown.append(n_edges))
    draft = random_network(task, (7,), n_edges=24)

    operated([draft], sample=RowSample.of(task), limit=10, quick=True)
    assert grown == [5, 2]
    monkeypatch.setattr(surgery, "_LITTLE", 9)
    operated([draft], sample=RowSample.of(task), limit=10, quick=True)
    assert grown == [5, 2]


def test_networks_side_by_side_say_the_mean_of_what_they_say(task):
    _, fits = cut_down(task, seed=0, n_drafts=2)
    X = RowSample.of(task).X
    apart = [scores_of(fit.proposal(), task, X) for fit in fits]

    both = fits[0].joined(fits[1])

    assert both.n_edges == sum(fit.n_edges for fit in fits)
    torch.testing.assert_close(
        scores_of(both.proposal(), task, X), (apart[0] + apart[1]) / 2, atol=1e-5, rtol=1e-5
    )
    assert [scores_of(fit.proposal(), task, X).equal(y) for fit, y in zip(fits, apart, strict=True)]


def test_what_is_made_of_two_is_no_worse_than_either(task):
    cutter, fits = cut_down(task, seed=3, n_drafts=2)
    losses = [fit.loss for fit in fits]

    best = cutter.best_of(fits)

    assert best.loss <= min(losses)
    z = best.proposal().architecture
    assert 0 < z.n_live_edges == z.n_edges <= 8
    assert sum(n > 0 for n in neuron_degrees(z)) <= 7


def neuron_degrees(z):
    first = z.edges[1][z.edges[1] < z.starts[2]] - z.widths[0]
    return torch.bincount(first, minlength=z.widths[1]).tolist()


def test_growth_makes_no_network_worse(task):
    cutter, (fit,) = cut_down(task, seed=5)
    loss = fit.loss

    grown = cutter.regrown(fit, shares=(0.5, 0.25))

    assert grown.loss <= loss
    assert grown.n_edges <= 8


@pytest.mark.parametrize("hidden", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_edges_that_grow_are_new_and_join_consecutive_layers(kind, hidden):
    task = toy_task(kind, n=5, c=2, m=600)
    fit = SparseFit(random_network(task, hidden, n_edges=18), sample=RowSample.of(task))
    before, loss = {tuple(e) for e in fit.edges.T.tolist()}, fit.loss

    fit.grow(3)

    after = {tuple(e) for e in fit.edges.T.tolist()}
    z = fit.proposal().architecture
    layer = torch.bucketize(fit.edges, torch.tensor(z.starts[1:]), right=True)
    assert after > before
    assert len(after) <= len(before) + 3
    assert bool((layer[1] == layer[0] + 1).all())
    assert z.n_live_edges == z.n_edges
    assert fit.loss == pytest.approx(loss, rel=1e-9)  # with weights of 0
    fit.drop_idle()
    assert {tuple(e) for e in fit.edges.T.tolist()} == before


def test_the_edge_that_promises_most_is_the_one_that_is_missing():
    """y is a sum of two features, of which the network reads one."""
    X = torch.randn(300, 6, generator=seeded())
    y = (X[:, :1] + X[:, 4:5]) / 1.41
    z = Architecture.from_masks([[[1], [0], [0], [0], [0], [0]], [[1]]], hidden=["identity"])
    start = Weights(edge=torch.tensor([0.7, 1.0]), bias=torch.zeros(2))
    sample = RowSample(X=X, y=y, is_regression=True)
    fit = SparseFit(Proposal(architecture=z, start=start), sample=sample)

    fit.grow(1)

    assert fit.edges.T.tolist() == [[0, 6], [4, 6], [6, 7]]


def test_neurons_are_cut_down_to_a_number(task):
    fit = SparseFit(random_network(task, (7,), n_edges=40), sample=RowSample.of(task))
    fit.train(3)

    fit.cut_neurons((3,))

    z = fit.proposal().architecture
    assert sum(n > 0 for n in neuron_degrees(z)) <= 3
    assert 0 < z.n_edges == z.n_live_edges


def test_several_drafts_give_one_network_of_their_shape(task):
    sample = RowSample.of(task)
    drafts = [random_network(task, (7,), n_edges=40, seed=seed) for seed in range(5)]
    worst = max(
        SparseFit(operated([draft], sample=sample, limit=12).proposal, sample=sample).loss
        for draft in drafts
    )

    outcome = operated(drafts, sample=sample, limit=12)

    (neurons,) = outcome.neurons
    z = outcome.proposal.architecture
    assert z.widths == drafts[0].architecture.widths
    assert len(neurons) == 7
    assert neurons.tolist() == sorted(set(neurons.tolist()))
    assert 0 < z.n_edges == z.n_live_edges <= 12
    n = z.widths[0]
    for own, number in zip(z.activation[n : n + 7], neurons.tolist(), strict=True):
        assert own == drafts[number // 7].architecture.activation[n + number % 7]
    assert SparseFit(outcome.proposal, sample=sample).loss < worst


def test_fewer_drafts_of_large_networks_are_fitted():
    assert [n_operable(limit) for limit in (62, 100, 500, 800, 801)] == [8, 5, 4, 2, 1]


def test_edges_of_noise_go_and_those_of_the_signal_stay():
    """y depends on the first two of eight features only."""
    X = torch.randn(400, 8, generator=seeded())
    y = (X[:, :1] - torch.tanh(2 * X[:, 1:2])) / 1.4
    sample = RowSample(X=X, y=y, is_regression=True)
    space = SearchSpace(widths=(8, 6, 1), activations=("tanh",))
    z = space.sample(generator=seeded(), n_edges=54)
    start = Weights(edge=0.4 * torch.randn(54, generator=seeded(2)), bias=torch.zeros(7))

    outcome = operated([Proposal(architecture=z, start=start)], sample=sample, limit=8)

    source = outcome.proposal.architecture.edges[0]
    assert set(source[source < 8].tolist()) == {0, 1}
    assert SparseFit(outcome.proposal, sample=sample).loss < 0.02


def test_drafts_are_larger_than_what_is_wanted_but_not_too_large():
    assert draft_size(10) == 40
    assert draft_size(400) == 500
    assert draft_size(700) == 700
    assert draft_size(801) == 8010
    assert draft_size(10, quick=True) == 40
    assert draft_size(100, quick=True) == 200
