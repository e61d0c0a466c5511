"""One network: raw rows in, predictions out, and its file."""

import json
import pickle
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from strategies import architectures

from graphpred.activations import ACTIVATIONS
from graphpred.architecture import Architecture
from graphpred.errors import GraphPredError, InputError, StoreError
from graphpred.network import Signature, SparseNetwork
from graphpred.population import Population
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace
from graphpred.task import Task
from graphpred.weights import Weights


def mixed_frame(m=150, *, regression=False):
    """Numbers with gaps, words with gaps, dates and a target that depends on them."""
    rng = np.random.default_rng(0)
    size = rng.normal(50, 20, size=m)
    colour = rng.choice(["red", "green", "blue"], size=m).astype(object)
    score = size / 20 + (colour == "red") + rng.normal(0, 0.1, size=m)
    frame = pd.DataFrame(
        {
            "size": np.where(rng.random(m) < 0.2, np.nan, size),
            "colour": np.where(rng.random(m) < 0.2, None, colour),
            "weight": rng.integers(1, 9, size=m),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, m), "D"),
        }
    )
    target = 1000 + 250 * score if regression else np.where(score > np.median(score), "hi", "lo")
    return frame.assign(target=target)


def trained(task, *, steps=100, density=0.5):
    space = SearchSpace(widths=(task.n_features, 6, task.n_outputs), density=density)
    z = space.sample_live(generator=generator_for(3))
    population = Population([z], seed=1).fit(*task.rows("train"), steps=steps)
    return population.networks(signature=Signature.of(task))[0]


@pytest.fixture(scope="module", params=[False, True], ids=["classification", "regression"])
def fitted(request):
    """A network with its raw table, from nominal and missing columns."""
    frame = mixed_frame(regression=request.param)
    task = Task.from_source(frame)
    return trained(task), frame.drop(columns="target"), frame["target"], task


def by_hand(z, weights, row):
    """Outputs neuron by neuron, for one row."""
    values = list(row)
    for neuron in range(z.widths[0], z.n_neurons):
        summed = weights.bias[neuron - z.widths[0]]
        for (source, target), weight in zip(z.edges.T.tolist(), weights.edge, strict=True):
            if target == neuron:
                summed = summed + weight * values[source]
        values.append(ACTIVATIONS[int(z.activation[neuron])].function(summed))
    return torch.stack(values[-z.widths[-1] :])


@given(z=architectures(), seed=st.integers(0, 2**16))
def test_forward_is_the_sum_over_edges(z, seed):
    generator = generator_for(seed)
    weights = Weights(
        edge=torch.randn(z.n_edges, generator=generator),
        bias=torch.randn(z.n_neurons - z.widths[0], generator=generator),
    )
    names = tuple("abcdefgh")
    signature = Signature(
        kind="classification",
        feature_names=names[: z.widths[0]],
        class_names=names[: z.widths[-1]],
    )
    X = torch.randn(3, z.widths[0], generator=generator)

    scores = SparseNetwork(z, weights, signature=signature)(X)

    expected = torch.stack([by_hand(z, weights, row) for row in X])
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)


def test_forward_of_encoded_rows_is_scores_of_raw_rows(fitted):
    network, frame, _, task = fitted

    raw, encoded = network.scores(frame), network(task.X)

    torch.testing.assert_close(raw, encoded.detach(), atol=1e-5, rtol=1e-5)


def test_forward_is_differentiable_in_weights_and_inputs(fitted):
    network, _, _, task = fitted
    X = task.X[:4].double().requires_grad_()
    double = SparseNetwork(
        network.architecture, network.weights, signature=network.signature
    ).double()

    double(X).square().sum().backward()

    assert double.edge.grad.abs().sum() > 0
    assert double.bias.grad.abs().sum() > 0
    assert X.grad.shape == X.shape
    assert X.grad.abs().sum() > 0
    edge = double.edge.detach().clone()
    step = torch.zeros_like(edge)
    step[0] = 1e-6
    with torch.no_grad():
        double.edge.copy_(edge + step)
        above = double(X).square().sum()
        double.edge.copy_(edge - step)
        below = double(X).square().sum()
    assert double.edge.grad[0].item() == pytest.approx(((above - below) / 2e-6).item(), rel=1e-4)


def test_parameters_are_one_per_edge_and_one_per_neuron(fitted):
    network, *_ = fitted
    z = network.architecture

    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}

    assert shapes == {"edge": (z.n_edges,), "bias": (z.n_neurons - z.widths[0],)}


def test_state_dict_moves_weights_between_networks(fitted):
    network, frame, *_ = fitted
    z = network.architecture
    other = SparseNetwork(
        z,
        Weights(edge=torch.zeros(z.n_edges), bias=torch.zeros(z.n_neurons - z.widths[0])),
        signature=network.signature,
    )

    other.load_state_dict(network.state_dict())

    assert torch.equal(other.scores(frame), network.scores(frame))


def test_weights_are_a_copy(fitted):
    network, frame, *_ = fitted
    before = network.scores(frame)

    network.weights.edge.zero_()

    assert torch.equal(network.scores(frame), before)


def test_predictions_are_classes_or_quantities_in_their_unit(fitted):
    network, frame, target, task = fitted

    predicted = network.predict(frame)

    if task.is_classification:
        probabilities = network.predict_proba(frame)
        assert probabilities.shape == (150, 2)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        names = np.array(task.class_names, dtype=object)
        np.testing.assert_array_equal(predicted, names[probabilities.argmax(axis=1)])
        assert (predicted == target).mean() > 0.75
    else:
        assert predicted.shape == (150, 1)
        residual = predicted[:, 0] - target
        assert (residual**2).mean() < 0.5 * target.var()
        scores = network.scores(frame)[:, 0].double().numpy()
        np.testing.assert_allclose(
            predicted[:, 0], scores * task.target_scale[0] + task.target_mean[0]
        )
        with pytest.raises(InputError, match="need a classification network"):
            network.predict_proba(frame)


