"""A whole training of the meta-model, from pair folders to a model file."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from graphpred.errors import InputError, StoreError
from graphpred.files import whole_file
from graphpred.meta.encoders import custom_encoder
from graphpred.meta.examples import (
    GROUP,
    TRAINING_ROWS,
    Draw,
    Example,
    PairExamples,
    PriorExamples,
)
from graphpred.meta.model import MetaConfig, MetaModel
from graphpred.meta.team import Team, start_team
from graphpred.meta.training import Report, TrainConfig, Trainer, checkpoint_config
from graphpred.pairs.pair import Pair
from graphpred.pairs.store import PairStore
from graphpred.seeds import generator_for
from graphpred.synthetic.prior import PRIOR_VERSION

PACKAGED_START = "packaged"
"""Stands for the packaged model where a file to go on from is asked for."""
PRIOR_SHARE_BESIDE_PAIRS = 0.5
FAMILIAR_SETS = 512
"""Data sets that show the model what its training data are like."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What a training is asked to do.

    Attributes:
        pairs: Folders of pairs; none trains on the synthetic prior alone.
        prior: Whether half of the examples come from the synthetic prior beside the pairs.
        start: A meta-model file to go on from, or ``PACKAGED_START``.
        steps: Optimiser steps; or leave it out and give minutes.
        minutes: Time to train for, turned into steps by a short probe.
        encoder: A key of ``ENCODERS`` or ``module:callable``.
        seed: Seed of everything.

    Raises:
        InputError: If not exactly one of steps and minutes is given.
    """

    pairs: tuple[str, ...] = ()
    prior: bool = False
    start: str | None = None
    steps: int | None = None
    minutes: float | None = None
    encoder: str = "statistics"
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise InputError("exactly one of steps and minutes must be given.")
        if self.steps is not None and self.steps < 1:
            raise InputError(f"steps must be at least 1; got {self.steps}.")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise InputError(f"minutes must be a positive number; got {self.minutes}.")


def checkpoint_of(out: str | Path) -> Path:
    """Where the checkpoint of a model file lies while it is being trained."""
    return Path(f"{out}.checkpoint")


def train_meta_model(
    config: RunConfig,
    *,
    out: str | Path,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
    device: str = "cpu",
    processes: int | None = None,
) -> Iterator[Report]:
    """Train a meta-model and write it to ``out``.

    A checkpoint stands beside it until it is finished. A resumed training ends with the very
    parameters that an uninterrupted one would have; another number of processes changes the
    rounding, and what follows from it.

    Args:
        config: What to do; the same as before when resumed, except that the checkpoint knows the
            number of steps.
        out: The model file.
        resume: Go on from the checkpoint.
        stop: Asked after every step; a stopped training leaves a checkpoint.
        device: Where to compute.
        processes: How many train together, each with its share of every step's data sets; None
            for those that ``torchrun`` started, or this one alone.

    Yields:
        A report after every step.

    Raises:
        StoreError: If pairs or checkpoint cannot be used, or an unfinished training is in the way.
        EngineError: If processes cannot be started, or one is lost; there is a checkpoint then.
    """
    started = time.monotonic()
    checkpoint = checkpoint_of(out)
    if resume and not checkpoint.exists():
        raise StoreError(f"to resume, {checkpoint} must exist; there is no unfinished training.")
    if not resume and checkpoint.exists():
        raise StoreError(
            f"{checkpoint} is an unfinished training; resume it (--resume) or delete it first."
        )
    if Path(out).is_dir():
        raise StoreError(f"{out} must be the name of a file; it is a folder.")
    with start_team(processes, work=_help, arguments=(config, str(out), resume, device)) as team:
        if team.is_first and not resume:
            _check_writable(checkpoint)
        yield from _train(
            config, out=out, resume=resume, stop=stop, device=device, team=team, started=started
        )


def _help(team: Team, config: RunConfig, out: str, resume: bool, device: str) -> None:
    """What a process beside the first one does: the same, and nobody looks."""
    for _ in _train(config, out=out, resume=resume, device=device, team=team):
        pass


def _train(
    config: RunConfig,
    *,
    out: str | Path,
    resume: bool,
    device: str,
    team: Team,
    stop: Callable[[], bool] = lambda: False,
    started: float = 0.0,
) -> Iterator[Report]:
    """What every process of a training does; see ``train_meta_model``."""
    checkpoint = checkpoint_of(out)
    pairs = [pair for folder in config.pairs for pair in PairStore(folder)]
    model = _model(config)
    draw = _source(pairs, model=model, config=config)
    train = TrainConfig(steps=config.steps or 1, seed=config.seed)
    if resume:
        train = replace(train, steps=checkpoint_config(checkpoint)["steps"])
    identity = _identity(pairs, config=config)
    trainer = Trainer(model, draw=draw, config=train, identity=identity, device=device, team=team)
    if resume:
        trainer.restore(checkpoint)
    elif config.minutes is not None:
        left = 60 * config.minutes - (time.monotonic() - started)
        steps = team.agreed(max(1, round(left / trainer.probe())))
        trainer.config = replace(train, steps=steps)
    report = None
    for report in trainer.run(checkpoint=checkpoint, stop=stop):
        yield report
    if trainer.step == trainer.config.steps and team.is_first:
        trainer.take_average()
        learn_familiarity(model, draw=draw, seed=config.seed)
        model.card = _card(config, pairs=pairs, trainer=trainer, last=report)
        model.cpu().save(out)
        checkpoint.unlink(missing_ok=True)


def _check_writable(path: Path) -> None:
    """Find out now, and not after hours of training, that a file cannot be written."""
    with whole_file(path):
        pass
    path.unlink()


def _model(config: RunConfig) -> MetaModel:
    if config.start is not None:
        path = None if config.start == PACKAGED_START else config.start
        return MetaModel.load(path, encoder=custom_encoder(config.encoder))
    return MetaModel(MetaConfig(encoder=config.encoder, seed=config.seed))


def _identity(pairs: list[Pair], *, config: RunConfig) -> dict[str, Any]:
    """What makes one training another one, besides ``TrainConfig``."""
    keys = sorted((pair.digest, pair.search_seed, pair.price) for pair in pairs)
    return {
        "pairs": hashlib.sha256(repr(keys).encode()).hexdigest() if pairs else None,
        "prior": PRIOR_VERSION if config.prior or not pairs else None,
        "start": config.start,
        "encoder": config.encoder,
    }


def _source(pairs: list[Pair], *, model: MetaModel, config: RunConfig) -> Draw:
    """Where examples come from."""
    describe = partial(model.describe, limit=TRAINING_ROWS)
    prior = PriorExamples(describe)
    if not pairs:
        return prior.draw
    own = PairExamples(pairs, describe=describe, seed=config.seed)
    if not config.prior:
        return own.draw

    def draw(k: int, generator: torch.Generator) -> list[Example]:
        coins = torch.rand(math.ceil(k / GROUP), generator=generator)
        from_prior = min(k, GROUP * int((coins < PRIOR_SHARE_BESIDE_PAIRS).sum()))
        return prior.draw(from_prior, generator) + own.draw(k - from_prior, generator)

    return draw


def learn_familiarity(model: MetaModel, *, draw: Draw, seed: int) -> None:
    """Let the model know what the data sets of its training are like."""
    examples = draw(FAMILIAR_SETS, generator_for(seed, "familiarity"))
    model.eval()
    with torch.no_grad():
        model.familiarity.learn(
            embedding
            for example in examples
            for embedding in model.encoder([example.description.encoded])
        )


def _version() -> str:
    try:
        return version("graphpred")
    except PackageNotFoundError:  # a checkout that was not installed
        return "not installed"


def _card(
    config: RunConfig, *, pairs: list[Pair], trainer: Trainer, last: Report | None
) -> dict[str, Any]:
    """What a reader of the model should know about its training."""
    sources = sorted({pair.source for pair in pairs})
    card: dict[str, Any] = {
        "name": f"trained on {', '.join(sources) or 'the synthetic prior'}",
        "graphpred": _version(),
        "data sets": sources,
        "pairs": len(pairs),
        "synthetic prior": PRIOR_VERSION if config.prior or not pairs else None,
        "started from": config.start,
        "steps": trainer.config.steps,
        "batch": trainer.config.batch,
        "seed": config.seed,
    }
    if last is not None:
        card["last step"] = {"fit": last.fit, "density": last.density, "pair": last.pair}
    return card
