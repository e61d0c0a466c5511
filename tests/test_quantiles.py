"""Decisions that numbers make again and again."""

import pytest
import torch
from toys import seeded

from graphpred.errors import ModelError
from graphpred.meta.quantiles import Intervals, Posterior

PROBABILITIES = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)


def decided(values, n_decisions):
    """Outcomes of decisions of three, and the intervals that are left."""
    intervals = Intervals(*values.shape)
    probabilities = PROBABILITIES.expand(len(values), 3)
    chosen = [intervals.choose(values, probabilities=probabilities) for _ in range(n_decisions)]
    return torch.stack(chosen, dim=1), intervals


def test_even_numbers_give_every_outcome_its_probability():
    values = torch.rand(20_000, 2, generator=seeded(), dtype=torch.float64)

    outcomes, _ = decided(values, 5)  # more decisions than numbers

    shares = torch.stack([(outcomes == i).double().mean(dim=0) for i in range(3)])  # (3, 5)
    torch.testing.assert_close(shares, PROBABILITIES[:, None].expand(3, 5), atol=0.015, rtol=0)
    together = (outcomes[:, 0] == 1) & (outcomes[:, 4] == 2)
    assert float(together.double().mean()) == pytest.approx(0.15, abs=0.01)


def test_numbers_lie_in_their_intervals_of_the_right_size():
    values = torch.rand(500, 2, generator=seeded(), dtype=torch.float64)

    outcomes, left = decided(values, 5)

    assert ((values >= left.low - 1e-12) & (values <= left.low + left.width + 1e-12)).all()
    torch.testing.assert_close(left.width.prod(dim=1), PROBABILITIES[outcomes].prod(dim=1))


def test_any_number_of_an_interval_decides_alike():
    values = torch.rand(500, 3, generator=seeded(), dtype=torch.float64)
    outcomes, left = decided(values, 8)

    others = torch.rand(500, 3, generator=seeded(1), dtype=torch.float64)
    again, _ = decided(left.low + left.width * (0.001 + 0.998 * others), 8)

    assert torch.equal(outcomes, again)


def test_the_widest_decides_next():
    intervals = Intervals(1, 3)
    used = []
    for _ in range(4):
        used.append(int(intervals.next()))
        intervals.narrow_if(torch.tensor([True]), probability=torch.tensor([0.5]).double())

    assert used == [0, 1, 2, 0]


def test_certain_events_cost_nothing():
    intervals = Intervals(2, 1)
    probability = torch.tensor([1.0, 0.0], dtype=torch.float64)

    happens = intervals.happens(torch.tensor([[0.7], [0.0]]).double(), probability=probability)

    assert happens.tolist() == [True, False]
    assert intervals.width.tolist() == [[1.0], [1.0]]


def test_what_does_not_fit_is_an_error():
    width = torch.full((1, 1, 2), 1e-12, dtype=torch.float64)

    with pytest.raises(ModelError, match="bits"):
        Posterior(low=torch.zeros_like(width), width=width, n_shared=1)


def test_shared_numbers_are_drawn_alike():
    width = torch.ones(2, 5, 3, dtype=torch.float64)
    posterior = Posterior(low=torch.zeros_like(width), width=width, n_shared=1)

    drawn = posterior.sample(generator=seeded())

    assert (drawn[:, :, 2] == drawn[:, :1, 2]).all()
    assert len(drawn[:, :, :2].unique()) == 20
