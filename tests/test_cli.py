"""The command line: what it prints where, its exit codes, and the whole chain."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from typer.testing import CliRunner

from graphpred.cli.main import app
from graphpred.experiments.comparison import Row
from graphpred.meta.run import checkpoint_of
from graphpred.network import SparseNetwork
from graphpred.pairs.store import PairStore
from graphpred.task import Task

ROOT = Path(__file__).parents[1]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ok(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Pairs, a model and a network of iris, each made by its command."""
    folder = tmp_path_factory.mktemp("chain")
    ok("generate", "iris", "--pairs", 2, "--evaluations", 8, "--rows", 60, "--jobs", 1,
       "--out", folder / "pairs")  # fmt: skip
    ok("train", folder / "pairs", "--steps", 3, "--out", folder / "model")
    ok("predict", "iris", "--model", folder / "model", "--density", 0.3, "--steps", 20,
       "--out", folder / "net")  # fmt: skip
    return folder


def test_report_shows_each_kind_of_thing(chain):
    assert "2 searches" in " ".join(ok("report", chain / "pairs").stdout.split())
    assert "parameters" in ok("report", chain / "model").stdout
    shown = ok("report", chain / "net").stdout
    assert "petal length (cm)" in shown
    assert "versicolor" in shown


@pytest.mark.parametrize("what", ["pairs", "model", "net"])
def test_json_is_all_there_is_on_standard_output(chain, what):
    assert isinstance(json.loads(ok("report", chain / what, "--json").stdout), dict)


def test_json_of_the_other_commands(chain, tmp_path):
    generated = ok("generate", "iris", "--pairs", 1, "--evaluations", 5, "--rows", 60,
                   "--jobs", 1, "--out", tmp_path / "pairs", "--json")  # fmt: skip
    assert json.loads(generated.stdout)["pairs"] == 10
    trained = ok("train", tmp_path / "pairs", "--steps", 2, "--out", tmp_path / "m", "--json")
    assert json.loads(trained.stdout)["card"]["steps"] == 2
    predicted = ok("predict", "iris", "--model", tmp_path / "m", "--density", 0.3, "--json")
    assert json.loads(predicted.stdout)["n_live_edges"] <= int(0.3 * 28)


def test_report_writes_a_page_and_verifies(chain, tmp_path):
    ok("report", chain / "net", "--html", tmp_path / "page.html")
    assert "versicolor" in (tmp_path / "page.html").read_text()
    assert "nothing lost or doubled" in ok("report", chain / "pairs", "--verify").stderr


def test_verify_names_a_broken_shard_and_fails(chain, tmp_path):
    (shard,) = PairStore(chain / "pairs").shards
    (tmp_path / "run.json").write_bytes((chain / "pairs" / "run.json").read_bytes())
    (tmp_path / shard.name).write_bytes(shard.read_bytes()[:500])

    result = run("report", tmp_path, "--verify")

    assert result.exit_code == 2
    assert shard.name in result.stderr


def test_apply_scores_raw_rows_as_the_network_does(chain, tmp_path):
    frame = load_iris(as_frame=True).data.sample(frac=1, random_state=0)
    frame.assign(extra="x").to_csv(tmp_path / "new.csv", index=False)

    ok("apply", chain / "net", tmp_path / "new.csv", "--out", tmp_path / "out.csv")

    network = SparseNetwork.load(chain / "net")
    found = pd.read_csv(tmp_path / "out.csv")
    assert found["predicted"].tolist() == network.predict(frame).tolist()
    probabilities = found.filter(like="probability").to_numpy()
    np.testing.assert_allclose(probabilities, network.predict_proba(frame), atol=1e-6)


@pytest.mark.parametrize(
    "values",
    [("08:30", "12:45", "17:00"), ("08:30:10", "12:45:00", "17:00:59"), ("true", "false", "true"),
     ("01", "2", "3"), ("2024-01-01", "2024-02-01", "2024-03-01"), ("a", "B ", "c d")],
)  # fmt: skip
def test_apply_reads_every_kind_of_column_as_predict_did(tmp_path, values):
    frame = pd.DataFrame({"x": values * 40, "y": [10.0, 20.5, 10.0] * 40})
    for name in ("x", "x#c"):
        table = tmp_path / f"{name}.csv"
        frame.rename(columns={"x": name}).to_csv(table, index=False)
        ok("predict", table, "--density", 1, "--hidden", 3, "--steps", 0, "--out", tmp_path / name)

        ok("apply", tmp_path / name, table, "--out", tmp_path / "out.csv")

        predicted = pd.read_csv(tmp_path / "out.csv")["predicted y"]
        np.testing.assert_allclose(predicted, frame.y, atol=0.5)


