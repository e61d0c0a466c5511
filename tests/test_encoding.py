import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpred.encoding import MAX_DEVIATIONS, TableEncoder
from graphpred.errors import DataError


def reload(encoder):
    return TableEncoder.from_json(json.loads(json.dumps(encoder.to_json())))


def raw_part(encoder, frame, name):
    """One feature before standardisation, as the encoder would store it."""
    feature = encoder.features[encoder.feature_names.index(name)]
    values = encoder.transform(frame)[:, encoder.feature_names.index(name)]
    return values * feature.scale + feature.mean


@st.composite
def mixed_frames(draw):
    m = draw(st.integers(4, 12))
    number = st.none() | st.floats(allow_nan=False, allow_infinity=False, width=64)
    column = st.sampled_from(
        [
            number,
            st.integers(-(2**40), 2**40),
            st.booleans(),
            st.sampled_from(["red", "blue", "green", None]),
            st.dates().map(pd.Timestamp) | st.none(),
        ]
    )
    names = draw(st.lists(st.text(max_size=4), min_size=1, max_size=4, unique=True))
    values = {
        name: draw(st.lists(draw(column), min_size=m, max_size=m)) for name in ["one", *names]
    }
    frame = pd.DataFrame(values)
    frame["always"] = np.arange(m, dtype=float)
    return frame.dropna(axis="columns", how="all")


@settings(max_examples=60, deadline=None)
@given(mixed_frames())
def test_json_round_trip_is_exact_and_output_is_standardised(frame):
    encoder = TableEncoder.fit(frame)
    again = reload(encoder)

    X = encoder.transform(frame)

    assert again == encoder
    np.testing.assert_array_equal(again.transform(frame), X)
    assert X.dtype == np.float32
    np.testing.assert_allclose(X.mean(0, dtype=float), 0, atol=1e-4)
    np.testing.assert_allclose(X.std(0, dtype=float), 1, atol=1e-4)


def test_numbers_are_standardised_by_the_training_rows_with_their_median_for_missing():
    frame = pd.DataFrame({"a": [1.0, 2.0, np.nan, 9.0, 100.0]})

    encoder = TableEncoder.fit(frame, rows=[0, 1, 2, 3])

    filled = np.array([1, 2, 2, 9.0])
    assert encoder.feature_names == ("a", "a?")
    np.testing.assert_allclose(
        encoder.transform(frame)[:4, 0], (filled - filled.mean()) / filled.std(), rtol=1e-6
    )
    np.testing.assert_allclose(raw_part(encoder, frame, "a?"), [0, 0, 1, 0, 0], atol=1e-6)


def test_state_depends_on_training_rows_alone():
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.normal(size=(20, 3)), columns=list("abc"))
    frame["colour"] = ["red", "blue"] * 10
    changed = frame.copy()
    changed.loc[10:, ["a", "b", "c"]] = 1e3
    changed.loc[10:, "colour"] = "violet"

    before, after = (TableEncoder.fit(f, rows=np.arange(10)) for f in (frame, changed))

    assert before == after


def test_two_levels_give_one_part_and_more_give_one_each():
    frame = pd.DataFrame({"two": list("abab"), "three": list("xyzx"), "gap": ["u", "v", None, "u"]})

    encoder = TableEncoder.fit(frame)

    assert encoder.feature_names == ("two=b", "three=x", "three=y", "three=z", "gap=v", "gap?")
    assert encoder.nominal == {"two", "three", "gap"}
    np.testing.assert_allclose(raw_part(encoder, frame, "three=x"), [1, 0, 0, 1], atol=1e-6)


def test_level_never_seen_is_no_level():
    frame = pd.DataFrame({"three": list("xyzx")})
    encoder = TableEncoder.fit(frame)

    new = pd.DataFrame({"three": ["w", None]})

    for name in encoder.feature_names:
        np.testing.assert_allclose(raw_part(encoder, new, name), [0, 0], atol=1e-6)


