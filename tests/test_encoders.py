"""Data set encoders: the graph of a data set, its embedding, and encoders of a user's own."""

import math
from dataclasses import replace

import pytest
import torch
from torch_geometric.data import Batch, HeteroData
from toys import (
    PRIOR,
    WIDTH,
    CorrelationEncoder,
    encoder_from_generator,
    parameters_of,
    permuted_features,
    permuted_outputs,
    permuted_rows,
    same_parameters,
    seeded,
    toy_model,
    toy_task,
    toy_trainer,
)

from graphpred.errors import InputError, ModelError
from graphpred.meta.encoders import (
    ENCODERS,
    DatasetEncoder,
    StatisticsEncoder,
    build_encoder,
    dataset_graph,
)
from graphpred.meta.examples import PriorExamples
from graphpred.meta.model import MetaConfig, MetaModel
from graphpred.meta.moments import Moments
from graphpred.meta.row_attention import RowAttentionEncoder, sample_rows
from graphpred.meta.statistics import (
    FEATURE_SIZE,
    OUTPUT_SIZE,
    PAIR_SIZE,
    RELATION_SIZE,
    linear_model,
    statistics_of,
)

CLOSE = {"atol": 1e-5, "rtol": 0}
TASKS = {
    "three classes": toy_task,
    "two quantities": lambda: toy_task("regression", c=2),
    "one feature": lambda: toy_task(n=1, c=2),
    "one quantity of many features": lambda: toy_task("regression", n=12, c=1),
}
SMALL = {
    "statistics": lambda generator: StatisticsEncoder(width=WIDTH, n_rounds=2, generator=generator),
    "row_attention": lambda generator: RowAttentionEncoder(width=WIDTH, generator=generator),
}


@pytest.fixture(scope="module", params=SMALL)
def encoder(request):
    return SMALL[request.param](seeded())


@pytest.fixture(scope="module", params=TASKS)
def task(request):
    return TASKS[request.param]()


@torch.no_grad()
def embed(encoder, *tasks):
    return encoder([encoder.describe(task) for task in tasks])


def assert_same_embedding(first, second):
    for name in ("features", "outputs", "relations"):
        torch.testing.assert_close(getattr(first, name), getattr(second, name), **CLOSE)


def test_data_set_graph_is_a_valid_one_of_torch_geometric(task):
    statistics = statistics_of(task)
    n, c = task.n_features, task.n_outputs

    graph = dataset_graph(statistics)

    assert isinstance(graph, HeteroData)
    assert graph.validate(raise_on_error=True)
    assert graph["feature"].x.shape == (n, FEATURE_SIZE + 2)
    assert graph["output"].x.shape == (c, OUTPUT_SIZE + 2)
    informs = graph["feature", "informs", "output"]
    assert informs.edge_attr.shape == (n * c, RELATION_SIZE)
    j, k = informs.edge_index
    assert torch.equal(informs.edge_attr, statistics.relation[j, k])
    beside = graph["feature", "beside", "feature"]
    assert beside.edge_attr.shape == (beside.edge_index.shape[1], PAIR_SIZE)
    assert graph["output"].x[:, -1].tolist() == [float(task.kind == "regression")] * c


def test_data_set_graphs_batch(task):
    graph = dataset_graph(statistics_of(task))

    batch = Batch.from_data_list([graph, graph])

    assert batch["feature"].x.shape[0] == 2 * task.n_features
    last = batch["feature", "informs", "output"].edge_index.amax(dim=1)
    assert last.tolist() == [2 * task.n_features - 1, 2 * task.n_outputs - 1]


def test_embedding_has_the_promised_shapes_and_is_finite(encoder, task):
    (embedding,) = embed(encoder, task)

    assert embedding.features.shape == (task.n_features, encoder.width)
    assert embedding.outputs.shape == (task.n_outputs, encoder.width)
    shape = (task.n_features, task.n_outputs, encoder.relation_width)
    assert embedding.relations.shape == shape
    assert embedding.features.isfinite().all()
    assert embedding.outputs.isfinite().all()


def test_permuting_features_permutes_the_embedding(encoder, task):
    order = torch.randperm(task.n_features, generator=seeded(1))

    before, after = embed(encoder, task, permuted_features(task, order))

    torch.testing.assert_close(after.features, before.features[order], **CLOSE)
    torch.testing.assert_close(after.outputs, before.outputs, **CLOSE)
    torch.testing.assert_close(after.relations, before.relations[order], **CLOSE)