def test_regression_goes_through_and_comes_back_in_units(tmp_path):
    ok("generate", "diabetes", "--pairs", 1, "--evaluations", 5, "--rows", 60, "--jobs", 1,
       "--out", tmp_path / "pairs")  # fmt: skip
    ok("train", tmp_path / "pairs", "--steps", 2, "--out", tmp_path / "model")
    ok("predict", "diabetes", "--model", tmp_path / "model", "--density", 0.3, "--steps", 50,
       "--out", tmp_path / "net")  # fmt: skip
    ok("apply", tmp_path / "net", "diabetes", "--out", tmp_path / "out.csv")

    predicted = pd.read_csv(tmp_path / "out.csv")["predicted target"]

    assert len(predicted) == 442
    assert 100 < predicted.mean() < 200


def test_predict_prints_what_the_report_prints(chain, tmp_path):
    predicted = ok("predict", "iris", "--model", chain / "model", "--density", 0.3,
                   "--steps", 20, "--out", tmp_path / "net")  # fmt: skip

    assert predicted.stdout == ok("report", tmp_path / "net").stdout
    losses = SparseNetwork.load(tmp_path / "net").facts["losses"]
    for moment in ("before", "after"):
        assert set(losses[moment]) == {"train", "test"}  # validation rows are trained on too
        for part in ("train", "test"):
            assert f"{losses[moment][part]['error']:.3f}" in predicted.stdout


def test_several_hidden_layers_are_predicted_and_shown(chain, tmp_path):
    predicted = ok("predict", "iris", "--model", chain / "model", "--hidden", "5,4",
                   "--density", 0.4, "--steps", 5, "--out", tmp_path / "net")  # fmt: skip
    ok("report", tmp_path / "net", "--html", tmp_path / "net.html")

    assert SparseNetwork.load(tmp_path / "net").architecture.widths == (4, 5, 4, 3)
    assert predicted.stdout == ok("report", tmp_path / "net").stdout
    for shown in (predicted.stdout, (tmp_path / "net.html").read_text()):
        assert "Features to hidden layer 1" in shown
        assert "Hidden layer 1 to hidden layer 2" in shown
        assert "Hidden layer 2 to classes" in shown
        assert "share of the largest weight" not in shown  # all maps are of probabilities


def bad_csv(folder, text):
    path = folder / "bad.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "bad.csv"),
        ("a,b\n", "row"),
        ("a,a\n1,2\n", "'a'"),
        ("a,b\n1,2\n1\n", "2 fields"),
        ("a,y\n" + "1,k\n" * 20, "all rows are 'k'"),
        ("a,y\n" + "1,k\n2,l\n" * 10 + "3,\n", "1 is missing"),
        ("a,y\n" + "1,k\n2,l\n" * 20 + "oops,k\n", "'oops'"),
        ("a,y\n" + "1,k\n2,l\n" * 20 + "inf,k\n", "finite"),
    ],
)
def test_a_bad_table_gets_one_clear_line(chain, tmp_path, text, message):
    result = run("predict", bad_csv(tmp_path, text), "--model", chain / "model")

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("predict", "iris", "--model", "model", "--density", 1.5), "density"),
        (("predict", "iris", "--model", "model", "--density", 0.05), "2 edges or more; got 1"),
        (("predict", "iris", "--model", "model", "--density", 0.1, "--penalty", 1), "not both"),
        (("predict", "iris", "--model", "net"), "must be a meta-model"),
        (("predict", "iris", "--model", "model", "--hidden", "4,x"), "commas between"),
        (("predict", "iris", "--model", "model", "--hidden", "4,0"), "got (4, 0)"),
        (("predict", "iris", "--model", "missing"), "no such file"),
        (("predict", "iris"), "name a model file of your own"),
        (("predict", "no_such_set", "--model", "model"), "no_such_set"),
        (("predict", "iris", "--model", "model", "--target", "tarpet"), "tarpet"),
        (("apply", "model", "iris", "--out", "out.csv"), "must be a network"),
        (("apply", "net", "wine", "--out", "out.csv"), "petal length (cm)"),
        (("apply", "net", "iris", "--out", "nowhere/out.csv"), "nowhere"),
        (("report", "run.json"), "run.json"),
        (("report", "empty"), "must hold pairs"),
        (("train", "empty", "--steps", 1, "--out", "x"), "must hold pairs"),
        (("train", "pairs", "--steps", 1, "--minutes", 1, "--out", "x"), "exactly one"),
        (("train", "pairs", "--steps", 1, "--encoder", "odd", "--out", "x"), "odd"),
        (("train", "pairs", "--steps", 1, "--resume", "--out", "x"), "unfinished"),
        (("train", "pairs", "--steps", 1, "--out", "nowhere/x"), "nowhere"),
        (("train", "pairs", "--steps", 1, "--out", "empty"), "it is a folder"),
        (("train", "pairs", "--minutes", "inf", "--out", "x"), "positive number"),
        (("train", "pairs", "--steps", 1, "--encoder", "json:dumps", "--out", "x"), "json:dumps"),
        (("predict", "iris", "--model", "empty"), "it is a folder"),
        (("demo", "--out", "run.json"), "must be a folder"),
        (("generate", "iris", "--rows", 2, "--out", "p"), "at least 6"),
        (("generate", "iris", "--density", 2, "--out", "p"), "densities"),
        (("generate", "iris", "--loss", "mse", "--out", "p"), "mse"),
        (
            ("generate", "iris", "--pairs", 2, "--rows", 50, "--out", "pairs"),
            "evaluations must be 8",
        ),
        (("generate", "diabetes", "--searcher", "exhaustive", "--out", "p"), "at most 65536"),
    ],
)
def test_bad_arguments_get_one_clear_line(chain, monkeypatch, arguments, message):
    monkeypatch.chdir(chain)
    monkeypatch.setattr("graphpred.meta.model.PACKAGED", "absent.safetensors")
    (chain / "empty").mkdir(exist_ok=True)
    (chain / "run.json").write_text("{}")

    result = run(*arguments)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not any((chain / name).exists() for name in ("x", "out.csv"))


