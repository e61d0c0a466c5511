"""The picture in the README, of a network that predict wrote.

graphpred predict breast_cancer --density 0.1 --out NET
python docs/make_picture.py NET docs/demo.svg
"""

import sys
from pathlib import Path

from graphpred.network import SparseNetwork
from graphpred.report import network_report, svg_text


def main(network: str, picture: str) -> None:
    """Export the network's report as an SVG."""
    report = network_report(SparseNetwork.load(network))
    Path(picture).write_text(svg_text(report, title="graphpred predict breast_cancer"))


if __name__ == "__main__":
    main(*sys.argv[1:])
