"""``Architecture``: its invariants, sizes, live edges and conversions."""

import json

import networkx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from strategies import architectures, shuffled

from graphpred.activations import ACTIVATIONS, activation_function
from graphpred.architecture import Architecture
from graphpred.errors import ArchitectureError, GraphPredError, StoreError

EDGES = torch.tensor([[0, 0, 1], [2, 3, 3]])


def build(**changes) -> Architecture:
    """Two inputs, two hidden neurons, one output, three edges; with some fields changed."""
    fields = {"edges": EDGES, "activation": torch.tensor([0, 0, 1, 3, 0]), "widths": (2, 2, 1)}
    return Architecture(**fields | changes)


def pairs(z: Architecture) -> list[tuple[int, int]]:
    return list(zip(*z.edges.tolist(), strict=True))


def live_pairs(z: Architecture) -> list[tuple[int, int]]:
    """Edges on a path from an input to an output, searched in a plain directed graph."""
    graph = networkx.DiGraph(pairs(z))
    graph.add_nodes_from(range(z.n_neurons))
    inputs = range(z.widths[0])
    outputs = range(z.n_neurons - z.widths[-1], z.n_neurons)
    return [
        (source, target)
        for source, target in pairs(z)
        if any(networkx.has_path(graph, i, source) for i in inputs)
        and any(networkx.has_path(graph, target, o) for o in outputs)
    ]


def outputs(z: Architecture, *, numbers: list[int], x: list[float]) -> list[float]:
    """Outputs without biases; ``numbers`` name the neurons, and names decide the weights."""
    values = torch.zeros(z.n_neurons, dtype=torch.float64)
    values[: z.widths[0]] = torch.tensor(x, dtype=torch.float64)
    for neuron in range(z.widths[0], z.n_neurons):
        total = sum(
            np.sin(1.0 + 3 * numbers[source] + 7 * numbers[neuron]) * values[source]
            for source, target in pairs(z)
            if target == neuron
        )
        activation = ACTIVATIONS[int(z.activation[neuron])].name
        total = torch.as_tensor(total, dtype=torch.float64)
        values[neuron] = activation_function(activation)(total)
    return values[-z.widths[-1] :].tolist()


# Sizes


@given(architectures())
def test_counts_agree_with_counting(z):
    layer = [k for k, width in enumerate(z.widths) for _ in range(width)]

    assert z.n_layers == len(z.widths) - 1
    assert z.n_neurons == len(layer)
    assert z.n_edges == len(pairs(z))
    assert z.n_edges_per_layer == tuple(
        sum(layer[target] == k for _, target in pairs(z)) for k in range(1, z.n_layers + 1)
    )
    n_possible = sum(
        layer[j] - layer[i] == 1 for i in range(z.n_neurons) for j in range(z.n_neurons)
    )
    assert z.n_possible_edges == n_possible
    assert z.density == z.n_edges / n_possible
    assert z.has_skip_edges == any(layer[j] - layer[i] > 1 for i, j in pairs(z))
    assert z.layer.tolist() == layer


@given(architectures())
def test_live_edges_are_those_on_a_path_of_the_graph(z):
    live = live_pairs(z)

    assert [pair for pair, alive in zip(pairs(z), z.live, strict=True) if alive] == live
    assert z.n_live_edges == len(live)


def test_neurons_may_live_on_skip_edges_alone():
    into_second_layer = [[0, 2], [2, 3]]
    out_of_first_layer = [[0, 1], [1, 3]]
    for edges in (into_second_layer, out_of_first_layer):
        z = Architecture.from_edges(edges, activation=[0] * 4, widths=(1, 1, 1, 1))
        assert z.live.tolist() == [True, True]


@given(architectures(max_width=3))
def test_without_dead_edges_keeps_the_live_ones_and_the_function(z):
    x = [0.3 + i for i in range(z.widths[0])]
    numbers = list(range(z.n_neurons))

    pruned = z.without_dead_edges()

    assert pairs(pruned) == live_pairs(z)
    assert torch.equal(pruned.activation, z.activation)
    assert pruned.live.all()
    assert outputs(pruned, numbers=numbers, x=x) == pytest.approx(
        outputs(z, numbers=numbers, x=x), abs=1e-12
    )