def test_many_levels_keep_the_frequent_ones_and_share_the_rest():
    values = [f"l{i:02}" for i in range(12) for _ in range(i + 3)]
    frame = pd.DataFrame({"a": values})

    encoder = TableEncoder.fit(frame)

    assert encoder.feature_names == (*[f"a=l{i:02}" for i in range(3, 12)], "a=other")
    new = pd.DataFrame({"a": ["l00", "l11", "never"]})
    np.testing.assert_allclose(raw_part(encoder, new, "a=other"), [1, 0, 1], atol=1e-6)


def test_whole_numbers_declared_nominal_are_levels_whatever_their_type():
    frame = pd.DataFrame({"a#c": [1, 2, 3, 1], "b": [1, 2, 2, 3]})

    encoder = TableEncoder.fit(frame, nominal={"b"})

    assert encoder.feature_names == ("a#c=1", "a#c=2", "a#c=3", "b=1", "b=2", "b=3")
    expected = encoder.transform(frame)
    for other in (frame.astype(float), frame.astype(str)):
        np.testing.assert_array_equal(encoder.transform(other), expected)


def test_dates_give_parts_that_vary():
    frame = pd.DataFrame({"d": ["2020-01-06", "2020-02-03", "2020-03-09", None]})

    encoder = TableEncoder.fit(frame)

    assert encoder.feature_names == ("d.month", "d.days", "d?")  # always a Monday of 2020
    np.testing.assert_allclose(raw_part(encoder, frame, "d.days"), [0, 28, 63, 28], atol=1e-4)
    np.testing.assert_allclose(raw_part(encoder, frame, "d.month"), [1, 2, 3, 2], atol=1e-6)


def test_left_out_columns_are_noticed():
    frame = pd.DataFrame(
        {
            "constant": [1.0] * 24,
            "identifier": [f"id{i}" for i in range(24)],
            "late": [np.nan] * 23 + [1.0],
            "size": np.arange(24.0),
        }
    )

    encoder = TableEncoder.fit(frame, rows=np.arange(23))

    assert encoder.feature_names == ("size",)
    constant, identifier, late = encoder.notices
    assert constant == "column 'constant' is constant in the training rows: left out."
    assert identifier == "column 'identifier' has nearly as many levels as rows: left out."
    assert late == "column 'late' has no value in the training rows: left out."
    assert encoder.transform(frame[["size"]]).shape == (24, 1)


def test_equal_names_of_features_are_told_apart():
    frame = pd.DataFrame({"a": list("xyzx"), "a=x": [1.0, 2.0, 3.0, 4.0]})

    assert TableEncoder.fit(frame).feature_names == ("a=x", "a=y", "a=z", "a=x'")


def test_numbers_as_text_are_numbers():
    frame = pd.DataFrame({"a": ["1", " 2", "?", "4e0"]})

    numbers = pd.DataFrame({"a": [1.0, 2.0, np.nan, 4.0]})

    assert TableEncoder.fit(frame) == TableEncoder.fit(numbers)


def test_whole_numbers_of_few_values_stay_numbers():
    frame = pd.DataFrame({"a": [1, 2, 3, 1, 2]})

    assert TableEncoder.fit(frame).feature_names == ("a",)


def test_rescaled_maps_the_output():
    frame = pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": [1.0, 0.0, 0.0], "c": [0.0, 3.0, 1.0]})
    encoder = TableEncoder.fit(frame)
    X = encoder.transform(frame)

    rescaled = encoder.rescaled(mean=[0.5, -1.0, 3.0], scale=[2.0, 0.25, 0.0])

    expected = np.stack([(X[:, 0] - 0.5) / 2, (X[:, 1] + 1) / 0.25, np.zeros(3)], axis=1)
    np.testing.assert_allclose(rescaled.transform(frame), expected, atol=1e-5)
    assert reload(rescaled) == rescaled


def test_rescaled_cuts_raw_numbers_where_it_did():
    frame = pd.DataFrame({"a": [1.0, 2.0, 4.0]})
    encoder = TableEncoder.fit(frame)
    new = pd.DataFrame({"a": [1e6, -1e6, 3.0]})

    rescaled = encoder.rescaled(mean=[0.5], scale=[1e-4])

    expected = (encoder.transform(new) - 0.5) / 1e-4
    np.testing.assert_allclose(rescaled.transform(new), expected, rtol=1e-5)
    np.testing.assert_allclose(expected[0], 29.5e4, rtol=1e-6)
    np.testing.assert_array_equal(reload(rescaled).transform(new), rescaled.transform(new))