def test_permuting_outputs_permutes_the_embedding(encoder, task):
    order = torch.arange(task.n_outputs).roll(1)

    before, after = embed(encoder, task, permuted_outputs(task, order))

    torch.testing.assert_close(after.features, before.features, **CLOSE)
    torch.testing.assert_close(after.outputs, before.outputs[order], **CLOSE)
    torch.testing.assert_close(after.relations, before.relations[:, order], **CLOSE)


def test_order_of_rows_changes_nothing(encoder, task):
    assert_same_embedding(*embed(encoder, task, permuted_rows(task)))


def test_data_sets_of_a_batch_do_not_hear_of_each_other(encoder):
    tasks = [make() for make in TASKS.values()]

    together = embed(encoder, *tasks)

    for task, embedding in zip(tasks, together, strict=True):
        assert_same_embedding(embed(encoder, task)[0], embedding)


def test_different_data_sets_have_different_embeddings(encoder):
    first, second = embed(encoder, toy_task(seed=0), toy_task(seed=1))

    assert (first.outputs - second.outputs).abs().max() > 1e-3


@pytest.mark.parametrize("name", SMALL)
def test_initial_parameters_depend_on_the_generator_alone(name):
    before = torch.get_rng_state()
    first, second, other = (parameters_of(SMALL[name](seeded(seed))) for seed in (3, 3, 4))
    torch.manual_seed(12)
    third = parameters_of(SMALL[name](seeded(3)))
    torch.set_rng_state(before)

    assert same_parameters(first, second)
    assert same_parameters(first, third)
    assert not same_parameters(first, other)


def test_relations_begin_with_the_linear_model(encoder, task):
    (embedding,) = embed(encoder, task)

    weights, bias = linear_model(Moments.of(task))
    assert torch.equal(embedding.relations[:, :, 0], weights)
    assert torch.equal(embedding.bias, bias)
    assert weights.abs().max() > 0.01


def test_sums_over_rows_are_enough_to_describe_them(encoder, task):
    (expected,) = embed(encoder, task)

    with torch.no_grad():
        (embedding,) = encoder([encoder.describe_moments(Moments.of(task))])

    assert_same_embedding(embedding, expected)


def test_gradients_reach_every_parameter_and_are_finite(encoder):
    tasks = [make() for make in TASKS.values()]
    embeddings = encoder([encoder.describe(task) for task in tasks])
    sum(
        (part * torch.randn(part.shape, generator=seeded(1))).sum()
        for embedding in embeddings
        for part in (embedding.features, embedding.outputs, embedding.relations)
    ).backward()

    gradients = {name: p.grad for name, p in encoder.named_parameters()}
    encoder.zero_grad()

    assert all(gradient is not None for gradient in gradients.values())
    assert all(gradient.isfinite().all() for gradient in gradients.values())


# Attention over rows

EXTREMES = {
    "fifty classes": lambda: toy_task(n=20, c=50, m=1500),
    "hundreds of features": lambda: toy_task(n=784, c=10, m=300),
    "more rows than the sample": lambda: toy_task("regression", n=60, c=3, m=2000),
    "a single row": lambda: toy_task(n=2, c=2, m=2),
    "an absent class": lambda: toy_task(c=4, absent=True),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_row_attention_embeds_data_of_any_size_with_its_symmetries(name):
    task = EXTREMES[name]()
    encoder = SMALL["row_attention"](seeded())
    features = torch.randperm(task.n_features, generator=seeded(1))
    outputs = torch.arange(task.n_outputs).roll(1)

    before, rows, other = embed(
        encoder,
        task,
        permuted_rows(task),
        permuted_outputs(permuted_features(task, features), outputs),
    )

    assert_same_embedding(before, rows)
    torch.testing.assert_close(other.features, before.features[features], **CLOSE)
    torch.testing.assert_close(other.outputs, before.outputs[outputs], **CLOSE)
    torch.testing.assert_close(other.relations, before.relations[features][:, outputs], **CLOSE)
    assert all(part.isfinite().all() for part in vars(before).values())


def test_row_attention_looks_at_fewer_rows_of_wide_tables():
    wide, narrow = toy_task(n=300, m=400), toy_task(n=3, m=400)

    encoder = SMALL["row_attention"](seeded())

    assert sample_rows(1) == sample_rows(3) > sample_rows(300) == sample_rows(10_000) > 1
    for task in (wide, narrow):
        q, n, c = encoder.describe(task).sample.shape
        assert (q, n, c) == (sample_rows(task.n_features), task.n_features, 3)


def test_training_with_row_attention_keeps_all_numbers_finite(tmp_path):
    model = MetaModel(MetaConfig(encoder="row_attention", n_attention=1, n_rounds=2))
    before = parameters_of(model.encoder)

    losses = [report.loss for report in toy_trainer(model, steps=20).run()]

    after = parameters_of(model.encoder)
    assert all(math.isfinite(loss) for loss in losses)
    assert all(value.isfinite().all() for value in after.values())
    assert not any(torch.equal(before[name], after[name]) for name in before)
    model.save(tmp_path / "m.safetensors")
    loaded = MetaModel.load(tmp_path / "m.safetensors")
    assert isinstance(loaded.encoder, RowAttentionEncoder)
    first, second = (m.predict(toy_task()) for m in (model, loaded))
    assert torch.equal(first.probabilities[0], second.probabilities[0])


# Encoders by name


@pytest.mark.parametrize("name", ENCODERS)
def test_built_in_encoders_are_built_by_name(name):
    encoder = build_encoder(name, generator=seeded())

    assert isinstance(encoder, DatasetEncoder)


def test_a_module_and_a_callable_name_an_encoder():
    encoder = build_encoder("toys:CorrelationEncoder", generator=seeded())

    assert type(encoder).__name__ == "CorrelationEncoder"


def test_a_callable_that_takes_a_generator_is_given_it():
    encoder = build_encoder("toys:encoder_from_generator", generator=seeded(5))

    expected = parameters_of(encoder_from_generator(generator=seeded(5)))
    assert same_parameters(parameters_of(encoder), expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("transformer", "one of statistics, row_attention, or module:callable; got 'transformer'"),
        ("no_such_module:thing", "cannot be built"),
        ("toys:no_such_thing", "cannot be built"),
        (":thing", "cannot be built"),
        ("toys:WIDTH", "cannot be built"),
        ("toys:no_encoder", "DatasetEncoder"),
    ],
)
def test_bad_names_are_refused(name, message):
    with pytest.raises(InputError, match=message):
        build_encoder(name, generator=seeded())


