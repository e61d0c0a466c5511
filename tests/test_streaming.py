"""Files read in batches: the same statistics as in memory, whatever the order and the parts."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest
import torch
from test_moments import assert_same_statistics
from typer.testing import CliRunner

from graphpred.cli.main import app
from graphpred.encoding import TableEncoder
from graphpred.errors import DataError, GraphPredError
from graphpred.fitting import FitConfig, fit_predicted
from graphpred.meta.model import MetaConfig, MetaModel
from graphpred.meta.statistics import statistics_from, statistics_of
from graphpred.network import SparseNetwork
from graphpred.streaming import columns as columns_module
from graphpred.streaming import is_large, stream_task
from graphpred.streaming import passes as passes_module
from graphpred.streaming.batches import TableFile, row_keys
from graphpred.streaming.lowest import LowestKeys
from graphpred.streaming.passes import EncodedRows, TableSums
from graphpred.tables import read_table
from graphpred.task import Task

ROWS = 2400


def mixed_frame(m=ROWS, *, seed=0):
    """Columns of every kind, all with missing values but the first and the target."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(4, m))
    words = np.array(["red", " green", "blue"], dtype=object)
    many = np.array([f"level {k:02d}" for k in range(25)], dtype=object)
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 900, m), unit="D")
    frame = pd.DataFrame(
        {
            "plain": x[0],
            "shifted": 1e4 + x[1],
            "whole": pd.array(random.integers(0, 50, m), dtype="Int64"),
            "truth": x[2] > 0,
            "colour": words[random.integers(0, 3, m)],
            "level": many[np.minimum(random.geometric(0.2, m), 24)],
            "code#c": random.integers(1, 5, m),
            "kind": pd.Categorical.from_codes(random.integers(0, 3, m), ["7", "8", "9"]),
            "day": days,
            "number as text": [f"{value:.1f}" for value in x[3]],
            "day as text": days.strftime("%Y-%m-%d").to_numpy(dtype=object),
            "empty": np.full(m, np.nan),
            "constant": np.ones(m),
            "identity": [f"row {row}" for row in range(m)],
        }
    )
    for j, name in enumerate(frame.columns[1:-3]):
        if name not in ("truth", "code#c"):
            frame.loc[random.random(m) < 0.02 * (j + 1), name] = None
    score = x[0] * x[2] + x[1] + (frame["colour"] == "red")
    frame["target"] = np.select([score < -0.5, score < 1], ["low", "middle"], "high")
    return frame


def write(path, frame, *, group=500):
    frame.to_parquet(path, row_group_size=group)
    return path


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    return write(tmp_path_factory.mktemp("streaming") / "mixed.parquet", mixed_frame())


def in_memory(path, *, seed=0):
    """The encoder and the task of the whole table with the split of the streamed one."""
    table = read_table(path)
    file = TableFile.open(path)
    keys = np.concatenate([row_keys(batch) for batch in file.batches()])
    parts = passes_module._parts(keys, seed=seed)
    rows = [torch.from_numpy(np.flatnonzero(parts == part)) for part in range(3)]
    encoder = TableEncoder.fit(table.frame, rows=rows[0].numpy(), nominal=table.nominal)
    return encoder, table, rows


def assert_same_encoders(ours, theirs):
    assert ours.columns == theirs.columns
    assert ours.notices == theirs.notices
    assert ours.feature_names == theirs.feature_names
    for first, second in zip(ours.features, theirs.features, strict=True):
        assert (first.column, first.part) == (second.column, second.part)
        np.testing.assert_allclose(
            [first.mean, first.scale, first.low, first.high],
            [second.mean, second.scale, second.low, second.high],
            rtol=1e-9,
            atol=1e-9,
        )


