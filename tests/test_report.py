import io
import itertools
import json
import shutil
import time
from collections import Counter

import pandas as pd
import pytest
import torch
from rich.cells import cell_len
from rich.console import Console

from graphpred.architecture import Architecture
from graphpred.errors import StoreError
from graphpred.files import load_tensors, save_tensors
from graphpred.meta.model import MetaModel
from graphpred.network import Signature, SparseNetwork
from graphpred.pairs.generate import GenerateConfig, generate_pairs
from graphpred.pairs.store import PairStore
from graphpred.report import (
    model_report,
    model_summary,
    network_report,
    network_summary,
    network_warnings,
    pairs_report,
    pairs_summary,
    svg_text,
    verify_file,
    write_html,
)
from graphpred.task import Task
from graphpred.weights import Weights, initial_weights

ACTIVATIONS = ["identity", "relu", "tanh"]
STRANGE = (
    "[bold]x[/bold]",
    "two\nlines",
    "tab\tand \x1b[31mred",
    "名前" * 30,
    "e\u0301" * 50,
    ":smile: {braces} </pre>",
    "right\u202eto left",
    "\ud800",
    "",
    "n" * 300,
)


def draw(part, *, width=80, colour=False, encoding="utf-8"):
    """The lines that a console of some width shows."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, errors="surrogatepass", newline="\n")
    system = "truecolor" if colour else None
    console = Console(
        file=file,
        width=width,
        color_system=system,
        force_terminal=colour,
        legacy_windows=False,
        _environ={},
    )
    console.print(part)
    file.flush()
    return raw.getvalue().decode(encoding, errors="surrogatepass").split("\n")


def text(part, **options):
    return "\n".join(draw(part, **options))


def signature(n, c, *, kind="classification", names=None, classes=None):
    return Signature(
        kind=kind,
        feature_names=tuple(names or (f"feature {j}" for j in range(n))),
        class_names=tuple(classes or (f"class {k}" for k in range(c))),
        target_mean=(0.0,) * c * (kind == "regression"),
        target_scale=(1.0,) * c * (kind == "regression"),
    )


def facts_of(z, *, kind="classification", after=0.1, constant=0.4):
    names = ("error", "log_loss") if kind == "classification" else ("unexplained", "mse")
    parts = ("train", "validation", "test")

    def losses(value):
        return {part: dict.fromkeys(names, value) for part in parts}

    return {
        "task": {
            "name": "a [red]set[/red]",
            "source": "some/table.csv",
            "kind": kind,
            "n_rows": 400,
            "n_features": z.widths[0],
            "n_outputs": z.widths[-1],
            "parts": {"train": 200, "validation": 100, "test": 100},
            "notices": ["column 'id' was left out."],
        },
        "price": 0.1,
        "penalty": 0.1 / z.n_possible_edges,
        "n_possible_edges": z.n_possible_edges,
        "n_edges": z.n_edges,
        "n_live_edges": z.n_live_edges,
        "density": z.n_live_edges / z.n_possible_edges,
        "steps": 300,
        "candidates": 4,
        "seed": 0,
        "model": "packaged",
        "activation_names": ACTIVATIONS,
        "losses": {
            "before": losses(0.3),
            "after": losses(after),
            "constant": losses(constant),
        },
        "notices": ["a notice on the network."],
    }


def make_network(n=6, h=4, c=3, *, density=0.5, full=True, after=0.1, **signing):
    generator = torch.Generator().manual_seed(0)
    probability = [torch.rand(shape, generator=generator) for shape in ((n, h), (h, c))]
    classes = torch.rand(h, len(ACTIVATIONS), generator=generator).softmax(dim=1)
    z = Architecture.from_masks(
        [p > 1 - density for p in probability],
        hidden=[ACTIVATIONS[i] for i in classes.argmax(dim=1)],
    )
    evidence = {
        "probability_1": probability[0],
        "probability_2": probability[1],
        "activation_probability": classes,
    }
    kind = signing.get("kind", "classification")
    return SparseNetwork(
        z,
        initial_weights(z, seed=0),
        signature=signature(n, c, **signing),
        facts=facts_of(z, kind=kind, after=after) if full else None,
        evidence=evidence if full else None,
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs") / "iris [1]"
    config = GenerateConfig(n_searches=2, evaluations=10, rows=60)
    list(generate_pairs(["iris"], out=folder, config=config))
    return PairStore(folder)


@pytest.fixture(scope="module")
def model():
    card = {
        "steps": 12000,
        "a [bold]key[/bold]": {"deep": {"er": [1, 2.5, None], "\n": float("nan")}},
        "losses": [1 / (i + 1) for i in range(300)],
        "rows": [{"n": 1}, {"n": 2}],
        "empty": {},
    }
    return MetaModel(card=card)


@pytest.fixture
def parts(store, model):
    names = STRANGE
    strange = make_network(len(names), 12, len(names), names=names, classes=names)
    return {
        "plain": network_report(make_network()),
        "strange": network_report(strange),
        "bare": network_report(make_network(len(names), 9, 2, full=False, names=names)),
        "wide": network_report(make_network(60, 50, 26, density=0.1)),
        "pairs": pairs_report(store),
        "model": model_report(model),
    }


@pytest.mark.parametrize("width", [20, 40, 80, 160])
@pytest.mark.parametrize("colour", [False, True])
def test_no_line_is_longer_than_the_console(width, colour, parts):
    for name, part in parts.items():
        lines = draw(part, width=width)
        too_long = [line for line in lines if cell_len(line) > width]

        assert not too_long, name
        if colour:  # the same lines, but for escapes of colours
            coloured = text(part, width=width, colour=True)
            assert "\x1b[" in coloured
            assert coloured.count("\n") == len(lines) - 1


@pytest.mark.parametrize("width", [40, 80])
def test_numbers_are_never_cut(width):
    network = make_network(3, names=("a" * 90, "b" * 90, "c" * 90))

    lines = draw(network_report(network), width=width)

    losses = [line.split() for line in lines[lines.index(heading(lines, "Losses")) :]]
    assert ["validation", "0.300", "0.100", "0.400"] in losses


def heading(lines, word):
    return next(line for line in lines if line.strip() == word)


@pytest.mark.parametrize("width", [40, 80])
def test_ascii_consoles_get_ascii(width, parts):
    for part in parts.values():
        lines = draw(part, width=width, encoding="ascii")  # anything else could not be encoded

        assert max(len(line) for line in lines) <= width


def test_names_are_shown_literally():
    classes = ("[/red]", "a\nb", "{c}")
    network = make_network(3, names=("[bold]x[/bold]", "two\nlines", ":smile:"), classes=classes)

    shown = text(network_report(network))

    for name in ("[bold]x[/bold]", r"two\nlines", ":smile:", "[/red]", r"a\nb", "{c}"):
        assert name in shown
    assert "a [red]set[/red]" in shown


def test_control_characters_do_not_reach_the_terminal(parts):
    shown = text(parts["strange"])

    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert r"\x1b[31mred" in shown


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_map_marks_edges_and_likely_edges_differently(encoding):
    z = Architecture.from_masks([[[1, 1], [0, 1]], [[1], [1]]], hidden=["relu", "tanh"])
    network = SparseNetwork(
        z,
        Weights(edge=torch.tensor([0.5, -0.5, 1.0, 1.0, 1.0]), bias=torch.zeros(3)),
        signature=signature(2, 1, names=("first", "second"), kind="regression"),
        evidence={"probability_1": torch.tensor([[0.9, 0.6], [0.8, 0.3]])},
    )

    lines = draw(network_report(network), encoding=encoding)

    first = next(line for line in lines if line.startswith("first"))
    second = next(line for line in lines if line.startswith("second"))
    minus = "−" if encoding == "utf-8" else "-"
    strong, likely, weak = ("█", "▓", "▒") if encoding == "utf-8" else ("9", "6", "3")
    eight = "█" if encoding == "utf-8" else "8"
    assert first.split() == ["first", f"{strong}+", f"{likely}{minus}"]
    assert second.split() == ["second", eight, f"{weak}+"]


def test_report_of_a_plain_network_says_what_is_known():
    network = make_network()
    z = network.architecture

    shown = text(network_report(network))

    assert f"K* {z.n_live_edges} live edges" in shown
    assert f"K {z.n_edges}" in shown
    assert f"N {z.n_possible_edges} possible" in shown
    for word in ("400 · train 200 · validation 100 · test 100", "some/table.csv", "price 0.1"):
        assert word in shown
    for word in ("steps 300", "candidates 4", "feature 5", "class 2", "log loss", "largest class"):
        assert word in shown
    assert "column 'id' was left out." in shown
    assert "a notice on the network." in shown
    assert "!" not in shown


def test_activations_and_their_probabilities_are_shown():
    network = make_network()
    z = network.architecture
    live = set(z.edges[:, z.live].flatten().tolist())
    probability = network.evidence["activation_probability"].max(dim=1).values

    lines = draw(network_report(network))

    labels = [line.split()[:3] for line in lines if line.startswith("h")]
    assert labels == [
        [f"h{i}", name, f"{probability[i]:.2f}"]
        for i, name in enumerate(z.activations[0])
        if 6 + i in live
    ]


def test_network_without_facts_shows_its_weights():
    shown = text(network_report(make_network(full=False)))

    assert "share of the largest weight" in shown
    assert "probability" not in shown
    assert "Losses" not in shown
    assert "█+" in shown or "█−" in shown


@pytest.mark.parametrize("broken", [{"task": None, "losses": {"after": None}}, {"losses": 3}])
def test_partial_facts_and_unfitting_evidence_are_left_out(broken):
    network = make_network(full=False)
    network.facts = broken | {"notices": "text", "activation_names": ["relu"]}
    network.evidence = {"probability_1": torch.ones(2, 2), "activation_probability": torch.ones(9)}

    assert "Features to hidden neurons" in text(network_report(network))
    assert network_summary(network)["edges"]


def test_empty_network_is_announced():
    z = Architecture.from_masks([torch.zeros(3, 3), torch.zeros(3, 2)], hidden=["relu"] * 3)
    network = SparseNetwork(z, initial_weights(z, seed=0), signature=signature(3, 2))

    (warning,) = network_warnings(network)

    assert "empty" in warning
    assert "! The network is empty" in text(network_report(network))
    assert "no live hidden neuron" in text(network_report(network))


@pytest.mark.parametrize(("after", "warned"), [(0.39, 0), (0.4, 1), (0.5, 1), (float("nan"), 1)])
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_network_no_better_than_the_constant_is_announced(after, warned, kind):
    network = make_network(kind=kind, after=after)

    assert len(network_warnings(network)) == warned
    assert ("not better than" in text(network_report(network), width=200)) == bool(warned)


@pytest.mark.parametrize(("familiarity", "warned"), [(0.0, 1), (0.01, 0), (0.8, 0), (None, 0)])
def test_report_warns_of_data_that_no_training_data_set_was_like(familiarity, warned):
    network = make_network()
    network.facts = network.facts | {"familiarity": familiarity}

    warnings = network_warnings(network)

    assert sum("hardly seen data like these" in warning for warning in warnings) == warned


def test_regression_has_its_own_words():
    network = make_network(c=1, kind="regression", classes=("price [EUR]",))

    shown = text(network_report(network))

    for word in ("price [EUR]", "1 - R²", "squared error", "always answering the mean", "outputs"):
        assert word in shown
    assert "log loss" not in shown


def test_wide_layers_are_summed_up():
    network = make_network(60, 50, 3)
    z = network.architecture
    network.evidence["probability_1"] = torch.full((60, 50), 0.41)
    mask = torch.zeros(60, 50)
    mask[:24] = 1
    slim = Architecture.from_masks([mask, torch.ones(50, 3)], hidden=["relu"] * 50)
    network = SparseNetwork(
        slim,
        initial_weights(slim, seed=0),
        signature=network.signature,
        evidence={"probability_1": torch.full((60, 50), 0.41)},
    )

    narrow, wide = text(network_report(network)), text(network_report(network), width=240)

    assert z.widths == slim.widths
    assert "36 more features, strongest probability 0.410, no edge" in narrow
    assert "more hidden neurons, strongest probability 0.410, " in narrow
    assert "more hidden neurons, strongest probability" not in wide
    assert "26 more hidden neurons, strongest weight" in wide


def test_large_network_renders_quickly():
    network = make_network(784, 300, 10, density=0.01)
    report = network_report(network)
    start = time.process_time()

    draw(report, width=120)
    network_report(network)

    assert time.process_time() - start < 1


def test_every_layer_shows_its_probabilities_and_those_of_its_activations():
    generator, widths = torch.Generator().manual_seed(0), (3, 4, 2, 2)
    shapes = list(itertools.pairwise(widths))
    probability = [torch.rand(shape, generator=generator) for shape in shapes]
    classes = torch.rand(6, len(ACTIVATIONS), generator=generator).softmax(dim=1)
    z = Architecture.from_masks(
        [torch.ones(shape) for shape in shapes], hidden=["relu"] * 4 + ["tanh"] * 2
    )
    network = SparseNetwork(
        z,
        initial_weights(z, seed=0),
        signature=signature(3, 2),
        facts={"activation_names": ACTIVATIONS},
        evidence={
            **{f"probability_{k}": p for k, p in enumerate(probability, start=1)},
            "activation_probability": classes,
        },
    )

    neurons = network_summary(network)["neurons"]
    edges = network_summary(network)["edges"]

    for i, neuron in enumerate(neurons):
        name = neuron["activation"]
        index = ACTIVATIONS.index(name)
        assert neuron["probability"] == pytest.approx(float(classes[i, index]))
    assert [neuron["name"] for neuron in neurons][-2:] == ["h2.0", "h2.1"]
    expected = torch.cat([p.flatten() for p in probability]).tolist()
    assert [edge["probability"] for edge in edges] == pytest.approx(expected)
    assert "Hidden layer 1 to hidden layer 2" in text(network_report(network))


@pytest.mark.parametrize("n_hidden_layers", [0, 2])
def test_other_depths_and_skip_edges(n_hidden_layers):
    widths = (3, *(2,) * n_hidden_layers, 2)
    edges = [[0], [sum(widths) - 1]] if n_hidden_layers == 0 else [[0, 3, 5, 1], [3, 5, 7, 8]]
    z = Architecture.from_edges(edges, activation=[0] * sum(widths), widths=widths)
    network = SparseNetwork(z, initial_weights(z, seed=0), signature=signature(3, 2))

    shown = text(network_report(network))

    assert ("1 edge past a layer" in shown) == (n_hidden_layers == 2)
    assert ("Hidden layer 1 to hidden layer 2" in shown) == (n_hidden_layers == 2)
    assert len(network_summary(network)["edges"]) == z.n_edges


def test_network_summary_agrees_with_the_network():
    network = make_network()
    z = network.architecture

    summary = network_summary(network)

    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["n_live_edges"] == z.n_live_edges
    assert summary["density"] == z.n_live_edges / z.n_possible_edges
    assert [edge["weight"] for edge in summary["edges"]] == network.weights.edge.tolist()
    assert sum(edge["live"] for edge in summary["edges"]) == z.n_live_edges
    assert summary["notices"] == ["column 'id' was left out.", "a notice on the network."]
    first = summary["edges"][0]
    j, i = z.edges[0, 0], z.edges[1, 0] - 6
    assert (first["source"], first["target"]) == (f"feature {j}", f"h{i}")
    assert first["probability"] == pytest.approx(float(network.evidence["probability_1"][j, i]))


def test_summaries_hold_no_number_that_json_has_not(model):
    network = make_network(after=float("inf"))

    json.dumps(network_summary(network), allow_nan=False)
    json.dumps(model_summary(model), allow_nan=False)

    assert network_summary(network)["losses"]["after"]["test"]["error"] is None


def test_real_task_gives_a_report(generator):
    task = Task.from_source("wine")
    mask = torch.rand(13, 13, generator=generator) < 0.1
    z = Architecture.from_masks([mask, torch.ones(13, 3)], hidden=["relu"] * 13)
    network = SparseNetwork(z, initial_weights(z, seed=0), signature=Signature.of(task))

    assert "alcalinity_of_ash" in text(network_report(network))


# Pairs


def test_pairs_summary_agrees_with_an_independent_count(store):
    frame = pd.concat(pd.read_parquet(path) for path in store.shards)
    n, h = 4, 4
    names = list(frame["feature_names"].iloc[0])
    used, fan_out, classes = Counter(), Counter(), Counter()
    for row in frame.to_dict("records"):
        sources, targets = list(row["edge_source"]), list(row["edge_target"])
        used.update(names[j] for j in {s for s in sources if s < n})
        fan_out.update(names[s] for s in sources if s < n)
        hidden = {neuron for neuron in (*sources, *targets) if n <= neuron < n + h}
        classes.update(row["activation"][neuron] for neuron in hidden)

    summary = pairs_summary(store)
    (source,) = summary["sources"]

    assert summary["pairs"] == len(frame) == sum(row["pairs"] for row in summary["densities"])
    assert summary["searches"] == 2
    assert summary["activations"] == pytest.approx(
        {name: k / classes.total() for name, k in classes.items()}
    )
    assert {row["name"] for row in source["features"]} == set(names)
    for row in source["features"]:
        k = used[row["name"]]
        assert row["share"] == pytest.approx(k / len(frame))
        assert row["edges"] == pytest.approx(fan_out[row["name"]] / k if k else 0)
    shares = [row["share"] for row in source["features"]]
    assert shares == sorted(shares, reverse=True)
    per_price = frame.groupby("price")["objective"].agg(["mean", "median", "min"])
    for grid in summary["grids"]:
        want = per_price.loc[grid["cost"]]
        assert grid["objective_mean"] == pytest.approx(want["mean"])
        assert grid["objective_median"] == pytest.approx(want["median"])
        assert grid["objective_best"] == pytest.approx(want["min"])
    per_search = frame.groupby("search").first()
    assert summary["cost"]["networks"] == per_search["evaluations"].sum()
    assert summary["cost"]["network_steps"] == per_search["network_steps"].sum()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_pairs_report_names_what_is_in_the_store(store):
    shown = text(pairs_report(store))

    assert "20 pairs from 2 searches in iris [1]" in shown
    for word in ("petal width (cm)", "versicolor", "median", "K*", "network-steps", "evaluations"):
        assert word in shown


def test_pairs_by_penalty_are_grouped_by_penalty(tmp_path):
    config = GenerateConfig(n_searches=2, evaluations=4, rows=60, penalties=(0.001, 0.01))
    list(generate_pairs(["iris", "diabetes"], out=tmp_path / "p", config=config))

    summary = pairs_summary(PairStore(tmp_path / "p"))

    assert summary["grid"] == "penalty"
    assert [(grid["cost"], grid["pairs"]) for grid in summary["grids"]] == [(0.001, 2), (0.01, 2)]
    assert "error, unexplained" in text(pairs_report(PairStore(tmp_path / "p")))


def test_empty_store_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="must hold pairs"):
        pairs_report(PairStore(tmp_path))


# Models


def test_model_report_shows_parameters_and_card(model):
    shown = text(model_report(model))
    summary = model_summary(model)

    assert summary["parameters"]["all"] == sum(p.numel() for p in model.parameters())
    assert f"{summary['parameters']['all']:,} parameters" in shown
    for word in ("[bold]key[/bold]", "1, 2.5, –", "(300 in all)", "12,000", "statistics"):
        assert word in shown
    assert "no card" in text(model_report(MetaModel()))


# Files


def test_html_is_one_page_that_loads_nothing(tmp_path, parts):
    path = tmp_path / "report.html"
    for part in parts.values():
        write_html(part, path, title="<b>{title}</b>\n")
        page = path.read_text(encoding="utf-8", errors="strict")

        for loads in ("http", "src=", "@import", "<script", "<link", "url("):
            assert loads not in page.replace("&lt;", "")
        assert "<title>&lt;b&gt;{title}&lt;/b&gt;" in page
        assert page.count("</pre>") == 1
    assert list(tmp_path.iterdir()) == [path]


def test_html_of_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="must be writable"):
        write_html("text", tmp_path / "missing" / "page.html", title="x")


def test_svg_loads_nothing():
    picture = svg_text(network_report(make_network()), title="a < b & {c}")

    assert picture.startswith("<svg")
    assert picture.count("http") == 1  # the name of SVG itself
    assert "@font-face" not in picture
    assert "a &lt; b &amp; {c}" in picture.replace("&#160;", " ")


def test_rendering_to_files_ignores_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "30")

    write_html(network_report(make_network()), tmp_path / "a.html", title="x")

    assert "#3f87c9" in (tmp_path / "a.html").read_text(encoding="utf-8")


# Verification


def test_whole_files_have_no_fault(tmp_path, store, model):
    make_network().save(tmp_path / "net")
    make_network(full=False, kind="regression").save(tmp_path / "bare")
    model.save(tmp_path / "model")

    for path in (tmp_path / "net", tmp_path / "bare", tmp_path / "model", store.folder):
        assert verify_file(path) == []


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda net: net.edge.data.__setitem__(0, float("nan")), "edge must be finite; 1 of"),
        (lambda net: net.facts.update(n_live_edges=99), "n_live_edges must be"),
        (lambda net: net.facts.update(price=float("nan")), "facts.price must be a number"),
        (lambda net: net.evidence.update(probability_1=torch.ones(2, 2)), "must have shape (6, 4)"),
        (lambda net: net.evidence.update(probability_2=torch.full((4, 3), 1.5)), "in [0, 1]"),
        (lambda net: net.evidence["activation_probability"].mul_(0.5), "add up to 1"),
    ],
)
def test_faults_of_a_network_are_named(tmp_path, spoil, fault):
    network = make_network()
    spoil(network)
    network.save(tmp_path / "net")

    (found,) = verify_file(tmp_path / "net")

    assert found.startswith("net: ")
    assert fault in found
    text(network_report(network))  # and it can still be shown


def test_faults_of_files_and_folders_are_named(tmp_path, store, model):
    (tmp_path / "text").write_text("no tensors")
    save_tensors(tmp_path / "other", {"x": torch.ones(1)}, metadata={"a": "b"})
    save_tensors(tmp_path / "torn", {"x": torch.ones(1)}, metadata={"graphpred_model": "[]"})
    model.save(tmp_path / "model")
    tensors, metadata = load_tensors(tmp_path / "model", what="a model")
    tensors[next(iter(tensors))].flatten()[0] = float("inf")
    save_tensors(tmp_path / "infinite", tensors, metadata=metadata)
    broken = tmp_path / "broken"
    shutil.copytree(store.folder, broken)
    shard = PairStore(broken).shards[0]
    shard.write_bytes(shard.read_bytes()[:-9])

    for name, fault in {
        "missing": "no such file",
        "text": "cannot be read",
        "other": "neither",
        "torn": "damaged",
        "infinite": "must be finite",
        "broken": "whole Parquet shard",
        ".": "holds none",
    }.items():
        (found,) = verify_file(tmp_path / name)
        assert fault in found
        assert "\n" not in found
