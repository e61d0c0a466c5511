"""The relaxed F, term by term, against networks and against the paper's closeness."""

import itertools

import numpy as np
import pytest
import torch
from strategies import enumerate_space
from torch.nn import functional
from toys import seeded

from graphpred.activations import activation_indices
from graphpred.architecture import Architecture
from graphpred.matching import closeness
from graphpred.meta.decoder import TEMPERATURE, THRESHOLD, Decoded
from graphpred.meta.relaxed import (
    edge_loss,
    fit_loss,
    network_scores,
    pair_loss,
    soft_choice,
)
from graphpred.network import Signature, SparseNetwork
from graphpred.space import SearchSpace
from graphpred.weights import Weights

NAMES = ("relu", "tanh", "gaussian")
CLASSES = activation_indices(NAMES)
ALPHA, BETA = 0.7, 0.3


def decoded_networks(*sizes, seed=0, requires_grad=False):
    """Random v, padded to the largest sizes with zeros as the decoder does."""
    generator = seeded(seed)
    n, h, c = (max(size[i] for size in sizes) for i in range(3))

    def values(*shape, real):
        table = torch.zeros(len(sizes), *shape)
        for g, size in enumerate(sizes):
            inside = (g, *(slice(size[i]) for i in real))
            table[inside] = torch.randn(table[inside].shape, generator=generator)
        return table.requires_grad_(requires_grad)

    log_gain = values(h, real=[1])
    return Decoded(
        hidden=values(n, h, real=[0, 1]),
        output=values(h, c, real=[1, 2]),
        gain=log_gain.exp(),
        hidden_bias=values(h, real=[1]),
        output_bias=values(c, real=[2]),
        activation=values(h, len(NAMES), real=[1]),
        sizes=tuple(sizes),
    )


def saturated(z, *, certain=30.0):
    """A decoded network whose edge probabilities are 0 or 1, by the masks of ``z``."""
    first, second = (torch.from_numpy(mask).float() for mask in z.masks)
    n, h, c = z.widths
    # v = 0 gives probability sigmoid(-θ/τ), not 0; so the temperature is undone by hand.
    return _Certain(
        hidden=first[None] * certain,
        output=second[None] * certain,
        gain=torch.ones(1, h),
        hidden_bias=torch.zeros(1, h),
        output_bias=torch.zeros(1, c),
        activation=100 * _one_hot(z)[None],
        sizes=((n, h, c),),
    )


class _Certain(Decoded):
    """Probability 1 for every v that is not 0, and 0 for the others."""

    @property
    def probabilities(self):
        return (self.hidden != 0).float(), (self.output != 0).float()


def _one_hot(z):
    hidden = z.activation[z.starts[1] : z.starts[2]]
    return (hidden[:, None] == torch.tensor(CLASSES)[None]).float()


def chosen_network(decoded, g, chosen):
    """The same network as a ``SparseNetwork``: one class a neuron, an edge for every weight."""
    n, h, c = decoded.sizes[g]
    into, out = (w[g] for w in decoded.weights)
    into, out = into[:n, :h], out[:h, :c]
    z = Architecture.from_masks([into != 0, out != 0], hidden=[[NAMES[i] for i in chosen[:h]]])
    source, target = z.edges
    edge = torch.where(
        target < n + h,
        into[source.clamp(max=n - 1), (target - n).clamp(max=h - 1)],
        out[(source - n).clamp(min=0), (target - n - h).clamp(min=0)],
    )
    bias = torch.cat([decoded.hidden_bias[g, :h], decoded.output_bias[g, :c]])
    names = tuple(map(str, range(max(n, c))))
    signature = Signature(kind="classification", feature_names=names[:n], class_names=names[:c])
    return SparseNetwork(z, Weights(edge=edge, bias=bias), signature=signature)


# Scores


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_a_hard_choice_are_those_of_the_sparse_network(seed):
    sizes = [(4, 5, 3), (2, 3, 2), (1, 1, 1)]
    decoded = decoded_networks(*sizes, seed=seed)
    chosen = torch.randint(len(NAMES), (3, 5), generator=seeded(seed))
    X = torch.zeros(3, 7, 4)
    for g, (n, _, _) in enumerate(sizes):
        X[g, :, :n] = torch.randn(7, n, generator=seeded(seed + g))

    choice = functional.one_hot(chosen, len(NAMES)).float()
    scores = network_scores(decoded, X, activations=CLASSES, choice=choice)

    for g, (n, _, c) in enumerate(sizes):
        expected = chosen_network(decoded, g, chosen[g])(X[g, :, :n])
        torch.testing.assert_close(scores[g, :, :c], expected, atol=1e-5, rtol=1e-5)


def test_soft_choice_is_a_distribution_that_follows_the_logits():
    logits = torch.tensor([2.0, 0.0, -2.0]).expand(2000, 3)

    choice = soft_choice(logits, temperature=0.5, generator=seeded())

    torch.testing.assert_close(choice.sum(dim=1), torch.ones(2000))
    share = functional.one_hot(choice.argmax(dim=1), 3).float().mean(dim=0)
    torch.testing.assert_close(share, logits[0].softmax(dim=0), atol=0.04, rtol=0)


def test_soft_choice_hardens_and_depends_on_its_generator_alone():
    logits = torch.zeros(100, 4)
    before = torch.get_rng_state()

    warm, cold, again = (
        soft_choice(logits, temperature=t, generator=seeded()) for t in (1.0, 0.05, 1.0)
    )

    assert cold.amax(dim=1).mean() > 0.95 > warm.amax(dim=1).mean()
    assert torch.equal(warm, again)
    assert torch.equal(before, torch.get_rng_state())


# Fit