def test_the_encoder_is_that_of_the_training_rows_in_memory(mixed):
    encoder, _, _ = in_memory(mixed)

    streamed = stream_task(mixed, batch_rows=211)

    assert_same_encoders(streamed.task.encoder, encoder)
    assert {"colour=red", "level=other", "day.weekday", "number as text?"} <= set(
        encoder.feature_names
    )
    assert len(encoder.notices) == 3


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_statistics_are_those_of_the_same_rows_in_memory(tmp_path, kind):
    frame = mixed_frame()
    if kind == "regression":
        frame["target"] = frame["plain"] ** 2 + frame["truth"]
    path = write(tmp_path / "table.parquet", frame)
    encoder, table, rows = in_memory(path)

    streamed = stream_task(path, batch_rows=211, sample_rows=100)
    whole = stream_task(path)  # its task holds all rows

    assert [len(part) for part in rows] == [
        len(getattr(whole.task.split, name)) for name in ("train", "validation", "test")
    ]
    assert [len(streamed.task.rows(part)[0]) for part in ("train", "validation", "test")] == [
        100, 100, 100
    ]  # fmt: skip
    X = torch.from_numpy(encoder.transform(table.frame))[rows[0]]
    torch.testing.assert_close(X.mean(dim=0), torch.zeros(X.shape[1]), atol=1e-5, rtol=0)
    read = statistics_of(whole.task)
    assert_same_statistics(statistics_from(streamed.moments), read)
    assert_same_statistics(statistics_from(whole.moments), read)
    assert streamed.task.kind == kind
    ours = whole.task.rows("train")[0]
    torch.testing.assert_close(ours.sort(dim=0).values, X.sort(dim=0).values, atol=1e-5, rtol=1e-5)


def test_order_of_rows_and_size_of_groups_and_batches_change_nothing(mixed, tmp_path):
    frame = mixed_frame().sample(frac=1, random_state=1)
    frame["kind"] = frame["kind"].cat.reorder_categories(["9", "7", "8"])
    shuffled = write(tmp_path / "mixed.parquet", frame, group=173)

    first = stream_task(mixed, sample_rows=300)
    second = stream_task(shuffled, sample_rows=300, batch_rows=97)

    assert_same_encoders(first.task.encoder, second.task.encoder)
    assert first.task.digest == second.task.digest
    assert first.task.class_names == second.task.class_names == ("high", "low", "middle")
    torch.testing.assert_close(first.task.X, second.task.X)
    assert torch.equal(first.task.y, second.task.y)
    assert_same_statistics(statistics_from(first.moments), statistics_from(second.moments))


def test_the_seed_draws_validation_rows_and_never_test_rows(mixed):
    first, second = stream_task(mixed, seed=0), stream_task(mixed, seed=1)

    def numbers(streamed, part):
        X, _ = streamed.task.rows(part)
        feature = streamed.task.encoder.features[0]
        return np.sort(X[:, 0].numpy() * feature.scale + feature.mean)

    np.testing.assert_allclose(numbers(first, "test"), numbers(second, "test"), atol=1e-5)
    assert len(first.task.split.test) == pytest.approx(ROWS / 4, abs=80)
    assert len(first.task.split.validation) == pytest.approx(ROWS / 4, abs=80)
    assert first.moments.n_rows != second.moments.n_rows


def test_sums_of_parts_merge_to_those_of_the_whole(mixed):
    file = TableFile.open(mixed)
    batches = list(file.batches(n_rows=300))
    cuts = [0, 1, 4, 4, len(batches)]

    def passed(new, parts_of):
        pieces = [new() for _ in pairwise(cuts)]
        for piece, (a, b) in zip(pieces, pairwise(cuts), strict=True):
            for batch in batches[a:b]:
                keys = row_keys(batch)
                parts_of(piece, batch, keys, passes_module._parts(keys, seed=0))
        pieces[2].merge(pieces[0])
        pieces[3].merge(pieces[1])
        pieces[3].merge(pieces[2])
        return pieces[3]

    sums = passed(
        lambda: TableSums(file.features, target=file.target, nominal=file.nominal),
        lambda piece, batch, keys, parts: piece.update(
            batch, keys=keys, train=np.flatnonzero(parts == 0)
        ),
    )
    encoder, target = sums.encoder(), sums.target.code()
    rows = passed(
        lambda: EncodedRows(encoder, target, file=file, limit=150),
        lambda piece, batch, keys, parts: piece.update(batch, keys=keys, parts=parts),
    )
    merged = rows.streamed(digest="", n_rows=sums.n_rows)

    whole = stream_task(mixed, sample_rows=150)
    assert_same_encoders(encoder, whole.task.encoder)
    torch.testing.assert_close(merged.task.X, whole.task.X)
    assert_same_statistics(statistics_from(merged.moments), statistics_from(whole.moments))


