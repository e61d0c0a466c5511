"""The parts of the prior: columns, functions and targets."""

import numpy as np
import pandas as pd
import pytest
import torch
from toys import seeded

from graphpred.columns import NumericColumn
from graphpred.encoding import MAX_DEVIATIONS, TableEncoder
from graphpred.synthetic import FAMILIES, features, functions, targets
from graphpred.synthetic.draws import coin, log_uniform_counts, unit
from graphpred.synthetic.features import BENDS, draw_columns, fill_missing, scaled
from graphpred.synthetic.functions import Inputs, draw_parts, draw_relevant, draw_scores
from graphpred.synthetic.targets import NOISE_LAWS, draw_classes, draw_quantities

M_TRAIN = 300


def drawn_columns(seed=0, *, b=40, n=20, clustered=False, max_missing=0.4):
    return draw_columns(
        (b, n, M_TRAIN + 100),
        m_train=M_TRAIN,
        clustered=torch.full((b,), clustered),
        max_missing=max_missing,
        generator=seeded(seed),
    )


def kurtosis(values):
    return unit(values).pow(4).mean(dim=-1)


def correlations(columns):
    """Mean absolute correlation between the columns of every data set."""
    X = unit(columns)
    products = (X @ X.transpose(1, 2)).abs() / X.shape[2]
    return (products.sum(dim=(1, 2)) - X.shape[1]) / (X.shape[1] * (X.shape[1] - 1))


# Draws


def test_counts_are_log_uniform_between_their_bounds():
    drawn = log_uniform_counts(1, 100, 20000, generator=seeded())

    assert (int(drawn.min()), int(drawn.max())) == (1, 100)
    assert 0.45 < (drawn < 10).float().mean() < 0.55


def test_unit_scales_and_keeps_constants_at_zero():
    values = unit(torch.tensor([[1.0, 2.0, 3.0], [0.3, 0.3, 0.3]]))

    torch.testing.assert_close(values.mean(dim=1), torch.zeros(2))
    torch.testing.assert_close(values.std(dim=1, correction=0), torch.tensor([1.0, 0.0]))


# Columns


def test_scaling_is_the_encoders():
    X = torch.randn(4, 200, generator=seeded()) * 3 + 5
    X[0, 150] = 1e4  # after the training rows: cut
    frame = pd.DataFrame(X.T.double().numpy(), columns=list("abcd"))

    encoded = TableEncoder.fit(frame, rows=range(100)).transform(frame)

    ours = scaled(X, m_train=100)
    np.testing.assert_allclose(ours.T.numpy(), encoded, atol=1e-3)
    assert ours[0, 150] == MAX_DEVIATIONS


@pytest.mark.parametrize("share", [0.1, 0.5, 0.98])
def test_missing_values_are_filled_as_the_encoder_fills_them(share):
    X = torch.randn(6, 90, generator=seeded())
    hidden = coin(share, 6, 90, generator=seeded(1))

    filled = fill_missing(X, hidden, m_train=60)

    for values, absent, result in zip(X.double().numpy(), hidden.numpy(), filled, strict=True):
        raw = pd.Series(np.where(absent, np.nan, values), name="x")
        if absent[:60].all():
            assert (result[torch.from_numpy(absent)] == 0).all()
            continue
        parts = next(NumericColumn.fit(raw.iloc[:60]).parts(raw))
        np.testing.assert_allclose(result.numpy(), parts, atol=1e-6)


def test_columns_are_scaled_finite_and_never_constant():
    for seed in range(5):
        columns = drawn_columns(seed)
        for X in (columns.values, columns.observed()):
            training = X[:, :, :M_TRAIN]
            assert X.isfinite().all()
            assert X.abs().max() <= MAX_DEVIATIONS
            assert training.mean(dim=2).abs().max() < 0.02
            assert (training.amax(dim=2) > training.amin(dim=2)).all()


def test_heavy_tails_are_cut():
    largest = max(float(drawn_columns(seed).values.max()) for seed in range(12))

    assert largest == MAX_DEVIATIONS


