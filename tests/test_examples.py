"""What the meta-model is trained on: views of pairs, and synthetic data sets."""

from collections import Counter
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from test_pairs import some_pair
from toys import PRIOR, seeded, toy_model, toy_task

from graphpred.architecture import Architecture
from graphpred.errors import StoreError
from graphpred.meta.draft import LATENT_SIZE
from graphpred.meta.examples import (
    GROUP,
    MAX_ROWS,
    PRICE_BOUNDS,
    PairExamples,
    PriorExamples,
)
from graphpred.pairs.generate import GenerateConfig, generate_pairs
from graphpred.pairs.store import PairStore
from graphpred.space import SearchSpace
from graphpred.task import Task


def iris_pair(search=0, price=0.1, *, base=None, rows=None, n_hidden=3, **changes):
    """A pair on some rows of iris that are not for testing."""
    base = base or Task.from_source("iris")
    fit = base.split.fit
    own = rows or sorted(fit[torch.randperm(len(fit), generator=seeded(search))[:30]].tolist())
    space = SearchSpace(widths=(base.n_features, n_hidden, base.n_outputs))
    z = space.sample_live(generator=seeded(search), n_edges=6)
    plain = {
        "source": "iris",
        "digest": base.digest,
        "split_seed": 0,
        "train_rows": tuple(own[::2]),
        "validation_rows": tuple(own[1::2]),
        "feature_names": base.feature_names,
        "class_names": base.class_names,
    }
    return some_pair(search, price, z=z, **plain | changes)


def stored_pairs(folder, **changes):
    """Two searches on iris with two prices each; ``changes`` may spoil them."""
    pairs = [iris_pair(s, price, **changes) for s in range(2) for price in (0.1, 1.0)]
    PairStore(folder).write(pairs, searches=range(2))
    return folder


@pytest.fixture(scope="module")
def iris():
    return Task.from_source("iris")


@pytest.fixture(scope="module")
def views(iris):
    """Every task that the encoder was asked to describe, for two searches on iris."""
    seen = []

    def describe(task):
        seen.append(task)
        return len(seen) - 1

    pairs = [iris_pair(search, base=iris) for search in range(2)]
    return PairExamples(pairs, describe=describe), seen, pairs


def rows_of(task, part):
    return set(task.origin[getattr(task.split, part)].tolist())


def test_views_never_hold_test_rows(views, iris):
    _, seen, _ = views
    test = set(iris.origin[iris.split.test].tolist())

    assert len(seen) > 10
    for task in seen:
        assert not len(task.split.test)
        assert not test & (rows_of(task, "train") | rows_of(task, "validation"))


def test_views_hold_rows_of_the_pairs_alone(views):
    _, seen, pairs = views
    known = {row for pair in pairs for row in (*pair.train_rows, *pair.validation_rows)}

    for task in seen:
        assert rows_of(task, "fit") <= known


def test_fresh_rows_are_not_among_the_described_ones(views):
    _, seen, _ = views

    for task in seen:
        assert rows_of(task, "train")
        assert rows_of(task, "validation")
        assert not rows_of(task, "train") & rows_of(task, "validation")
        share = len(task.split.train) / len(task.split.fit)
        assert 0.45 <= share <= 0.95


def test_an_example_has_the_fresh_rows_of_its_view(views):
    source, seen, _ = views
    generator = seeded()

    for _ in range(20):
        example = source.draw(1, generator)[0]
        X, y = seen[example.description].rows("validation")
        drawn = Counter(map(tuple, torch.cat([example.X, example.y[:, None]], dim=1).tolist()))
        assert drawn == Counter(map(tuple, torch.cat([X, y[:, None]], dim=1).tolist()))


def test_an_example_has_the_price_and_architecture_of_its_pair(iris):
    pairs = [iris_pair(search, 10.0**-search, base=iris) for search in range(3)]
    source = PairExamples(pairs, describe=lambda task: None)
    by_price = {pair.price: pair.architecture for pair in pairs}
    generator = seeded()

    prices = set()
    for _ in range(30):
        example = source.draw(1, generator)[0]
        assert example.architecture == by_price[example.price]
        assert example.latents.shape == (3, LATENT_SIZE)
        prices.add(example.price)

    assert prices == set(by_price)