@given(architectures(max_width=3))
def test_without_dead_neurons_keeps_live_edges_layers_and_the_function(z):
    x = [0.3 + i for i in range(z.widths[0])]

    smaller, kept = z.without_dead_neurons()

    numbers = kept.tolist()
    assert [(numbers[i], numbers[j]) for i, j in pairs(smaller)] == live_pairs(z)
    assert torch.equal(smaller.activation, z.activation[kept])
    assert torch.equal(smaller.layer, z.layer[kept])
    assert len(smaller.widths) == len(z.widths)
    assert (smaller.widths[0], smaller.widths[-1]) == (z.widths[0], z.widths[-1])
    touched = set(sum(pairs(smaller), ()))
    for k in range(1, smaller.n_layers):
        neurons = range(smaller.starts[k], smaller.starts[k + 1])
        assert touched.issuperset(neurons) or len(neurons) == 1
    assert outputs(smaller, numbers=numbers, x=x) == pytest.approx(
        outputs(z, numbers=list(range(z.n_neurons)), x=x), abs=1e-12
    )


# Building


@given(architectures(skip=False))
def test_masks_and_names_rebuild_the_architecture(z):
    *hidden, output = z.activations

    assert [mask.shape for mask in z.masks] == list(zip(z.widths, z.widths[1:], strict=False))
    assert sum(int(mask.sum()) for mask in z.masks) == z.n_edges
    assert Architecture.from_masks(z.masks, hidden=hidden, output=output) == z


def test_masks_leave_skip_edges_out():
    z = Architecture.from_edges([[0, 0, 1], [1, 2, 2]], activation=[0, 1, 0], widths=(1, 1, 1))

    assert z.has_skip_edges
    assert [mask.tolist() for mask in z.masks] == [[[True]], [[True]]]


@given(architectures(), st.randoms(use_true_random=False))
def test_from_edges_sorts_and_merges_repeats(z, random):
    repeated = 2 * pairs(z)
    random.shuffle(repeated)

    built = Architecture.from_edges(
        np.array(repeated, dtype=np.int32).reshape(-1, 2).T,
        activation=z.activation.tolist(),
        widths=list(z.widths),
    )

    assert built == z


