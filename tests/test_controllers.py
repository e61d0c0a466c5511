"""Searches by reinforcement learning: sequences of tokens, controllers, updates, transfer."""

import itertools
import math
import statistics
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from search_conformance import tiny_space, tiny_task
from strategies import enumerate_space

from graphpred.architecture import Architecture
from graphpred.objective import Objective
from graphpred.searchers import Trial, search
from graphpred.searchers.base import Ledger, Setting
from graphpred.searchers.controllers import (
    IndependentController,
    RecurrentController,
    RecurrentSize,
)
from graphpred.searchers.drawing import draw_tokens
from graphpred.searchers.nasnet import NasnetSearch, fewer_rows, narrower, tiled
from graphpred.searchers.policy_gradient import ControllerSearch, standardised_rewards
from graphpred.searchers.ppo import NASNET, ProximalUpdate, ppo_search
from graphpred.searchers.reinforce import (
    NAS_RL,
    independent_search,
    reinforce_search,
    reinforce_update,
)
from graphpred.searchers.tokens import architectures, log_probability
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace
from graphpred.split import Split
from graphpred.task import Task
from graphpred.weights import initial_weights

FACTORIES = {
    "reinforce": reinforce_search,
    "reinforce_independent": independent_search,
    "ppo": ppo_search,
}


def controller(space, kind="recurrent", *, spread=1.0, seed=0):
    """A controller with parameters far from those of the start."""
    generator = generator_for("controller", seed)
    if kind == "recurrent":
        size = RecurrentSize(n_layers=2, n_units=5, spread=spread)
        return RecurrentController(space, size=size, generator=generator)
    policy = IndependentController(space)
    for parameter in policy.parameters.values():
        parameter.data.uniform_(-spread, spread, generator=generator)
    return policy


def drawn(policy, n_edges, n_sequences=50, *, seed=0):
    sizes = torch.full((n_sequences,), n_edges)
    return draw_tokens(policy, sizes, generator=generator_for("drawn", seed))


def keys(tokens):
    """One hashable value per sequence, the same for the same tokens."""
    n_sequences = len(tokens.n_edges)
    found = [[] for _ in range(n_sequences)]
    for width in tokens.widths:
        for own, chosen in zip(found, width.chosen.tolist(), strict=True):
            own.append(chosen)
    for layer in tokens.layers:
        for i, j in layer.present.nonzero().tolist():
            degree, opened = int(layer.degree[i, j]), int(layer.opened[i, j])
            order = layer.order[i, j, : degree - opened].tolist()
            found[j].append((i, int(layer.activation[i, j]), opened, degree, *order))
    return [tuple(own) for own in found]


def some(tokens, chosen):
    """Sequences by position."""
    chosen = torch.tensor(chosen)

    def part(of, dim):
        return type(of)(**{name: x.index_select(dim, chosen) for name, x in vars(of).items()})

    return replace(
        tokens,
        n_edges=tokens.n_edges[chosen],
        widths=tuple(part(width, 0) for width in tokens.widths),
        layers=tuple(part(layer, 1) for layer in tokens.layers),
    )


def distinct(tokens):
    """Every sequence once."""
    return some(tokens, list({key: j for j, key in enumerate(keys(tokens))}.values()))


TINY = [
    (SearchSpace(widths=(3, 2), activations=("tanh",)), 3),
    (SearchSpace(widths=(2, 2, 1), activations=("tanh", "relu")), 4),
    (SearchSpace(widths=(2, 2, 2), activations=("sin",), output_activations=("abs", "tanh")), 4),
    (SearchSpace(widths=(2, 2, 2, 1), activations=("tanh",)), 6),
]


@pytest.mark.parametrize("kind", ["recurrent", "independent"])
@pytest.mark.parametrize(("space", "n_edges"), TINY)
def test_probabilities_sum_to_one_and_are_those_of_the_draws(space, n_edges, kind):
    policy = controller(space, kind, spread=0.5)
    n = 6000
    tokens = drawn(policy, n_edges, n)

    logs = log_probability(policy, tokens).sum(dim=0).tolist()

    probability = dict(zip(keys(tokens), map(math.exp, logs), strict=True))
    assert sum(probability.values()) == pytest.approx(1, abs=2e-3)  # all but the rarest are drawn
    counts = Counter(keys(tokens))
    for key, p in probability.items():
        assert abs(counts[key] - n * p) <= 5 * math.sqrt(n * p) + 5


