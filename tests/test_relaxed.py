"""The relaxed F, term by term, against networks and against the paper's closeness."""

import itertools
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from strategies import enumerate_space
from toys import seeded

from graphpred.activations import activation_indices
from graphpred.architecture import Architecture
from graphpred.matching import closeness
from graphpred.meta.decoder import Decoded
from graphpred.meta.edges import TEMPERATURE, THRESHOLD, garrote
from graphpred.meta.relaxed import (
    edge_loss,
    fit_loss,
    loss_scale,
    network_scores,
    pair_loss,
)
from graphpred.network import Signature, SparseNetwork
from graphpred.space import SearchSpace
from graphpred.weights import Weights

NAMES = ("relu", "tanh", "gaussian")
CLASSES = activation_indices(NAMES)
ALPHA, BETA = 0.7, 0.3


def decoded_networks(n_sets, size, *, seed=0, requires_grad=False):
    """Random networks of one shape."""
    generator = seeded(seed)
    n, h, c = size

    def values(*shape):
        return torch.randn(n_sets, *shape, generator=generator).requires_grad_(requires_grad)

    choice = torch.randint(len(NAMES), (n_sets, h), generator=generator)
    hidden, output = values(n, h), values(h, c)
    return Decoded(
        hidden=hidden,
        output=output,
        weights=(garrote(hidden, THRESHOLD), garrote(output, THRESHOLD)),
        biases=(values(h), values(c)),
        classes=torch.tensor(CLASSES)[choice],
        activation=values(h, len(NAMES)).log_softmax(dim=2),
    )


def saturated(z, *, certain=30.0):
    """A decoded network whose edge probabilities are 0 or 1, by the masks of ``z``."""
    first, second = (certain * torch.from_numpy(mask).float()[None] for mask in z.masks)
    _, h, c = z.widths
    # v = 0 gives probability sigmoid(-θ/τ), not 0; so the temperature is undone by hand.
    return _Certain(
        hidden=first,
        output=second,
        weights=(first, second),
        biases=(torch.zeros(1, h), torch.zeros(1, c)),
        classes=z.activation[z.starts[1] : z.starts[2]][None],
        activation=(100 * _one_hot(z)[None]).log_softmax(dim=2),
    )


class _Certain(Decoded):
    """Probability 1 for every v that is not 0, and 0 for the others."""

    @property
    def probabilities(self):
        return (self.hidden != 0).float(), (self.output != 0).float()


def _one_hot(z):
    hidden = z.activation[z.starts[1] : z.starts[2]]
    return (hidden[:, None] == torch.tensor(CLASSES)[None]).float()


def one_of(decoded, g):
    """The g-th network alone."""

    def own(value):
        return tuple(part[[g]] for part in value) if isinstance(value, tuple) else value[[g]]

    return replace(decoded, **{f.name: own(getattr(decoded, f.name)) for f in fields(decoded)})


def chosen_network(decoded, g):
    """The same network as a ``SparseNetwork``: an edge for every weight."""
    n, h, c = decoded.sizes
    into, out = (w[g] for w in decoded.weights)
    names = [NAMES[CLASSES.index(i)] for i in decoded.classes[g].tolist()]
    z = Architecture.from_masks([into != 0, out != 0], hidden=[names])
    source, target = z.edges
    edge = torch.where(
        target < n + h,
        into[source.clamp(max=n - 1), (target - n).clamp(max=h - 1)],
        out[(source - n).clamp(min=0), (target - n - h).clamp(min=0)],
    )
    bias = torch.cat([b[g] for b in decoded.biases])
    names = tuple(map(str, range(max(n, c))))
    signature = Signature(kind="classification", feature_names=names[:n], class_names=names[:c])
    return SparseNetwork(z, Weights(edge=edge, bias=bias), signature=signature)


# Scores


