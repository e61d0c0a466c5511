"""From embeddings, rows, a price and latents of hidden neurons to a distribution over networks.

A draft from the embeddings (``graphpred.meta.draft``) is refined on a sample of the rows
(``graphpred.meta.refinement``). Notation: G data sets of one shape and kind; n features, h hidden
neurons, c outputs, a activation classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graphpred.activations import ACTIVATIONS
from graphpred.errors import InputError
from graphpred.meta.draft import LATENT_SIZE, Draft, Drafter
from graphpred.meta.edges import TEMPERATURE, THRESHOLD
from graphpred.meta.encoders import Embedding
from graphpred.meta.feedback import Rows
from graphpred.meta.refinement import Refiner, State
from graphpred.meta.samples import RowSample

USUAL = ("relu", "tanh")
"""Activation classes that hidden neurons have before anything is learned, if the model has them.

Predictions for real tables err least with these two; see ``docs/research-log.md``."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Decoded:
    """Networks with one hidden layer, as distributions over their edges and activations.

    Attributes:
        hidden: v of the edges from features. Float, shape ``(G, n, h)``.
        output: v of the edges to outputs. Float, shape ``(G, h, c)``.
        weights: Of both layers, 0 where |v| is at most θ; ``(G, n, h)`` and ``(G, h, c)``.
        biases: Of hidden neurons, ``(G, h)``, and outputs, ``(G, c)``.
        classes: Registry index of every hidden neuron's activation. Int64, shape ``(G, h)``.
        activation: Log-probabilities that it was drawn from. Float, shape ``(G, h, a)``.
    """

    hidden: Tensor
    output: Tensor
    weights: tuple[Tensor, Tensor]
    biases: tuple[Tensor, Tensor]
    classes: Tensor
    activation: Tensor

    @classmethod
    def of(cls, state: State, *, draft: Draft, classes: Tensor) -> "Decoded":
        """The networks of one round."""
        return cls(
            hidden=state.hidden,
            output=state.output,
            weights=state.weights,
            biases=state.biases,
            classes=classes,
            activation=draft.activation,
        )

    @property
    def sizes(self) -> tuple[int, int, int]:
        """n, h, c."""
        return self.hidden.shape[1], self.hidden.shape[2], self.output.shape[2]

    @property
    def probabilities(self) -> tuple[Tensor, Tensor]:
        """Edge probabilities of both layers."""
        first, second = (
            torch.sigmoid((v.abs() - THRESHOLD) / TEMPERATURE) for v in (self.hidden, self.output)
        )
        return first, second

    @property
    def n_possible(self) -> int:
        """N."""
        n, h, c = self.sizes
        return n * h + h * c


class Decoder(nn.Module):
    """A drafter and a refiner.

    Args:
        width: d, of the embeddings and slots.
        relation_width: r, of the relations.
        activations: Registry indices of the a activation classes to choose from.
        n_attention: Rounds of attention of the drafter.
        n_rounds: Rounds of refinement.
        generator: Source of the initial parameters.
    """

    def __init__(
        self,
        *,
        width: int,
        relation_width: int,
        activations: Sequence[int],
        n_attention: int,
        n_rounds: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self._activations = tuple(activations)
        self.drafter = Drafter(
            width=width,
            relation_width=relation_width,
            n_activations=len(activations),
            n_rounds=n_attention,
            favoured=[i for i, index in enumerate(activations) if ACTIVATIONS[index].name in USUAL],
            generator=generator,
        )
        self.refiner = Refiner(width=width, n_rounds=n_rounds, generator=generator)

    def forward(
        self,
        embeddings: Sequence[Embedding],
        *,
        samples: Sequence[RowSample],
        prices: Tensor,
        latents: Sequence[Tensor],
        allowed: Tensor | None = None,
        explore: bool = False,
    ) -> list[Decoded]:
        """Decode one network a data set; all data sets are of one shape and kind.

        Args:
            embeddings: One a data set.
            samples: Of their rows.
            prices: λ of every data set, positive. Float, shape ``(G,)``.
            latents: Of the hidden neurons of every data set, each ``(h, LATENT_SIZE)``.
            allowed: Activation classes that may be drawn; None for all. Bool, shape ``(a,)``.
            explore: Whether some classes are drawn evenly, so that all are tried.

        Returns:
            The networks before the first round of refinement, and after every round.

        Raises:
            InputError: If shapes or kinds differ.
        """
        shapes = {
            (sample.shape[1:], sample.is_regression, tuple(z.shape))
            for sample, z in zip(samples, latents, strict=True)
        }
        if len(shapes) != 1 or next(iter(shapes))[2][1:] != (LATENT_SIZE,):
            raise InputError(
                "data sets that are decoded together must be of one shape and kind, with "
                f"{LATENT_SIZE} numbers a latent; got {sorted(shapes)}."
            )
        draft = self.drafter(
            embeddings,
            prices=prices,
            latents=torch.stack(list(latents)),
            allowed=allowed,
            explore=explore,
        )
        classes = torch.tensor(self._activations, device=prices.device)[draft.choice]
        rows = Rows.of(samples, device=prices.device)
        states = self.refiner(draft, rows=rows, prices=prices, classes=classes)
        return [Decoded.of(state, draft=draft, classes=classes) for state in states]
