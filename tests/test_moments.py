"""Sums over rows: whatever parts they come in, they give the statistics of the whole."""

import pickle
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import seeded, toy_task

from graphpred.errors import GraphPredError
from graphpred.meta import moments as moments_module
from graphpred.meta import statistics as statistics_module
from graphpred.meta.moments import SAMPLE_LIMIT, Moments
from graphpred.meta.samples import CountedRows, RowSample, row_hashes
from graphpred.meta.statistics import pair_rows, statistics_from, statistics_of

PARTS = ("relation", "feature", "output", "bias")


def empty(kind="classification", *, n=4, c=3, scale=None):
    return Moments(n_features=n, n_outputs=c, kind=kind, scale=scale)


def moments_of(X, y, *, c):
    kind = "regression" if y.is_floating_point() else "classification"
    moments = empty(kind, n=X.shape[1], c=c)
    moments.update(X, y)
    return moments


def drawn_rows(kind, *, c, m=150, n=4, seed=0):
    """Rows of which the second column is constant and the third is rarely positive."""
    generator = seeded(seed)
    X = torch.randn(m, n, generator=generator)
    X[:, 2] = (X[:, 2] > 1.3).float()
    X = (X - X.mean(dim=0)) / X.std(dim=0)
    X[:, 1] = 0
    scores = X @ torch.randn(n, c, generator=generator) + torch.randn(m, c, generator=generator)
    if kind == "regression":
        return X, (scores - scores.mean(dim=0)) / scores.std(dim=0)
    return X, scores.argmax(dim=1)


def pair_table(statistics):
    n = len(statistics.feature)
    table = torch.zeros(n, n, statistics.pair.shape[1])
    table[statistics.neighbours[0], statistics.neighbours[1]] = statistics.pair
    return table


def assert_same_statistics(first, second, *, tolerance=1e-5):
    close = {"atol": tolerance, "rtol": tolerance}  # linear guesses are up to 10
    for name in PARTS:
        torch.testing.assert_close(getattr(first, name), getattr(second, name), **close)
    torch.testing.assert_close(pair_table(first), pair_table(second), **close)
    assert (first.size, first.is_regression) == (second.size, second.is_regression)


def merged(parts, *, draw):
    """All parts merged two at a time, in an order and a tree that are drawn."""
    parts = list(parts)
    while len(parts) > 1:
        first = parts.pop(draw(st.integers(0, len(parts) - 1)))
        parts[draw(st.integers(0, len(parts) - 1))].merge(first)
    return parts[0]


SHAPES = st.one_of(
    st.tuples(st.just("classification"), st.integers(2, 5)),
    st.tuples(st.just("regression"), st.integers(1, 3)),
)


@given(SHAPES, st.lists(st.integers(0, 150), max_size=5), st.booleans(), st.data())
def test_any_partition_of_the_rows_gives_the_statistics_of_all(shape, cuts, is_sorted, data):
    kind, c = shape
    X, y = drawn_rows(kind, c=c, seed=data.draw(st.integers(0, 20)))
    order = torch.randperm(len(X), generator=seeded(1))
    if is_sorted:  # parts have no row of some classes
        order = (y if y.ndim == 1 else y[:, 0]).argsort(stable=True)
    ends = [0, *sorted(cuts), len(X)]  # equal ones give empty parts
    rows = [order[a:b] for a, b in pairwise(ends)]

    parts = [moments_of(X[chosen], y[chosen], c=c) for chosen in rows]
    whole = merged(parts, draw=data.draw)

    assert whole.n_rows == len(X)
    assert_same_statistics(statistics_from(whole), statistics_from(moments_of(X, y, c=c)))


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_rows_that_come_one_by_one_give_the_statistics_of_all(kind):
    X, y = drawn_rows(kind, c=3, m=60)
    moments = empty(kind)

    for i in range(len(X)):
        moments.update(X[i : i + 1], y[i : i + 1])

    assert_same_statistics(statistics_from(moments), statistics_from(moments_of(X, y, c=3)))


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize(("block", "values"), [(7, 65536), (4096, 40), (64, 60)])
def test_size_of_blocks_and_chunks_changes_nothing(monkeypatch, kind, block, values):
    X, y = drawn_rows(kind, c=3)
    whole = statistics_from(moments_of(X, y, c=3))

    monkeypatch.setattr(moments_module, "_BLOCK_ROWS", block)
    monkeypatch.setattr(moments_module, "_CHUNK_VALUES", values)
    monkeypatch.setattr(moments_module, "_LEAST_CHUNK_ROWS", 1)

    assert_same_statistics(statistics_from(moments_of(X, y, c=3)), whole)