@pytest.mark.parametrize(("space", "n_edges"), TINY)
def test_sequences_say_every_live_architecture_up_to_hidden_order(space, n_edges):
    tokens = distinct(drawn(controller(space, spread=0.1), n_edges, 6000))

    said = {z.without_dead_neurons()[0].canonical()[0] for z in architectures(tokens, space)}

    wanted = {
        z.without_dead_neurons()[0].canonical()[0]
        for z in enumerate_space(space)
        if z.n_edges == z.n_live_edges == n_edges
    }
    assert len(wanted) > 3
    assert said == wanted


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_edges_are_live_and_exactly_as_many_as_asked_for(data):
    widths = data.draw(st.lists(st.integers(1, 6), min_size=2, max_size=5))
    space = SearchSpace(widths=tuple(widths), activations=("tanh", "sin"))
    n_edges = data.draw(st.integers(space.n_layers, max(space.n_layers, space.n_possible_edges)))
    kind = data.draw(st.sampled_from(["recurrent", "independent"]))
    seed = data.draw(st.integers(0, 3))
    policy = controller(space, kind, spread=3.0, seed=seed)

    tokens = drawn(policy, n_edges, 8, seed=seed)

    for z in architectures(tokens, space):
        assert z.n_live_edges == z.n_edges <= n_edges
        assert z.n_edges == n_edges or widths[0] == 1  # one input: some numbers are impossible
        assert z.widths == space.widths
    assert log_probability(policy, tokens).isfinite().all()


def test_several_numbers_of_edges_stand_in_one_batch():
    space = SearchSpace(widths=(5, 6, 4, 3))
    sizes = torch.tensor([3, 66, 10, 40, 4, 11])
    policy = controller(space)

    tokens = draw_tokens(policy, sizes, generator=generator_for(1))

    assert [z.n_edges for z in architectures(tokens, space)] == sizes.tolist()
    alone = some(tokens, [3])
    whole = log_probability(policy, tokens)[:, 3].sum()
    torch.testing.assert_close(log_probability(policy, alone).sum(), whole)


def test_an_untrained_controller_draws_much_as_live_random_search_does():
    space = SearchSpace(widths=(12, 12, 4))
    generator = generator_for(2)
    random = [space.sample_live(generator=generator, n_edges=30) for _ in range(2000)]

    own = architectures(drawn(IndependentController(space), 30, 2000), space)

    def summary(zs):
        """Mean number of hidden neurons in use, and of edges into the outputs."""
        used = np.mean([z.masks[0].any(axis=0).sum() for z in zs])
        return used, np.mean([z.n_edges_per_layer[1] for z in zs])

    np.testing.assert_allclose(summary(own), summary(random), rtol=0.08)


def by_hand(tokens, table, space):
    """Log-probability of a table's sequences and its gradient, with plain loops of numpy."""
    n_sequences = len(tokens.n_edges)
    total = np.zeros(n_sequences)
    gradient = [
        {name: np.zeros(value.shape) for name, value in table.items()} for _ in range(n_sequences)
    ]

    def softmax_choice(j, name, row, start, stop, chosen, base):
        scores = table[name][row, start:stop] + base
        p = np.exp(scores - scores.max())
        p /= p.sum()
        total[j] += math.log(p[chosen])
        gradient[j][name][row, start:stop] += (np.arange(len(p)) == chosen) - p

    for k, width in zip(range(space.n_layers - 1, 0, -1), tokens.widths, strict=True):
        for j, chosen in enumerate(width.chosen.tolist()):
            n = space.widths[k]
            softmax_choice(j, f"width_{k}", 0, 0, n, chosen, width.base[j].double().numpy())
    for k, layer in zip(range(space.n_layers, 0, -1), tokens.layers, strict=True):
        n, name = space.widths[k - 1], f"neuron_{k}"
        a = len(space.output_activations if k == space.n_layers else space.activations)
        for i, j in layer.present.nonzero().tolist():
            opened, degree = int(layer.opened[i, j]), int(layer.degree[i, j])
            opened_base, degree_base = layer.opened_base[i, j], layer.degree_base[i, j]
            softmax_choice(j, name, i, 0, a, int(layer.activation[i, j]), 0.0)
            softmax_choice(j, name, i, a, a + n + 1, opened, opened_base.double().numpy())
            softmax_choice(
                j, name, i, a + n + 1, a + 2 * n + 2, degree, degree_base.double().numpy()
            )
            remaining = layer.order[i, j, : int(layer.available[i, j])].tolist()
            for _ in range(degree - opened):
                weights = np.exp(table[name][i, a + 2 * n + 2 :][remaining])
                total[j] += math.log(weights[0] / weights.sum())
                columns = a + 2 * n + 2 + np.array(remaining)
                gradient[j][name][i, columns] -= weights / weights.sum()
                gradient[j][name][i, columns[0]] += 1
                remaining.pop(0)
    return total, gradient


