"""``ArchitectureAutoencoder``: architectures as latents of their hidden neurons, given a data set.

Notation: G graphs of one shape; n features, h hidden neurons, c outputs, T = c + n ends of edges.

Every hidden neuron has LATENT_SIZE numbers in [0, 1): some of its own, which decide its activation
class and its edges one after the other (``quantiles``) at the probabilities that message passing
over what is decided already gives (``causal``), and a few that all neurons of a graph share, which
say about how many edges and active neurons it has. Encoding narrows the numbers to intervals;
decoding looks where numbers lie. The prior of the latents is even; through the decoder, which sees
the data set, it is a distribution over architectures, exchangeable in the hidden neurons. The
product of the widths is a lower bound of the probability of an architecture under it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graphpred.activations import activation_indices
from graphpred.architecture import Architecture
from graphpred.errors import GraphPredError, InputError, ModelError, StoreError
from graphpred.files import load_tensors, read_metadata, save_tensors
from graphpred.meta.causal import CausalGNN, Known, Neurons
from graphpred.meta.encoders import DatasetEncoder, Embedding, build_encoder
from graphpred.meta.ordered import (
    Graphs,
    architectures_of,
    draw_codes,
    ends_in_order,
    graphs_of,
)
from graphpred.meta.quantiles import Intervals, Posterior
from graphpred.seeds import generator_for
from graphpred.space import DEFAULT_ACTIVATIONS

LATENT_SIZE = 16
"""Numbers of a hidden neuron."""
N_SHARED = 2
"""How many of them are the same for all neurons of a graph."""
N_OWN = LATENT_SIZE - N_SHARED
FORMAT_VERSION = 1
_MOST_CELLS = 200_000  # possible edges that are decoded at once
_WHAT = "an autoencoder of architectures that graphpred wrote"


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """How an autoencoder is built.

    Attributes:
        encoder: Of data sets: a key of ``ENCODERS``, or ``module:callable``.
        n_messages: Width of messages.
        activations: Names of the activation classes of hidden neurons.
        seed: Seed of the initial parameters.
    """

    encoder: str = "statistics"
    n_messages: int = 48
    activations: tuple[str, ...] = DEFAULT_ACTIVATIONS
    seed: int = 0


def draw_latents(k: int, *, n_hidden: int, generator: torch.Generator) -> Tensor:
    """Latents of k graphs from the prior. Float64, shape ``(k, n_hidden, LATENT_SIZE)``."""
    own = torch.rand(k, n_hidden, N_OWN, generator=generator, dtype=torch.float64)
    shared = torch.rand(k, 1, N_SHARED, generator=generator, dtype=torch.float64)
    return torch.cat([own, shared.expand(-1, n_hidden, -1)], dim=2)


class ArchitectureAutoencoder(nn.Module):
    """Encodes and decodes live networks with one hidden layer; draws such networks.

    Args:
        config: How to build it.
        encoder: A data set encoder of your own, instead of the one that ``config`` names.
        card: Plain JSON facts about its training.
    """

    def __init__(
        self,
        config: AutoencoderConfig | None = None,
        *,
        encoder: DatasetEncoder | None = None,
        card: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.config = config or AutoencoderConfig()
        self.card = card or {}
        seed = self.config.seed
        self._classes = torch.tensor(activation_indices(self.config.activations))  # (a,)
        with torch.random.fork_rng(devices=[]):  # torch.nn draws before we draw anew
            self.encoder = encoder or build_encoder(
                self.config.encoder, generator=generator_for(seed, "encoder")
            )
            self.gnn = CausalGNN(
                width=self.encoder.width,
                relation_width=self.encoder.relation_width,
                n_activations=len(self._classes),
                n_messages=self.config.n_messages,
                generator=generator_for(seed, "causal"),
            )

    def evidence_bound(
        self,
        architectures: Sequence[Architecture],
        *,
        embeddings: Sequence[Embedding],
        codes: Sequence[Tensor],
    ) -> Tensor:
        """Lower bound of the log-probability of architectures under the prior, nats, ``(G,)``.

        It is the logarithm of the product of the widths of ``encode``, whose arguments these are,
        and is tight but for draws of the same architecture at the levels of others.
        """
        graphs, steps = self._steps(architectures, embeddings=embeddings, codes=codes)
        whole = _chosen(steps.edge_level, graphs.edge_level)
        whole = whole * _chosen(steps.n_active, graphs.n_active - 1)
        classes = steps.activation.unsqueeze(1).expand(-1, graphs.activation.shape[1], -1)
        own = _chosen(classes, graphs.activation).log().sum(dim=1)
        own = own + _outcome(steps.active, graphs.active).log().sum(dim=1)
        own = own + _outcome(steps.edges, graphs.edges).log().sum(dim=(1, 2))
        return own + whole.log()

    @torch.no_grad()
    def encode(
        self,
        architectures: Sequence[Architecture],
        *,
        embeddings: Sequence[Embedding],
        codes: Sequence[Tensor],
    ) -> Posterior:
        """The latents that decode to given architectures.

        Args:
            architectures: G of them, of one shape, without dead edges, with identity outputs.
            embeddings: Of the data set of each.
            codes: Identity codes of the ends for each, outputs first; ``(T,)``.

        Raises:
            InputError: If an architecture is not as said, or shapes do not fit.
            ModelError: If one is so improbable that its latents cannot hold it.
        """
        graphs, steps = self._steps(architectures, embeddings=embeddings, codes=codes)
        n_graphs, h, n_ends = graphs.edges.shape
        shared, own = Intervals(n_graphs, N_SHARED), Intervals(n_graphs * h, N_OWN)
        shared.narrow_to(graphs.edge_level, probabilities=steps.edge_level)
        shared.narrow_to(graphs.n_active - 1, probabilities=steps.n_active)
        own.narrow_to(
            graphs.activation.flatten(),
            probabilities=steps.activation.repeat_interleave(h, dim=0),
        )
        own.narrow_if(graphs.active.flatten(), probability=steps.active.flatten())
        for t in range(n_ends):
            happens, probability = graphs.edges[:, :, t], steps.edges[:, :, t]
            own.narrow_if(happens.flatten(), probability=probability.flatten())

        def joined(own: Tensor, shared: Tensor) -> Tensor:
            """All numbers of every neuron, ``(G, h, LATENT_SIZE)``."""
            common = shared.unsqueeze(1).expand(-1, h, -1)
            return torch.cat([own.view(n_graphs, h, N_OWN), common], dim=2)

        return Posterior(
            low=joined(own.low, shared.low),
            width=joined(own.width, shared.width),
            n_shared=N_SHARED,
        )

    @torch.no_grad()
    def decode(
        self, latents: Tensor, *, embeddings: Sequence[Embedding], codes: Sequence[Tensor]
    ) -> list[Architecture]:
        """The architectures that latents stand for; every edge of them is live.

        Args:
            latents: In [0, 1). Float64, shape ``(G, h, LATENT_SIZE)``.
            embeddings: Of the data set of each graph; all of one shape.
            codes: Identity codes of the ends for each graph, outputs first; ``(T,)``.

        Raises:
            InputError: If shapes do not fit or a latent is outside [0, 1).
        """
        if latents.dim() != 3 or latents.shape[2] != LATENT_SIZE or not latents.numel():
            raise InputError(
                f"latents must have the shape (graphs, hidden neurons, {LATENT_SIZE}); "
                f"got {tuple(latents.shape)}."
            )
        if not bool(((latents >= 0) & (latents < 1)).all()):
            raise InputError("latents must be at least 0 and below 1.")
        n_graphs, h, _ = latents.shape
        known, orders = self._known(embeddings, codes=codes, n_graphs=n_graphs, h=h)
        latents = latents.double()
        sizes = self._decode_sizes(known, latents[:, :, N_OWN:].mean(dim=1))
        graphs = self._decode_neurons(known, latents[:, :, :N_OWN], sizes=sizes)
        return architectures_of(graphs, orders=orders, classes=self._classes)

    def draw(
        self, k: int, *, embedding: Embedding, n_hidden: int, generator: torch.Generator
    ) -> list[Architecture]:
        """Draw architectures for a data set from the prior, each with fresh identity codes.

        Args:
            k: How many.
            embedding: Of the data set.
            n_hidden: h.
            generator: Source of randomness.

        Raises:
            InputError: If k or ``n_hidden`` is below 1.
        """
        if k < 1 or n_hidden < 1:
            raise InputError(f"k and n_hidden must be at least 1; got {k} and {n_hidden}.")
        n, c = len(embedding.features), len(embedding.outputs)
        latents = draw_latents(k, n_hidden=n_hidden, generator=generator)
        codes = [draw_codes(n, c, generator=generator) for _ in range(k)]
        at_once = max(1, _MOST_CELLS // (n_hidden * (n + c)))
        drawn: list[Architecture] = []
        for start in range(0, k, at_once):
            some = slice(start, start + at_once)
            embeddings = [embedding] * len(codes[some])
            drawn += self.decode(latents[some], embeddings=embeddings, codes=codes[some])
        return drawn

    # Decisions

    def _steps(
        self,
        architectures: Sequence[Architecture],
        *,
        embeddings: Sequence[Embedding],
        codes: Sequence[Tensor],
    ) -> tuple[Graphs, "_Steps"]:
        """Architectures in the order of the codes, and the probabilities of their decisions."""
        h = architectures[0].widths[1] if architectures else 0
        known, orders = self._known(embeddings, codes=codes, n_graphs=len(architectures), h=h)
        graphs = graphs_of(
            architectures, orders=orders, classes=self._classes, n_outputs=known.n_outputs
        )
        gnn, edge_level, n_active = self.gnn, graphs.edge_level, graphs.n_active
        context, density = gnn.graph_context(known, edge_level=edge_level, n_active=n_active)
        states = gnn.neuron_states(context, activation=graphs.activation)
        messages = graphs.edges.unsqueeze(3) * known.messages.unsqueeze(1)  # (G, h, T, d + 2)
        n_ends = graphs.edges.shape[2]
        return graphs, _Steps(
            edge_level=gnn.edge_level_probabilities(known),
            n_active=gnn.n_active_probabilities(known, edge_level=edge_level),
            activation=gnn.activation_probabilities(context),
            active=(n_active.double() / h).unsqueeze(1).expand(-1, h),
            edges=gnn.edge_probabilities(
                known,
                neurons=Neurons(state=states, active=graphs.active, density=density),
                heard=messages.cumsum(dim=2) - messages,
                paths=gnn.paths(known, outputs=graphs.edges[:, :, : known.n_outputs]),
                ends=slice(0, n_ends),
            ),
        )

    def _decode_sizes(self, known: Known, values: Tensor) -> tuple[Tensor, Tensor]:
        """The level of edges and number of active neurons, by the shared ``(G, N_SHARED)``."""
        intervals = Intervals(*values.shape)
        probabilities = self.gnn.edge_level_probabilities(known)
        edge_level = intervals.choose(values, probabilities=probabilities)
        probabilities = self.gnn.n_active_probabilities(known, edge_level=edge_level)
        return edge_level, 1 + intervals.choose(values, probabilities=probabilities)

    def _decode_neurons(
        self, known: Known, values: Tensor, *, sizes: tuple[Tensor, Tensor]
    ) -> Graphs:
        """What the neurons' own latents ``(G, h, N_OWN)`` decide on, end after end."""
        n_graphs, h, _ = values.shape
        gnn, c, n_ends = self.gnn, known.n_outputs, known.messages.shape[1]
        values = values.flatten(0, 1)  # (G * h, N_OWN)
        intervals = Intervals(*values.shape)
        context, density = gnn.graph_context(known, edge_level=sizes[0], n_active=sizes[1])
        probabilities = gnn.activation_probabilities(context).repeat_interleave(h, dim=0)
        activation = intervals.choose(values, probabilities=probabilities).view(n_graphs, h)
        states = gnn.neuron_states(context, activation=activation)
        active = _decode_active(intervals, values, n_active=sizes[1])
        neurons = Neurons(state=states, active=active, density=density)
        edges = torch.zeros(n_graphs, h, n_ends, dtype=torch.bool)
        heard = values.new_zeros(n_graphs, h, 1, known.messages.shape[2])
        for t in range(n_ends):
            if t in (0, c):  # the outputs of every neuron are known from c on
                paths = gnn.paths(known, outputs=edges[:, :, :c])
            probability = gnn.edge_probabilities(
                known, neurons=neurons, heard=heard, paths=paths[:, :, t : t + 1],
                ends=slice(t, t + 1),
            )  # (G, h, 1)  # fmt: skip
            event = intervals.happens(values, probability=probability.flatten())
            edges[:, :, t] = event.view(n_graphs, h)
            heard = heard + edges[:, :, t, None, None] * known.messages[:, None, t, None]
        return Graphs(edges=edges, activation=activation, n_outputs=c)

    def _known(
        self, embeddings: Sequence[Embedding], *, codes: Sequence[Tensor], n_graphs: int, h: int
    ) -> tuple[Known, list[Tensor]]:
        """The data sets in the order of the codes, and this order."""
        if not n_graphs or {len(embeddings), len(codes)} != {n_graphs}:
            raise InputError(
                f"there must be one embedding and one set of codes for each of at least one "
                f"graph; got {len(embeddings)}, {len(codes)} and {n_graphs}."
            )
        shapes = {(len(e.features), len(e.outputs)) for e in embeddings}
        if len(shapes) > 1:
            raise InputError(f"data sets must be of one shape; got {sorted(shapes)}.")
        ((n, c),) = shapes
        if any(code.shape != (c + n,) for code in codes):
            raise InputError(f"codes must have the shape {(c + n,)}, one number an end.")
        orders = [ends_in_order(code, n_outputs=c) for code in codes]
        return self.gnn.know(embeddings, orders=orders, n_hidden=h), orders

    # Files

    def save(self, path: str | Path) -> None:
        """Write a safetensors file with the config and the card as JSON metadata."""
        described = {"format": FORMAT_VERSION, "config": asdict(self.config), "card": self.card}
        metadata = {"graphpred_autoencoder": json.dumps(described)}
        save_tensors(path, self.state_dict(), metadata=metadata)

    @classmethod
    def load(
        cls, path: str | Path, *, encoder: DatasetEncoder | None = None
    ) -> "ArchitectureAutoencoder":
        """Read what ``save`` wrote.

        Args:
            path: The file.
            encoder: An encoder like the one it was trained with, if that is not the named one.

        Raises:
            StoreError: If the file is missing, torn or something else.
            ModelError: If its parameters are of another encoder or version.
        """
        tensors, metadata = load_tensors(path, what=_WHAT)
        described = read_metadata(metadata, "graphpred_autoencoder", path=path, what=_WHAT)
        if described.get("format") != FORMAT_VERSION:
            raise StoreError(
                f"{path} must have format {FORMAT_VERSION}; got {described.get('format')}."
            )
        try:
            plain = described["config"]
            config = AutoencoderConfig(**plain | {"activations": tuple(plain["activations"])})
            model = cls(config, encoder=encoder, card=described.get("card", {}))
        except (KeyError, TypeError, GraphPredError) as error:
            raise StoreError(f"{path} must be {_WHAT}, whole; {error}.") from error
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise ModelError(
                f"{path} must hold the parameters that its encoder and this version have: give an "
                "encoder like the one it was trained with, or use the version that wrote it."
            ) from error
        return model


