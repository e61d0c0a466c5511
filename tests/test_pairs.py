"""Pairs, their rows and their store."""

import json
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pa_parquet
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import architectures

from graphpred.architecture import Architecture
from graphpred.errors import GraphPredError, InputError, StoreError
from graphpred.files import TEMPORARY_PREFIX
from graphpred.pairs.pair import SCHEMA, Pair
from graphpred.pairs.store import PairStore
from graphpred.seeds import generator_for
from graphpred.weights import Weights


def some_pair(search=0, price=0.1, *, z=None, seed=0, **changes):
    z = z or Architecture.from_masks([[[1, 0], [1, 1]], [[1], [1]]], hidden=["relu", "tanh"])
    generator = generator_for("pair", search, seed)
    plain = {
        "source": "wine",
        "digest": "0f" * 16,
        "target": None,
        "kind": "classification",
        "split_seed": 3,
        "train_rows": (1, 4, 9),
        "validation_rows": (2, 5),
        "feature_names": ("a", "b = 1"),
        "class_names": ("0", "Ü"),
        "loss_name": "error",
        "penalty": price / 6,
        "train_loss": 0.1 + 1e-17,
        "loss": 1 / 3,
        "objective": float(torch.rand((), generator=generator)),
        "searcher": "random",
        "seed": 3,
        "search_seed": 2**63 - 1,
        "trial": 7,
        "evaluations": 100,
        "network_steps": 10_000,
        "cpu_seconds": 0.5,
    }
    return Pair(
        search=search,
        price=price,
        architecture=z,
        weights=Weights(
            edge=torch.randn(z.n_edges, generator=generator),
            bias=torch.randn(z.n_neurons - z.widths[0], generator=generator),
        ),
        **(plain | changes),
    )


def content(pair, *, ignore=()):
    """Everything a pair holds, comparable with ==."""
    plain = {f.name: getattr(pair, f.name) for f in fields(pair) if f.name not in ignore}
    weights = plain.pop("weights")
    return plain | {"edge": weights.edge.tolist(), "bias": weights.bias.tolist()}


def filled(folder, *, n_shards=3, searches=2, prices=(0.1, 0.2)):
    store = PairStore(folder)
    for shard in range(n_shards):
        numbers = range(shard * searches, (shard + 1) * searches)
        store.write([some_pair(s, c) for s in numbers for c in prices], searches=numbers)
    return store


@given(
    z=architectures(),
    objective=st.floats(allow_nan=False),
    target=st.none() | st.text(st.characters(codec="utf-8")),
)
def test_row_round_trip(z, objective, target):
    pair = some_pair(z=z, objective=objective, target=target)

    row = pair.to_row()

    assert row.keys() == set(SCHEMA.names)
    assert content(Pair.from_row(row)) == content(pair)
    assert (row["n_edges"], row["n_live_edges"]) == (z.n_edges, z.n_live_edges)


def test_pairs_come_back_from_disk_to_the_last_bit(tmp_path):
    empty = Architecture.from_edges([[], []], activation=[0] * 4, widths=(2, 1, 1))
    pairs = [some_pair(4, 0.1), some_pair(4, 0.2, z=empty), some_pair(5, 0.1, objective=np.inf)]
    store = PairStore(tmp_path)

    path = store.write(pairs, searches=range(4, 6))

    assert path.name == "pairs-00000004-00000005.parquet"
    assert [content(pair) for pair in store] == [content(pair) for pair in pairs]
    assert len(store) == 3
    assert store.searches() == {4, 5}
    assert store.verify() == []


def test_iteration_is_in_the_order_of_searches(tmp_path):
    store = PairStore(tmp_path)
    for number in (11, 2, 100, 0):
        store.write([some_pair(number)], searches=range(number, number + 1))

    assert [pair.search for pair in store] == [0, 2, 11, 100]
    assert len(store) == 4


def test_shards_are_readable_without_us(tmp_path):
    store = filled(tmp_path, n_shards=1)
    (path,) = store.shards

    frame = pd.read_parquet(path)
    table = pa_parquet.read_table(path)

    assert table.schema.equals(SCHEMA)
    assert len(frame) == 4
    first = next(iter(store))
    row = frame.iloc[0]
    assert row["edge_source"].tolist() == first.architecture.edges[0].tolist()
    assert row["activation"].tolist() == ["identity", "identity", "relu", "tanh", "identity"]
    np.testing.assert_array_equal(row["edge_weight"], first.weights.edge.numpy())
    assert frame.groupby("search")["objective"].min().index.tolist() == [0, 1]


@pytest.mark.parametrize("name", ["seed=1", "price=high", "a [b] Ü"])
def test_name_of_the_folder_does_not_matter(tmp_path, name):
    store = filled(tmp_path / "deep" / name)

    assert len(store) == len(list(store)) == 12
    assert {pair.seed for pair in store} == {3}
    assert store.verify() == []


def test_same_pair_in_two_shards_is_given_once_and_reported(tmp_path):
    store = filled(tmp_path)  # searches 0-1, 2-3, 4-5
    store.write([some_pair(s, c) for s in (3, 4) for c in (0.1, 0.2)], searches=range(3, 5))

    assert len(store) == len(list(store)) == 12
    faults = [
        f"pairs-0000000{own}-0000000{own + 1}.parquet: search {search} is in "
        f"pairs-0000000{other}-0000000{other + 1}.parquet as well."
        for own, search, other in ((3, 3, 2), (4, 4, 3))
        for _ in range(2)  # prices
    ]
    assert store.verify() == faults


