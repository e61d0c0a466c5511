"""``Pool``: what the rivals' candidates reached, kept in a folder so that nothing is trained twice.

A file holds one chunk of one rival's candidates in one cell. It is written whole or not at all, so
a pool that was stopped goes on, and several processes may fill one. Candidate i of a cell is the
same in every pool: the first hundred are the beginning of a thousand.
"""

import time
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from graphpred.errors import StoreError
from graphpred.experiments.outcome import Figure, Outcome
from graphpred.experiments.protocol import Cell
from graphpred.experiments.rivals import RIVALS, rate_of
from graphpred.files import make_folder, whole_file

VERSION = 1
"""Of the rivals and the protocol: raise it when a stored figure would come out differently."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Candidates that are trained together and stored in one file.

    Attributes:
        path: Where.
        numbers: Their numbers.
        rate: Their learning rate; 0 for what is not trained.
    """

    path: Path
    numbers: range
    rate: float


class Pool:
    """Outcomes of rivals, read from a folder or computed and stored there.

    Args:
        folder: Made if it is missing.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def outcome(self, method: str, cell: Cell, *, n_candidates: int | None = None) -> Outcome:
        """The first candidates of a rival in a cell, after computing those that are missing.

        Args:
            method: A key of ``RIVALS``.
            cell: Where they compete.
            n_candidates: How many; the rival's own number by default, and at most that.
        """
        found = [
            _read(chunk.path) if chunk.path.exists() else self.compute(method, cell, chunk=chunk)
            for chunk in self.chunks(method, cell, n_candidates=n_candidates)
        ]
        joined = Outcome.joined(found)
        return joined[: self._n_candidates(method, n_candidates)]

    def figure(self, method: str, cell: Cell) -> Figure:
        """The best of all candidates of a rival that keep to the budget."""
        rival, outcome = RIVALS[method], self.outcome(method, cell)
        steps = cell.steps if rival.trained else 0
        networks, seconds = len(outcome), float(outcome.cpu_seconds.sum())
        if method == "l1":
            outcome = outcome.within(cell.n_edges)
        best = outcome.best_of(len(outcome), steps=steps)
        return replace(best, networks=networks, network_steps=networks * steps, cpu_seconds=seconds)

    def chunks(self, method: str, cell: Cell, *, n_candidates: int | None = None) -> list[Chunk]:
        """The files of a rival's first candidates, whether they are there or not."""
        rival, task = RIVALS[method], cell.task
        rate = rate_of(method, cell.steps) if rival.trained else 0.0
        key = [method, f"seed{cell.seed}"]
        key += [f"kappa{cell.kappa:g}"] if rival.budgeted else []
        key += [f"steps{cell.steps}", f"rate{rate:g}"] if rival.trained else []
        folder = self.folder / f"v{VERSION}" / f"{task.name}-{task.digest[:12]}" / "-".join(key)
        return [
            Chunk(
                path=folder / f"{first:05d}.parquet",
                numbers=range(first, first + rival.chunk),
                rate=rate,
            )
            for first in range(0, self._n_candidates(method, n_candidates), rival.chunk)
        ]

    def compute(self, method: str, cell: Cell, *, chunk: Chunk) -> Outcome:
        """Train the candidates of a chunk and store what they reached."""
        rival = RIVALS[method]
        started = time.process_time()
        if not rival.budgeted:
            cell = replace(cell, kappa=0.0)  # the same draws whichever budget asks first
        outcome = rival.run(cell, chunk.numbers, chunk.rate)
        seconds = (time.process_time() - started) / len(outcome)
        outcome = replace(outcome, cpu_seconds=torch.full_like(outcome.cpu_seconds, seconds))
        _write(chunk.path, outcome)
        return outcome

    def _n_candidates(self, method: str, asked: int | None) -> int:
        most = RIVALS[method].n_candidates
        return most if asked is None else min(asked, most)


def _write(path: Path, outcome: Outcome) -> None:
    make_folder(path.parent)
    columns = {field.name: getattr(outcome, field.name).numpy() for field in fields(Outcome)}
    with whole_file(path) as temporary:
        pd.DataFrame(columns).to_parquet(temporary)


def _read(path: Path) -> Outcome:
    try:
        table = pd.read_parquet(path)
        columns = {field.name: table[field.name].to_numpy(np.float64) for field in fields(Outcome)}
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{path} must be a chunk of a pool: {error}.") from error
    return Outcome(**{name: torch.from_numpy(values.copy()) for name, values in columns.items()})