def test_differences_of_huge_numbers_do_not_overflow():
    frame = pd.DataFrame({"a": [1.7e308, -1.7e308, -1.7e308, -1.7e308]})

    X = TableEncoder.fit(frame).transform(frame)

    np.testing.assert_allclose(X[:, 0], np.array([3, -1, -1, -1]) / np.sqrt(3), rtol=1e-6)


def test_extreme_numbers_stay_finite():
    frame = pd.DataFrame({"a": [1e300, -1e300, 5e-324], "b": [0.0, 1e-200, 2e-200]})
    encoder = TableEncoder.fit(frame)

    new = encoder.transform(pd.DataFrame({"a": [0.0], "b": [1e308]}))

    assert np.isfinite(encoder.transform(frame)).all()
    assert new[0, 1] == MAX_DEVIATIONS


def test_extra_columns_and_another_order_do_not_matter():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})
    encoder = TableEncoder.fit(frame)

    shuffled = frame.assign(c=0)[["c", "b", "a"]]

    np.testing.assert_array_equal(encoder.transform(shuffled), encoder.transform(frame))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([*map(str, range(19)), "many"], "column 'a' must hold numbers alone.*row 20 has 'many'"),
        ([None, "oops", *map(str, range(18))], "row 2 has 'oops'.*end in #c"),
        ([*range(19), np.inf], "column 'a' must hold finite numbers; row 20 has inf"),
    ],
)
def test_columns_that_cannot_be_encoded_are_refused(values, message):
    frame = pd.DataFrame({"a": values, "b": np.arange(20)})

    with pytest.raises(DataError, match=message):
        TableEncoder.fit(frame)


def test_a_column_without_any_value_is_left_out_with_a_notice():
    encoder = TableEncoder.fit(pd.DataFrame({"a": [None] * 20, "b": np.arange(20)}))

    assert encoder.feature_names == ("b",)
    assert encoder.notices == ("column 'a' has no value in the training rows: left out.",)


def test_nearly_numeric_text_is_fine_if_declared_nominal():
    frame = pd.DataFrame({"a": ["1", "2"] * 10 + ["many"]})

    assert TableEncoder.fit(frame, nominal={"a"}).feature_names == ("a=1", "a=2", "a=many")


def test_something_must_vary():
    with pytest.raises(DataError, match="none of its 2 columns does"):
        TableEncoder.fit(pd.DataFrame({"a": [1.0, 1.0], "b": ["x", "x"]}))


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ({"c": [1.0]}, "it lacks 'a', 'd'"),
        ({"a": ["x"], "d": ["2020-01-01"]}, "column 'a' must hold numbers; row 1 has 'x'"),
        ({"a": [1.0, -np.inf], "d": ["2020-01-01"] * 2}, "row 2 has -inf"),
        ({"a": [1.0], "d": ["soon"]}, "column 'd' must hold dates; it has 'soon'"),
    ],
)
def test_new_rows_must_look_like_the_old(new, message):
    frame = pd.DataFrame({"a": [1.0, 2.0], "d": ["2020-01-01", "2021-02-02"]})
    encoder = TableEncoder.fit(frame)

    with pytest.raises(DataError, match=message):
        encoder.transform(pd.DataFrame(new))


def test_new_rows_may_be_missing_altogether():
    frame = pd.DataFrame({"a": [1.0, 2.0], "d": ["2020-01-01", "2021-02-02"], "c": ["x", "y"]})

    X = TableEncoder.fit(frame).transform(pd.DataFrame({"a": [None], "d": [None], "c": [None]}))

    assert np.isfinite(X).all()


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"columns": [{"kind": "magic"}], "features": [], "notices": []},
        {"columns": [{"kind": "numeric"}], "features": [], "notices": []},
    ],
)
def test_damaged_state_is_refused(state):
    with pytest.raises(DataError, match="is damaged"):
        TableEncoder.from_json(state)