@pytest.mark.parametrize("nothing", [[], [[], []], np.zeros((2, 0)), torch.zeros(2, 0)])
def test_no_edges_at_all_is_an_architecture(nothing):
    z = Architecture.from_edges(nothing, activation=[0, 1, 0], widths=(1, 1, 1))

    assert (z.n_edges, z.n_live_edges, z.density) == (0, 0, 0.0)
    assert not z.has_skip_edges
    assert z.canonical()[0] == z.without_dead_edges() == z


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": (5,)}, r"widths must name at least inputs and outputs.* got \(5,\)"),
        ({"widths": ()}, r"widths must name .* got \(\)"),
        ({"widths": (2, 0, 3)}, r"each one neuron or more; got \(2, 0, 3\)"),
        ({"widths": (2, 3, 1)}, r"one int64 class per neuron, 6 of them; got shape \(5,\)"),
        ({"activation": torch.zeros(5)}, r"int64 class per neuron.* torch.float32"),
        ({"activation": torch.zeros(5, 1, dtype=torch.int64)}, r"got shape \(5, 1\)"),
        ({"activation": torch.tensor([0, 0, 1, 999, 0])}, "classes from 0 to .* got 0 to 999"),
        ({"activation": torch.tensor([0, 0, -1, 1, 0])}, "classes from 0 to .* got -1 to 1"),
        ({"activation": torch.tensor([0, 1, 1, 1, 0])}, "input neuron must be identity"),
        ({"edges": EDGES.float()}, r"int64 of shape \(2, n_edges\).* torch.float32"),
        ({"edges": EDGES.int()}, "int64 .* torch.int32"),
        ({"edges": EDGES.T}, r"got shape \(3, 2\)"),
        ({"edges": EDGES[0]}, r"got shape \(3,\)"),
        ({"edges": torch.tensor([[0], [5]])}, "join neurons 0 to 4; got neurons 0 to 5"),
        ({"edges": torch.tensor([[-1], [2]])}, "join neurons 0 to 4; got neurons -1 to 2"),
        ({"edges": EDGES.flip(1)}, "sorted by source, then target, without repeats"),
        ({"edges": torch.tensor([[0, 0], [3, 2]])}, "sorted by source, then target"),
        ({"edges": torch.tensor([[0, 0], [2, 2]])}, "without repeats"),
        ({"edges": torch.tensor([[0, 4], [2, 2]])}, "later layer; edge 4 -> 2 does not"),
        ({"edges": torch.tensor([[2], [3]])}, "later layer; edge 2 -> 3 does not"),
        ({"edges": torch.tensor([[2], [2]])}, "later layer; edge 2 -> 2 does not"),
    ],
)
def test_broken_field_is_refused_with_the_reason(changes, message):
    with pytest.raises(ArchitectureError, match=message) as caught:
        build(**changes)

    assert isinstance(caught.value, GraphPredError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("edges", [[(0, 2), (1, 3), (2, 4)], [0, 2, 1]])
def test_from_edges_refuses_edges_that_are_not_two_rows(edges):
    with pytest.raises(ArchitectureError, match=r"of shape \(2, n_edges\)"):
        Architecture.from_edges(edges, activation=[0] * 5, widths=(2, 2, 1))


@pytest.mark.parametrize(
    ("masks", "names", "message"),
    [
        ([], {}, r"masks must be matrices, one or more; got shapes \[\]"),
        ([[1, 0]], {}, r"masks must be matrices.* got shapes \[\(2,\)\]"),
        ([[[1, 1]], [[1]]], {"hidden": ["relu"]}, r"chain; shape \(1, 2\) precedes \(1, 1\)"),
        ([[[1, 1]], [[1], [1]]], {"hidden": ["relu"]}, "per neuron, 3 in all; got 2"),
        ([[[1, 1]]], {"output": ["relu"]}, "per neuron, 2 in all; got 1"),
        ([[[1]]], {"output": "soft"}, "one of identity, .* got 'soft'"),
    ],
)
def test_bad_masks_and_names_are_refused(masks, names, message):
    with pytest.raises(GraphPredError, match=message):
        Architecture.from_masks(masks, **names)


# Renaming, equality, hash


@given(architectures(), st.data())
def test_permuted_renames_every_edge_and_keeps_what_does_not_depend_on_names(z, data):
    order = data.draw(shuffled(z))

    renamed = z.permuted(order)

    old = order.tolist()
    assert sorted((old[i], old[j]) for i, j in pairs(renamed)) == pairs(z)
    assert torch.equal(renamed.activation, z.activation[order])
    assert renamed.n_live_edges == z.n_live_edges
    assert renamed.permuted(order.argsort()) == z


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([0, 1, 2, 2, 4], "permutation of the neurons"),
        ([0, 1, 2], "permutation of the neurons"),
        ([0, 2, 1, 3, 4], "keep every neuron in its layer"),
    ],
)
def test_bad_order_is_refused(order, message):
    with pytest.raises(ArchitectureError, match=message):
        build().permuted(torch.tensor(order))


@given(architectures())
def test_equal_architectures_share_a_hash_whatever_they_were_built_from(z):
    rebuilt = Architecture.from_edges(z.edges.clone(), activation=z.activation, widths=z.widths)

    assert rebuilt == z
    assert len({rebuilt, z}) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"edges": EDGES[:, :2]},
        {"activation": torch.tensor([0, 0, 3, 1, 0])},
        {"widths": (2, 1, 2), "edges": EDGES[:, :2]},
    ],
)
def test_any_different_field_makes_architectures_differ(changes):
    assert build(**changes) != build()
    assert build() != "architecture"


def test_architecture_is_frozen():
    with pytest.raises(AttributeError):
        build().widths = (1, 1)


# Files and other libraries


@given(architectures())
def test_json_round_trip(z):
    assert Architecture.from_json(json.loads(json.dumps(z.to_json()))) == z


@given(z=architectures())
def test_file_round_trip(tmp_path_factory, z):
    path = tmp_path_factory.getbasetemp() / "z.safetensors"

    z.save(path)

    assert Architecture.load(path) == z
    assert Architecture.load(str(path)) == z