def test_fit_is_the_mean_over_real_rows_and_outputs():
    scores = torch.randn(3, 6, 4, generator=seeded())
    classes = torch.tensor([0, 1, 1, 0, 1])
    quantity = torch.randn(6, 2, generator=seeded(1))
    many = torch.tensor([3, 0, 2])

    losses = fit_loss(scores, [classes, quantity, many], n_outputs=[2, 2, 4])

    log_p = scores[0, :5, :2].log_softmax(dim=1)
    entropy = -np.mean([float(log_p[i, k]) for i, k in enumerate(classes)])
    squared = (scores[1, :, :2] - quantity).square().mean()
    other = functional.cross_entropy(scores[2, :3], many)
    assert losses.tolist() == pytest.approx([entropy, float(squared), float(other)], rel=1e-5)


def test_fit_ignores_padding():
    scores = torch.randn(2, 6, 4, generator=seeded())
    targets = [torch.tensor([0, 1, 1]), torch.randn(4, 1, generator=seeded(1))]
    garbage = scores.clone()
    garbage[0, 3:], garbage[0, :, 2:] = 1e9, 1e9
    garbage[1, 4:], garbage[1, :, 1:] = -1e9, 1e9

    first, second = (fit_loss(s, targets, n_outputs=[2, 1]) for s in (scores, garbage))

    assert torch.equal(first, second)


@pytest.mark.parametrize(("error", "expected"), [(0.0, 0.0), (2.0, 4.0), (3.0, 9.0), (5.0, 21.0)])
def test_squared_error_grows_linearly_beyond_three(error, expected):
    (loss,) = fit_loss(torch.full((1, 4, 1), error), [torch.zeros(4, 1)], n_outputs=[1])

    assert float(loss) == pytest.approx(expected)


# Edges


def test_edge_loss_is_the_mean_probability_of_possible_edges():
    sizes = [(4, 5, 3), (2, 3, 2)]
    decoded = decoded_networks(*sizes)

    for g, (n, h, c) in enumerate(sizes):
        v = torch.cat([decoded.hidden[g, :n, :h].flatten(), decoded.output[g, :h, :c].flatten()])
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
    decoded = decoded_networks((3, 4, 2), seed=seed)

    loss = costs(decoded, z=z)  # "abs" is unknown to the model, so no class is compared

    assert float(loss) == pytest.approx(brute_force(decoded, z), rel=1e-4)


def test_pair_loss_does_not_depend_on_the_order_of_hidden_neurons():
    space = SearchSpace(widths=(3, 4, 2), activations=NAMES)
    z = space.sample_live(generator=seeded(), n_edges=9)
    decoded = decoded_networks((3, 4, 2))
    order = torch.tensor([0, 1, 2, 5, 3, 6, 4, 7, 8])

    first, second = costs(decoded, z=z), costs(decoded, z=z.permuted(order))

    torch.testing.assert_close(first, second)


def test_pair_loss_of_a_batch_is_that_of_each_alone():
    sizes = [(4, 5, 3), (2, 3, 2), (3, 2, 1)]
    together = decoded_networks(*sizes)
    zs = [
        SearchSpace(widths=size, activations=NAMES).sample(generator=seeded(g), n_edges=4)
        for g, size in enumerate(sizes)
    ]

    losses = pair_loss(together, zs, activations=CLASSES, alpha=ALPHA, beta=BETA)

    for g, ((n, h, c), z) in enumerate(zip(sizes, zs, strict=True)):
        alone = Decoded(
            hidden=together.hidden[[g], :n, :h],
            output=together.output[[g], :h, :c],
            gain=together.gain[[g], :h],
            hidden_bias=together.hidden_bias[[g], :h],
            output_bias=together.output_bias[[g], :c],
            activation=together.activation[[g], :h],
            sizes=((n, h, c),),
        )
        assert float(losses[g]) == pytest.approx(float(costs(alone, z=z)), rel=1e-5)


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
    sizes = [(4, 5, 3), (2, 3, 2)]
    decoded = decoded_networks(*sizes, requires_grad=True)
    zs = [
        SearchSpace(widths=size, activations=NAMES).sample(generator=seeded(g), n_edges=5)
        for g, size in enumerate(sizes)
    ]
    choice = soft_choice(decoded.activation, temperature=0.5, generator=seeded())
    X = torch.randn(2, 6, 4, generator=seeded())
    y = [torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([0, 1])]

    scores = network_scores(decoded, X, activations=CLASSES, choice=choice)
    fit = fit_loss(scores, y, n_outputs=[3, 2])
    pair = pair_loss(decoded, zs, activations=CLASSES, alpha=ALPHA, beta=BETA)
    (fit + edge_loss(decoded) + pair).sum().backward()

    for name in ("hidden", "output", "hidden_bias", "output_bias", "activation"):
        gradient = getattr(decoded, name).grad
        assert gradient.isfinite().all(), name
        assert gradient.any(), name
    assert not decoded.hidden.grad[1, 2:].any()
    assert not decoded.output.grad[1, :, 2:].any()


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
            gain=torch.ones(1, 4),
            hidden_bias=torch.zeros(1, 4),
            output_bias=torch.zeros(1, 2),
            activation=logits,
            sizes=((3, 4, 2),),
        )
        optimiser.zero_grad()
        costs(decoded, z=z, alpha=1.0, beta=1.0).sum().backward()
        optimiser.step()

    masks = [p[0].detach().numpy() > 0.5 for p in decoded.probabilities]
    names = [NAMES[i] for i in logits[0].argmax(dim=1)]
    found = Architecture.from_masks(masks, hidden=[names])
    wrong = closeness(z, found, alpha=1.0, beta=1.0, align=True)
    assert wrong <= 2