def test_same_pair_twice_in_a_shard_is_reported(tmp_path):
    store = PairStore(tmp_path)
    store.write([some_pair(0), some_pair(0)], searches=range(1))

    (fault,) = store.verify()

    assert "search 0 is in pairs-00000000-00000000.parquet as well" in fault


@pytest.mark.parametrize("searches", [[0], [0, 1, 2], []])
def test_shard_that_does_not_hold_the_searches_of_its_name_is_reported(tmp_path, searches):
    store = PairStore(tmp_path)
    store.write([some_pair(s) for s in searches], searches=range(2))

    (fault,) = store.verify()

    assert "pairs-00000000-00000001.parquet: it must hold all searches of its name" in fault


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.999])
def test_truncated_shard_is_found_and_named(tmp_path, kept):
    store = filled(tmp_path)
    path = store.shards[1]
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else kept])

    (fault,) = store.verify()

    assert fault.startswith("pairs-00000002-00000003.parquet: ")
    assert "Delete it and run generate again" in fault
    assert "\n" not in fault
    for read in (list, len):
        with pytest.raises(StoreError, match="00000002-00000003"):
            read(store)
    path.unlink()
    assert store.verify() == []
    assert store.searches() == {0, 1, 4, 5}


def test_flipped_bytes_are_found_or_change_nothing(tmp_path):
    store = filled(tmp_path, n_shards=1)
    (path,) = store.shards
    whole = path.read_bytes()
    pairs = [content(pair) for pair in store]
    found = 0

    for position in np.random.default_rng(0).integers(0, len(whole), size=80):
        broken = bytearray(whole)
        broken[position] ^= 0xFF
        path.write_bytes(bytes(broken))
        faults = store.verify()
        found += bool(faults)
        if not faults:
            assert [content(pair) for pair in store] == pairs

    assert found > 20


def test_foreign_parquet_is_reported(tmp_path):
    store = filled(tmp_path, n_shards=1)
    pd.DataFrame({"a": [1, 2]}).to_parquet(tmp_path / "pairs-00000007-00000008.parquet")

    (fault,) = store.verify()

    assert fault.startswith("pairs-00000007-00000008.parquet: ")
    assert "must be a whole Parquet shard of pairs" in fault
    assert "\n" not in fault
    with pytest.raises(StoreError, match="pairs-00000007"):
        list(store)


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    store = filled(tmp_path)
    for name in ("pairs-notes.parquet", "pairs-1.parquet", f"{TEMPORARY_PREFIX}abc", "README"):
        (tmp_path / name).write_text("not a shard")

    assert len(store) == 12
    assert store.verify() == []
    store.remove_unfinished(older_than=0)
    assert not (tmp_path / f"{TEMPORARY_PREFIX}abc").exists()
    assert (tmp_path / "README").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "pairs must have format 1; got 2"),
        ({"bias": [0.0]}, "weights must be one per edge and one bias per neuron"),
        ({"activation": ["identity"] * 4 + ["hat"]}, "must be one of identity.*; got 'hat'"),
        ({"edge_source": [4] * 5}, "edges must be sorted"),
    ],
)
def test_row_that_makes_no_sense_is_refused(change, message, tmp_path):
    row = some_pair().to_row() | change

    with pytest.raises(GraphPredError, match=message):
        Pair.from_row(row)

    frame = pd.DataFrame([row])
    frame.to_parquet(tmp_path / "pairs-00000000-00000000.parquet")
    (fault,) = PairStore(tmp_path).verify()
    assert fault.startswith("pairs-00000000-00000000.parquet: ")


@pytest.mark.parametrize("exists", [False, True])
def test_empty_store_says_so(tmp_path, exists):
    folder = tmp_path / "none"
    if exists:
        folder.mkdir()
    store = PairStore(folder)

    assert (len(store), store.shards, store.searches(), store.verify()) == (0, [], set(), [])
    assert store.read_run() is None
    with pytest.raises(StoreError, match=r"none must hold pairs \(pairs-\*\.parquet\); it holds"):
        next(iter(store))


def test_folder_must_be_writable_as_a_folder(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="file must be a folder"):
        PairStore(tmp_path / "file").write([some_pair()], searches=range(1))
    with pytest.raises(StoreError, match="must be a folder"):
        PairStore(tmp_path / "file" / "below").write_run({})


def test_failed_write_leaves_nothing(tmp_path, monkeypatch):
    store = filled(tmp_path, n_shards=1)
    before = [content(pair) for pair in store]

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pa_parquet, "write_table", fail)
    with pytest.raises(StoreError, match="No space left"):
        store.write([some_pair(9)], searches=range(9, 10))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs-00000000-00000001.parquet"]
    assert [content(pair) for pair in store] == before


def test_run_is_json_and_must_be(tmp_path):
    store = PairStore(tmp_path / "new")
    run = {"seed": 3, "prices": [0.1, 1.0], "target": None}

    store.write_run(run)

    assert store.read_run() == run
    assert json.loads((tmp_path / "new" / "run.json").read_text()) == run
    (tmp_path / "new" / "run.json").write_text("{")
    with pytest.raises(StoreError, match=r"run\.json must be readable JSON"):
        store.read_run()


def test_pair_knows_nothing_of_weights_that_do_not_fit():
    pair = some_pair()
    broken = replace(pair, weights=Weights(edge=torch.zeros(1), bias=pair.weights.bias))

    with pytest.raises(InputError, match=r"\(5, 3\); got \(1, 3\)"):
        Pair.from_row(broken.to_row())
