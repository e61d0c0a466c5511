"""The ``graphpred`` command: one file a command, gathered here."""

import typer

from graphpred.cli.apply import apply
from graphpred.cli.compare import compare
from graphpred.cli.demo import demo
from graphpred.cli.generate import generate
from graphpred.cli.predict import predict
from graphpred.cli.report import report
from graphpred.cli.train import train

app = typer.Typer(
    help="Predict which sparse neural network to train on a data set.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (demo, generate, train, predict, apply, report, compare):
    app.command()(command)
