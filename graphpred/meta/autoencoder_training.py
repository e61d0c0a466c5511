"""Training the autoencoder of architectures, in steps that can be resumed.

What is minimised is the negative evidence lower bound. All latents that the posterior draws decode
to their architecture, so reconstruction costs nothing, and what is left is the divergence of the
posterior from the prior: −log of the widths. Everything random in step s derives from (seed, s).
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graphpred.errors import InputError, StoreError
from graphpred.files import load_tensors, read_metadata, save_tensors
from graphpred.meta.autoencoder import ArchitectureAutoencoder
from graphpred.meta.checkpoints import take_training_tensors, training_tensors
from graphpred.meta.graph_corpus import GraphExample
from graphpred.meta.ordered import draw_codes
from graphpred.seeds import generator_for

_WHAT = "a checkpoint of the training of an autoencoder"
_EVERY = 200  # steps between checkpoints


@dataclass(frozen=True, kw_only=True)
class AutoencoderTraining:
    """How the autoencoder is trained.

    Attributes:
        steps: Optimiser steps.
        shapes: Groups of one shape that a step draws from.
        batch: Graphs of each.
        learning_rate: AdamW's, after a short warm-up; it decays along half a cosine.
        seed: Seed of everything.

    Raises:
        InputError: If a field is out of its range.
    """

    steps: int = 2000
    shapes: int = 2
    batch: int = 8
    learning_rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.shapes, self.batch) < 1:
            raise InputError(
                f"steps, shapes and batch must be at least 1; got {self.steps}, {self.shapes} and "
                f"{self.batch}."
            )
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate must be positive; got {self.learning_rate}.")


@dataclass(frozen=True, kw_only=True)
class AutoencoderReport:
    """One step's figures.

    Attributes:
        step: Steps done.
        bits: That the latents of a hidden neuron carry: −log2 of their widths.
    """

    step: int
    bits: float


class AutoencoderTrainer:
    """Trains an autoencoder in place, its data set encoder too.

    Args:
        model: The autoencoder.
        groups: Examples, those of a group of one shape; at least one group.
        config: How to train.
        identity: Plain JSON facts on where the examples come from; a checkpoint is taken up only
            if it has the same.
    """

    def __init__(
        self,
        model: ArchitectureAutoencoder,
        *,
        groups: Sequence[Sequence[GraphExample]],
        config: AutoencoderTraining,
        identity: dict[str, Any] | None = None,
    ) -> None:
        if not groups or not all(groups):
            raise InputError("there must be at least one group of examples, and none empty.")
        self.model, self.config, self.step = model, config, 0
        self._groups, self._identity = groups, identity or {}
        self._parameters: list[Tensor] = list(model.parameters())
        self._optimiser = torch.optim.AdamW(
            self._parameters, lr=config.learning_rate, weight_decay=1e-4
        )

    def run(
        self,
        *,
        checkpoint: str | Path | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[AutoencoderReport]:
        """Train to the last step, or until ``stop``.

        Args:
            checkpoint: File that the state is written to now and then and when stopped.
            stop: Asked before every step.

        Yields:
            A report after every step.
        """
        while self.step < self.config.steps and not stop():
            yield self._advance()
            if checkpoint is not None and self.step % _EVERY == 0:
                self.save(checkpoint)
        if checkpoint is not None:
            self.save(checkpoint)

    def _advance(self) -> AutoencoderReport:
        generator = generator_for(self.config.seed, "step", self.step)
        for settings in self._optimiser.param_groups:
            settings["lr"] = self.config.learning_rate * self._rate()
        self._optimiser.zero_grad(set_to_none=True)
        bits = 0.0
        for _ in range(self.config.shapes):
            group = self._groups[int(torch.randint(len(self._groups), (), generator=generator))]
            chosen = torch.randperm(len(group), generator=generator)[: self.config.batch]
            some = [group[i] for i in chosen.tolist()]
            loss = latent_bits(self.model, some, generator=generator).mean() / self.config.shapes
            loss.backward()
            bits += loss.item()
        norm = nn.utils.clip_grad_norm_(self._parameters, 3.0)
        if bool(norm.isfinite()):
            self._optimiser.step()
        self.step += 1
        return AutoencoderReport(step=self.step, bits=bits)

    def _rate(self) -> float:
        warm = min(1.0, (self.step + 1) / 50)
        return warm * 0.5 * (1 + math.cos(math.pi * self.step / self.config.steps))

    def save(self, path: str | Path) -> None:
        """Write a checkpoint: parameters, the optimiser's state, the step and the config."""
        tensors = training_tensors(
            self.model, optimiser=self._optimiser, parameters=self._parameters
        )
        described = {"step": self.step, "asked": self._asked()}
        metadata = {"graphpred_autoencoder_checkpoint": json.dumps(described)}
        save_tensors(path, tensors, metadata=metadata)

    def restore(self, path: str | Path) -> None:
        """Go on from a checkpoint of the same config and identity.

        Raises:
            StoreError: If the file is no checkpoint or was written for another training.
        """
        tensors, metadata = load_tensors(path, what=_WHAT)
        described = read_metadata(
            metadata, "graphpred_autoencoder_checkpoint", path=path, what=_WHAT
        )
        asked = json.loads(json.dumps(self._asked()))
        if described.get("asked") != asked:
            raise StoreError(
                f"to go on from {path}, the training must be {described.get('asked')}; got {asked}."
            )
        take_training_tensors(
            self.model,
            tensors,
            optimiser=self._optimiser,
            parameters=self._parameters,
            path=path,
        )
        self.step = described["step"]

    def _asked(self) -> dict[str, Any]:
        """What makes one training another one."""
        return asdict(self.config) | {"model": asdict(self.model.config)} | self._identity


def latent_bits(
    model: ArchitectureAutoencoder, examples: Sequence[GraphExample], *, generator: torch.Generator
) -> Tensor:
    """Bits per hidden neuron that the latents of every example carry, ``(G,)``.

    Args:
        model: The autoencoder.
        examples: Of one shape.
        generator: Source of the identity codes.
    """
    first = examples[0].architecture
    n, h, c = first.widths
    embeddings = model.encoder([example.description for example in examples])
    nats = model.evidence_bound(
        [example.architecture for example in examples],
        embeddings=embeddings,
        codes=[draw_codes(n, c, generator=generator) for _ in examples],
    )
    return -nats / (h * math.log(2))
