import gzip

import numpy as np
import pandas as pd
import pytest

from graphpred.errors import DataError, InputError
from graphpred.tables import read_table
from graphpred.tidying import tidy_column

TEXT = "size,colour,target\n1,red,a\n2.5,blue,b\n,red,a\n"


def write(folder, content, *, name="table.csv"):
    path = folder / name
    content = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def test_reads_csv_with_missing_values_and_last_column_as_target(tmp_path):
    table = read_table(write(tmp_path, TEXT))

    assert list(table.frame) == ["size", "colour"]
    np.testing.assert_array_equal(table.frame["size"], [1, 2.5, np.nan])
    assert table.frame["colour"].tolist() == ["red", "blue", "red"]
    assert table.target.tolist() == ["a", "b", "a"]
    assert (table.name, table.nominal) == ("table", frozenset())


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv", "t.tsv.gz", "t.parquet", "frame"])
def test_digest_and_contents_are_the_same_in_every_format(tmp_path, name):
    expected = read_table(write(tmp_path, TEXT))
    frame = pd.DataFrame(
        {"size": [1, 2.5, None], "colour": ["red", "blue", "red"], "target": ["a", "b", "a"]}
    )
    if name == "frame":
        source = frame
    elif name.endswith("parquet"):
        source = tmp_path / name
        frame.to_parquet(source)
    else:
        text = TEXT.replace(",", "\t") if "tsv" in name else TEXT
        source = write(tmp_path, text, name=name)

    table = read_table(source)

    assert table.digest == expected.digest
    pd.testing.assert_frame_equal(table.frame, expected.frame)


def test_npz_and_arrays_and_csv_of_the_same_numbers_have_one_digest(tmp_path):
    X, y = np.array([[1.0, 2.0], [3.5, 4.0]]), np.array([0, 1])
    np.savez(tmp_path / "t.npz", X=X, y=y)
    text = "x0,x1,target\n1,2,0\n3.5,4,1\n"

    digests = {
        read_table(source).digest for source in (tmp_path / "t.npz", (X, y), write(tmp_path, text))
    }

    assert len(digests) == 1


@pytest.mark.parametrize(
    "other",
    [TEXT.replace("2.5", "2.6"), TEXT.replace("size", "Size"), TEXT.replace("b\n", "a\n")],
    ids=["value", "name", "target"],
)
def test_digest_changes_with_every_part_of_the_contents(tmp_path, other):
    assert (
        read_table(write(tmp_path, TEXT)).digest
        != read_table(write(tmp_path, other, name="o.csv")).digest
    )


@pytest.mark.parametrize(
    ("name", "shape", "n_targets"),
    [
        ("breast_cancer", (569, 30), 2),
        ("wine", (178, 13), 3),
        ("digits", (1797, 64), 10),
        ("iris", (150, 4), 3),
        ("diabetes", (442, 10), 214),
    ],
)
def test_reads_sets_that_sklearn_ships(name, shape, n_targets):
    table = read_table(name)

    assert (table.frame.shape, table.target.nunique(), table.source) == (shape, n_targets, name)


def test_file_without_suffix_does_not_hide_a_shipped_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, TEXT, name="iris")
    write(tmp_path, TEXT, name="iris.csv")

    assert len(read_table("iris").frame) == 150
    assert len(read_table("iris.csv").frame) == 3


def test_declared_nominal_columns_hold_text_and_keep_leading_zeros(tmp_path):
    path = write(tmp_path, "code#c,zip,target\n01,07,a\n2,08,b\n,09,a\n")

    table = read_table(path, nominal=["zip"])

    assert table.nominal == {"code#c", "zip"}
    assert table.frame["code#c"].tolist() == ["01", "2", None]
    assert table.frame["zip"].tolist() == ["07", "08", "09"]


def test_category_columns_of_a_frame_are_nominal():
    frame = pd.DataFrame({"a": pd.Categorical([1, 2, 1]), "b": [1.0, 2.0, 3.0], "y": [0, 1, 0]})

    table = read_table(frame)

    assert table.nominal == {"a"}
    assert table.frame["a"].tolist() == ["1", "2", "1"]


def test_reading_leaves_the_frame_of_the_user_alone():
    frame = pd.DataFrame({"a": ["1", "2"], "y": [0, 1]}, index=[5, 5])
    before = frame.copy()

    read_table(frame)

    pd.testing.assert_frame_equal(frame, before)