def test_pairs_of_two_folders_with_the_same_numbers_keep_their_own_rows(iris):
    fit = iris.split.fit.tolist()
    first, second = (
        iris_pair(0, price, base=iris, rows=rows)
        for price, rows in ((0.1, fit[:40]), (0.2, fit[40:80]))
    )
    source = PairExamples([first, second], describe=lambda task: task)
    own = {0.1: set(fit[:40]), 0.2: set(fit[40:80])}
    generator = seeded()

    inside = Counter()
    for _ in range(60):
        example = source.draw(1, generator)[0]
        inside[example.price] += rows_of(example.description, "fit") <= own[example.price]

    assert inside[0.1] > 5
    assert inside[0.2] > 5


def test_pairs_are_also_seen_on_rows_of_other_searches(views):
    source, seen, pairs = views
    generator = seeded()
    own = [{*pair.train_rows, *pair.validation_rows} for pair in pairs]

    examples = [source.draw(1, generator)[0] for _ in range(40)]

    mixed = [not any(rows_of(seen[e.description], "fit") <= o for o in own) for e in examples]
    assert 5 < sum(mixed) < 35


def test_rows_are_scaled_by_the_described_ones(views):
    _, seen, _ = views

    for task in seen[:5]:
        torch.testing.assert_close(task.rows("train")[0].mean(0), torch.zeros(4), atol=1e-5, rtol=0)


def test_same_seed_gives_the_same_examples(iris):
    pairs = [iris_pair(search, base=iris) for search in range(2)]

    def examples(seed):
        source = PairExamples(pairs, describe=lambda task: task.origin.tolist(), seed=seed)
        generator = seeded()
        return [source.draw(1, generator)[0] for _ in range(5)]

    first, second, other = examples(1), examples(1), examples(2)

    assert [e.description for e in first] == [e.description for e in second]
    assert all(torch.equal(a.X, b.X) for a, b in zip(first, second, strict=True))
    assert [e.description for e in first] != [e.description for e in other]


def test_sources_are_read_again(iris):
    source = PairExamples([iris_pair(0, base=iris)], describe=lambda task: task)

    task = source.draw(1, seeded())[0].description

    rows = task.origin
    expected = iris.take(train=rows[task.split.train], validation=rows[task.split.validation])
    torch.testing.assert_close(task.X, expected.X)
    assert torch.equal(task.y, expected.y)


def test_a_source_that_cannot_be_read_may_be_given(iris):
    pair = iris_pair(0, base=iris, source="arrays")

    source = PairExamples([pair], describe=lambda task: task, tasks={iris.digest: iris})

    assert source.draw(1, seeded())[0].architecture == pair.architecture


def test_quantities_are_examples_too():
    task = toy_task("regression", n=4, c=1)
    z = Architecture.from_masks([[[1, 0]] * 4, [[1], [0]]], hidden=["relu", "relu"])
    own = task.origin[task.split.fit].tolist()
    pair = some_pair(
        z=z,
        kind="regression",
        digest=task.digest,
        feature_names=task.feature_names,
        train_rows=tuple(own[::2]),
        validation_rows=tuple(own[1::2]),
    )

    example = PairExamples([pair], describe=lambda t: t, tasks={task.digest: task}).draw(
        1, seeded()
    )[0]

    assert example.y.is_floating_point()
    assert example.y.shape == (len(example.X), 1)


def test_without_pairs_there_is_nothing_to_train_on():
    with pytest.raises(StoreError, match="needs pairs"):
        PairExamples([], describe=lambda task: None)


def test_deep_pairs_are_left_out(iris):
    deep = SearchSpace(widths=(4, 2, 2, 3)).sample_live(generator=seeded(), n_edges=8)

    with pytest.raises(StoreError, match="one hidden layer"):
        PairExamples([some_pair(z=deep, digest=iris.digest)], describe=lambda task: None)