def test_some_data_sets_miss_values_and_say_where():
    n_incomplete, n_sets = 0, 0
    for seed in range(40):
        columns = drawn_columns(seed, b=8, n=12)
        observed, hidden = columns.observed(), columns.hidden
        q = hidden.shape[1]
        n_sets += len(observed)
        for i, j in hidden.any(dim=2).nonzero().tolist():
            absent = hidden[i, j]
            n_incomplete += j == 0
            assert observed[i, j, absent].unique().numel() == 1
            assert not torch.equal(observed[i, j], columns.values[i, j])
            if absent[:M_TRAIN].any():
                indicator = observed[i, 12 - q + j]
                assert indicator[absent].min() > indicator[~absent].max()
        complete = ~hidden.any(dim=2)
        assert torch.equal(observed[:, :q][complete], columns.values[:, :q][complete])
        assert torch.equal(observed[:, q:], columns.values[:, q:])
    assert 0.1 * n_sets < n_incomplete < 0.4 * n_sets


def test_share_of_missing_values_is_obeyed():
    none, few, many = (
        torch.cat([drawn_columns(s, max_missing=share).hidden.float().mean(2).flatten()
                   for s in range(6)])
        for share in (0.0, 0.05, 0.9)
    )  # fmt: skip

    assert not none.any()
    assert 0 < few.max() < 0.13
    assert many.max() > 0.5


def test_high_values_are_missing_more_often_in_some_columns():
    differences = []
    for seed in range(8):
        columns = drawn_columns(seed)
        for i, j in columns.hidden.any(dim=2).nonzero().tolist():
            x, absent = columns.values[i, j], columns.hidden[i, j]
            if 60 < absent.sum() < 340:
                differences.append(float(x[absent].mean() - x[~absent].mean()))

    differences = torch.tensor(differences)
    assert 0.2 < (differences > 0.4).float().mean() < 0.8
    assert (differences < -0.4).float().mean() < 0.05


@pytest.mark.parametrize("name", BENDS)
def test_bends_give_their_kind_of_column(name):
    x = unit(torch.randn(200, 1000, generator=seeded()))

    bent = BENDS[name](x, seeded(1))

    n_values = torch.tensor([len(column.unique()) for column in bent])
    zeros = (bent == 0).float().mean(dim=1)
    skew = unit(bent).pow(3).mean(dim=1)
    holds = {
        "heavy tails": (kurtosis(bent) > 4) & (skew.abs() < 6),
        "skewed": (skew > 0.8) & (bent > 0).all(dim=1),
        "counts": (n_values < 30) & (bent == bent.round()).all(dim=1),
        "binary": n_values == 2,
        "mostly zero": (zeros > 0.2) & (skew > 0.3),
        "even": (bent.abs() <= 1).all(dim=1) & (kurtosis(bent) < 2.2),
    }
    assert holds[name].float().mean() > 0.9
    assert len({float(value) for value in skew}) > 100 or name == "even"


def test_all_kinds_of_columns_occur():
    values = torch.cat([drawn_columns(seed).values for seed in range(3)]).flatten(0, 1)
    n_values = torch.tensor([len(column.unique()) for column in values])

    assert (n_values == 2).float().mean() > 0.05
    assert ((n_values > 2) & (n_values < 20)).float().mean() > 0.02
    assert (n_values > 350).float().mean() > 0.4
    assert (kurtosis(values) > 6).float().mean() > 0.05


def test_levels_of_nominal_columns_exclude_each_other():
    X = torch.randn(30, 25, 200, generator=seeded())
    before = X.clone()

    features._make_nominal(X, generator=seeded(1))

    changed = (before != X).any(dim=2)  # (30, 25)
    assert 0.15 < changed.any(dim=1).float().mean() < 0.6
    for columns, mask in zip(X, changed, strict=True):
        if mask.any():
            total = columns[mask].sum(dim=0)  # blocks of this data set: one level each
            assert columns[mask].unique().tolist() == [0.0, 1.0]
            assert total.unique().numel() == 1
            assert 1 <= total[0] <= 3
            assert 3 * total[0] <= mask.sum() <= 11 * total[0]