def test_rows_to_score_may_lack_the_target(tmp_path):
    path = write(tmp_path, TEXT)
    bare = write(tmp_path, "size,colour\n1,red\n", name="bare.csv")

    with_target = read_table(path, target="target", with_target=False)
    without = read_table(bare, target="target", with_target=False)
    unnamed = read_table(path, with_target=False)

    assert with_target.target.tolist() == ["a", "b", "a"]
    assert without.target is None
    assert list(without.frame) == list(with_target.frame) == ["size", "colour"]
    assert list(unnamed.frame) == ["size", "colour", "target"]


def test_npz_to_score_may_lack_y(tmp_path):
    np.savez(tmp_path / "t.npz", X=np.eye(2))

    assert read_table(tmp_path / "t.npz", with_target=False).target is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", " 2", "NA"], [1.0, 2.0, np.nan]),
        ([True, None], [1.0, np.nan]),
        (["true", "False"], [True, False]),
        (pd.array([1, None], dtype="Int64"), [1.0, np.nan]),
        (pd.to_timedelta(["1h", "2h"]), [3600.0, 7200.0]),
        ([None, None], [np.nan, np.nan]),
    ],
    ids=["text", "truth", "words", "nullable", "durations", "empty"],
)
def test_columns_that_are_numbers_become_numbers(values, expected):
    np.testing.assert_array_equal(tidy_column(pd.Series(values)).to_numpy(), expected)


def test_dates_of_any_form_are_alike():
    forms = [
        pd.Series(["2020-01-02", "2021-03-04", "?"]),
        pd.Series(pd.to_datetime(["2020-01-02", "2021-03-04", None])),
        pd.Series(pd.to_datetime(["2020-01-02", "2021-03-04", None], utc=True)),
    ]

    for form in forms:
        tidy = tidy_column(form)
        assert tidy.dt.year.tolist()[:2] == [2020, 2021]
        assert tidy.isna().tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("a,b\n1,2\n3\n", "t.csv", r"t\.csv must have 2 fields; line 3 has 1"),
        ("a,b\n1,2\n3,4,5\n", "t.csv.gz", "must have 2 fields; line 3 has 3"),
        ("", "t.csv", "must have a header and rows; .* is empty"),
        ("a,b\n", "t.csv", "must have rows; .* has none"),
        ("a\n1\n", "t.csv", "must have a feature column"),
        ("a,a\n1,2\n", "t.csv", "must be unique; .* has 'a' twice"),
        (b"a,b\n\xff\xfe,2\n", "t.csv", r"must be UTF-8 text; it is not\."),
        (b"a,b\n" + b"1,2\n" * 20_000 + b"\xff,2\n", "t.csv", "UTF-8 text; column 'a' is not"),
        (b"a#c,b\n" + b"1,2\n" * 20_000 + b"\xff,2\n", "t.csv", "must be UTF-8 text: "),
        (b"\xff,b\n1,2\n", "t.csv", "must be UTF-8 text"),
        (bytes(range(256)) * 9, "t.csv", r"t\.csv must be UTF-8 text; it is not\."),
        (bytes(range(128)) * 9, "t.csv.gz", r"t\.csv\.gz must be UTF-8 text; it is not\."),
        ("a,b\n1,2\n".encode("utf-16"), "t.csv", "must be UTF-8 text"),
        ("a,b\n1,2\n".encode("utf-16-be"), "t.csv", "must be UTF-8 text"),
        ("a;b\n1;2\n", "t.csv", r"by commas, or by tabs in a \.tsv; .*t\.csv has 1 field\."),
        ("a;b\n1,5;2\n", "t.csv", r"separated by commas.* has 1 field\."),
        ("# made by hand\na,b\n1,2\n", "t.csv", r"separated by commas.* has 1 field\."),
        ("a,b\n1,2\n", "t.tsv", r"separated by commas.*t\.tsv has 1 field\."),
        ("a,b\n1,2\n", "t.txt", r"must end in \.csv"),
        ("not parquet", "t.parquet", "cannot be read as Parquet"),
        ("not npz", "t.npz", "must be an .npz file of plain arrays"),
    ],
)
def test_unreadable_files_get_one_clear_sentence(tmp_path, content, name, message):
    with pytest.raises(DataError, match=message) as caught:
        read_table(write(tmp_path, content, name=name))

    assert "\n" not in str(caught.value)