def test_medians_come_from_a_sample_where_rows_are_many(mixed, monkeypatch):
    exact = stream_task(mixed).task.encoder.columns[1].fill
    monkeypatch.setattr(passes_module, "SAMPLE_ROWS", 200)

    near = stream_task(mixed).task.encoder.columns[1].fill

    assert near != exact
    assert near == pytest.approx(exact, abs=0.3)


def test_a_value_that_the_sample_lacks_is_filled_by_the_mean(tmp_path, monkeypatch):
    monkeypatch.setattr(passes_module, "SAMPLE_ROWS", 3)
    frame = mixed_frame(800)[["plain", "target"]]
    frame.insert(0, "rare", np.where(np.arange(800) % 80 == 0, np.arange(800.0), np.nan))
    frame.insert(1, "day", pd.to_datetime(frame["rare"], unit="D"))
    path = write(tmp_path / "table.parquet", frame)

    rare, day, _ = stream_task(path).task.encoder.columns

    assert rare.has_missing
    assert 0 < rare.fill < 800
    assert day.fill == pytest.approx(86_400 * rare.fill, abs=1)


def test_samples_of_wide_files_are_smaller(mixed, monkeypatch):
    monkeypatch.setattr(passes_module, "_SAMPLE_VALUES", 3000)

    task = stream_task(mixed).task

    assert {len(task.rows(part)[0]) for part in ("train", "validation", "test")} == {
        3000 // task.n_features
    }


def test_progress_counts_the_rows_of_both_passes(mixed):
    seen = []

    stream_task(mixed, batch_rows=500, progress=lambda *counts: seen.append(counts))

    assert seen[0] == (500, 2 * ROWS)
    assert seen[-1] == (2 * ROWS, 2 * ROWS)
    assert len(seen) == 2 * 5


def test_equal_rows_share_a_part_and_do_not_crowd_the_sample(tmp_path):
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"x": random.integers(0, 60, 3000), "target": 0})
    frame["target"] = frame["x"] % 2
    frame.loc[:1500, ["x", "target"]] = [7, 1]
    path = write(tmp_path / "table.parquet", frame)

    streamed = stream_task(path, sample_rows=500)

    X, _ = streamed.task.rows("train")
    assert len(X[:, 0].unique()) > 20
    seen = [set(streamed.task.rows(part)[0][:, 0].tolist()) for part in ("train", "test")]
    assert not seen[0] & seen[1]


@pytest.mark.parametrize(
    ("values", "kind", "names"),
    [
        (lambda x: (x > 0).astype(int), "classification", ("0", "1")),
        (lambda x: x > 0, "classification", ("False", "True")),
        (lambda x: np.where(x > 0, "1", "0"), "classification", ("0", "1")),
        (lambda x: np.where(x > 0, 2.0, -1.0), "classification", ("-1", "2")),
        (lambda x: pd.Categorical(np.where(x > 0, "b", "a")), "classification", ("a", "b")),
        (lambda x: np.round(10 * x).astype(int), "regression", ("target",)),
        (lambda x: x.astype("float32"), "regression", ("target",)),
        (lambda x: [f"{value:.2f}" for value in x], "regression", ("target",)),
    ],
)
def test_targets_of_every_kind_are_understood_as_in_memory(tmp_path, values, kind, names):
    x = np.random.default_rng(0).normal(size=400)
    frame = pd.DataFrame({"x": x, "z": -x, "target": values(x)})
    path = write(tmp_path / "table.parquet", frame, group=90)

    task = stream_task(path).task

    assert (task.kind, task.class_names) == (kind, names)
    read = Task.from_source(path)
    assert (read.kind, read.class_names) == (kind, names)
    X, y = task.rows("train")
    if kind == "regression":
        assert y.mean() == pytest.approx(0, abs=1e-5)
        assert y.std(correction=0) == pytest.approx(1, abs=1e-4)
    else:
        feature = task.encoder.features[0]
        assert torch.equal(y, (X[:, 0] * feature.scale + feature.mean > 0).long())


