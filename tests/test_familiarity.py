"""How like the data sets of its training a data set is."""

import pytest
import torch
from toys import parameters_of, same_parameters, seeded, toy_model, toy_task

from graphpred.meta.encoders import Embedding
from graphpred.meta.familiarity import Familiarity
from graphpred.meta.model import MetaModel

WIDTH = 4


def embedding(seed, *, n=3, scale=1.0, shift=0.0):
    generator = seeded(seed)
    spread = scale * torch.tensor([1.0, 0.5, 2.0, 0.1])
    return Embedding(
        features=spread * torch.randn(n, WIDTH, generator=generator) + shift,
        outputs=spread * torch.randn(2, WIDTH, generator=generator),
        relations=torch.zeros(n, 2, 1),
    )


@pytest.fixture(scope="module")
def familiarity():
    learned = Familiarity(WIDTH)
    learned.learn(embedding(seed) for seed in range(500))
    return learned


def test_nothing_is_known_at_first():
    assert not Familiarity(WIDTH).is_known
    assert Familiarity(WIDTH).of(embedding(0)) is None
    assert toy_model().predict(toy_task()).familiarity is None


def test_it_is_even_over_data_sets_like_those_of_the_training(familiarity):
    values = torch.tensor([familiarity.of(embedding(seed)) for seed in range(1000, 1400)])

    assert familiarity.is_known
    for level in (0.1, 0.5, 0.9):
        assert float((values <= level).double().mean()) == pytest.approx(level, abs=0.08)


def test_what_is_far_from_all_is_unfamiliar(familiarity):
    assert familiarity.of(embedding(1000, shift=10.0)) == 0
    assert familiarity.of(embedding(1000, scale=30.0)) == 0


def test_distance_counts_in_deviations_of_its_direction(familiarity):
    """A shift by as much is stranger in a direction in which training data hardly differ."""
    wide, narrow = (torch.eye(WIDTH)[i] for i in (2, 3))

    near, far = (familiarity.of(embedding(1000, shift=shift)) for shift in (wide, narrow))

    assert far < near


def test_it_comes_back_from_disk(tmp_path):
    model = toy_model()
    described = [model.describe(toy_task(seed=seed)).encoded for seed in range(5)]
    with torch.no_grad():
        model.familiarity.learn(model.encoder(described))
    model.save(tmp_path / "m")

    loaded = MetaModel.load(tmp_path / "m", encoder=toy_model().encoder)

    assert same_parameters(parameters_of(loaded), parameters_of(model))
    first, second = (m.predict(toy_task(seed=9)).familiarity for m in (model, loaded))
    assert first == second
    assert 0 <= first <= 1


def test_training_leaves_it_alone(familiarity):
    assert list(familiarity.parameters()) == []
