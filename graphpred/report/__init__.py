"""What the terminal, a page or a machine shows of pairs, models and networks.

Every ``…_report`` is a rich renderable that adapts to the width, colours and encoding of its
console; every ``…_summary`` is the same as plain JSON. Nothing here prints.
"""

from graphpred.report.export import svg_text, write_html
from graphpred.report.model import model_report, model_summary
from graphpred.report.network import network_report, network_summary, network_warnings
from graphpred.report.pairs import pairs_report, pairs_summary
from graphpred.report.verify import verify_file

__all__ = [
    "model_report",
    "model_summary",
    "network_report",
    "network_summary",
    "network_warnings",
    "pairs_report",
    "pairs_summary",
    "svg_text",
    "verify_file",
    "write_html",
]