def test_text_files_are_read_as_well(tmp_path):
    frame = mixed_frame(600).drop(columns=["number as text", "day as text"])
    frame["whole"] = frame["whole"].astype(float)
    plain, parquet = tmp_path / "table.csv.gz", tmp_path / "table.parquet"
    frame.to_csv(plain, index=False)
    write(parquet, frame.assign(kind=frame["kind"].astype(float)))

    ours, theirs = stream_task(plain), stream_task(parquet)

    assert_same_encoders(ours.task.encoder, theirs.task.encoder)
    assert_same_statistics(statistics_from(ours.moments), statistics_from(theirs.moments))


BAD = {
    "infinite": ({"x": [1.0, 2, np.inf, *range(97)]}, "'x' must hold finite numbers; row 3"),
    "nearly numbers": (
        {"x": ["oops", *map(str, range(99))]},
        "'x' must hold numbers alone, as nearly all its values are; a row has 'oops'",
    ),
    "lists": ({"x": [[1], [2]] * 50}, "'x' must hold numbers, text, dates or booleans"),
    "bytes": ({"x": [b"a", b"b"] * 50}, "'x' must hold numbers, text, dates or booleans"),
    "nothing varies": ({"x": [1.0] * 100}, "a feature that varies over the training rows"),
    "one class": ({"target": ["a"] * 100}, "must have two classes or more; all rows are 'a'"),
    "constant": ({"target": [0.5] * 100}, "must vary; 'target' is 0.5 in all rows"),
    "missing targets": ({"target": [None, None, *"ab" * 49]}, "every row; 2 are missing"),
    "missing target": ({"target": [np.nan, *np.arange(99.0)]}, "every row; 1 is missing"),
    "names": ({"target": [f"name {j}" for j in range(100)]}, "at least two rows per class"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_said(tmp_path, name):
    changes, message = BAD[name]
    columns = {"x": np.arange(100.0), "target": list("ab") * 50} | changes
    path = tmp_path / "table.parquet"
    pa_parquet.write_table(pa.table(columns), path, row_group_size=30)

    with pytest.raises(DataError, match=message):
        stream_task(path)


def test_files_that_are_no_tables_are_refused(tmp_path):
    good = write(tmp_path / "good.parquet", mixed_frame(300))
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(good.read_bytes()[:3000])
    torn = tmp_path / "torn.parquet"
    content = bytearray(good.read_bytes())
    content[4:2000] = b"\xff" * 1996
    torn.write_bytes(content)
    empty = write(tmp_path / "empty.parquet", mixed_frame(300).head(0))
    few = write(tmp_path / "few.parquet", mixed_frame(300).head(7))
    lone = write(tmp_path / "lone.parquet", mixed_frame(300)[["plain"]])
    ragged = tmp_path / "ragged.csv"
    ragged.write_text("a,b\n1,2\n" * 5 + "1,2,3\n")

    for path, message in (
        (broken, "cannot be read as Parquet"),
        (torn, "cannot be read as Parquet"),
        (empty, "at least 8 rows; .* has 0"),
        (few, "at least 8 rows; .* has 7"),
        (lone, "a feature column besides its target"),
        (ragged, "must have 2 fields; line 11 has 3"),
        (tmp_path / "absent.parquet", "must exist and end in"),
        (tmp_path / "good.txt", "must exist and end in"),
    ):
        with pytest.raises(GraphPredError, match=message):
            stream_task(path)
    with pytest.raises(DataError, match="Did you mean colour"):
        stream_task(good, target="color")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        is_large(broken)


@pytest.mark.parametrize(
    ("part", "message"), [(0, "must have rows for validation"), (2, "a feature that varies")]
)
def test_parts_without_rows_are_refused(mixed, monkeypatch, part, message):
    monkeypatch.setattr(passes_module, "_parts", lambda keys, seed: np.full(len(keys), part))

    with pytest.raises(DataError, match=message):
        stream_task(mixed)


def test_text_of_too_many_levels_is_left_out_or_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(columns_module, "LEVEL_LIMIT", 20)
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"x": random.normal(size=400)})
    frame["word"] = [f"word {k}" for k in random.integers(0, 40, 400)]
    frame["target"] = frame["x"] > 0
    words = write(tmp_path / "words.parquet", frame)
    numbers = write(
        tmp_path / "numbers.parquet", frame.assign(word=random.normal(size=400).astype(str))
    )

    assert "column 'word' has more than 20 levels: left out." in stream_task(words).task.notices
    with pytest.raises(DataError, match="must not hold numbers or dates as text"):
        stream_task(numbers)


