"""Samples of rows, by the hashes of their contents."""

import pytest
import torch
from toys import permuted_features, permuted_rows, seeded, toy_task

from graphpred.meta.samples import RowSample, row_hashes

KINDS = ("classification", "regression")


def test_a_sample_has_the_training_rows_and_their_targets():
    task = toy_task(m=60, c=3)
    X, y = task.rows("train")

    sample = RowSample.of(task)

    assert sample.shape == (len(X), 5, 3)
    order = row_hashes(X).argsort()
    assert torch.equal(sample.X, X[order])
    assert torch.equal(sample.y.argmax(dim=1), y[order])
    assert torch.equal(sample.y.sum(dim=1), torch.ones(len(X)))
    assert not sample.is_regression


def test_quantities_stay_as_they_are():
    task = toy_task("regression", c=2)
    X, y = task.rows("train")

    sample = RowSample.of(task)

    assert torch.equal(sample.y, y[row_hashes(X).argsort()])
    assert sample.is_regression


def test_a_class_without_rows_has_its_column():
    sample = RowSample.of(toy_task(c=3, absent=True))

    assert sample.y.shape[1] == 3
    assert not sample.y[:, 2].any()


@pytest.mark.parametrize("limit", [1, 7, 44, 1000])
def test_a_sample_has_at_most_as_many_rows_as_it_may(limit):
    task = toy_task(m=60)

    sample = RowSample.of(task, limit=limit)

    assert len(sample.X) == len(sample.y) == min(limit, len(task.split.train))
    assert torch.equal(sample.X, RowSample.of(task).X[:limit])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [10, 1000])
def test_order_of_rows_changes_nothing(kind, limit):
    task = toy_task(kind)

    first, second = (RowSample.of(t, limit=limit) for t in (task, permuted_rows(task)))

    assert torch.equal(first.X, second.X)
    assert torch.equal(first.y, second.y)


@pytest.mark.parametrize("kind", KINDS)
def test_order_of_features_changes_no_choice_of_rows(kind):
    task, order = toy_task(kind), torch.tensor([3, 0, 4, 1, 2])

    first, second = (RowSample.of(t, limit=10) for t in (task, permuted_features(task, order)))

    assert torch.equal(first.X[:, order], second.X)
    assert torch.equal(first.y, second.y)


def test_samples_of_two_halves_merge_to_that_of_the_whole():
    X = torch.randn(200, 4, generator=seeded())

    def lowest(rows):
        return rows[row_hashes(rows).argsort()[:30]]

    assert torch.equal(lowest(torch.cat([lowest(X[:80]), lowest(X[80:])])), lowest(X))


def test_hashes_depend_on_values_and_not_on_the_order_of_columns():
    X = torch.randn(50, 6, generator=seeded())
    changed = X.clone()
    changed[:, 2] = torch.nextafter(changed[:, 2], torch.tensor(9.0))

    assert torch.equal(row_hashes(X), row_hashes(X.flip(1)))
    assert torch.equal(row_hashes(X), row_hashes(X.T.contiguous().T))
    assert not (row_hashes(X) == row_hashes(changed)).any()


def test_zero_has_one_hash():
    assert torch.equal(row_hashes(torch.zeros(1, 3)), row_hashes(-torch.zeros(1, 3)))


@pytest.mark.parametrize("grid", [False, True])
def test_hashes_are_as_if_uniform(grid):
    """Rows of few values too, as those of tables with categories, are hashed apart."""
    if grid:
        X = torch.cartesian_prod(*[torch.tensor([0.0, 1.0, -1.0])] * 8)  # (6561, 8)
        X = X * torch.arange(1.0, 9.0)
    else:
        X = torch.randn(6561, 3, generator=seeded())

    hashes = row_hashes(X)

    assert len(hashes.unique()) == 6561
    bins = torch.bincount((hashes >> 60) + 8, minlength=16) / 6561
    torch.testing.assert_close(bins, torch.full((16,), 1 / 16), atol=0.015, rtol=0)
    for column in X.T:
        below = column[hashes < hashes.median()].mean() - column.mean()
        assert below.abs() < 0.06 * column.std()
