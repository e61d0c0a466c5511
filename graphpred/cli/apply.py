"""``graphpred apply``: predictions of a stored network for raw new rows."""

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from graphpred.cli.common import clear_errors, notice
from graphpred.files import whole_file
from graphpred.network import SparseNetwork
from graphpred.tables import read_table


def apply(
    net: Annotated[Path, typer.Argument(help="Network file.")],
    data: Annotated[str, typer.Argument(help="Raw rows: a table with the columns of the fit.")],
    out: Annotated[Path, typer.Option(help="CSV file of predictions to write.")],
) -> None:
    """Score raw new rows with a stored network."""
    with clear_errors():
        network = SparseNetwork.load(net)
        encoder = network.signature.encoder
        nominal = encoder.nominal if encoder else frozenset()
        table = read_table(data, with_target=False, nominal=nominal)
        predictions = predictions_of(network, table.frame)
        with whole_file(out) as temporary:
            predictions.to_csv(temporary, index=False)
        notice(f"{len(predictions)} predictions written to {out}")


def predictions_of(network: SparseNetwork, rows: pd.DataFrame) -> pd.DataFrame:
    """Predicted class and class probabilities, or predicted outputs, one row each."""
    names = network.signature.class_names
    if network.signature.kind == "regression":
        return pd.DataFrame(network.predict(rows), columns=[f"predicted {name}" for name in names])
    probabilities = network.predict_proba(rows)
    frame = pd.DataFrame(probabilities, columns=[f"probability {name}" for name in names])
    frame.insert(0, "predicted", network.predict(rows))
    return frame