@given(architectures())
def test_pyg_round_trip_with_neuron_types_and_one_hot_classes(z):
    data = z.to_pyg()

    n_hidden = z.n_neurons - z.widths[0] - z.widths[-1]
    assert data.node_type.tolist() == [0] * z.widths[0] + [1] * n_hidden + [2] * z.widths[-1]
    assert data.x.shape == (z.n_neurons, len(ACTIVATIONS))
    assert data.x.sum() == z.n_neurons
    assert (data.x[range(z.n_neurons), z.activation] == 1).all()
    assert torch.equal(data.edge_index, z.edges)
    assert data.validate()
    assert Architecture.from_pyg(data) == z


@given(architectures())
def test_networkx_graph_holds_everything(z):
    graph = z.to_networkx()

    names = [graph.nodes[i]["activation"] for i in range(z.n_neurons)]
    assert networkx.is_directed_acyclic_graph(graph)
    assert sorted(graph.edges) == pairs(z)
    assert [graph.nodes[i]["layer"] for i in range(z.n_neurons)] == z.layer.tolist()
    assert graph.graph["widths"] == z.widths
    assert names == z.to_json()["activation"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": [[0], [9]]}, "join neurons 0 to 4"),
        ({"edges": [[0, 1], [2]]}, "must have widths, edges and activation"),
        ({"edges": "none"}, "must have widths, edges and activation"),
        ({"edges": None}, "must have widths, edges and activation"),
        ({"widths": ["two"]}, "must have widths, edges and activation"),
        ({"widths": 5}, "must have widths, edges and activation"),
        ({"widths": []}, "widths must name"),
        ({"activation": ["identity"]}, "5 of them"),
        ({"activation": ["nonsense"] * 5}, "one of identity, .* got 'nonsense'"),
        ({"activation": None}, "must have widths, edges and activation"),
    ],
)
def test_broken_json_is_refused(change, message):
    with pytest.raises(GraphPredError, match=message):
        Architecture.from_json(build().to_json() | change)


@pytest.mark.parametrize("data", [{}, {"widths": [1, 1]}, [], None, {1: 2, "a": 3}])
def test_json_of_something_else_is_refused(data):
    with pytest.raises(ArchitectureError, match="must have widths, edges and activation"):
        Architecture.from_json(data)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.9, 0.999])
def test_truncated_file_is_refused(tmp_path, share):
    path = tmp_path / "z.safetensors"
    build().save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])

    with pytest.raises(StoreError, match=r"z\.safetensors must be"):
        Architecture.load(path)


@pytest.mark.parametrize("content", [b"\x00" * 100, b"\xff" * 100, b"{}", b"PK\x03\x04" * 9])
def test_file_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "z").write_bytes(content)

    with pytest.raises(StoreError, match="z must be"):
        Architecture.load(tmp_path / "z")


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(StoreError, match="absent must be"):
        Architecture.load(tmp_path / "absent")
    with pytest.raises(StoreError, match="must be"):
        Architecture.load(tmp_path)


def test_saving_into_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(StoreError, match="must be writable"):
        build().save(tmp_path / "absent" / "z.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"edges": torch.tensor([0, 2, 1])},
        {"edges": torch.tensor([[0], [9]])},
        {"other": EDGES},
        {"widths": None},
        {"widths": "[2, 2"},
        {"widths": "5"},
        {"widths": '"ab"'},
        {"activation": None},
        {"activation": "5"},
        {"activation": '["nonsense"]'},
    ],
)
def test_safetensors_file_that_is_no_architecture_is_refused(tmp_path, change):
    stored = {
        "edges": EDGES,
        "widths": "[2, 2, 1]",
        "activation": json.dumps(["identity"] * 5),
    }
    if "other" in change:
        del stored["edges"]
    stored = {key: value for key, value in (stored | change).items() if value is not None}
    tensors = {key: stored.pop(key) for key in ("edges", "other") if key in stored}
    save_file(tensors, tmp_path / "z", metadata=stored)

    with pytest.raises(StoreError, match=r"z must be a stored architecture: .*[a-z]"):
        Architecture.load(tmp_path / "z")


def test_a_graph_made_of_it_shares_no_memory():
    z = Architecture.from_masks([[[1]], [[1]]], hidden=["relu"])
    before = z.to_json()

    z.to_pyg().edge_index.zero_()

    assert z.to_json() == before