def test_log_probability_and_the_reinforce_step_are_those_of_plain_loops():
    space = SearchSpace(widths=(4, 3, 3, 2), activations=("tanh", "sin", "relu"))
    policy = controller(space, "independent")
    tokens = drawn(policy, 14, 6)
    before = {name: p.detach().double().numpy() for name, p in policy.parameters.items()}
    total, gradient = by_hand(tokens, before, space)
    advantages = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0, -0.3])

    found = log_probability(policy, tokens).sum(dim=0)
    optimiser = torch.optim.SGD(list(policy.parameters.values()), lr=1.0)
    reinforce_update(lambda: log_probability(policy, tokens), advantages, optimiser)

    np.testing.assert_allclose(found.detach().numpy(), total, rtol=1e-5)
    for name, parameter in policy.parameters.items():
        step = sum(a * own[name] for a, own in zip(advantages.tolist(), gradient, strict=True)) / 6
        assert np.abs(step).max() > 0.01
        np.testing.assert_allclose(
            parameter.detach().numpy() - before[name], step, atol=1e-5, err_msg=name
        )


def test_the_reinforce_gradient_of_the_lstm_is_the_slope_of_the_expected_reward():
    space = SearchSpace(widths=(2, 2, 1), activations=("tanh", "relu"))
    policy = controller(space, spread=0.7)
    tokens = distinct(drawn(policy, 4, 4000))
    reward = torch.tensor([float(z.edges[0].sum()) for z in architectures(tokens, space)])
    direction = {
        name: torch.randn(p.shape, generator=generator_for("direction", name))
        for name, p in policy.parameters.items()
    }

    def expected(step):
        for name, parameter in policy.parameters.items():
            parameter.data.add_(step * direction[name])
        logs = log_probability(policy, tokens).sum(dim=0)
        for name, parameter in policy.parameters.items():
            parameter.data.sub_(step * direction[name])
        return float((logs.detach().double().exp() * reward).sum())

    logs = log_probability(policy, tokens).sum(dim=0)
    (logs.exp().detach() * reward * logs).sum().backward()

    slope = sum(float((p.grad * direction[name]).sum()) for name, p in policy.parameters.items())
    assert abs(slope) > 0.1
    assert slope == pytest.approx((expected(1e-2) - expected(-1e-2)) / 2e-2, rel=0.02)


# Rewards and updates


def test_rewards_are_standardised_by_what_came_before():
    past, new = [0.5, 0.3, 0.9], [0.2, 0.4]

    found = standardised_rewards(new, past=past, decay=0.8)

    everything = -np.minimum(past + new, np.quantile(past + new, 0.9))
    weights = np.array([0.64, 0.8, 1.0])
    baseline = (weights * everything[:3]).sum() / weights.sum()
    np.testing.assert_allclose(found, (everything[3:] - baseline) / everything.std(), rtol=1e-5)


@pytest.mark.parametrize("bad", [math.inf, math.nan, 1e30])
def test_hopeless_objectives_count_as_the_worst(bad):
    past = [0.1 * i for i in range(20)]

    good, hopeless, worst = standardised_rewards([0.3, bad, 1.9], past=past, decay=0.95).tolist()

    assert good > 0 > hopeless == pytest.approx(worst)
    assert hopeless > -5


@pytest.mark.parametrize("new", [[math.inf, math.nan], [0.5, 0.5], [0.5], []])
def test_objectives_that_do_not_differ_teach_nothing(new):
    found = standardised_rewards(new, past=[], decay=0.95)

    assert found.tolist() == [0.0] * len(new)


