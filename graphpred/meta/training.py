"""Training the meta-model on the relaxed F, in steps that can be resumed exactly.

Everything random in step s derives from (seed, s), so a checkpoint holds parameters and the
optimiser's state and nothing else.
"""

import copy
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from graphpred.errors import EngineError, InputError, StoreError
from graphpred.files import load_tensors, read_metadata, save_tensors
from graphpred.meta.checkpoints import take_training_tensors, training_tensors
from graphpred.meta.examples import Draw, Example
from graphpred.meta.model import MetaModel
from graphpred.meta.refinement import PRICE_FACTOR
from graphpred.meta.relaxed import (
    Losses,
    edge_loss,
    fit_loss,
    loss_scale,
    network_scores,
    pair_loss,
)
from graphpred.meta.team import ALONE, Team
from graphpred.seeds import generator_for

_PROBE_STEPS = 6
_EARLIER_SHARE = 0.1  # of the fit, for each of two earlier rounds of refinement
_AVERAGED = 0.99  # of the running average of parameters that stays in a step


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the meta-model is trained.

    Attributes:
        steps: Optimiser steps.
        batch: Data sets a step.
        learning_rate: AdamW's, after a short warm-up; it decays along half a cosine. What comes
            out is a running average of the parameters.
        alpha: Cost of an expected false edge of a pair, over the pair's number of edges.
        beta: Cost of an expected missed edge, likewise.
        seed: Seed of everything.

    Raises:
        InputError: If a field is out of its range.
    """

    steps: int = 1000
    batch: int = 16
    learning_rate: float = 2e-4
    alpha: float = 0.01
    beta: float = 0.005
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise InputError(
                f"steps and batch must be at least 1; got {self.steps} and {self.batch}."
            )
        if not (self.alpha >= 0 and self.beta >= 0):
            raise InputError(f"alpha and beta must be at least 0; got {self.alpha}, {self.beta}.")
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate must be positive; got {self.learning_rate}.")


@dataclass(frozen=True, kw_only=True)
class Report:
    """One step's figures, means over its data sets.

    Attributes:
        step: Steps done.
        steps: Steps in all.
        loss: What is minimised.
        fit: Cross-entropy (nats) or squared error on fresh rows.
        density: E[K] / N.
        pair: The pairs' term.
        examples_per_second: Data sets a second, over all steps of this run.
        seconds_left: Estimate of the time left.
    """

    step: int
    steps: int
    loss: float
    fit: float
    density: float
    pair: float
    examples_per_second: float
    seconds_left: float


class Trainer:
    """Trains a meta-model in place.

    Args:
        model: The model.
        draw: Draws the examples of a step.
        config: How to train.
        identity: Plain JSON facts on where examples come from; a checkpoint is taken up only if
            it has the same.
        device: Where to compute.
        team: The processes that train together; each computes its share of every step.
    """

    def __init__(
        self,
        model: MetaModel,
        *,
        draw: Draw,
        config: TrainConfig,
        identity: dict[str, Any] | None = None,
        device: str | torch.device = "cpu",
        team: Team = ALONE,
    ) -> None:
        self.identity = identity or {}
        self.model, self.config = model.to(device), config
        self.step = 0
        self._draw, self._device, self._team = draw, torch.device(device), team
        self._parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self._optimiser = torch.optim.AdamW(
            self._parameters, lr=config.learning_rate, weight_decay=1e-3, fused=True
        )
        self._average = [p.detach().clone() for p in self._parameters]

    def run(
        self,
        *,
        checkpoint: str | Path | None = None,
        every: float = 20.0,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[Report]:
        """Train to the last step, or until ``stop``.

        Args:
            checkpoint: File that the state is written to now and then and when stopped, whole or
                not at all; the first process of the team writes it.
            every: Seconds between checkpoints.
            stop: Asked after every step; all processes stop if one should.

        Yields:
            A report after every step.

        Raises:
            EngineError: If a process of the team was lost; the checkpoint is of the step before.
        """
        try:
            yield from self._steps(checkpoint, every=every, stop=stop)
        except EngineError:
            self._write(checkpoint)
            raise
        self._write(checkpoint)

    def _steps(
        self, checkpoint: str | Path | None, *, every: float, stop: Callable[[], bool]
    ) -> Iterator[Report]:
        first, started = self.step, time.monotonic()
        saved = started
        while self.step < self.config.steps and not self._team.any(stop()):
            fit, density, pair, loss = self._advance()
            now = time.monotonic()
            pace = (now - started) / (self.step - first)
            if now - saved > every:
                self._write(checkpoint)
                saved = time.monotonic()
            yield Report(
                step=self.step,
                steps=self.config.steps,
                loss=loss,
                fit=fit,
                density=density,
                pair=pair,
                examples_per_second=self.config.batch / pace,
                seconds_left=pace * (self.config.steps - self.step),
            )

    def _write(self, checkpoint: str | Path | None) -> None:
        if checkpoint is not None and self._team.is_first:
            self.save(checkpoint)

    def _advance(self) -> list[float]:
        """One optimiser step; means of fit, density, pair and loss over the data sets."""
        generator = generator_for(self.config.seed, "step", self.step)
        examples = self._draw(self.config.batch, generator)
        rate = self.config.learning_rate * _rate(self.step, self.step / self.config.steps)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self.model.train()
        self._optimiser.zero_grad(set_to_none=True)
        sums = torch.zeros(4, dtype=torch.float64)
        for together in _of_one_shape(examples):
            if not (alike := self._team.share(together)):
                continue
            losses, wanted = self._losses(alike)
            wanted.sum().backward()  # of a sum, so that limits do not depend on the grouping
            terms = torch.stack([losses.fit, losses.edges, losses.pair, wanted])
            sums += terms.detach().double().sum(dim=1).cpu()
        self._team.add(sums)
        self._team.add_gradients(self._parameters)
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad /= len(examples)
        norm = nn.utils.clip_grad_norm_(self._parameters, 1.0)
        if bool(norm.isfinite()):
            self._optimiser.step()
        self.step += 1
        self._update_average()
        return (sums / len(examples)).tolist()

    def _losses(self, examples: Sequence[Example]) -> tuple[Losses, Tensor]:
        """Of data sets of one shape: the terms, and what is minimised, ``(G,)``."""
        prices = torch.tensor([example.price for example in examples], device=self._device)
        rounds = self.model(
            [example.description for example in examples],
            prices=prices,
            latents=[example.latents.to(self._device) for example in examples],
        )
        X = _stacked_rows([example.X for example in examples]).to(self._device)
        y = [example.y.to(self._device) for example in examples]
        last = rounds[-1]
        early = (rounds[len(rounds) // 2], rounds[max(0, len(rounds) - 3)])
        fit = fit_loss(network_scores(last, X), y)
        fits = (1 - 2 * _EARLIER_SHARE) * fit
        for decoded in early:
            fits = fits + _EARLIER_SHARE * fit_loss(network_scores(decoded, X), y)
        losses = Losses(
            fit=fit,
            edges=edge_loss(last),
            pair=pair_loss(
                last,
                [example.architecture for example in examples],
                activations=self.model.activation_indices,
                alpha=self.config.alpha,
                beta=self.config.beta,
            ),
        )
        wanted = fits + PRICE_FACTOR * prices * losses.edges
        scale = loss_scale(last, is_regression=y[0].is_floating_point())
        return losses, wanted / scale + losses.pair

    def _update_average(self) -> None:
        kept = min(_AVERAGED, self.step / (self.step + 9))
        with torch.no_grad():
            torch._foreach_lerp_(self._average, self._parameters, 1 - kept)

    def take_average(self) -> None:
        """Give the model the running average of its parameters: what training is for."""
        with torch.no_grad():
            torch._foreach_copy_(self._parameters, self._average)

    def save(self, path: str | Path) -> None:
        """Write a checkpoint: parameters, the optimiser's state, the step and the config."""
        tensors = training_tensors(
            self.model, optimiser=self._optimiser, parameters=self._parameters
        )
        tensors |= {f"average.{i}": average for i, average in enumerate(self._average)}
        described = {
            "step": self.step,
            "config": asdict(self.config),
            "identity": self.identity,
        }
        save_tensors(path, tensors, metadata={"graphpred_checkpoint": json.dumps(described)})

    def restore(self, path: str | Path) -> None:
        """Go on from a checkpoint of the same config and identity.

        Raises:
            StoreError: If the file is no checkpoint or was written for another training.
        """
        tensors, described = _read_checkpoint(path)
        ours = asdict(self.config) | self.identity
        for name, value in (described["config"] | described["identity"]).items():
            if ours.get(name) != value:
                raise StoreError(
                    f"to go on from {path}, {name} must be {value}; got {ours.get(name)}."
                )
        take_training_tensors(
            self.model,
            tensors,
            optimiser=self._optimiser,
            parameters=self._parameters,
            path=path,
        )
        for i in range(len(self._average)):
            self._average[i] = tensors[f"average.{i}"].to(self._device)
        self.step = described["step"]

    def probe(self) -> float:
        """Seconds a step takes, from a few steps after which everything is as before."""
        before = copy.deepcopy(self.model.state_dict())
        times = []
        for _ in range(_PROBE_STEPS):
            started = time.monotonic()
            self._advance()
            times.append(time.monotonic() - started)
        self.model.load_state_dict(before)
        self._optimiser.state.clear()
        self._average = [p.detach().clone() for p in self._parameters]
        self.step = 0
        return median(times[1:])  # the first one warms up


def checkpoint_config(path: str | Path) -> dict[str, Any]:
    """The config that a checkpoint was written with, as plain JSON types."""
    config: dict[str, Any] = _read_checkpoint(path)[1]["config"]
    return config


def _read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    what = "a checkpoint of a training"
    tensors, metadata = load_tensors(path, what=what)
    return tensors, read_metadata(metadata, "graphpred_checkpoint", path=path, what=what)


def _rate(step: int, progress: float) -> float:
    """Linear warm-up over 30 steps, then half a cosine."""
    return min(1.0, (step + 1) / 30) * 0.5 * (1 + math.cos(math.pi * progress))


def _of_one_shape(examples: list[Example]) -> Iterator[list[Example]]:
    """Examples that can be decoded together; padding would cost more than it saves."""
    groups: dict[Any, list[Example]] = defaultdict(list)
    for example in examples:
        sample = example.description.sample
        key = (*sample.shape[1:], sample.is_regression, len(example.latents))
        groups[key].append(example)
    yield from groups.values()


def _stacked_rows(rows: list[Tensor]) -> Tensor:
    """Stack ``(m, n)`` tensors of different m. Float, shape ``(G, max m, n)``."""
    return nn.utils.rnn.pad_sequence(rows, batch_first=True)
