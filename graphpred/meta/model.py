"""``MetaModel``: from a data set and a price to a distribution over networks, in one pass."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graphpred.activations import activation_indices
from graphpred.errors import InputError, ModelError, StoreError
from graphpred.files import load_tensors, read_metadata, save_tensors
from graphpred.meta.decoder import LATENT_SIZE, Decoded, Decoder
from graphpred.meta.encoders import ENCODERS, DatasetEncoder, build_encoder
from graphpred.meta.prediction import Prediction
from graphpred.seeds import generator_for
from graphpred.space import DEFAULT_ACTIVATIONS
from graphpred.task import Task

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class MetaConfig:
    """How a meta-model is built.

    Attributes:
        encoder: A key of ``ENCODERS``, or ``module:callable``.
        width: Width of the decoder's embeddings; must be the encoder's.
        n_rounds: Rounds of attention in the decoder.
        activations: Names of the activation classes it chooses from.
        seed: Seed of the initial parameters.
    """

    encoder: str = "statistics"
    width: int = 64
    n_rounds: int = 2
    activations: tuple[str, ...] = DEFAULT_ACTIVATIONS
    seed: int = 0


class MetaModel(nn.Module):
    """A data set encoder and a decoder of networks with one hidden layer.

    Args:
        config: How to build it.
        encoder: An encoder of your own, instead of the one that ``config`` names.
        card: Plain JSON facts about its training.

    Raises:
        InputError: If the encoder's width is not the decoder's.
    """

    def __init__(
        self,
        config: MetaConfig | None = None,
        *,
        encoder: DatasetEncoder | None = None,
        card: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.config = config or MetaConfig()
        if encoder is not None:
            name = f"{type(encoder).__module__}:{type(encoder).__qualname__}"
            self.config = replace(self.config, encoder=name)
        self.card = card or {}
        seed = self.config.seed
        with torch.random.fork_rng(devices=[]):  # torch.nn draws before we draw anew
            self.encoder = encoder or build_encoder(
                self.config.encoder, generator=generator_for(seed, "encoder")
            )
            if self.encoder.width != self.config.width:
                raise InputError(
                    f"the encoder's width must be {self.config.width}; got {self.encoder.width}."
                )
            self.decoder = Decoder(
                width=self.config.width,
                relation_width=self.encoder.relation_width,
                n_activations=len(self.config.activations),
                linear=_index_of("tanh", self.config.activations),
                n_rounds=self.config.n_rounds,
                generator=generator_for(seed, "decoder"),
            )

    @property
    def activation_indices(self) -> tuple[int, ...]:
        """Registry indices of the activation classes it chooses from."""
        return activation_indices(self.config.activations)

    def forward(
        self, descriptions: Sequence[Any], *, prices: Tensor, latents: Sequence[Tensor]
    ) -> Decoded:
        """Predict one network a data set.

        Args:
            descriptions: What ``encoder.describe`` said of every data set.
            prices: λ of every data set, positive. Float, shape ``(G,)``.
            latents: z of the hidden neurons of every data set, each ``(h, LATENT_SIZE)``.
        """
        decoded: Decoded = self.decoder(self.encoder(descriptions), prices=prices, latents=latents)
        return decoded

    @torch.no_grad()
    def predict(
        self, task: Task, *, price: float = 0.1, n_hidden: int | None = None, seed: int = 0
    ) -> Prediction:
        """The distribution over networks for a task's training rows.

        Args:
            task: The data set.
            price: λ = C·N, positive: what an edge costs.
            n_hidden: Hidden neurons; by default as many as features.
            seed: Seed of the latents of the hidden neurons.

        Raises:
            InputError: If the price or ``n_hidden`` is not positive.
        """
        if not 0 < price < math.inf:
            raise InputError(f"price must be a positive number; got {price}.")
        n_hidden = task.n_features if n_hidden is None else n_hidden
        if n_hidden < 1:
            raise InputError(f"n_hidden must be at least 1; got {n_hidden}.")
        training = self.training
        self.eval()
        (embedding,) = self.encoder([self.encoder.describe(task)])
        self.train(training)
        return Prediction.decode(
            self.decoder,
            embedding=embedding,
            price=price,
            activations=self.config.activations,
            latents=draw_latents(n_hidden, generator=generator_for(seed, "latents")),
        )

    def save(self, path: str | Path) -> None:
        """Write a safetensors file with the config and the card as JSON metadata."""
        described = {"format": FORMAT_VERSION, "config": asdict(self.config), "card": self.card}
        save_tensors(path, self.state_dict(), metadata={"graphpred_model": json.dumps(described)})

    @classmethod
    def load(
        cls, path: str | Path | None = None, *, encoder: DatasetEncoder | None = None
    ) -> "MetaModel":
        """Read what ``save`` wrote.

        Args:
            path: The file; None for the packaged model.
            encoder: An encoder like the one it was trained with, if that is not a built-in one.

        Raises:
            ModelError: If there is no packaged model, or the encoder does not fit.
            StoreError: If the file is missing, torn or something else.
        """
        if path is None:
            raise ModelError(
                "no meta-model is packaged with this version; train one (graphpred train) and "
                "name its file."
            )
        what = "a meta-model that graphpred wrote"
        tensors, metadata = load_tensors(path, what=what)
        described = read_metadata(metadata, "graphpred_model", path=path, what=what)
        if described.get("format") != FORMAT_VERSION:
            raise StoreError(
                f"{path} must have model format {FORMAT_VERSION}; got {described.get('format')}."
            )
        try:
            plain = described["config"]
            config = MetaConfig(**plain | {"activations": tuple(plain["activations"])})
            activation_indices(config.activations)
        except (KeyError, TypeError) as error:
            raise StoreError(f"{path} must be a whole model file; it lacks {error}.") from error
        if encoder is None and config.encoder not in ENCODERS:
            raise ModelError(
                f"{path} was trained with the encoder {config.encoder!r}; "
                "give one like it: MetaModel.load(path, encoder=…)."
            )
        try:
            model = cls(config, encoder=encoder, card=described.get("card", {}))
            model.load_state_dict(tensors)
        except (InputError, RuntimeError) as error:
            raise ModelError(
                f"{path} must hold the parameters that its encoder and this version have; it does "
                "not: give an encoder like the one it was trained with (MetaModel.load(path, "
                "encoder=…)), or use the version that wrote it."
            ) from error
        return model


def _index_of(name: str, names: Sequence[str]) -> int | None:
    return names.index(name) if name in names else None


def draw_latents(n_hidden: int, *, generator: torch.Generator) -> Tensor:
    """Latents of hidden neurons. Float, shape ``(n_hidden, LATENT_SIZE)``.

    The first neurons of a wider layer are those of a narrower one.
    """
    return torch.randn(n_hidden, LATENT_SIZE, generator=generator)
