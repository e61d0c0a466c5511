"""The packaged model: it loads, it predicts what it predicted when it was packaged, and it is good.

``python tests/test_packaged.py`` writes the reference anew, for a new packaged model.
"""

import json
from pathlib import Path

import pytest
import torch

from graphpred import GraphPredClassifier, GraphPredRegressor, MetaModel, Task
from graphpred.meta.model import packaged_model
from graphpred.population import Population
from graphpred.synthetic import PRIOR_VERSION

REFERENCE = Path(__file__).parent / "packaged_reference.json"
DATA = ("iris", "breast_cancer", "diabetes")
PRICE = 0.1
MOST_MEGABYTES = 10


@pytest.fixture(scope="module")
def model():
    return MetaModel.load()


def summary(model, name):
    """Numbers of one prediction; rounds amplify rounding, so none is of a single edge."""
    prediction = model.predict(Task.from_source(name), price=PRICE, seed=0)
    into, out = prediction.probabilities
    return {
        "into": into.mean().item(),
        "out": out.mean().item(),
        "shares": prediction.activation_probabilities.mean(dim=0).tolist(),
        "n_likely": sum(int((p >= 0.5).sum()) for p in (into, out)),
        "familiarity": prediction.familiarity,
    }


@pytest.mark.parametrize("name", DATA)
def test_predictions_are_those_of_its_packaging(model, name):
    expected = json.loads(REFERENCE.read_text(encoding="utf-8"))[name]

    found = summary(model, name)

    assert found["into"] == pytest.approx(expected["into"], abs=0.02)
    assert found["out"] == pytest.approx(expected["out"], abs=0.02)
    assert found["shares"] == pytest.approx(expected["shares"], abs=0.01)
    assert found["n_likely"] == pytest.approx(expected["n_likely"], rel=0.2, abs=3)
    assert found["familiarity"] == pytest.approx(expected["familiarity"], abs=0.05)


def test_card_says_how_it_was_made(model):
    assert model.card["synthetic prior"] == PRIOR_VERSION
    assert model.card["data sets"] == []
    assert {"steps", "batch", "seed", "graphpred"} <= model.card.keys()


def test_file_is_small():
    assert packaged_model().stat().st_size < MOST_MEGABYTES * 2**20


@pytest.mark.parametrize(
    ("name", "worst"), [("iris", 0.25), ("breast_cancer", 0.1), ("wine", 0.2), ("diabetes", 0.7)]
)
def test_a_prediction_without_a_step_is_already_good(model, name, worst):
    """With as many edges as two hidden neurons of a dense network have."""
    task = Task.from_source(name)
    proposal = model.predict(task).proposal(n_edges=2 * (task.n_features + task.n_outputs))

    population = Population([proposal.architecture], start=[proposal.start])
    loss = "error" if task.is_classification else "unexplained"

    assert float(population.losses(*task.rows("test"), loss=loss)[0]) < worst


@pytest.mark.parametrize("estimator", [GraphPredClassifier, GraphPredRegressor])
def test_estimators_take_it_when_no_model_is_named(estimator):
    X = torch.randn(80, 3, generator=torch.Generator().manual_seed(0)).numpy()
    y = X[:, 0] > 0 if estimator is GraphPredClassifier else X[:, 0]

    fitted = estimator(density=0.5, steps=5, random_state=0).fit(X, y)

    assert fitted.score(X, y) > 0.6


if __name__ == "__main__":
    packaged = MetaModel.load()
    text = json.dumps({name: summary(packaged, name) for name in DATA}, indent=1)
    REFERENCE.write_text(text + "\n", encoding="utf-8")