def test_bytes_of_a_binary_file_are_not_printed(tmp_path, capfd):
    with pytest.raises(DataError):
        read_table(write(tmp_path, bytes(range(256)) * 50))

    assert capfd.readouterr().err == ""


def test_a_letter_may_straddle_the_bytes_that_are_checked(tmp_path):
    for offset in range(2):
        text = "é,b\n" + "x" * offset + "é" * 40_000 + ",2\n"

        assert read_table(write(tmp_path, text)).frame.shape == (1, 1)


def test_rows_to_score_may_be_one_column(tmp_path):
    assert read_table(write(tmp_path, "a\n1\n"), with_target=False).frame.shape == (1, 1)


def test_broken_gzip_is_refused(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(b"a,b\n1,2\n")
    torn = tmp_path / "torn.csv.gz"
    torn.write_bytes(gzip.compress(TEXT.encode())[:-12])

    for broken in (path, torn):
        with pytest.raises(DataError, match="cannot be read"):
            read_table(broken)


@pytest.mark.parametrize("source", ["none.csv", "folder/none.parquet", "long" * 99 + ".csv"])
def test_file_must_exist(source):
    with pytest.raises(DataError, match=f"there is no file {source}"):
        read_table(source)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(DataError, match="breast_cancer, wine, digits, diabetes, iris; got 'irsi'"):
        read_table("irsi")


def test_a_name_too_long_for_a_file_is_unknown():
    with pytest.raises(DataError, match="must be a file or one of"):
        read_table("long" * 99)


def test_folder_is_not_a_table(tmp_path):
    with pytest.raises(DataError, match="must be a file that exists"):
        read_table(tmp_path)


def test_wrong_target_suggests_close_names(tmp_path):
    with pytest.raises(DataError, match=r"got 'colur'\. Did you mean colour\?"):
        read_table(write(tmp_path, TEXT), target="colur")


def test_wrong_target_of_a_shipped_set_is_refused():
    with pytest.raises(DataError, match="it has no target 'price'"):
        read_table("iris", target="price")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.eye(2)}, "must hold X and y; .* holds X"),
        ({"z": np.eye(2)}, "must hold X and y; .* holds z"),
        ({"X": np.array([[None]]), "y": np.zeros(1)}, "without Python objects"),
        ({"X": np.zeros(3), "y": np.zeros(3)}, r"two axes.* got shape \(3,\)"),
        (
            {"X": np.eye(2), "y": np.zeros(3)},
            r"one value per row of X, 2 of them; got shape \(3,\)",
        ),
        ({"X": np.zeros((0, 2)), "y": np.zeros(0)}, "must have rows"),
        ({"X": np.zeros((2, 0)), "y": np.zeros(2)}, "must have a feature column"),
    ],
)
def test_npz_must_hold_a_matrix_and_a_target(tmp_path, arrays, message):
    np.savez(tmp_path / "t.npz", **arrays)

    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "t.npz")


def test_npz_of_objects_gets_no_advice_on_pickle(tmp_path):
    np.savez(tmp_path / "t.npz", X=np.array([[None]]), y=np.zeros(1))

    with pytest.raises(DataError) as caught:
        read_table(tmp_path / "t.npz")

    assert "pickle" not in str(caught.value)


@pytest.mark.parametrize("values", [[[1], [2]], [b"a", b"b"], [1j, 2j]])
def test_values_must_be_numbers_text_or_dates(values):
    with pytest.raises(DataError, match="column 'a' must hold numbers, text, dates or booleans"):
        tidy_column(pd.Series(values, name="a"))


def test_frame_must_have_columns_with_unique_names():
    with pytest.raises(DataError, match="has '1' twice"):
        read_table(pd.DataFrame([[1, 2, 3]], columns=["1", 1, "y"]))
    with pytest.raises(DataError, match="must have columns"):
        read_table(pd.DataFrame(index=[0, 1]))


def test_source_must_be_of_a_known_type():
    with pytest.raises(InputError, match="got list"):
        read_table([1, 2])
    with pytest.raises(InputError, match="got 3 items"):
        read_table((1, 2, 3))