@pytest.mark.parametrize(("n", "m"), [(2, 9000), (30, 5000), (2000, 200)])
def test_functions_are_formed_of_few_rows_at_a_time(monkeypatch, n, m):
    seen, basis = [], moments_module._function_basis
    monkeypatch.setattr(
        moments_module, "_function_basis", lambda X: seen.append(X.shape) or basis(X)
    )

    moments_of(torch.randn(m, n, generator=seeded()), torch.arange(m) % 2, c=2)

    assert sum(rows for rows, _ in seen) == m
    assert max(rows for rows, _ in seen) <= max(64, 65536 // n)


def test_a_function_that_hardly_varies_keeps_its_correlation_in_chunks(monkeypatch):
    X = torch.full((300, 1), 0.7)
    X[::3] += 1e-4
    y = (torch.arange(300) % 3 == 0).long()

    whole = statistics_from(moments_of(X, y, c=2)).relation
    monkeypatch.setattr(moments_module, "_CHUNK_VALUES", 70)
    chunks = statistics_from(moments_of(X, y, c=2)).relation

    torch.testing.assert_close(whole[0, 1, 4], torch.tensor(1.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(chunks, whole, atol=1e-3, rtol=0)


def test_moments_of_a_task_are_those_of_its_training_rows():
    task = toy_task(m_test=10)

    statistics = statistics_from(Moments.of(task))

    assert Moments.of(task).n_rows == len(task.split.train)
    for name in (*PARTS, "pair", "neighbours"):
        assert torch.equal(getattr(statistics, name), getattr(statistics_of(task), name))


def test_merging_leaves_the_other_as_it_was_and_shares_nothing_with_it():
    X, y = drawn_rows("classification", c=3)
    first, second = empty(), moments_of(X, y, c=3)
    before = statistics_from(second)

    first.merge(second)
    first.update(X[:9], y[:9])

    assert_same_statistics(statistics_from(second), before, tolerance=0)
    assert (first.n_rows, second.n_rows) == (159, 150)


def test_moments_can_be_sent_to_another_process():
    moments = moments_of(*drawn_rows("regression", c=2), c=2)

    again = pickle.loads(pickle.dumps(moments))

    assert_same_statistics(statistics_from(again), statistics_from(moments), tolerance=0)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"n": 5}, "n_features must be the same to merge moments; got 4 and 5"),
        ({"c": 2}, "n_outputs must be the same to merge moments; got 3 and 2"),
        ({"kind": "regression"}, "kind must be the same .* got 'classification' and 'regression'"),
        ({"scale": "b"}, "scale must be the same to merge moments; got 'a' and 'b'"),
        ({"scale": None}, "scale must be the same to merge moments; got 'a' and None"),
    ],
)
def test_moments_of_different_data_do_not_merge(other, message):
    with pytest.raises(GraphPredError, match=message):
        empty(scale="a").merge(empty(**{"scale": "a", **other}))


@pytest.mark.parametrize(
    ("kind", "X", "y", "message"),
    [
        ("classification", torch.zeros(2, 3), torch.zeros(2).long(), r"X must be .*\(m, 4\); got"),
        ("classification", torch.zeros(2, 4).double(), torch.zeros(2).long(), "got torch.float64"),
        ("classification", torch.zeros(2, 4), torch.zeros(3).long(), r"y must be .*\(2,\); got"),
        ("classification", torch.zeros(2, 4), torch.zeros(2), "y must be torch.int64"),
        ("classification", torch.zeros(2, 4), torch.tensor([0, 3]), r"in 0 … 2; got 0 … 3"),
        ("classification", torch.zeros(2, 4), torch.tensor([-1, 2]), r"in 0 … 2; got -1 … 2"),
        ("regression", torch.zeros(2, 4), torch.zeros(2), r"y must be .*\(2, 3\); got"),
    ],
)
def test_rows_of_a_wrong_shape_type_or_class_are_refused_and_not_added(kind, X, y, message):
    moments = empty(kind)

    with pytest.raises(GraphPredError, match=message):
        moments.update(X, y)

    assert moments.n_rows == 0


def test_no_rows_have_no_statistics():
    with pytest.raises(GraphPredError, match="at least one row; got none"):
        statistics_from(empty())


def contents(rows):
    """Every different row with its count, in order."""
    table = torch.cat([rows.X, rows.y.float().view(len(rows.X), -1)], dim=1)
    return [(*row, n) for row, n in zip(table.tolist(), rows.count.tolist(), strict=True)]


def repetitive_rows(kind, *, m=200):
    """Some rows are repeated, and some are others with their columns exchanged."""
    generator = seeded(3)
    X = torch.randint(-3, 4, (m, 2), generator=generator).float()
    y = torch.randint(0, 2, (m,), generator=generator)
    return (X, y) if kind == "classification" else (X, y[:, None].float())


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("limit", [1, 10, 60, 150, 1000])
@given(st.lists(st.integers(0, 200), max_size=4), st.randoms(use_true_random=False))
def test_samples_of_any_parts_merge_to_that_of_the_whole(kind, limit, cuts, random):
    X, y = repetitive_rows(kind)
    order = torch.tensor(random.sample(range(200), 200))
    ends = [0, *sorted(cuts), 200]
    parts = [CountedRows.of(X[order[a:b]], y[order[a:b]]).lowest(limit) for a, b in pairwise(ends)]

    while len(parts) > 1:
        first = parts.pop(random.randrange(len(parts)))
        i = random.randrange(len(parts))
        parts[i] = parts[i].merged(first, limit=limit)

    whole = CountedRows.of(X, y)
    assert contents(parts[0].distinct()) == contents(whole.distinct())[:limit]
    samples = [rows.sample(limit=limit, n_outputs=2) for rows in (parts[0], whole)]
    assert torch.equal(samples[0].X, samples[1].X)
    assert torch.equal(samples[0].y, samples[1].y)