@dataclass(frozen=True, eq=False, kw_only=True)
class _Steps:
    """Probabilities of the decisions about graphs, each given those before.

    Attributes:
        edge_level: Of the levels of the number of edges, ``(G, N_LEVELS)``.
        n_active: Of the numbers of active neurons from 1 on, ``(G, h)``.
        activation: Of the classes, ``(G, a)``.
        active: Of being active, ``(G, h)``.
        edges: Of every edge, ``(G, h, T)``.
    """

    edge_level: Tensor
    n_active: Tensor
    activation: Tensor
    active: Tensor
    edges: Tensor


def _chosen(probabilities: Tensor, outcome: Tensor) -> Tensor:
    """Of the outcomes, along the last dimension."""
    return probabilities.gather(-1, outcome.unsqueeze(-1)).squeeze(-1)


def _outcome(probability: Tensor, happens: Tensor) -> Tensor:
    return torch.where(happens, probability, 1 - probability)


def _decode_active(intervals: Intervals, values: Tensor, *, n_active: Tensor) -> Tensor:
    """The neurons with the smallest quantiles, as many of a graph as are active; ``(G, h)``.

    Encoding narrows their quantiles to [0, u / h) and those of others to what is above. Draws from
    the prior may have another number of neurons there: the border is then the smallest quantile
    that is left out, below which quantiles are even again.
    """
    quantile = intervals.quantile(values).view(len(n_active), -1)
    h = quantile.shape[1]
    order = quantile.argsort(dim=1, stable=True)
    active = order.argsort(dim=1) < n_active.unsqueeze(1)
    usual = (n_active.double() / h).unsqueeze(1)  # (G, 1)
    left_out = quantile.masked_fill(active, 1.0).amin(dim=1, keepdim=True)
    is_usual = ((quantile < usual) == active).all(dim=1, keepdim=True)
    border = torch.where(is_usual, usual, left_out).expand(-1, h)
    intervals.narrow_if(active.flatten(), probability=border.flatten())
    return active
