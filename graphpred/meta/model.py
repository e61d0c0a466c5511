"""``MetaModel``: from a data set and a price to a distribution over networks, in one pass."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor, nn

from graphpred.activations import activation_indices
from graphpred.errors import InputError, ModelError, StoreError
from graphpred.files import load_tensors, read_metadata, save_tensors
from graphpred.meta.decoder import Decoded, Decoder
from graphpred.meta.deeper import AnyPrediction, DeepPrediction
from graphpred.meta.draft import LATENT_SIZE
from graphpred.meta.encoders import ENCODERS, DatasetEncoder, build_encoder
from graphpred.meta.familiarity import Familiarity
from graphpred.meta.layerwise import Layers, hidden_widths
from graphpred.meta.moments import Moments
from graphpred.meta.prediction import N_DRAFTS, Prediction
from graphpred.meta.samples import FIT_LIMIT, ROW_LIMIT, RowSample
from graphpred.seeds import generator_for
from graphpred.space import DEFAULT_ACTIVATIONS
from graphpred.task import Task

FORMAT_VERSION = 2
PACKAGED = "meta_model.safetensors"
"""File of the packaged model in the folder of data that ships with the package."""


@dataclass(frozen=True, kw_only=True)
class MetaConfig:
    """How a meta-model is built.

    Attributes:
        encoder: A key of ``ENCODERS``, or ``module:callable``.
        width: Width of the decoder's embeddings; must be the encoder's.
        n_attention: Rounds of attention in the decoder.
        n_rounds: Rounds of refinement on rows.
        activations: Names of the activation classes it chooses from.
        seed: Seed of the initial parameters.
    """

    encoder: str = "statistics"
    width: int = 64
    n_attention: int = 2
    n_rounds: int = 5
    activations: tuple[str, ...] = DEFAULT_ACTIVATIONS
    seed: int = 0


@dataclass(frozen=True, eq=False, kw_only=True)
class Description:
    """What the model keeps of a task.

    Attributes:
        encoded: What the encoder's ``describe`` said.
        sample: Some of the training rows.
    """

    encoded: Any
    sample: RowSample


class MetaModel(nn.Module):
    """A data set encoder and a decoder of networks.

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
                activations=self.activation_indices,
                n_attention=self.config.n_attention,
                n_rounds=self.config.n_rounds,
                generator=generator_for(seed, "decoder"),
            )
            self.familiarity = Familiarity(self.config.width)

    @property
    def activation_indices(self) -> tuple[int, ...]:
        """Registry indices of the activation classes it chooses from."""
        return activation_indices(self.config.activations)

    def describe(
        self, task: Task, *, limit: int = FIT_LIMIT, moments: Moments | None = None
    ) -> Description:
        """Everything that ``forward`` needs of a task, from its training rows; no gradient.

        Args:
            task: The data set.
            limit: Rows to keep.
            moments: Sums over all training rows, if the task holds a sample of them. An encoder
                without a method ``describe_moments`` sees the sample.
        """
        from_moments = getattr(self.encoder, "describe_moments", None)
        if moments is None or from_moments is None:
            encoded = self.encoder.describe(task)
        else:
            encoded = from_moments(moments)
        return Description(encoded=encoded, sample=RowSample.of(task, limit=limit))

    def forward(
        self, descriptions: Sequence[Description], *, prices: Tensor, latents: Sequence[Tensor]
    ) -> list[Decoded]:
        """Predict one network a data set; all data sets are of one shape and kind.

        Args:
            descriptions: What ``describe`` said of every data set.
            prices: λ of every data set, positive. Float, shape ``(G,)``.
            latents: z of the hidden neurons of every data set, each ``(h, LATENT_SIZE)``.

        Returns:
            The networks before the first round of refinement, and after every round.
        """
        decoded: list[Decoded] = self.decoder(
            self.encoder([description.encoded for description in descriptions]),
            samples=[description.sample.first(ROW_LIMIT) for description in descriptions],
            prices=prices,
            latents=latents,
            explore=self.training,
        )
        return decoded

    @overload
    def predict(
        self,
        task: Task,
        *,
        price: float = ...,
        n_hidden: int | None = ...,
        activations: Sequence[str] | None = ...,
        seed: int = ...,
        moments: Moments | None = ...,
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        task: Task,
        *,
        price: float = ...,
        n_hidden: Sequence[int],
        activations: Sequence[str] | None = ...,
        seed: int = ...,
        moments: Moments | None = ...,
    ) -> AnyPrediction: ...

    @torch.no_grad()
    def predict(
        self,
        task: Task,
        *,
        price: float = 0.1,
        n_hidden: int | Sequence[int] | None = None,
        activations: Sequence[str] | None = None,
        seed: int = 0,
        moments: Moments | None = None,
    ) -> AnyPrediction:
        """The distribution over networks for a task's training rows.

        Args:
            task: The data set.
            price: λ = C·N, positive: what an edge costs.
            n_hidden: Hidden neurons, or those of every hidden layer; by default one layer of as
                many as features.
            activations: Those that hidden neurons may have, some of the model's; None for all.
            seed: Seed of the latents of the hidden neurons.
            moments: See ``describe``.

        Returns:
            With several hidden layers a ``DeepPrediction``, used in the same way.

        Raises:
            InputError: If the price or ``n_hidden`` is not positive, or an activation is not one of
                the model's.
        """
        if not 0 < price < math.inf:
            raise InputError(f"price must be a positive number; got {price}.")
        hidden = hidden_widths(task.n_features if n_hidden is None else n_hidden)
        allowed = None if activations is None else self._allowed(activations)
        description = self.describe(task, moments=moments)
        first = self._decoded(
            description, price=price, n_hidden=hidden[0], allowed=allowed, seed=seed
        )
        if len(hidden) == 1:
            return first
        layers = Layers(
            predict=partial(self._layer_above, allowed=allowed),
            first=first,
            task=task,
            sample=description.sample,
            hidden=hidden,
            seed=seed,
            n_drafts=N_DRAFTS,
        )
        return DeepPrediction.of(layers, price=price)

    @torch.no_grad()
    def _layer_above(
        self, task: Task, *, moments: Moments, sample: RowSample, **settings: Any
    ) -> Prediction:
        """A ``LayerPredictor``, once it is told which activations are allowed."""
        description = replace(self.describe(task, moments=moments), sample=sample)
        return self._decoded(description, **settings)

    def _decoded(
        self,
        description: Description,
        *,
        price: float,
        n_hidden: int,
        allowed: Tensor | None,
        seed: int,
        n_drafts: int = N_DRAFTS,
    ) -> Prediction:
        training = self.training
        self.eval()
        (embedding,) = self.encoder([description.encoded])
        self.train(training)
        generator = generator_for(seed, "latents")
        return Prediction.decode(
            self.decoder,
            embedding=embedding,
            sample=description.sample,
            price=price,
            activations=self.config.activations,
            latents=[draw_latents(n_hidden, generator=generator) for _ in range(n_drafts)],
            familiarity=self.familiarity.of(embedding),
            allowed=allowed,
        )

    def _allowed(self, activations: Sequence[str]) -> Tensor:
        """Which of its activation classes are among some. Bool, shape ``(a,)``."""
        known = self.config.activations
        if not activations or not set(activations) <= set(known):
            raise InputError(
                f"activations must be some of {', '.join(known)}; got {', '.join(activations)}."
            )
        device = next(self.parameters()).device
        return torch.tensor([name in activations for name in known], device=device)

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
            ModelError: If the packaged model is missing, or the encoder does not fit.
            StoreError: If the file is missing, torn or something else.
        """
        path = packaged_model() if path is None else path
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


def packaged_model() -> Path:
    """The model file that ships with graphpred: inside the package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    for folder in (package / "data", package.parent / "data"):
        if (folder / PACKAGED).is_file():
            return folder / PACKAGED
    raise ModelError(
        f"the packaged meta-model {PACKAGED} must lie in {package / 'data'}, and is missing: "
        "install graphpred again, or name a model file of your own."
    )


def draw_latents(n_hidden: int, *, generator: torch.Generator) -> Tensor:
    """Latents of hidden neurons. Float, shape ``(n_hidden, LATENT_SIZE)``.

    The first neurons of a wider layer are those of a narrower one.
    """
    return torch.randn(n_hidden, LATENT_SIZE, generator=generator)