def test_columns_are_correlated_in_some_data_sets_and_not_in_others():
    strength = correlations(drawn_columns(b=100, max_missing=0.0).values)

    assert 0.15 < (strength < 0.06).float().mean() < 0.6
    assert (strength > 0.15).float().mean() > 0.2


def test_rows_come_in_clusters_where_they_must():
    found = []
    for clustered in (True, False):
        columns = drawn_columns(2, clustered=clustered, max_missing=0.0)
        members = torch.nn.functional.one_hot(columns.cluster).float()  # (b, m, K)
        centres = columns.values @ members / members.sum(dim=1, keepdim=True)  # (b, n, K)
        explained = (centres @ members.transpose(1, 2)).square().mean(dim=(1, 2))  # (b,)
        found.append(float((explained > 0.15).float().mean()))

    assert found[0] > 0.7
    assert 0.1 < found[1] < 0.5


# Functions


def some_inputs(n=6, *, b=20, m=400, n_relevant=None):
    relevant = torch.zeros(b, n, dtype=torch.bool)
    relevant[:, : n_relevant or n] = True
    return Inputs(
        X=torch.randn(b, n, m, generator=seeded(3)),
        data_sets=torch.arange(b),
        relevant=relevant,
        cluster=torch.randint(3, (b, m), generator=seeded(4)),
    )


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("n", "c"), [(1, 1), (2, 3), (12, 10), (3, 50)])
def test_every_family_gives_finite_scores_that_vary(name, n, c):
    inputs = some_inputs(n)

    scores, again = (FAMILIES[name](inputs, c, generator=seeded(2)) for _ in range(2))

    assert scores.shape == (20, c, 400)
    assert scores.isfinite().all()
    assert torch.equal(scores, again)
    assert (scores.std(dim=2).amax(dim=1) > 0).float().mean() > (0.6 if n == 1 else 0.85)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "clusters"])
def test_families_depend_on_relevant_columns_alone(name):
    inputs = some_inputs(n_relevant=2)
    X = inputs.X.clone()
    X[:, 2:] = torch.randn(X[:, 2:].shape, generator=seeded(9))
    other = Inputs(**{**vars(inputs), "X": X})
    shuffled = Inputs(**{**vars(inputs), "X": inputs.X.flip(2)})

    scores, same, reversed_ = (
        FAMILIES[name](given, 3, generator=seeded(2)) for given in (inputs, other, shuffled)
    )

    torch.testing.assert_close(scores, same)
    assert not torch.allclose(scores, reversed_, atol=0.1)


@pytest.mark.parametrize("name", FAMILIES)
def test_data_sets_of_a_family_have_functions_of_their_own(name):
    inputs = some_inputs()
    alike = Inputs(**{**vars(inputs), "data_sets": torch.zeros(20, dtype=torch.int64)})

    scores = FAMILIES[name](alike, 2, generator=seeded())

    assert not torch.allclose(scores[0], scores[1], atol=0.1)


def test_parity_is_invisible_to_a_line_and_a_product_of_signs():
    inputs = some_inputs(2, m=4000)

    scores = unit(functions.parity(inputs, 1, generator=seeded()))[:, 0]  # (b, m)

    line = (inputs.X @ scores[..., None] / 4000).squeeze(2)
    assert line.abs().median() < 0.35
    binary = torch.tensor([len(row.unique()) for row in scores])
    assert (binary == 2).all()
    X = inputs.X > 0
    agreement = unit((X[:, 0] ^ X[:, 1]).float()) * scores
    assert agreement.mean(dim=1).abs().median() > 0.15