def test_sample_has_all_rows_if_they_fit_and_those_of_lowest_hash_if_not():
    X, y = drawn_rows("classification", c=3)
    rows = CountedRows.of(X, y)
    order = row_hashes(X).argsort()

    everything, some = (rows.sample(limit=limit, n_outputs=3) for limit in (150, 40))

    assert torch.equal(everything.X, X[order])
    assert torch.equal(everything.y.argmax(dim=1), y[order])
    assert torch.equal(some.X, X[order[:40]])


def test_few_different_rows_are_drawn_by_their_shares():
    X = torch.tensor([[-1.0], [0.0], [1.0]]).repeat_interleave(torch.tensor([700, 200, 100]), dim=0)
    rows = CountedRows.of(X, torch.zeros(1000, dtype=torch.int64))

    sample = rows.sample(limit=20, n_outputs=2)

    assert sample.X.flatten().sort().values.tolist() == [-1] * 14 + [0] * 4 + [1] * 2


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_moments_keep_the_sample_of_the_task(kind):
    task = toy_task(kind, m=200)

    ours, theirs = Moments.of(task).sample(limit=50), RowSample.of(task, limit=50)

    assert ours.shape == theirs.shape == (50, 5, 3)
    assert torch.equal(ours.X, theirs.X)
    assert torch.equal(ours.y, theirs.y)
    assert ours.is_regression == theirs.is_regression == (kind == "regression")


@pytest.mark.parametrize("c", [1, 3])
def test_quantities_are_chosen_apart_where_features_are_the_same(c):
    y = torch.randn(1000, c, generator=seeded())
    X = torch.tensor([[-1.0], [1.0]]).repeat(500, 1)

    first, second = (
        CountedRows.of(X, outputs).sample(limit=100, n_outputs=c) for outputs in (y, y.flip(1))
    )

    assert 30 < int((first.X > 0).sum()) < 70
    assert torch.equal(first.X, second.X)
    torch.testing.assert_close(first.y.sum(dim=0), second.y.flip(1).sum(dim=0))


def test_pairs_of_many_rows_are_those_of_a_sample_near_those_of_all(monkeypatch):
    X, y = drawn_rows("classification", c=3, m=3 * SAMPLE_LIMIT)
    sampled = pair_table(statistics_from(moments_of(X, y, c=3)))

    monkeypatch.setattr(moments_module, "SAMPLE_LIMIT", len(X))
    monkeypatch.setattr(statistics_module, "SAMPLE_LIMIT", len(X))
    of_all = pair_table(statistics_from(moments_of(X, y, c=3)))

    torch.testing.assert_close(sampled, of_all, atol=0.1, rtol=0)
    assert torch.equal(sampled[:, :, 0], of_all[:, :, 0])  # covariance
    assert torch.equal(sampled[:, :, 5], of_all[:, :, 5])  # partial correlations
    assert not torch.equal(sampled, of_all)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_pairs_of_many_rows_are_exact_where_few_are_different(kind):
    corners = torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1], [1, 1]])
    X = corners.repeat(SAMPLE_LIMIT, 1)
    X = (X - X.mean(dim=0)) / X.std(dim=0, correction=0)
    y = (corners.prod(dim=1) > 0).repeat(SAMPLE_LIMIT).long()
    y = y if kind == "classification" else (y[:, None] - 0.6) / 0.24**0.5
    c = 2 if kind == "classification" else 1

    many, few = (statistics_from(moments_of(X[:m], y[:m], c=c)) for m in (len(X), 5))

    torch.testing.assert_close(pair_table(many), pair_table(few), atol=1e-5, rtol=0)


def test_wide_data_have_fewer_rows_for_pairs_by_a_rule_of_their_shape_alone():
    assert [pair_rows(n, c) for n, c in ((2, 1), (100, 10), (1000, 1), (1000, 10))] == [
        4096,
        4096,
        4096,
        1000,
    ]
    assert pair_rows(100_000, 10) == 64


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_parts_of_thinned_data_give_the_statistics_of_all(monkeypatch, kind):
    X, y = drawn_rows(kind, c=3)
    monkeypatch.setattr(moments_module, "SAMPLE_LIMIT", 60)
    monkeypatch.setattr(statistics_module, "SAMPLE_LIMIT", 60)
    monkeypatch.setattr(statistics_module, "_MAX_PAIR_WORK", 30 * 4 * 4 * 3)
    monkeypatch.setattr(statistics_module, "_LEAST_PAIR_ROWS", 1)
    first, second, whole = moments_of(X[:70], y[:70], c=3), empty(kind), moments_of(X, y, c=3)

    second.update(X[70:], y[70:])
    second.merge(first)

    assert pair_rows(4, 3) == 30
    assert len(whole.rows.X) == 60
    assert_same_statistics(statistics_from(second), statistics_from(whole))
