import numpy as np
import pandas as pd
import pytest
import torch

from graphpred.encoding import MAX_DEVIATIONS, TableEncoder
from graphpred.errors import DataError, InputError
from graphpred.split import Split, held_out_rows, split_rows, stratified_draw
from graphpred.tables import read_table
from graphpred.targets import guess_kind
from graphpred.task import Task

SETS = {
    "breast_cancer": ("classification", 2),
    "wine": ("classification", 3),
    "digits": ("classification", 10),
    "iris": ("classification", 3),
    "diabetes": ("regression", 1),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module", params=["wine", "diabetes"])
def task(request):
    return Task.from_source(request.param)


@pytest.fixture(scope="module")
def wine():
    return Task.from_source("wine")


def same(first, second):
    return (
        torch.equal(first.X, second.X)
        and torch.equal(first.y, second.y)
        and torch.equal(first.origin, second.origin)
        and torch.equal(first.split.train, second.split.train)
        and torch.equal(first.split.validation, second.split.validation)
        and torch.equal(first.split.test, second.split.test)
        and first.encoder == second.encoder
        and first.target_mean == second.target_mean
        and first.target_scale == second.target_scale
    )


def assert_scaled_by_training_rows(task):
    X, y = task.rows("train")
    varies = X.amax(0) > X.amin(0)
    torch.testing.assert_close(X.mean(0), torch.zeros(X.shape[1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(X.std(0, correction=0), varies.float(), atol=1e-4, rtol=0)
    assert not task.X[:, ~varies].any()
    if not task.is_classification:
        torch.testing.assert_close(y.mean(0), torch.zeros(y.shape[1]), atol=1e-5, rtol=0)
        torch.testing.assert_close(y.std(0, correction=0), torch.ones(y.shape[1]))


@pytest.mark.parametrize("name", SETS)
def test_shipped_sets_become_tasks_of_the_right_kind(name):
    task = Task.from_source(name)

    assert (task.kind, task.n_outputs) == SETS[name]
    assert (task.name, task.source) == (name, name)
    assert task.n_rows == len(task.X) == len(task.y)
    assert task.X.isfinite().all()
    parts = [len(task.rows(part)[0]) for part in ("train", "validation", "test")]
    np.testing.assert_allclose(np.array(parts) / task.n_rows, [0.5, 0.25, 0.25], atol=0.01)
    assert len(task.rows("fit")[0]) == parts[0] + parts[1]
    assert_scaled_by_training_rows(task)


def test_parts_are_stratified(wine):
    whole = torch.bincount(wine.y) / wine.n_rows

    for part in ("train", "validation", "test"):
        y = wine.rows(part)[1]
        torch.testing.assert_close(torch.bincount(y) / len(y), whole, atol=0.02, rtol=0)


@pytest.mark.parametrize("name", ["wine", "diabetes"])
def test_test_part_depends_on_the_data_alone(name):
    first, second = Task.from_source(name, seed=0), Task.from_source(name, seed=1)

    assert torch.equal(first.split.test, second.split.test)
    assert torch.equal(first.split.test, first.resplit(5).split.test)
    assert not torch.equal(first.split.train, second.split.train)


@pytest.mark.parametrize(
    ("y", "kind"), [([0, 0, 1, 2] * 15, "regression"), ([*range(30)] * 2, "classification")]
)
def test_test_part_depends_on_no_kind(y, kind):
    source = np.random.default_rng(0).normal(size=(60, 2)), y

    guessed, told = Task.from_source(source), Task.from_source(source, kind=kind)

    assert guessed.kind != told.kind == kind
    assert torch.equal(guessed.split.test, told.split.test)


def test_test_part_is_the_same_in_every_format(tmp_path):
    table = read_table("iris")
    frame = table.frame.assign(target=table.target)
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")

    sources = (tmp_path / "t.csv", tmp_path / "t.parquet", frame, table)
    first, *others = [Task.from_source(source, seed=3) for source in sources]

    assert all(same(first, other) for other in others)


def test_test_part_differs_from_data_to_data():
    y = torch.zeros(40, dtype=torch.int64)

    assert not torch.equal(held_out_rows(y, digest="0" * 32), held_out_rows(y, digest="f" * 32))


def test_same_seed_gives_the_same_task_and_leaves_global_generators_alone():
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()

    first, second = (Task.from_source("wine", seed=7) for _ in range(2))
    small = [t.resplit(1).subsample(30, generator=seeded()) for t in (first, second)]

    assert same(first, second)
    assert same(*small)
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(numpy_before, np.random.get_state()[1])


def test_encoder_is_fitted_on_training_rows_alone(wine):
    table = read_table("wine")
    changed = table.frame.copy()
    changed.iloc[torch.cat([wine.split.test, wine.split.validation]).numpy()] *= 3

    again = TableEncoder.fit(changed, rows=wine.split.train.numpy())

    assert again == wine.encoder


@pytest.mark.parametrize("part", ["train", "validation"])
def test_encoder_follows_resplit_and_take_at_outliers_too(part):
    X = np.random.default_rng(0).normal(size=(60, 2))
    y = [0.5, 1.0, 2.0] * 20
    X[getattr(Task.from_source((X, y)).split, part)[0], 0] = 1e6
    task = Task.from_source((X, y))
    frame = read_table((X, y)).frame

    for seed in range(4):
        other = task.resplit(seed)
        small = other.take(
            train=other.origin[other.split.train[::2]],
            validation=other.origin[other.split.validation],
        )
        for derived in (other, small):
            encoded = torch.from_numpy(derived.encoder.transform(frame))[derived.origin]
            # Beside an outlier in the first training part, float32 held the others to 1e-3.
            torch.testing.assert_close(encoded, derived.X, atol=1e-2, rtol=1e-4)


def test_target_comes_back_to_its_unit():
    raw = torch.tensor(read_table("diabetes").target.to_list())
    whole = Task.from_source("diabetes")

    for task in (whole, whole.resplit(4), whole.subsample(50, generator=seeded()).resplit(2)):
        (mean,), (scale,) = task.target_mean, task.target_scale
        back = task.y[:, 0].double() * scale + mean
        torch.testing.assert_close(back, raw[task.origin].double(), atol=1e-3, rtol=0)
        assert task.class_names == ("target",)


def test_resplit_is_scaled_anew_and_its_encoder_follows(task):
    other = task.resplit(9)
    frame = read_table(task.source).frame

    assert torch.equal(other.split.fit, task.split.fit)
    assert len(other.split.train) == len(task.split.train)
    assert_scaled_by_training_rows(other)
    encoded = torch.from_numpy(other.encoder.transform(frame))
    torch.testing.assert_close(encoded, other.X, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("n_rows", [6, 31, 80, 10_000])
def test_subsample_draws_other_than_test_rows_and_is_rebuilt_by_take(task, n_rows):
    small = task.subsample(n_rows, generator=seeded(n_rows))

    n_drawn = min(n_rows, len(task.split.fit))
    assert small.n_rows == n_drawn
    assert len(small.split.test) == 0
    assert len(small.split.validation) == max(
        round(n_drawn / 3), task.is_classification * task.n_outputs
    )
    assert not torch.isin(small.origin, task.split.test).any()
    assert_scaled_by_training_rows(small)
    rebuilt = task.take(
        train=small.origin[small.split.train].flip(0),
        validation=small.origin[small.split.validation],
    )
    assert same(rebuilt, small)


def test_subsample_keeps_two_rows_of_every_class():
    y = torch.cat([torch.zeros(200), torch.ones(5), torch.full((4,), 2.0)]).long()
    task = Task.from_arrays(torch.randn(209, 3, generator=seeded()), y, generator=seeded())

    for seed in range(5):
        small = task.subsample(12, generator=seeded(seed))
        for part in ("train", "validation"):
            assert small.rows(part)[1].unique().tolist() == [0, 1, 2]


def test_subsample_of_a_subsample_counts_rows_of_the_source(wine):
    small = wine.subsample(60, generator=seeded(1)).subsample(20, generator=seeded(2))

    assert torch.equal(small.y, wine.y[small.origin])
    again = wine.take(
        train=small.origin[small.split.train], validation=small.origin[small.split.validation]
    )
    torch.testing.assert_close(again.X, small.X, atol=1e-4, rtol=1e-4)


def test_class_without_rows_keeps_its_index():
    y = torch.tensor([0, 2] * 6)
    task = Task.from_arrays(
        torch.randn(12, 2, generator=seeded()), y, class_names=("a", "b", "c"), generator=seeded()
    )

    small = task.subsample(6, generator=seeded())

    assert small.n_outputs == 3
    assert small.y.unique().tolist() == [0, 2]


def test_take_refuses_rows_that_do_not_belong(wine):
    fit, test = wine.origin[wine.split.fit], wine.origin[wine.split.test]
    with pytest.raises(InputError, match="must be rows of wine; got 178"):
        wine.take(train=torch.tensor([178]), validation=fit[:1])
    with pytest.raises(InputError, match="test rows must stay test rows"):
        wine.take(train=test[:3], validation=fit[:1])
    with pytest.raises(InputError, match="must come from the test part"):
        wine.take(train=fit[:3], validation=fit[3:5], test=fit[5:6])
    with pytest.raises(InputError, match="must not share rows"):
        wine.take(train=fit[:3], validation=fit[2:5])
    assert len(wine.take(train=fit[:3], validation=fit[3:5], test=test[:7]).split.test) == 7


@pytest.mark.parametrize("n_rows", [0, 3, 5])
def test_subsample_must_not_be_too_small(wine, n_rows):
    with pytest.raises(InputError, match=f"n_rows must be at least 6 for wine; got {n_rows}"):
        wine.subsample(n_rows, generator=seeded())


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", "b"], "classification"),
        ([True, False], "classification"),
        (pd.Categorical([1, 2]), "classification"),
        ([0, 1], "classification"),
        ([0.0, 1.0], "classification"),
        ([*range(10)] * 3, "classification"),
        ([*range(1, 21)] * 5, "classification"),
        ([*range(21)] * 5, "regression"),
        ([0, *range(10, 110, 10)] * 50, "regression"),  # 11 numbers with gaps
        ([*range(10)], "regression"),
        ([0.5, 1.0, 1.5], "regression"),
    ],
)
def test_kind_follows_from_the_target(values, kind):
    assert guess_kind(pd.Series(values)) == kind


def test_kind_can_be_told():
    X, y = np.random.default_rng(0).normal(size=(30, 2)), [0, 1, 2] * 10

    assert Task.from_source((X, y)).class_names == ("0", "1", "2")
    assert Task.from_source((X, y), kind="regression").n_outputs == 1
    assert Task.from_arrays(X, y, kind="regression", generator=seeded()).kind == "regression"


def test_a_rare_class_is_kept_with_a_notice():
    frame = pd.DataFrame({"x": np.arange(40.0), "target": ["a"] * 38 + ["b"] * 2})

    task = Task.from_source(frame)

    assert task.class_names == ("a", "b")
    assert task.notices == ("class 'b' has only 2 rows: some part of the split lacks it.",)


def arrays(y, m=40):
    return np.random.default_rng(0).normal(size=(m, 2)), y


@pytest.mark.parametrize(
    ("y", "kind", "message"),
    [
        (["a", None, "?", *"ab" * 18, "a"], None, "target 'target' .* every row; 2 are missing"),
        (["a"] * 40, None, "two classes or more; all rows are 'a'"),
        ([f"{i}x" for i in range(40)], None, "two rows per class; got 40 classes in 40 rows"),
        ([1.5] * 40, None, r"must vary; 'target' is 1\.5 in all rows"),
        ([0.5] * 39 + [np.inf], None, "target 'target' must be finite; row 40 has inf"),
        (["a", "b"] * 20, "regression", "must be numbers; 'target' has 'a'"),
        (pd.date_range("2024-01-01", periods=40), "regression", "must be numbers; 'target' has"),
        ([*map(str, range(39)), "many"], None, "must hold numbers alone.*row 40 has 'many'"),
        ([0, 1] * 20, "clustering", "must be classification or regression; got 'clustering'"),
    ],
)
def test_unusable_targets_get_one_clear_sentence(y, kind, message):
    with pytest.raises((DataError, InputError), match=message):
        Task.from_source(arrays(y), kind=kind)


def test_a_data_set_must_have_some_rows():
    with pytest.raises(DataError, match="at least 8 rows; got 7"):
        Task.from_source(arrays([0.5, 1, 2, 3, 4, 5, 6], m=7))


def test_a_table_must_have_a_target():
    table = read_table(pd.DataFrame({"a": [1.0, 2.0]}), with_target=False)

    with pytest.raises(DataError, match="must have a target; frame has none"):
        Task.from_source(table)


def test_few_classes_may_look_like_numbers():
    task = Task.from_source(arrays(["3"] * 30 + ["1"] * 5 + ["U"] * 5))

    assert task.class_names == ("1", "3", "U")


def test_arrays_may_be_frames():
    table = read_table("iris")

    task = Task.from_arrays(table.frame, table.target, generator=seeded())

    assert (task.n_features, task.class_names[0]) == (4, "setosa")


def test_notices_of_the_encoder_reach_the_task():
    X, y = arrays([0, 1] * 20)
    X[:, 1] = 3

    assert Task.from_source((X, y)).notices == (
        "column 'x1' is constant in the training rows: left out.",
    )


def test_without_test_part_all_rows_are_for_fitting():
    task = Task.from_source("wine", hold_out_test=False, validation_share=0.2)

    assert len(task.split.test) == 0
    assert (len(task.split.train), len(task.split.validation)) == (142, 36)


def test_arrays_are_scaled_and_constant_features_become_zero():
    X = torch.randn(30, 3, generator=seeded()) * 5 + 1000
    X[:, 1] = 0.1
    y = torch.randn(30, 2, generator=seeded(1))

    task = Task.from_arrays(X, y, generator=seeded())

    encoded = task.encoder.transform(pd.DataFrame(X.numpy(), columns=["x0", "x1", "x2"]))
    np.testing.assert_allclose(encoded, task.X, rtol=1e-6)
    assert (task.kind, task.n_outputs) == ("regression", 2)
    assert task.feature_names == ("x0", "x1", "x2")
    assert len(task.split.train) == 20
    assert_scaled_by_training_rows(task)
    assert_scaled_by_training_rows(task.subsample(9, generator=seeded()))


def test_arrays_use_the_split_given():
    split = Split(*(torch.tensor(rows) for rows in ([0, 1, 4], [2, 5], [3])))
    X, y = np.arange(12.0).reshape(6, 2), np.array(["u", "v"] * 3)

    task = Task.from_arrays(X, y, split=split)

    assert task.split is split
    assert task.class_names == ("u", "v")
    assert task.y.tolist() == [0, 1] * 3


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ([[np.nan], [1.0]], [0, 1], r"finite numbers.* got shape \(2, 1\) with NaN or inf"),
        ([1.0, 2.0], [0, 1], r"rows by features; got shape \(2,\)"),
        ([[1.0], [2.0]], [0, 1, 1], "the 2 rows of X; got 3"),
        ([[1.0], [2.0]], [0, None], "1 is missing"),
        ([[1.0], ["a"]], [0, 1], "X must be finite numbers, rows by features; it is not"),
        ([[1.0], [2.0, 3.0]], [0, 1], "X must be finite numbers, rows by features; it is not"),
        ([[1.0], [2.0]], [[0.5, 1.0], [np.nan, 2.0]], "target 'y0' .* 1 is missing"),
    ],
)
def test_unusable_arrays_are_refused(X, y, message):
    with pytest.raises(DataError, match=message):
        Task.from_arrays(X, y, generator=seeded())


def test_classes_are_one_column():
    X, y = [[1.0], [2.0], [3.0], [4.0]], [[0, 1], [1, 0], [0, 1], [1, 0]]

    with pytest.raises(DataError, match=r"must be one number; y has shape \(4, 2\)"):
        Task.from_arrays(X, y, kind="classification", generator=seeded())
    with pytest.raises(InputError, match="kind must be classification or regression"):
        Task.from_arrays(X, y, kind="clustering", generator=seeded())


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c"), ("a", "a")])
def test_arrays_have_one_name_per_feature(names):
    X, y = arrays([0, 1] * 20)

    with pytest.raises(InputError, match="feature_names must be 2 different names"):
        Task.from_arrays(X, y, feature_names=names, generator=seeded())


def test_arrays_are_cut_like_tables():
    X, y = arrays([0, 1] * 20)
    split = Task.from_source((X, y), hold_out_test=False).split
    X[split.validation[0], 0] = 1e6

    task = Task.from_arrays(X, y, split=split)

    assert task.X.max() == MAX_DEVIATIONS


def test_arrays_need_names_for_their_classes_and_a_split():
    with pytest.raises(DataError, match="index the 2 class names; got 2"):
        Task.from_arrays([[1.0], [2.0]], [0, 2], class_names=("a", "b"), generator=seeded())
    with pytest.raises(InputError, match="a generator to draw one, must be given"):
        Task.from_arrays([[1.0], [2.0]], [0, 1])


def test_split_must_be_of_sorted_rows_in_one_part_each():
    with pytest.raises(InputError, match="train rows must be sorted"):
        Split(torch.tensor([1, 0]), torch.tensor([2]), torch.tensor([3]))
    with pytest.raises(InputError, match="must not share rows"):
        Split(torch.tensor([0, 1]), torch.tensor([1]), torch.tensor([3]))
    with pytest.raises(InputError, match=r"validation_share must be in \[0, 1\); got 1"):
        split_rows(torch.zeros(4), generator=seeded(), validation_share=1)


def test_rows_of_the_split_must_exist(wine):
    split = Split(*(torch.tensor(rows) for rows in ([0], [1], [178])))

    with pytest.raises(InputError, match="must be in 0 … 177; got 178"):
        Task(**{**vars(wine), "split": split})
    with pytest.raises(InputError, match=r"X must be float32 of shape \(178, 13\)"):
        Task(**{**vars(wine), "X": wine.X.double()})
    with pytest.raises(InputError, match=r"y must be torch.int64 of shape \(178,\)"):
        Task(**{**vars(wine), "y": wine.y.float()})


@pytest.mark.parametrize("n_rows", [0, 1, 7, 13, 60, 99])
def test_draw_is_proportional_within_its_bounds(n_rows):
    y = torch.repeat_interleave(torch.arange(3), torch.tensor([50, 8, 2]))

    rows = stratified_draw(y, n_rows, generator=seeded(n_rows), at_least=1, leave=1)

    drawn = torch.bincount(y[rows], minlength=3)
    assert len(rows) == min(max(n_rows, 3), 57)
    assert len(rows.unique()) == len(rows)
    assert drawn.tolist() >= [1, 1, 1]
    assert (drawn <= torch.tensor([49, 7, 1])).all()