def test_columns_may_come_in_another_order_and_with_strangers(fitted):
    network, frame, *_ = fitted
    reordered = frame[frame.columns[::-1]].assign(remark="?")

    np.testing.assert_array_equal(network.predict(frame), network.predict(reordered))


def test_file_gives_the_same_bits_back(fitted, tmp_path):
    network, frame, *_ = fitted
    z = network.architecture
    told = SparseNetwork(
        z,
        network.weights,
        signature=network.signature,
        facts={"loss": 0.125, "how": ["prior", 3, None, "Ü"]},
        evidence={"edge_probability": torch.rand(5, 3, generator=generator_for(0))},
    )

    told.save(tmp_path / "net.safetensors")
    loaded = SparseNetwork.load(tmp_path / "net.safetensors")

    assert loaded.architecture == z
    assert loaded.signature == network.signature
    assert loaded.facts == told.facts
    assert loaded.evidence.keys() == {"edge_probability"}
    assert torch.equal(loaded.evidence["edge_probability"], told.evidence["edge_probability"])
    assert torch.equal(loaded.scores(frame), network.scores(frame))
    np.testing.assert_array_equal(loaded.predict(frame), network.predict(frame))
    strange = frame.assign(colour="never seen", size=np.nan)
    assert torch.equal(loaded.scores(strange), network.scores(strange))


def test_network_without_encoder_takes_numbers(tmp_path):
    z = Architecture.from_masks([[[1], [1]], [[1, 1]]], hidden=["tanh"])
    (network,) = Population([z], seed=3).networks()
    rows = np.random.default_rng(0).normal(size=(5, 2))

    network.save(tmp_path / "net")
    loaded = SparseNetwork.load(tmp_path / "net")

    assert torch.equal(loaded.scores(rows), network.scores(rows))
    assert loaded.scores(rows[:0]).shape == (0, 2)
    assert set(loaded.predict(rows)) <= {"0", "1"}


def test_file_is_safetensors_with_json_and_holds_no_pickle(fitted, tmp_path):
    network, *_ = fitted
    path = tmp_path / "net"

    network.save(path)

    assert not zipfile.is_zipfile(path)
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(path.read_bytes())
    with safe_open(str(path), framework="np") as file:
        described = json.loads(file.metadata()["graphpred_network"])
    assert described["format"] == 1
    assert described["signature"]["class_names"] == list(network.signature.class_names)


def broken_files(folder, network):
    """One file of every kind that is no network."""
    good = folder / "good"
    network.save(good)
    content = good.read_bytes()
    with safe_open(str(good), framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    described = json.loads(metadata["graphpred_network"])
    (folder / "empty").write_bytes(b"")
    (folder / "random").write_bytes(np.random.default_rng(0).bytes(4096))
    (folder / "text").write_text("widths,edges\n1,2\n")
    for share in (0.02, 0.5, 0.99):
        (folder / f"truncated-{share}").write_bytes(content[: int(share * len(content))])
    network.architecture.save(folder / "architecture")

    def variant(name, *, drop=(), replace=None, **changes):
        kept = {k: v for k, v in tensors.items() if k not in drop} | (replace or {})
        text = json.dumps(described | changes)
        save_file(kept, str(folder / name), metadata={"graphpred_network": text})

    variant("future", format=99)
    variant("no-edges", drop=["edges"])
    variant("no-bias", drop=["bias"])
    variant("short-edge", replace={"edge": tensors["edge"][:-1].clone()})
    variant("no-signature", signature={})
    variant("odd-signature", signature=[1])
    variant("no-widths", architecture={})
    save_file(tensors, str(folder / "torn-json"), metadata={"graphpred_network": "{"})
    save_file(tensors, str(folder / "list-json"), metadata={"graphpred_network": "[1]"})
    (folder / "folder").mkdir()
    return sorted(path.name for path in folder.iterdir() if path.name != "good")


def test_any_other_file_is_refused_in_one_sentence(fitted, tmp_path):
    network, *_ = fitted
    names = broken_files(tmp_path, network)
    assert len(names) == 17

    for name in [*names, "missing"]:
        with pytest.raises(StoreError, match=name):
            SparseNetwork.load(tmp_path / name)


def test_unwritable_place_is_refused(fitted, tmp_path):
    network, *_ = fitted

    with pytest.raises(StoreError, match="must be writable"):
        network.save(tmp_path / "no folder" / "net")


def test_parts_must_fit_together():
    z = Architecture.from_masks([[[1], [1]], [[1, 1]]], hidden=["tanh"])
    signature = Signature(
        kind="classification", feature_names=("a", "b"), class_names=("u", "v", "w")
    )
    weights = Weights(edge=torch.zeros(4), bias=torch.zeros(3))

    with pytest.raises(InputError, match=r"from 2 features to 3 outputs; got widths \(2, 1, 2\)"):
        SparseNetwork(z, weights, signature=signature)
    with pytest.raises(InputError, match=r"\(4, 3\); got \(3, 3\)"):
        SparseNetwork(z, Weights(edge=torch.zeros(3), bias=torch.zeros(3)), signature=signature)


def test_missing_column_is_named(fitted):
    network, frame, *_ = fitted

    with pytest.raises(GraphPredError, match="colour"):
        network.predict(frame.drop(columns="colour"))