def test_parity_tells_all_classes_apart():
    scores = functions.parity(some_inputs(12, m=2000), 8, generator=seeded())

    winners = [len(labels.unique()) for labels in scores.max(dim=1).indices]
    assert sorted(winners)[len(winners) // 2] == 8


def test_trees_and_rules_are_constant_in_boxes():
    for family in (functions.trees, functions.rules):
        scores = family(some_inputs(m=3000), 1, generator=seeded(1))
        n_values = torch.tensor([len(row.unique()) for row in scores[:, 0]])
        assert (n_values < 1500).all()
        assert n_values.median() < 400


def test_networks_of_monotone_units_are_mostly_linear(monkeypatch):
    """Least squares explains most of them, and little of networks of bent units alone."""
    inputs = some_inputs(4, b=64, m=600)
    X = torch.cat([inputs.all_columns(), torch.ones(64, 1, 600)], dim=1).mT  # (b, m, n + 1)
    explained = []
    for share in (functions.BENT_SHARE, 1.0):
        monkeypatch.setattr(functions, "BENT_SHARE", share)
        y = unit(functions.network(inputs, 1, generator=seeded())).mT  # (b, m, 1)
        residual = y - X @ torch.linalg.lstsq(X, y).solution
        explained.append(1 - residual.square().mean(dim=(1, 2)).median().item())

    assert explained[0] > 0.8
    assert explained[1] < explained[0] - 0.1


def test_products_have_no_linear_part():
    inputs = some_inputs(4, m=4000)

    scores = unit(functions.products(inputs, 1, generator=seeded()))  # (b, 1, m)

    assert (inputs.X @ scores.transpose(1, 2) / 4000).abs().median() < 0.06


def test_parts_are_drawn_by_weight_and_only_from_what_is_allowed():
    everything = draw_parts(3000, families=tuple(FAMILIES), generator=seeded())
    some = draw_parts(200, families=("trees", "cells"), generator=seeded())

    counts = torch.bincount(everything[:, 0], minlength=len(FAMILIES)).float()
    weights = torch.tensor(list(functions.FAMILY_WEIGHTS.values()))
    torch.testing.assert_close(counts / 3000, weights / weights.sum(), atol=0.03, rtol=0)
    assert (everything[:, 0] >= 0).all()
    assert 0.3 < (everything[:, 1] < 0).float().mean() < 0.7
    names = list(FAMILIES)
    assert set(some.flatten().tolist()) == {-1, names.index("trees"), names.index("cells")}


def test_one_to_all_columns_are_relevant():
    n_relevant = draw_relevant(500, 10, generator=seeded()).sum(dim=1)

    assert set(n_relevant.tolist()) == set(range(1, 11))
    assert 0.3 < (n_relevant <= 3).float().mean() < 0.75


def test_scores_are_scaled():
    inputs = some_inputs()
    parts = draw_parts(20, families=tuple(FAMILIES), generator=seeded())

    scores = draw_scores(inputs.X, 3, parts=parts, cluster=inputs.cluster, generator=seeded())

    deviation = scores.std(dim=2, correction=0)
    torch.testing.assert_close(scores.mean(dim=2), torch.zeros(20, 3), atol=1e-4, rtol=0)
    assert (((deviation - 1).abs() < 1e-3) | (deviation == 0)).all()


def test_the_scale_of_a_part_does_not_decide_its_weight(monkeypatch):
    inputs = some_inputs()
    parts = torch.tensor([[0, 3, -1]]).expand(20, -1)

    def scores():
        return draw_scores(inputs.X, 2, parts=parts, cluster=inputs.cluster, generator=seeded())

    before, linear = scores(), FAMILIES["linear"]
    monkeypatch.setitem(FAMILIES, "linear", lambda *args, **kwargs: 100 * linear(*args, **kwargs))

    torch.testing.assert_close(scores(), before, atol=1e-4, rtol=1e-4)


# Targets


def classes_of(scores, **settings):
    quiet = {"noise": 0.0, "label_noise": 0.0, "imbalance": 0.0}
    return draw_classes(scores, generator=seeded(5), **(quiet | settings))


def normal_scores(b=200, c=5, m=600):
    return unit(torch.randn(b, c, m, generator=seeded(6)))


def sizes_of(labels, c):
    return torch.nn.functional.one_hot(labels, c).float().mean(dim=1)  # (b, c)


def test_classes_are_of_one_size_or_as_unequal_as_wanted():
    even = sizes_of(classes_of(normal_scores()), 5)
    uneven = sizes_of(classes_of(normal_scores(), imbalance=2.0), 5)

    assert (even.amin(dim=1) > 0.12).float().mean() > 0.95
    ratio = uneven.amax(dim=1) / uneven.amin(dim=1).clamp(min=1e-3)
    assert 0.25 < (ratio < 2).float().mean() < 0.65
    assert (ratio > 8).float().mean() > 0.2


def test_classes_follow_the_scores():
    scores = normal_scores()

    labels = classes_of(scores)

    top = (labels == scores.max(dim=1).indices).float().mean(dim=1)  # (b,)
    assert 0.6 < (top > 0.85).float().mean() < 0.9  # the rest is ordinal
    for first, classes in zip(scores[top < 0.6, 0], labels[top < 0.6], strict=True):
        by_score = classes[first.argsort()]
        assert (by_score.diff() >= 0).float().mean() > 0.97


def test_noise_and_blind_labels_have_their_strength():
    scores = normal_scores()
    quiet = classes_of(scores)

    noisy = (classes_of(scores, noise=2.0) != quiet).float().mean(dim=1)
    blind = (classes_of(scores, label_noise=0.5) != quiet).float().mean(dim=1)

    assert noisy.max() > 0.5
    assert noisy.median() < 0.5
    assert 0.5 < (blind == 0).float().mean() < 0.9
    assert 0.3 < blind.max() <= 0.45


@pytest.mark.parametrize("name", NOISE_LAWS)
def test_noise_laws_have_their_shape(name):
    noise = torch.randn(300, 1, 2000, generator=seeded())
    scores = normal_scores(300, 1, 2000)

    bent = NOISE_LAWS[name](noise, scores, seeded(1))[:, 0]

    assert 0.6 < bent.std(dim=1).median() < 1.7
    assert (bent.mean(dim=1).abs() < 0.25).float().mean() > 0.95
    tail = float(kurtosis(bent).median())
    low, high = {
        "normal": (2.8, 3.2),
        "laplace": (4.5, 7.5),
        "student": (7.0, 200.0),
        "uneven": (4.0, 30.0),
        "outliers": (10.0, 60.0),
    }[name]
    assert low < tail < high
    spread = unit(bent.abs()) * scores[:, 0]
    assert (spread.mean(dim=1).median() > 0.3) == (name == "uneven")


def test_every_noise_law_is_drawn_and_used(monkeypatch):
    scores = normal_scores(50, 1, 20)
    for mark, name in enumerate(NOISE_LAWS):
        monkeypatch.setitem(
            targets.NOISE_LAWS, name, lambda noise, *_, mark=mark: torch.full_like(noise, mark)
        )
    monkeypatch.setattr(targets, "SKEWED_SHARE", 0.0)

    errors = draw_quantities(scores, noise=1.0, generator=seeded()) - scores

    constant = errors.amax(dim=2) - errors.amin(dim=2) < 1e-5  # (50, 1); all but the normal law
    assert 0.6 < constant.float().mean() < 0.95
    assert errors[constant].amax() > 1.5


def test_quantities_follow_scores_and_some_are_skewed():
    scores = normal_scores(200, 2, 500)

    exact, noisy = (draw_quantities(scores, noise=s, generator=seeded()) for s in (0.0, 2.0))

    same = (unit(exact) - scores).abs().amax(dim=(1, 2)) < 1e-3
    assert 0.7 < same.float().mean() < 0.9
    skew = unit(exact).pow(3).mean(dim=2).amin(dim=1)
    assert (skew[~same] > 0.7).all()
    agreement = (unit(noisy) * scores).mean(dim=(1, 2))
    assert agreement.min() < 0.5
    assert 0.6 < agreement.median() < 0.8
    assert agreement.max() > 0.98
