"""The scikit-learn estimators."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from graphpred import GraphPredClassifier, GraphPredRegressor
from graphpred.errors import GraphPredError, InputError, ModelError
from graphpred.meta.model import MetaModel
from graphpred.network import SparseNetwork

BOTH = (GraphPredClassifier, GraphPredRegressor)


@pytest.fixture(scope="module")
def classifier(meta_model):
    return GraphPredClassifier(density=0.8, steps=150, meta_model=meta_model, random_state=0)


@pytest.fixture(scope="module")
def regressor(meta_model):
    return GraphPredRegressor(density=0.8, steps=150, meta_model=meta_model, random_state=0)


def iris():
    return load_iris(return_X_y=True)


def numbers(kind, n=80, seed=0):
    """Rows, and classes or a quantity that depends on them."""
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(n, 4))
    score = X[:, 0] + X[:, 1] - X[:, 2]
    return X, (score > 0) if kind is GraphPredClassifier else 50 + 20 * score


def frame(n=90):
    """Numbers, text, booleans, dates and missing values."""
    generator = np.random.default_rng(0)
    colour = generator.choice(["red", "green", "blue"], size=n)
    size = generator.normal(size=n)
    X = pd.DataFrame(
        {
            "size": np.where(generator.random(n) < 0.2, np.nan, size),
            "colour": pd.Series(colour).where(generator.random(n) > 0.1),
            "wild": generator.random(n) < 0.5,
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(n), unit="D"),
        }
    )
    return X, np.where((colour == "red") | (size > 1), "yes", "no")


def test_classifier_learns(classifier):
    X, y = iris()

    fitted = clone(classifier).fit(X, y)

    assert fitted.score(X, y) > 0.85
    assert fitted.n_edges_ <= 0.8 * (4 * 4 + 4 * 3)
    assert fitted.classes_.tolist() == [0, 1, 2]


def test_regressor_learns_in_the_unit_of_the_target(regressor):
    X, y = numbers(GraphPredRegressor)

    fitted = clone(regressor).fit(X, y)

    predicted = fitted.predict(X)
    assert predicted.shape == y.shape
    assert fitted.score(X, y) > 0.6
    assert abs(predicted.mean() - 50) < 10


@pytest.mark.parametrize("kind", BOTH)
def test_constructor_only_stores(kind):
    settings = {
        "density": -3,
        "penalty": "much",
        "n_hidden": 2.5,
        "steps": None,
        "candidates": 0,
        "meta_model": object(),
        "random_state": "seed",
    }

    estimator = kind(**settings)

    assert estimator.get_params() == settings
    assert all(getattr(estimator, name) is value for name, value in settings.items())


@pytest.mark.parametrize("kind", BOTH)
def test_parameters_are_got_set_and_cloned(kind, meta_model):
    estimator = kind().set_params(density=0.3, steps=5, random_state=1)

    assert clone(estimator).get_params() == estimator.get_params()
    assert "density=0.3" in repr(estimator)


@pytest.mark.parametrize("kind", BOTH)
def test_clone_of_a_fitted_estimator_is_not_fitted(kind, meta_model):
    X, y = numbers(kind)
    fitted = kind(density=0.5, steps=1, meta_model=meta_model).fit(X, y)

    with pytest.raises(NotFittedError):
        clone(fitted).predict(X)


@pytest.mark.parametrize("kind", BOTH)
def test_fit_returns_the_estimator_itself(kind, meta_model):
    estimator = kind(density=0.5, steps=1, meta_model=meta_model)

    assert estimator.fit(*numbers(kind)) is estimator


def test_architecture_has_a_mask_a_layer_and_a_name_a_neuron(classifier):
    fitted = clone(classifier).set_params(n_hidden=5).fit(*iris())

    z = fitted.architecture_
    assert [mask.shape for mask in z.masks] == [(4, 5), (5, 3)]
    assert {mask.dtype for mask in z.masks} == {np.dtype(bool)}
    assert sum(int(mask.sum()) for mask in z.masks) == fitted.n_edges_
    assert [len(names) for names in z.activations] == [5, 3]
    assert [p.shape for p in fitted.edge_probabilities_] == [(4, 5), (5, 3)]
    assert all(((p > 0) & (p <= 1)).all() for p in fitted.edge_probabilities_)
    assert fitted.activation_probabilities_.shape == (5, 6)
    np.testing.assert_allclose(fitted.activation_probabilities_.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("n_hidden", [(5, 4), [5, 1, 3], np.array([3, 2])])
def test_several_hidden_layers(classifier, n_hidden):
    X, y = iris()

    fitted = clone(classifier).set_params(n_hidden=n_hidden, steps=20).fit(X, y)

    widths = (4, *n_hidden, 3)
    shapes = list(itertools.pairwise(widths))
    assert fitted.architecture_.widths == widths
    assert [p.shape for p in fitted.edge_probabilities_] == shapes
    assert fitted.activation_probabilities_.shape == (sum(widths[1:-1]), 6)
    assert fitted.n_edges_ <= 0.8 * sum(a * b for a, b in shapes)
    assert fitted.score(X, y) > 0.8
    assert np.array_equal(clone(fitted).n_hidden, n_hidden)


@pytest.mark.parametrize("settings", [{"penalty": 0.002}, {}, {"density": 0.4, "candidates": 2}])
def test_every_way_of_choosing_edges_works_with_several_layers(meta_model, settings):
    X, y = numbers(GraphPredRegressor)
    estimator = GraphPredRegressor(
        n_hidden=(5, 4), steps=30, meta_model=meta_model, random_state=0, **settings
    )

    fitted = clone(estimator).fit(X, y)

    assert fitted.n_edges_ == fitted.architecture_.n_live_edges > 0
    assert fitted.score(X, y) > 0.5


def test_works_in_a_pipeline_and_in_cross_validation(classifier, regressor):
    X, y = iris()

    scores = cross_val_score(make_pipeline(StandardScaler(), clone(classifier)), X, y, cv=3)
    others = cross_val_score(clone(regressor), *numbers(GraphPredRegressor), cv=3)

    assert scores.min() > 0.7
    assert others.min() > 0.3


def test_works_in_a_grid_search(classifier):
    X, y = iris()

    search = GridSearchCV(clone(classifier), {"density": [0.3, 0.8]}, cv=2).fit(X, y)

    assert search.best_params_["density"] in (0.3, 0.8)
    assert search.predict(X).shape == y.shape


def test_frames_with_text_booleans_dates_and_missing_values(classifier):
    X, y = frame()

    fitted = clone(classifier).fit(X, y)

    assert fitted.feature_names_in_.tolist() == ["size", "colour", "wild", "day"]
    assert fitted.n_features_in_ == 4
    assert fitted.score(X, y) > 0.8
    assert set(fitted.predict(X)) <= {"yes", "no"}


@pytest.mark.parametrize("names", [None, list("abcd"), ["a", 1, "b", 2]])
def test_frames_and_arrays_of_the_same_rows_predict_alike(regressor, names):
    X, y = numbers(GraphPredRegressor)
    rows = pd.DataFrame(X, columns=names)
    estimator = clone(regressor).set_params(steps=3)

    from_array, from_frame = clone(estimator).fit(X, y), clone(estimator).fit(rows, y)

    expected = from_array.predict(X)
    np.testing.assert_array_equal(from_array.predict(rows), expected)
    expected = from_frame.predict(X)
    np.testing.assert_array_equal(from_frame.predict(rows), expected)
    np.testing.assert_array_equal(from_frame.predict(rows.iloc[:, ::-1]), expected)


def test_feature_names_are_those_of_the_last_fit(regressor):
    X, y = numbers(GraphPredRegressor)
    fitted = clone(regressor).set_params(steps=1).fit(pd.DataFrame(X, columns=list("abcd")), y)
    assert fitted.feature_names_in_.tolist() == ["a", "b", "c", "d"]

    for nameless in (X, pd.DataFrame(X)):
        fitted.feature_names_in_ = np.array(["old"])
        assert not hasattr(fitted.fit(nameless, y), "feature_names_in_")


@pytest.mark.parametrize("kind", BOTH)
def test_docstring_names_every_parameter(kind):
    assert all(f"        {name}: " in kind.__doc__ for name in kind().get_params())


def test_unknown_levels_and_missing_values_may_come_later(classifier):
    X, y = frame()
    fitted = clone(classifier).fit(X, y)
    new = X.head(3).assign(colour=["violet", None, "red"], size=[np.nan, 1e9, 0.0])

    probabilities = fitted.predict_proba(new)

    assert np.isfinite(probabilities).all()


LABELS = {
    "text": np.array(["b", "a", "c"]),
    "numbers whose text sorts otherwise": np.array([10, 9, 100]),
    "negative numbers": np.array([-1, -10, 1]),
    "whole fractions": np.array([2.0, -1.0, 10.0]),
    "digits as text": np.array(["10", "9", "100"]),
    "objects": np.array(["z", "Ü", "a"], dtype=object),
    "booleans": np.array([True, False]),
    "two numbers": np.array([3, 1]),
}


@pytest.mark.parametrize("name", LABELS)
def test_any_labels_come_back_and_probabilities_stand_in_the_order_of_classes(classifier, name):
    labels = LABELS[name]
    X, y = iris()
    kept = y < len(labels)
    X, codes = X[kept], y[kept]
    y = labels[codes]

    fitted = clone(classifier).fit(X, y)

    assert fitted.classes_.tolist() == sorted(set(y.tolist()))
    assert fitted.predict(X).dtype == y.dtype
    assert fitted.score(X, y) > 0.85
    probabilities = fitted.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    chosen = fitted.classes_[probabilities.argmax(axis=1)]
    assert (chosen == y).mean() > 0.85


@pytest.mark.parametrize("kind", BOTH)
def test_same_random_state_gives_the_same_network(kind, meta_model):
    X, y = numbers(kind)
    numpy_before = np.random.get_state()[1].copy()

    first, second, other = (
        kind(candidates=2, steps=5, meta_model=meta_model, random_state=seed).fit(X, y)
        for seed in (3, 3, 4)
    )

    def weights(estimator):
        return estimator.network_.edge.tolist()

    assert weights(first) == weights(second) != weights(other)
    np.testing.assert_array_equal(numpy_before, np.random.get_state()[1])


def test_a_random_state_of_numpy_is_taken_as_well(classifier):
    X, y = iris()

    first, second = (
        clone(classifier).set_params(random_state=np.random.RandomState(5), steps=2).fit(X, y)
        for _ in range(2)
    )

    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))


@pytest.mark.parametrize("kind", BOTH)
def test_another_number_of_columns_is_refused(kind, meta_model):
    X, y = numbers(kind)
    fitted = kind(density=0.5, steps=1, meta_model=meta_model).fit(X, y)

    for wrong in (X[:, :3], np.hstack([X, X])):
        with pytest.raises(InputError, match="the 4 columns of the fit; got"):
            fitted.predict(wrong)


@pytest.mark.parametrize("kind", BOTH)
def test_bad_shapes_are_refused(kind, meta_model):
    X, y = numbers(kind)
    estimator = kind(density=0.5, steps=1, meta_model=meta_model)

    with pytest.raises(GraphPredError, match="two axes"):
        estimator.fit(X[:, 0], y)
    with pytest.raises(InputError, match=r"y must have shape \(m,\)"):
        estimator.fit(X, np.stack([y, y], axis=1))
    with pytest.raises(GraphPredError, match="one value per row of X"):
        estimator.fit(X, y[:-1])


@pytest.mark.parametrize("y", [[1, "a"] * 75, [[1]] * 149 + [[1, 2]]], ids=["mixed", "ragged"])
def test_unusable_targets_are_refused(classifier, y):
    y = np.array(y, dtype=object) if isinstance(y[0], int) else y

    with pytest.raises(GraphPredError, match=r"of one type|equally long"):
        clone(classifier).fit(iris()[0], y)


def test_classes_that_a_network_cannot_tell_apart_are_refused(classifier):
    y = np.array(["1", "01", "2"])[np.arange(150) % 3]

    with pytest.raises(InputError, match=r"how a number is written .*; y has '01', '1'\."):
        classifier.fit(load_iris().data, y)


@pytest.mark.parametrize("kind", BOTH)
def test_predicting_before_fitting_is_refused(kind):
    with pytest.raises(NotFittedError):
        kind().predict([[0.0]])


@pytest.mark.parametrize("kind", BOTH)
def test_no_packaged_model_is_a_clear_error(kind, monkeypatch):
    monkeypatch.setattr("graphpred.meta.model.PACKAGED", "absent.safetensors")

    with pytest.raises(ModelError, match="name a model file of your own"):
        kind().fit(*numbers(kind))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"density": 0.3, "penalty": 0.1}, "not both"),
        ({"density": 0.0}, "density must be"),
        ({"density": 0.01}, "2 edges or more"),
        ({"steps": -1, "density": 0.3}, "steps must be"),
        ({"candidates": 0}, "candidates must be"),
        ({"n_hidden": 0}, "n_hidden must be"),
        ({"steps": 2.5, "density": 0.3}, r"steps must be an integer; got 2\.5"),
        ({"steps": None}, "steps must be an integer; got None"),
        ({"n_hidden": 2.0}, r"n_hidden must be an integer, a sequence .*; got 2\.0"),
        ({"n_hidden": "x"}, "n_hidden must be an integer, a sequence .*; got 'x'"),
        ({"n_hidden": (4, 2.5)}, r"n_hidden must be an integer, a sequence .*; got \(4, 2\.5\)"),
        ({"n_hidden": (4, True)}, "n_hidden must be an integer, a sequence"),
        ({"n_hidden": ()}, r"n_hidden must be at least 1, .*; got \(\)"),
        ({"n_hidden": (0,)}, r"n_hidden must be at least 1, .*; got \(0,\)"),
        ({"n_hidden": (4, 3), "density": 0.04}, "3 edges or more; got 1"),
        ({"candidates": True}, "candidates must be an integer; got True"),
        ({"density": "a"}, "density must be a number or None; got 'a'"),
        ({"penalty": [1]}, r"penalty must be a number or None; got \[1\]"),
        ({"meta_model": 3}, "meta_model must be a MetaModel or a path; got int"),
        ({"random_state": "seed"}, "random_state must be an integer .* got 'seed'"),
    ],
)
def test_bad_parameters_are_refused_when_fitted(meta_model, settings, message):
    with pytest.raises(InputError, match=message):
        GraphPredClassifier(**{"meta_model": meta_model} | settings).fit(*iris())


def test_numbers_of_numpy_are_numbers(meta_model, tmp_path):
    estimator = GraphPredClassifier(density=np.float32(0.5), meta_model=meta_model)

    fitted = estimator.set_params(steps=np.int64(1), n_hidden=np.int32(3)).fit(*iris())

    assert fitted.edge_probabilities_[0].shape == (4, 3)
    fitted.network_.save(tmp_path / "net")


def test_one_class_is_refused(classifier):
    with pytest.raises(GraphPredError, match="two classes or more"):
        clone(classifier).fit(np.zeros((10, 2)), np.zeros(10))


def test_a_whole_number_target_may_be_a_quantity(regressor):
    X, y = numbers(GraphPredRegressor)

    fitted = clone(regressor).fit(X, np.round(y / 20).astype(int))

    assert fitted.predict(X).dtype == np.float64


def test_network_alone_gives_the_same_predictions_after_a_trip_to_the_disk(classifier, tmp_path):
    X, y = frame()
    fitted = clone(classifier).fit(X, y)
    fitted.network_.save(tmp_path / "net")

    network = SparseNetwork.load(tmp_path / "net")

    np.testing.assert_array_equal(network.predict_proba(X), fitted.predict_proba(X))
    assert network.predict(X).tolist() == fitted.predict(X).tolist()
    assert network.facts["n_live_edges"] == fitted.n_edges_


def test_regression_network_alone_predicts_in_units(regressor, tmp_path):
    X, y = load_diabetes(return_X_y=True)
    fitted = clone(regressor).set_params(steps=5).fit(X[:100], y[:100])
    fitted.network_.save(tmp_path / "net")

    predicted = SparseNetwork.load(tmp_path / "net").predict(X)

    np.testing.assert_array_equal(predicted[:, 0], fitted.predict(X))


def test_all_rows_are_used_for_training_in_the_end(classifier):
    X, y = iris()

    with_density = clone(classifier).set_params(steps=1).fit(X, y)
    chosen = clone(classifier).set_params(steps=1, density=None).fit(X, y)

    assert with_density.network_.facts["task"]["parts"] == {"train": 150}
    assert chosen.network_.facts["task"]["parts"] == {"train": 150}


@pytest.mark.parametrize("settings", [{"penalty": 0.01}, {}, {"candidates": 3, "density": 0.4}])
def test_every_way_of_choosing_edges_works(meta_model, settings):
    X, y = iris()

    fitted = GraphPredClassifier(steps=30, meta_model=meta_model, random_state=0, **settings).fit(
        X, y
    )

    assert fitted.predict_proba(X).shape == (150, 3)
    assert fitted.n_edges_ == fitted.architecture_.n_live_edges


def test_no_step_leaves_the_predicted_weights(meta_model):
    fitted = GraphPredClassifier(density=0.5, steps=0, meta_model=meta_model, random_state=0)
    fitted.fit(*iris())

    losses = fitted.network_.facts["losses"]
    assert losses["before"] == losses["after"]


def test_a_model_file_may_be_named(meta_model, tmp_path):
    MetaModel().save(tmp_path / "m")

    fitted = GraphPredClassifier(density=0.5, steps=1, meta_model=tmp_path / "m").fit(*iris())

    assert fitted.predict(iris()[0]).shape == (150,)


def test_fitting_warns_of_nothing(classifier):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clone(classifier).set_params(steps=2).fit(*frame()).predict(frame()[0])