@pytest.mark.parametrize("size", [(4, 5, 3), (2, 3, 2), (1, 1, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_the_sparse_network(size, seed):
    decoded = decoded_networks(3, size, seed=seed)
    X = torch.randn(3, 7, size[0], generator=seeded(seed))

    scores = network_scores(decoded, X)

    for g in range(3):
        expected = chosen_network(decoded, g)(X[g])
        torch.testing.assert_close(scores[g], expected, atol=1e-5, rtol=1e-5)


# Fit


def test_fit_is_the_mean_over_rows_and_outputs():
    scores = 0.5 * torch.randn(2, 6, 2, generator=seeded())
    classes = torch.tensor([0, 1, 1, 0, 1])
    quantity = 0.3 * torch.randn(6, 2, generator=seeded(1))

    losses = fit_loss(scores, [classes, quantity])

    log_p = scores[0, :5].log_softmax(dim=1)
    entropy = -np.mean([float(log_p[i, k]) for i, k in enumerate(classes)])
    squared = (scores[1] - quantity).square().mean()
    assert losses.tolist() == pytest.approx([entropy, float(squared)], rel=1e-5)


def test_fit_ignores_what_pads_fewer_rows():
    scores = torch.randn(2, 6, 3, generator=seeded())
    targets = [torch.tensor([0, 1, 2]), torch.tensor([2, 1, 0, 0, 1])]
    garbage = scores.clone()
    garbage[0, 3:], garbage[1, 5:] = 1e9, -1e9

    first, second = (fit_loss(s, targets) for s in (scores, garbage))

    assert torch.equal(first, second)


@pytest.mark.parametrize(("error", "expected"), [(0.0, 0.0), (2.0, 4.0), (3.0, 9.0), (5.0, 21.0)])
def test_squared_error_grows_linearly_beyond_three(error, expected):
    (loss,) = fit_loss(torch.full((1, 4, 1), error), [torch.zeros(4, 1)])

    assert float(loss) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("c", "is_regression", "expected"),
    [(1, True, 1.0), (4, True, 1.0), (2, False, 0.8326), (10, False, 1.5174)],
)
def test_loss_of_many_classes_is_made_smaller(c, is_regression, expected):
    decoded = decoded_networks(1, (2, 3, c))

    assert loss_scale(decoded, is_regression=is_regression) == pytest.approx(expected, abs=1e-4)


# Edges


def test_edge_loss_is_the_mean_probability_of_possible_edges():
    decoded = decoded_networks(2, (4, 5, 3))

    for g in range(2):
        v = torch.cat([decoded.hidden[g].flatten(), decoded.output[g].flatten()])
        expected = torch.sigmoid((v.abs() - THRESHOLD) / TEMPERATURE).mean()
        assert float(edge_loss(decoded)[g]) == pytest.approx(float(expected), rel=1e-5)


# Pairs


def costs(decoded, activations=CLASSES, *, z, alpha=ALPHA, beta=BETA):
    return pair_loss(decoded, [z], activations=activations, alpha=alpha, beta=beta)


def brute_force(decoded, z):
    """The least α·E[false] + β·E[missed] over all orders of the hidden neurons of ``z``."""
    n, h, c = z.widths
    first, second = (p[0].double() for p in decoded.probabilities)
    least = np.inf
    for hidden in itertools.permutations(range(n, n + h)):
        order = torch.tensor([*range(n), *hidden, *range(n + h, n + h + c)])
        masks = [torch.from_numpy(mask).double() for mask in z.permuted(order).masks]
        false = sum((p * (1 - v)).sum() for p, v in zip((first, second), masks, strict=True))
        missed = sum(((1 - p) * v).sum() for p, v in zip((first, second), masks, strict=True))
        least = min(least, float(ALPHA * false + BETA * missed))
    return least / z.n_edges


@pytest.mark.parametrize("seed", range(8))
def test_pair_loss_is_the_least_over_all_orders_of_hidden_neurons(seed):
    space = SearchSpace(widths=(3, 4, 2), activations=("abs",))
    z = space.sample(generator=seeded(seed), n_edges=6)
    decoded = decoded_networks(1, (3, 4, 2), seed=seed)

    loss = costs(decoded, z=z)  # "abs" is unknown to the model, so no class is compared

    assert float(loss) == pytest.approx(brute_force(decoded, z), rel=1e-4)


def test_pair_loss_does_not_depend_on_the_order_of_hidden_neurons():
    space = SearchSpace(widths=(3, 4, 2), activations=NAMES)
    z = space.sample_live(generator=seeded(), n_edges=9)
    decoded = decoded_networks(1, (3, 4, 2))
    order = torch.tensor([0, 1, 2, 5, 3, 6, 4, 7, 8])

    first, second = costs(decoded, z=z), costs(decoded, z=z.permuted(order))

    torch.testing.assert_close(first, second)


def test_pair_loss_of_a_batch_is_that_of_each_alone():
    size = (4, 5, 3)
    together = decoded_networks(3, size)
    space = SearchSpace(widths=size, activations=NAMES)
    zs = [
        space.sample(generator=seeded(0), n_edges=4),
        None,
        space.sample(generator=seeded(1), n_edges=7),
    ]

    losses = pair_loss(together, zs, activations=CLASSES, alpha=ALPHA, beta=BETA)

    for g, z in enumerate(zs):
        expected = 0.0 if z is None else float(costs(one_of(together, g), z=z))
        assert float(losses[g]) == pytest.approx(expected, rel=1e-5)


def test_pair_loss_is_zero_for_the_very_architecture_and_without_a_pair():
    z = SearchSpace(widths=(3, 4, 2), activations=NAMES).sample_live(generator=seeded(), n_edges=9)
    order = torch.tensor([0, 1, 2, 5, 3, 6, 4, 7, 8])

    same, shuffled = costs(saturated(z), z=z), costs(saturated(z.permuted(order)), z=z)

    assert float(same) == pytest.approx(0, abs=1e-6)
    assert float(shuffled) == pytest.approx(0, abs=1e-6)
    assert float(costs(saturated(z), z=None)) == 0


def test_wrong_activations_cost():
    masks = [[[1, 1]], [[1], [1]]]
    relu = Architecture.from_masks(masks, hidden=["relu", "relu"])
    tanh = Architecture.from_masks(masks, hidden=["tanh", "tanh"])

    assert float(costs(saturated(relu), z=tanh)) > 1


def test_activations_of_neurons_without_edges_cost_nothing():
    masks = [[[1, 0]], [[1], [0]]]
    first = Architecture.from_masks(masks, hidden=["relu", "relu"])
    second = Architecture.from_masks(masks, hidden=["relu", "tanh"])

    assert float(costs(saturated(first), z=second)) == pytest.approx(0, abs=1e-6)


def all_pairs_of_a_tiny_space():
    space = SearchSpace(widths=(1, 2, 1), activations=("abs",))
    zs = list(enumerate_space(space))
    return [(z_opt, z) for z_opt in zs if z_opt.n_edges for z in zs]


def test_saturated_pair_loss_is_the_papers_closeness_per_edge_of_the_pair():
    pairs = all_pairs_of_a_tiny_space()
    assert len(pairs) == 15 * 16

    for z_opt, z in pairs:
        relaxed = float(costs(saturated(z), z=z_opt)) * z_opt.n_edges
        expected = closeness(z_opt, z, alpha=ALPHA, beta=BETA, align=True)
        assert relaxed == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_saturated_pair_loss_is_the_papers_closeness_in_larger_spaces(seed):
    space = SearchSpace(widths=(3, 5, 2), activations=("abs",))
    z_opt, z = (space.sample(generator=seeded(2 * seed + i), n_edges=7) for i in range(2))

    relaxed = float(costs(saturated(z), z=z_opt)) * z_opt.n_edges

    expected = closeness(z_opt, z, alpha=ALPHA, beta=BETA, align=True)
    assert relaxed == pytest.approx(expected, abs=1e-5)


# Gradients


def test_gradients_of_all_terms_are_finite_and_flow():
    size = (4, 5, 3)
    decoded = decoded_networks(2, size, requires_grad=True)
    space = SearchSpace(widths=size, activations=NAMES)
    zs = [space.sample(generator=seeded(g), n_edges=5) for g in range(2)]
    X = torch.randn(2, 6, 4, generator=seeded())
    y = [torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([0, 1])]
    decoded.activation.retain_grad()

    fit = fit_loss(network_scores(decoded, X), y)
    pair = pair_loss(decoded, zs, activations=CLASSES, alpha=ALPHA, beta=BETA)
    (fit + edge_loss(decoded) + pair).sum().backward()

    for leaf in (decoded.hidden, decoded.output, *decoded.biases, decoded.activation):
        assert leaf.grad.isfinite().all()
        assert leaf.grad.any()


def test_following_the_gradient_of_the_pair_loss_reaches_the_architecture():
    z = SearchSpace(widths=(3, 4, 2), activations=NAMES).sample_live(generator=seeded(), n_edges=9)
    v = [0.5 * torch.randn(1, *shape, generator=seeded(1)) for shape in ((3, 4), (4, 2))]
    v = [table.requires_grad_() for table in v]
    logits = torch.zeros(1, 4, len(NAMES), requires_grad=True)
    optimiser = torch.optim.Adam([*v, logits], lr=0.1)
    for _ in range(150):
        decoded = Decoded(
            hidden=v[0],
            output=v[1],
            weights=(v[0], v[1]),
            biases=(torch.zeros(1, 4), torch.zeros(1, 2)),
            classes=torch.zeros(1, 4, dtype=torch.int64),
            activation=logits.log_softmax(dim=2),
        )
        optimiser.zero_grad()
        costs(decoded, z=z, alpha=1.0, beta=1.0).sum().backward()
        optimiser.step()

    masks = [p[0].detach().numpy() > 0.5 for p in decoded.probabilities]
    names = [NAMES[i] for i in logits[0].argmax(dim=1)]
    found = Architecture.from_masks(masks, hidden=[names])
    wrong = closeness(z, found, alpha=1.0, beta=1.0, align=True)
    assert wrong <= 2