def test_brackets_in_messages_are_not_swallowed(chain):
    result = run("predict", "[bold]odd[/bold].csv", "--model", chain / "model")

    assert "[bold]odd[/bold].csv" in result.stderr


def test_an_encoder_of_the_users_own_trains_and_predicts(chain, tmp_path, monkeypatch):
    readme = (ROOT / "README.md").read_text()
    example = next(block for block in readme.split("```python") if "CorrelationEncoder" in block)
    (tmp_path / "readme_encoder.py").write_text(example.split("```")[0])
    monkeypatch.chdir(tmp_path)
    name = "readme_encoder:CorrelationEncoder"

    ok("train", chain / "pairs", "--steps", 2, "--encoder", name, "--out", "model")
    ok("predict", "iris", "--model", "model", "--encoder", name, "--density", 0.3, "--steps", 5)
    without = run("predict", "iris", "--model", "model", "--density", 0.3)

    assert without.exit_code == 2
    assert name in without.stderr


def script(*arguments, **settings):
    command = [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | settings.pop("env", {})
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    )


def test_the_script_in_the_checkout_and_a_narrow_terminal_without_colour(chain):
    process = script("report", chain / "net", env={"COLUMNS": "40", "NO_COLOR": "1"})
    shown, errors = process.communicate(timeout=120)

    assert process.returncode == 0, errors
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 40


def test_interrupted_training_resumes_to_the_same_model(chain, tmp_path):
    arguments = ("train", chain / "pairs", "--steps", 60, "--out")
    process = script(*arguments, tmp_path / "broken")
    for line in process.stderr:
        if line.startswith("Training:"):
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert checkpoint_of(tmp_path / "broken").exists()
    assert not (tmp_path / "broken").exists()

    for rest in (("broken", "--resume"), ("whole",)):  # with as many threads as the first
        process = script(*arguments, tmp_path / rest[0], *rest[1:])
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors

    same = (tmp_path / "broken").read_bytes() == (tmp_path / "whole").read_bytes()
    assert same
    assert not checkpoint_of(tmp_path / "broken").exists()


def test_test_rows_stay_out_of_the_pairs(chain):
    test = set(Task.from_source("iris").split.test.tolist())

    for pair in PairStore(chain / "pairs"):
        assert test.isdisjoint(pair.train_rows + pair.validation_rows)


@pytest.mark.parametrize(
    ("theirs", "word"), [(0.0216, "beats"), (0.0207, "ties with"), (0.0202, "loses to")]
)
def test_demo_says_who_wins_by_the_digits_that_it_shows(theirs, word):
    methods = {"predicted": 0.0211, "live random, best of 1": theirs}
    methods["live random, best of 100"] = theirs
    rows = [Row(method=m, test_loss=x, n_edges=9, networks=1) for m, x in methods.items()]

    text = sys.modules["graphpred.cli.demo"]._verdict(rows)

    shown = f"{theirs:.3f}"
    assert text.startswith(f"The predicted network (0.021) {word} live random, best of 1 ({shown})")


def test_demo_tells_the_whole_story(chain, monkeypatch, tmp_path):
    demo = sys.modules["graphpred.cli.demo"]
    monkeypatch.setattr("graphpred.meta.model.packaged_model", lambda: chain / "model")
    monkeypatch.setattr(demo, "TRAIN_MINUTES", 0.03)
    monkeypatch.setattr(demo, "SEARCHES", 2)

    result = ok("demo", "--out", tmp_path, "--json")

    story = json.loads(result.stdout)
    methods = {row["method"]: row for row in story["comparison"]}
    budget = story["network"]["n_live_edges"]
    assert 0 < methods["predicted"]["n_edges"] <= budget
    assert methods["live random, best of 100"]["n_edges"] == budget
    assert methods["live random, best of 100"]["networks"] == 100
    assert SparseNetwork.load(tmp_path / "network.safetensors").architecture.n_live_edges == budget