# An encoder of a user's own


@pytest.fixture(scope="module")
def own_model():
    """A model with a user's encoder, trained for a while, and its losses on fixed examples."""
    model = MetaModel(
        MetaConfig(width=WIDTH, n_attention=1, n_rounds=4), encoder=CorrelationEncoder()
    )
    losses = [report.loss for report in fixed_training(model, steps=100)]
    return model, losses


def fixed_training(model, *, steps):
    """Training on one example again and again, so that the losses can be compared."""
    source = PriorExamples(
        model.describe, config=replace(PRIOR, families=("products",), regression_share=0.0)
    )
    example = source.draw(1, seeded())[0]
    trainer = toy_trainer(model, steps=steps, draw=lambda generator: example, learning_rate=3e-3)
    return trainer.run()


def test_own_encoder_satisfies_the_protocol():
    assert isinstance(CorrelationEncoder(), DatasetEncoder)


def test_own_encoder_trains(own_model):
    _, losses = own_model

    assert losses[-1] < 0.9 * losses[0]


def test_parameters_of_the_own_encoder_are_trained(own_model):
    model, _ = own_model

    assert not same_parameters(parameters_of(model.encoder), parameters_of(CorrelationEncoder()))


def test_own_encoder_predicts_and_comes_back_from_disk(own_model, tmp_path):
    model, _ = own_model
    model.save(tmp_path / "m.safetensors")

    loaded = MetaModel.load(tmp_path / "m.safetensors", encoder=CorrelationEncoder())

    first, second = (m.predict(toy_task()) for m in (model, loaded))
    assert torch.equal(first.probabilities[0], second.probabilities[0])
    assert torch.equal(first.weights[1], second.weights[1])
    assert first.proposal(n_edges=6).architecture.n_live_edges <= 6


@pytest.mark.parametrize("name", ["statistics", "toys:CorrelationEncoder"])
def test_loading_without_the_own_encoder_is_a_clear_error(name, tmp_path):
    config = MetaConfig(width=WIDTH, n_rounds=1, encoder=name)
    MetaModel(config, encoder=CorrelationEncoder()).save(tmp_path / "m.safetensors")

    with pytest.raises(ModelError, match="encoder="):
        MetaModel.load(tmp_path / "m.safetensors")


def test_loading_with_another_encoder_is_a_clear_error(tmp_path):
    toy_model().save(tmp_path / "m.safetensors")

    with pytest.raises(ModelError, match="encoder="):
        MetaModel.load(tmp_path / "m.safetensors", encoder=CorrelationEncoder())


def test_encoder_of_another_width_is_refused():
    with pytest.raises(InputError, match="width must be 16; got 8"):
        MetaModel(MetaConfig(width=WIDTH), encoder=CorrelationEncoder(width=8))
