"""What the engine's benchmarks share: CPU time, the core's peak, and the report."""

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from graphpred.files import whole_file

WIDTH = 100
"""Columns of every table."""
_PEAK_SIZES = (512, 1024, 2048)

T = TypeVar("T")


def timed(run: Callable[[], T]) -> tuple[float, T]:
    """CPU-seconds of this process, all its threads together, and what ``run`` returned."""
    started = time.process_time()
    returned = run()
    return time.process_time() - started, returned


def core_peak(*, repeats: int = 3) -> float:
    """GFLOP per CPU-second of the best of a few large square float32 products, 2 n³ flops each."""
    best = 0.0
    for n in _PEAK_SIZES:
        A, B = torch.rand(2, n, n, generator=torch.Generator().manual_seed(0))
        product = torch.mm(A, B)
        for _ in range(repeats):
            seconds, _ = timed(lambda A=A, B=B, out=product: torch.mm(A, B, out=out))
            best = max(best, 2 * n**3 / seconds / 1e9)
    return best


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write JSON, with the machine beside the figures."""
    machine = {"torch": torch.__version__, "processor": platform.machine()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        text = json.dumps({"machine": machine, **report}, indent=2)
        temporary.write_text(text + "\n", encoding="utf-8")