def test_the_lowest_keys_are_exact_however_they_come():
    random = np.random.default_rng(0)
    keys = random.integers(0, 500, 4000).astype(np.uint64)
    lowest = np.unique(keys)[:64]
    parts = [LowestKeys(limit=64) for _ in range(3)]
    for j, chunk in enumerate(np.array_split(keys, 50)):
        parts[j % 3].update(chunk, chunk.astype(float))

    parts[0].merge(parts[1])
    parts[2].merge(parts[0])

    values, counts = parts[2].entries()
    assert values.tolist() == lowest.tolist()
    assert counts.tolist() == [(keys == key).sum() for key in lowest]
    assert not parts[2].is_complete
    assert len(parts[2].repeated()) == 64


def test_a_file_is_large_by_its_rows_and_columns(mixed, tmp_path):
    plain = tmp_path / "plain.csv"
    plain.write_text("a,b\n" + "1,2\n" * 100)

    assert is_large(mixed, limit=15 * ROWS - 1)
    assert not is_large(mixed, limit=15 * ROWS)
    assert is_large(plain, limit=49)
    assert not is_large(plain, limit=50)
    assert not is_large("iris", limit=0)
    assert not is_large(tmp_path / "absent.parquet", limit=0)


def test_a_network_is_predicted_from_all_rows_and_trained_on_the_sample(mixed, meta_model):
    streamed = stream_task(mixed, sample_rows=400)
    config = FitConfig(density=0.1, steps=60)

    fit = fit_predicted(streamed.task, meta_model, config=config, moments=streamed.moments)

    losses = fit.network.facts["losses"]
    assert losses["after"]["test"]["error"] < losses["constant"]["test"]["error"]
    described = meta_model.describe(streamed.task, moments=streamed.moments)
    assert described.encoded.size == pytest.approx(
        streamed.moments.n_rows / (streamed.moments.n_rows + 100)
    )


def test_an_encoder_that_knows_no_moments_sees_the_sample(mixed, meta_model):
    class Plain(torch.nn.Module):
        width, relation_width = meta_model.encoder.width, meta_model.encoder.relation_width

        def describe(self, task):
            return len(task.split.train)

        def forward(self, descriptions):
            raise NotImplementedError

    streamed = stream_task(mixed, sample_rows=120)
    model = type(meta_model)(replace(meta_model.config, n_rounds=1), encoder=Plain())

    assert model.describe(streamed.task, moments=streamed.moments).encoded == 120


def test_predict_streams_large_files_by_itself(mixed, tmp_path):
    MetaModel(MetaConfig(n_rounds=2, n_attention=1)).save(tmp_path / "model")
    common = ["predict", str(mixed), "--density", "0.1", "--steps", "5", "--json"]
    common += ["--model", str(tmp_path / "model")]

    large = CliRunner().invoke(
        app, [*common, "--stream-above", "1000", "--out", str(tmp_path / "net")]
    )
    small = CliRunner().invoke(app, common)

    assert large.exit_code == small.exit_code == 0, large.output + small.output
    assert "2,400 rows, of which" in large.stderr
    assert "batches" not in small.stderr
    first, second = json.loads(large.stdout), json.loads(small.stdout)
    assert first.keys() == second.keys()
    network = SparseNetwork.load(tmp_path / "net")
    assert len(network.predict(mixed_frame(50))) == 50
