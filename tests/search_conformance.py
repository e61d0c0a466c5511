"""What every searcher must do, as a test-suite to inherit.

For a searcher of your own, register it and inherit::

    class TestMySearcher(SearcherConformance):
        @pytest.fixture
        def searcher(self):
            SEARCHERS["mine"] = MySearcher
            return "mine"

The spaces are tiny, so that an exhaustive search takes part. Override ``most_edges`` for a searcher
that chooses the number of edges itself.
"""

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from graphpred.activations import ACTIVATIONS
from graphpred.architecture import Architecture
from graphpred.network import Signature, SparseNetwork
from graphpred.objective import Objective, default_loss
from graphpred.searchers import SEARCHERS, driver, search
from graphpred.searchers.base import ProposingSearcher
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace
from graphpred.split import Split
from graphpred.task import Task

KINDS = ("two-classes", "four-classes", "regression")


def tiny_task(kind="two-classes"):
    """48 rows of 2 features in three parts."""
    X = torch.randn(48, 2, generator=generator_for("conformance"))
    value = X[:, 0] * X[:, 1] + 0.3 * X[:, 0]
    rank = value.argsort().argsort()
    y = {"two-classes": rank // 24, "four-classes": rank // 12, "regression": value}[kind]
    parts = [torch.arange(start, stop) for start, stop in itertools.pairwise((0, 24, 36, 48))]
    return Task.from_arrays(
        X, y, kind="regression" if kind == "regression" else "classification", split=Split(*parts)
    )


def tiny_space(task, *, density=0.5):
    """Two hidden neurons of two activation classes."""
    return SearchSpace(
        widths=(task.n_features, 2, task.n_outputs), activations=("tanh", "relu"), density=density
    )


def without_test_rows(task):
    """The same task whose test rows are useless: NaN, or a class that does not exist."""
    X, y = task.X.clone(), task.y.clone()
    X[task.split.test] = torch.nan
    y[task.split.test] = -1 if task.is_classification else torch.nan
    return replace(task, X=X, y=y)


def fingerprint(trials):
    """Everything about trials, to the last bit."""
    return [
        (
            trial.number,
            trial.architecture,
            trial.weights.edge.tolist(),
            trial.weights.bias.tolist(),
            trial.train_loss,
            trial.loss,
            trial.objective,
            trial.steps,
            trial.seed,
        )
        for trial in trials
    ]


class SearcherConformance:
    """Inherit this and give a fixture ``searcher``, a key of ``SEARCHERS``."""

    @pytest.fixture
    def searcher(self):
        raise NotImplementedError("a subclass must give a fixture 'searcher', a key of SEARCHERS")

    def most_edges(self, searcher, space, densities):
        """The largest K that a trial may have."""
        del searcher
        return max(space.n_layers, *(space.n_edges_at(density) for density in densities))

    def run(self, searcher, *, kind="two-classes", task=None, **settings):
        """A short search."""
        task = task or tiny_task(kind)
        settings = {"evaluations": 1, "steps": 20, "seed": 7} | settings
        return search(task, tiny_space(task), searcher=searcher, **settings)

    @pytest.mark.parametrize("kind", KINDS)
    def test_same_seed_gives_the_same_trials_and_another_seed_others(self, searcher, kind):
        first, second, other = (
            fingerprint(self.run(searcher, kind=kind, seed=seed)) for seed in (7, 7, 8)
        )

        assert first
        assert first == second
        assert first != other

    @pytest.mark.parametrize(("evaluations", "steps"), [(7, 30), (1, 100), (1, 7), (1, 101)])
    def test_budget_is_charged_and_never_exceeded(self, searcher, evaluations, steps):
        running = self.run(searcher, evaluations=evaluations, steps=steps)

        trials = []
        for trial in running:
            trials.append(trial)
            assert running.ledger.network_steps <= 100 * evaluations

        spent = sum(trial.steps for trial in trials)
        assert running.ledger.steps_left >= 0
        assert running.ledger.cpu_seconds > 0
        if self._proposes(searcher):
            assert (running.ledger.networks, running.ledger.network_steps) == (len(trials), spent)
        else:
            assert running.ledger.network_steps >= spent

    def _proposes(self, searcher):
        setting = _Capture.of(searcher)
        return isinstance(SEARCHERS[searcher](setting), ProposingSearcher)

    @pytest.mark.parametrize("kind", KINDS)
    def test_trials_are_numbered_and_inside_the_space(self, searcher, kind):
        task = tiny_task(kind)
        space, densities = tiny_space(task), (0.25, 0.5)

        trials = list(self.run(searcher, task=task, densities=densities))

        assert [trial.number for trial in trials] == list(range(len(trials)))
        for trial in trials:
            z = trial.architecture
            Architecture(edges=z.edges, activation=z.activation, widths=z.widths)
            trial.weights.check(z)
            assert trial.weights.edge.isfinite().all()
            assert len(z.widths) == len(space.widths)
            assert (z.widths[0], z.widths[-1]) == (space.widths[0], space.widths[-1])
            assert all(own <= most for own, most in zip(z.widths, space.widths, strict=True))
            names = [ACTIVATIONS[index].name for index in z.activation.tolist()]
            assert set(names[z.starts[1] : z.starts[-2]]) <= set(space.activations)
            assert set(names[z.starts[-2] :]) <= set(space.output_activations)
            assert z.n_edges <= self.most_edges(searcher, space, densities)

    @pytest.mark.parametrize("kind", KINDS)
    def test_losses_are_those_of_the_weights_and_the_objective_adds_the_price(self, searcher, kind):
        task = tiny_task(kind)
        loss = "log_loss" if task.is_classification else "mse"
        for penalty in (0.0, 0.01, lambda n_edges: n_edges**2 / 100):
            objective = Objective(loss=loss, penalty=penalty)
            trials = list(self.run(searcher, task=task, objective=objective, evaluations=1))
            assert trials
            for trial in trials:
                network = SparseNetwork(
                    trial.architecture, trial.weights, signature=Signature.of(task)
                )
                for part, reported in (("train", trial.train_loss), ("validation", trial.loss)):
                    X, y = task.rows(part)
                    scores = network(X).detach().T[None]
                    assert objective.losses(scores, y).item() == pytest.approx(reported, abs=1e-5)
                price = objective.cost(trial.architecture.n_edges)
                assert trial.objective == pytest.approx(trial.loss + price, abs=1e-12)

    @pytest.mark.parametrize("kind", KINDS)
    def test_test_rows_are_never_touched(self, searcher, kind):
        task = tiny_task(kind)

        blind = fingerprint(self.run(searcher, task=without_test_rows(task)))

        assert blind == fingerprint(self.run(searcher, task=task))

    def test_global_generators_and_threads_are_left_alone(self, searcher):
        before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        threads = torch.get_num_threads()

        list(self.run(searcher))

        assert torch.equal(torch.get_rng_state(), before[0])
        np.testing.assert_array_equal(np.random.get_state()[1], before[1])
        assert random.getstate() == before[2]
        assert torch.get_num_threads() == threads

    @pytest.mark.parametrize(("kind", "n"), list(zip(KINDS, (1, 2, 5), strict=True)))
    def test_a_search_goes_on_from_its_state(self, searcher, kind, n, monkeypatch):
        monkeypatch.setattr(driver, "BATCH", 2)
        whole = list(self.run(searcher, kind=kind, evaluations=2))
        stopped = self.run(searcher, kind=kind, evaluations=2)
        list(itertools.islice(stopped, n))
        state = stopped.state

        resumed = self.run(searcher, kind=kind, evaluations=2, after=state)
        rest = list(resumed)

        assert state.ledger.trials < n
        assert fingerprint(rest) == fingerprint(whole[state.ledger.trials :])
        list(stopped)
        assert resumed.ledger.networks == stopped.ledger.networks
        assert resumed.ledger.network_steps == stopped.ledger.network_steps
        again = list(self.run(searcher, kind=kind, evaluations=2, after=state))
        assert fingerprint(again) == fingerprint(rest)

    def test_two_searches_can_take_turns(self, searcher):
        alone = fingerprint(self.run(searcher))
        first, second = self.run(searcher), self.run(searcher, seed=8)

        taken = [trial for pair in zip(first, second, strict=False) for trial in pair]

        assert fingerprint(taken[::2]) == alone[: len(taken[::2])]


class _Capture:
    """Gets hold of the setting that the driver would give a searcher."""

    @staticmethod
    def of(searcher):
        captured = []

        def factory(setting):
            captured.append(setting)
            return SEARCHERS[searcher](setting)

        task = tiny_task()
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(SEARCHERS, "captured", factory)
            search(
                task,
                tiny_space(task),
                searcher="captured",
                objective=Objective(loss=default_loss(task.kind)),
                evaluations=1,
            )
        return captured[0]