def test_the_clipped_surrogate_is_that_of_the_formula():
    generator = generator_for(3)
    before = -3 * torch.rand(4, 5, generator=generator)
    now = before + 0.4 * torch.randn(4, 5, generator=generator)
    advantages = torch.tensor([1.0, -1.0, 2.0, 0.0, -0.5])

    found = ProximalUpdate(clip=0.2).surrogate(now, before, advantages=advantages)

    expected = 0.0
    for (_, j), ratio in np.ndenumerate((now - before).double().exp().numpy()):
        a = float(advantages[j])
        expected += min(ratio * a, min(max(ratio, 0.8), 1.2) * a) / 5
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_a_step_out_of_the_clipped_range_is_not_pushed_further():
    before = torch.log(torch.full((4, 1), 0.5))
    now = (before + torch.tensor([[0.3], [-0.3], [0.1], [500.0]])).requires_grad_()

    for advantage, moved in ((1.0, [False, True, True, False]), (-1.0, [True, False, True, None])):
        now.grad = None
        value = ProximalUpdate().surrogate(now, before, advantages=torch.tensor([advantage]))
        value.backward()
        assert value.isfinite()
        assert now.grad.isfinite().all()
        for gradient, expected in zip(now.grad[:, 0].tolist(), moved, strict=True):
            assert expected is None or (gradient != 0) == expected


def test_the_first_pass_of_ppo_is_a_step_of_reinforce_and_entropy_spreads():
    space = SearchSpace(widths=(4, 3, 2))
    advantages = torch.tensor([1.0, -2.0, 0.5, 0.7])
    after = []
    for update in (reinforce_update, ProximalUpdate(n_passes=1, entropy=0.0)):
        policy = controller(space)
        tokens = drawn(policy, 8, 4)
        optimiser = torch.optim.SGD(list(policy.parameters.values()), lr=0.1)
        update(lambda p=policy, z=tokens: log_probability(p, z), advantages, optimiser)
        after.append(torch.cat([p.detach().flatten() for p in policy.parameters.values()]))

    torch.testing.assert_close(*after)

    policy = controller(space)
    optimiser = torch.optim.Adam(list(policy.parameters.values()), lr=0.03)
    wide = log_probability(policy, drawn(policy, 8, 400)).sum(dim=0).mean()
    for i in range(30):
        tokens = drawn(policy, 8, 40, seed=i)
        ProximalUpdate(entropy=1.0)(
            lambda z=tokens: log_probability(policy, z), torch.zeros(40), optimiser
        )
    wider = log_probability(policy, drawn(policy, 8, 400)).sum(dim=0).mean()
    assert wider < wide - 1


def test_learning_rates_are_those_of_the_papers_at_their_budgets():
    assert NAS_RL.rate_for(12_800) == pytest.approx(6e-4)
    assert NASNET.rate_for(20_000) == pytest.approx(3.5e-4)
    for learning in (NAS_RL, NASNET):
        rates = [learning.rate_for(n) for n in (0, 100, 1000, 5000)]
        assert rates[0] == learning.highest > rates[2] > rates[3] > learning.rate


# Searches


def a_setting(*, evaluations, task=None, space=None, densities=None, seed=0):
    task = task or tiny_task()
    space = space or tiny_space(task)
    return Setting(
        task=task,
        space=space,
        objective=Objective(loss="log_loss"),
        densities=densities or (space.density,),
        steps=100,
        generator=generator_for(seed, "setting"),
        seed=seed,
        ledger=Ledger(evaluations=evaluations),
    )


def made_up(proposals, objective):
    """Trials of proposals that nobody trained."""
    return [
        Trial(
            number=i,
            architecture=proposal.architecture,
            weights=initial_weights(proposal.architecture, seed=0),
            train_loss=0.0,
            loss=0.0,
            objective=objective(proposal.architecture, i),
            steps=100,
            seed=0,
        )
        for i, proposal in enumerate(proposals)
    ]


def useless_share(z, _):
    """Share of the input edges that leave another feature than the first two."""
    sources = z.edges[0][z.edges[0] < z.widths[0]]
    return float((sources >= 2).double().mean())