def test_a_source_that_has_changed_is_refused(iris):
    with pytest.raises(StoreError, match=r"iris must hold the data .* it has changed"):
        PairExamples([iris_pair(0, base=iris, digest="0f" * 16)], describe=lambda task: None)


# The prior


def test_examples_of_the_prior_need_no_pair():
    source = PriorExamples(lambda task: task, config=PRIOR)
    generator = seeded()

    for _ in range(20):
        example = source.draw(1, generator)[0]
        task = example.description
        assert example.architecture is None
        low, high = (task.n_features * bound for bound in PRICE_BOUNDS)
        assert 0.999 * low <= example.price <= 1.001 * high
        assert len(example.X) == min(MAX_ROWS, PRIOR.validation_rows)
        assert example.X.shape[1] == task.n_features
        assert len(example.latents) >= 2
        assert len(example.latents) <= max(2, round(2.2 * task.n_features))


def test_examples_of_the_prior_depend_on_the_generator_alone():
    before = torch.get_rng_state()
    source = PriorExamples(lambda task: None, config=PRIOR)

    first, second, other = (source.draw(1, seeded(seed))[0] for seed in (1, 1, 2))

    assert torch.equal(first.X, second.X)
    assert torch.equal(first.latents, second.latents)
    assert first.price == second.price != other.price
    assert torch.equal(before, torch.get_rng_state())


def shape_of(example):
    return example.X.shape[1], len(example.latents), example.y.dtype


def test_neighbours_from_the_prior_are_of_one_shape():
    source = PriorExamples(lambda task: task, config=PRIOR)

    examples = source.draw(4 * GROUP, seeded())

    shapes = [shape_of(example) for example in examples]
    changes = sum(one != other for one, other in pairwise(shapes))
    assert 1 <= changes <= 6  # a group is smaller where a data set has only one class
    assert len({example.price for example in examples}) == 4 * GROUP


def test_descriptions_hold_as_many_rows_as_asked_for():
    describe = partial(toy_model().describe, limit=20)

    (example,) = PriorExamples(describe, config=PRIOR).draw(1, seeded())

    assert example.description.sample.shape[0] == 20
    assert example.description.sample.shape[1] == example.X.shape[1]


def test_neighbouring_pairs_are_of_one_shape(iris):
    pairs = [iris_pair(i, 0.1 * (i + 1), base=iris, n_hidden=2 + i % 3) for i in range(9)]
    source = PairExamples(pairs, describe=lambda task: task)

    examples = source.draw(6 * GROUP + 1, seeded())

    assert len(examples) == 6 * GROUP + 1
    groups = [examples[i : i + GROUP] for i in range(0, len(examples), GROUP)]
    assert all(len({shape_of(example) for example in group}) == 1 for group in groups)
    assert all(len({example.price for example in group}) > 1 for group in groups[:-1])
    assert {example.price for example in examples} == {pair.price for pair in pairs}


def test_pairs_of_two_runs_with_other_features_train_together(tmp_path):
    """Which columns vary, and so are features, depends on the seed of the split."""
    rows = np.arange(40)
    frame = pd.DataFrame(
        {"a": rows, "b": rows**2 % 7, "rare": (rows == 5).astype(float), "y": ["k", "l"] * 20}
    )
    frame.to_csv(tmp_path / "rare.csv", index=False)
    pairs, n_features = [], set()
    for seed in range(6):
        config = GenerateConfig(n_searches=1, rows=20, evaluations=3, prices=(0.1,), seed=seed)
        list(generate_pairs([tmp_path / "rare.csv"], out=tmp_path / str(seed), config=config))
        pairs += PairStore(tmp_path / str(seed))
        n_features.add(len(pairs[-1].feature_names))
    assert len(n_features) == 2

    examples = PairExamples(pairs, describe=lambda task: task.n_features)

    for seed in range(20):
        example = examples.draw(1, seeded(seed))[0]
        assert example.description == example.X.shape[1] == example.architecture.widths[0]