@pytest.mark.parametrize("name", FACTORIES)
def test_a_controller_learns_which_features_matter(name):
    space = SearchSpace(widths=(8, 6, 2), density=0.25)
    searcher = FACTORIES[name](a_setting(evaluations=400, space=space))

    means = []
    for _ in range(400 // 20):
        batch = []
        while len(batch) < 20:
            trials = made_up(searcher.ask(20 - len(batch)), useless_share)
            searcher.tell(trials)
            batch += trials
        assert all(trial.architecture.n_edges == 15 for trial in batch)
        means.append(statistics.mean(trial.objective for trial in batch))

    assert statistics.mean(means[-4:]) < statistics.mean(means[:4]) - 0.1


@pytest.mark.parametrize("name", FACTORIES)
def test_networks_that_diverge_break_nothing(name):
    searcher = FACTORIES[name](a_setting(evaluations=100))
    values = itertools.cycle([math.inf, 0.3, math.nan, 1e30, 0.2])

    searcher.tell(made_up(searcher.ask(8), lambda *_: math.inf))
    for _ in range(3):
        searcher.tell(made_up(searcher.ask(8), lambda *_: next(values)))

    for value in searcher.state()["parameters"].values():
        assert value.isfinite().all()
    assert len(searcher.ask(8)) == 8


def test_densities_take_turns_and_proposals_nobody_trained_count_for_nothing():
    space = SearchSpace(widths=(4, 4, 2))
    heard = []
    searcher = ControllerSearch(
        a_setting(evaluations=100, space=space, densities=(0.25, 0.5, 1.0)),
        policy=IndependentController(space),
        learning=NAS_RL,
        update=lambda log_probability, advantages, optimiser: heard.append(advantages.tolist()),
        n_networks=100,
    )

    asked = searcher.ask(7)
    searcher.tell(made_up(asked[:5], lambda z, i: [0.3, 7.0, 0.5, 0.1, 5.0][i]))
    following = searcher.ask(3)

    assert [proposal.architecture.n_edges for proposal in asked] == [6, 12, 24, 6, 12, 24, 6]
    assert [proposal.architecture.n_edges for proposal in following] == [12, 24, 6]
    # Worst and best of every density; 0.28 and 6.8, a tenth below the worst, stand for it.
    assert heard == [pytest.approx([-1.0, -1.0, 0.0, 1.0, 1.0, 0.0, 0.0], abs=1e-6)]


# Transfer


def labelled_rows(*, m=40):
    X = torch.randn(m, 3, generator=generator_for("rows"))
    parts = [torch.arange(a, b) for a, b in ((0, m // 2), (m // 2, m - 8), (m - 8, m))]
    return Task.from_arrays(X, torch.arange(m) % 2, split=Split(*parts))


def test_the_first_part_sees_half_of_the_rows_and_of_the_neurons():
    task = labelled_rows()

    few = fewer_rows(task, share=0.5, generator=generator_for(0))

    for part, whole in (("train", task.split.train), ("validation", task.split.validation)):
        rows = getattr(few.split, part)
        assert set(rows.tolist()) <= set(whole.tolist())
        assert len(rows) == len(whole) // 2
        assert few.y[rows].double().mean() == 0.5
    assert len(few.split.test) == 0
    assert torch.equal(few.X, task.X)
    assert narrower(SearchSpace(widths=(9, 7, 1, 4, 2)), share=0.5).widths == (9, 4, 1, 2, 2)


@settings(max_examples=60, deadline=None)
@given(
    widths=st.lists(st.integers(1, 7), min_size=2, max_size=4),
    density=st.floats(0.05, 1.0),
    seed=st.integers(0, 99),
)
def test_a_tiled_block_keeps_its_wiring_and_takes_the_edges_of_the_density(widths, density, seed):
    space = SearchSpace(widths=tuple(widths), activations=("sin", "tanh", "relu"), density=density)
    small = narrower(space, share=0.5)
    generator = generator_for("tiled", seed)
    n_edges, few = (max(s.n_layers, s.n_edges) for s in (space, small))
    (block,) = architectures(
        draw_tokens(IndependentController(small), torch.tensor([few]), generator=generator), small
    )

    z = tiled(block, space=space, n_edges=n_edges, generator=generator)

    assert z.widths == space.widths
    assert block.n_edges <= z.n_edges == z.n_live_edges <= n_edges
    used, _ = z.without_dead_neurons()
    if z.n_edges < n_edges:  # no place is left between the neurons in use
        assert z.n_edges == used.n_possible_edges or space.n_layers == 1
    assert set(used.activations[-1]) <= set(block.activations[-1])
    originals = [layer[mask.any(axis=0)] for layer, mask in hidden_columns(block)]
    for own, (layer, mask) in zip(originals, hidden_columns(z), strict=True):
        copies = layer[mask.any(axis=0)]
        assert set(copies) == set(own)
        assert len(copies) >= len(own)


def hidden_columns(z):
    """Activation names and mask of every hidden layer."""
    return [(np.array(a), mask) for a, mask in zip(z.activations[:-1], z.masks[:-1], strict=True)]


def test_copies_have_the_inputs_the_activation_and_the_readers_of_their_originals():
    block = Architecture.from_masks(
        [[[1, 0], [1, 0], [0, 1]], [[1, 1], [0, 1]], [[1], [1]]],
        hidden=["sin", "tanh", "relu", "abs"],
    )
    space = SearchSpace(widths=(3, 4, 4, 1), activations=("sin", "tanh", "relu", "abs"))

    z = tiled(block, space=space, n_edges=22, generator=generator_for(0))

    first, second, third = z.masks
    kinds = z.activations
    assert sorted(kinds[0]) == ["sin", "sin", "tanh", "tanh"]
    assert sorted(kinds[1]) == ["abs", "abs", "relu", "relu"]
    inputs = {"sin": [1, 1, 0], "tanh": [0, 0, 1]}
    for i, name in enumerate(kinds[0]):
        assert first[:, i].tolist() == inputs[name]
    for (i, reader), (j, read) in itertools.product(enumerate(kinds[1]), enumerate(kinds[0])):
        assert second[j, i] == (reader != "relu" or read == "sin")
    assert third.all()
    assert z.n_edges == 22


def test_transfer_spends_half_of_the_budget_on_narrow_networks():
    task, space = labelled_rows(), SearchSpace(widths=(3, 8, 2), density=0.4)

    running = search(task, space, searcher="nasnet", evaluations=30, seed=1)
    trials = list(running)

    assert [trial.architecture.widths[1] for trial in trials] == [4] * 15 + [8] * 15
    assert [trial.architecture.n_edges for trial in trials] == [8] * 15 + [16] * 15
    assert (running.ledger.networks, running.ledger.network_steps) == (30, 3000)
    assert len({trial.architecture for trial in trials[15:]}) > 3


@pytest.mark.parametrize("densities", [(0.1, 0.3, 0.5), (0.2,)])
def test_wide_networks_are_copies_of_the_best_blocks_of_their_density(densities):
    task, space = labelled_rows(), SearchSpace(widths=(3, 8, 2), density=0.4)
    setting = a_setting(evaluations=24, task=task, space=space, densities=densities)
    searcher = NasnetSearch(setting)
    trials = []
    for own in searcher.run():
        setting.ledger.trials += len(own)
        trials += own
    blocks = searcher.state()["blocks"]

    assert [z for _, z in blocks] == [trial.architecture for trial in trials[:12]]
    for i, _ in enumerate(densities):
        _, best = min(blocks[i :: len(densities)], key=lambda block: block[0])
        (kinds, wiring), (names, mask) = (
            *hidden_columns(best),
            *hidden_columns(trials[12 + i].architecture),
        )
        originals = [(a, wiring[:, j]) for j, a in enumerate(kinds) if wiring[:, j].any()]
        copies = [(a, mask[:, j]) for j, a in enumerate(names) if mask[:, j].any()]
        assert len(copies) > len(originals)
        for name, inputs in copies:
            assert any(name == a and (inputs >= column).all() for a, column in originals)


# Faithfulness


def few_features(seed, *, n=12):
    """Four of twelve features matter, two of them only together."""
    generator = generator_for("few features", seed)
    X = torch.randn(400, n, generator=generator)
    a, b, c, d = torch.randperm(n, generator=generator)[:4].tolist()
    value = X[:, a] * X[:, b] + X[:, c].abs() - X[:, d]
    parts = [torch.arange(0, 200), torch.arange(200, 400), torch.arange(0)]
    task = Task.from_arrays(X, (value > value.median()).long(), split=Split(*parts))
    return task, SearchSpace(widths=(n, n, 2), density=0.07)


@pytest.fixture(scope="module")
def objectives():
    """𝔏 of the trials of every searcher, for three problems."""

    def run(name, seed):
        task, space = few_features(seed)
        found = search(
            task,
            space,
            searcher=name,
            objective=Objective(loss="log_loss"),
            evaluations=120,
            seed=seed,
        )
        return [trial.objective for trial in found]

    names = ("random", *FACTORIES, "nasnet")
    return {name: [run(name, seed) for seed in range(3)] for name in names}


@pytest.mark.parametrize("name", [*FACTORIES, "nasnet"])
def test_later_networks_are_better_and_the_best_beats_random_search(objectives, name):
    runs = objectives[name]

    first = statistics.mean(value for run in runs for value in run[:24])
    last = statistics.mean(value for run in runs for value in run[-24:])
    best, random = (statistics.mean(map(min, objectives[key])) for key in (name, "random"))

    assert last < first - 0.04
    assert best < random - 0.02


def test_random_search_does_not_learn(objectives):
    runs = objectives["random"]

    first = statistics.mean(value for run in runs for value in run[:24])
    last = statistics.mean(value for run in runs for value in run[-24:])

    assert abs(first - last) < 0.02
