"""From embeddings, a price and latents of hidden neurons to edges, activations and weights.

Notation: G data sets, padded to n features, h hidden neurons and c outputs; d the width of
embeddings. Every hidden neuron has a latent z of its own; neurons are exchangeable, so are features
and outputs, and any number of each will do.

One quantity v stands for weight and edge: the edge has probability sigmoid((|v| − θ) / τ) and the
weight sign(v)·relu(|v| − θ). Between features and hidden neurons there is a direct path from the
relations to the weights, v_1[j, i] = f_j · W s_i + Σ_k Σ_r A[i, k] R[j, k, r] U s_i[r], with the
affinity A[i, k] of hidden neuron i to output k; v_2[i, k] contains A[i, k] too. Affinities are the
tight frame nearest to tanh(s_i · o_k) times an amplitude of the neuron: so all neurons together
carry R whatever their number, and under a limit on edges weak neurons go whole instead of all
losing some. R_0, the guessed weights of a linear model, is divided by its size, which goes into
the gain of the weights; the price multiplies v_1 and v_2 and divides the gain, which moves the
threshold and keeps the function.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graphpred.meta.encoders import Embedding
from graphpred.meta.initialisation import initialise

THRESHOLD = 0.3
TEMPERATURE = 0.15
LATENT_SIZE = 16
_CAP = 5.0  # |v| stays below it
_CHANNELS = 16  # of the direct path
_CONTEXT_SIZE = 6
# Where training starts:
_GUESS_SCALE = 2.0  # the linear guess is multiplied with it
_SPREAD = 1.7  # the amplitudes of hidden neurons differ by about exp(±_SPREAD / √3)
_SHARPNESS = 1.7  # of affinities before tanh
_MEAN_SQUARE = 0.45  # of affinities to one output
_FRAME_STEPS = 8
_LINEAR_LEAD = 2.0  # of that class's logit among the activations
_PRICE_SLOPE = 0.25  # v shrinks by this power of the price,
_MIDDLE_PRICE = 0.02  # from this one on


@dataclass(frozen=True, eq=False, kw_only=True)
class Decoded:
    """Networks with one hidden layer, as distributions over their edges and activations.

    Attributes:
        hidden: v_1. Float, shape ``(G, n, h)``; 0 at padded places, as below.
        output: v_2. Float, shape ``(G, h, c)``.
        gain: Factor of all weights into a hidden neuron. Float, shape ``(G, h)``.
        hidden_bias: Float, shape ``(G, h)``.
        output_bias: Float, shape ``(G, c)``.
        activation: Logits of the activation classes. Float, shape ``(G, h, a)``.
        sizes: n, h, c of every data set.
    """

    hidden: Tensor
    output: Tensor
    gain: Tensor
    hidden_bias: Tensor
    output_bias: Tensor
    activation: Tensor
    sizes: tuple[tuple[int, int, int], ...]

    @property
    def probabilities(self) -> tuple[Tensor, Tensor]:
        """Edge probabilities of both layers; 0 at padded places."""
        return tuple(
            torch.sigmoid((v.abs() - THRESHOLD) / TEMPERATURE) * real
            for v, real in zip((self.hidden, self.output), self.real, strict=True)
        )  # type: ignore[return-value]

    @property
    def weights(self) -> tuple[Tensor, Tensor]:
        """Weights of both layers, ``(G, n, h)`` and ``(G, h, c)``."""
        return shrink(self.hidden) * self.gain.unsqueeze(1), shrink(self.output)

    @property
    def real(self) -> tuple[Tensor, Tensor]:
        """1 at possible edges and 0 at padded places, for both layers."""
        n, h, c = (_present([size[i] for size in self.sizes], like=self.hidden) for i in range(3))
        return n.unsqueeze(2) * h.unsqueeze(1), h.unsqueeze(2) * c.unsqueeze(1)

    @property
    def n_possible(self) -> Tensor:
        """N of every data set. Float, shape ``(G,)``."""
        return self.hidden.new_tensor([n * h + h * c for n, h, c in self.sizes])


def shrink(v: Tensor) -> Tensor:
    """sign(v)·relu(|v| − θ): zero for what is no edge."""
    return v - v.clamp(-THRESHOLD, THRESHOLD)


class Decoder(nn.Module):
    """Slots, one a hidden neuron, attend to the data set and to each other; heads read them.

    Args:
        width: d, of the embeddings and slots.
        relation_width: r, of the relations.
        n_activations: a, the activation classes to choose from.
        linear: Which of them to begin with: one that is linear near 0 and can be trained to more.
        n_rounds: Rounds of attention.
        generator: Source of the initial parameters.
    """

    def __init__(
        self,
        *,
        width: int = 64,
        relation_width: int,
        n_activations: int,
        linear: int | None = None,
        n_rounds: int = 2,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.context = nn.Sequential(
            nn.Linear(_CONTEXT_SIZE, width), nn.SiLU(), nn.Linear(width, 3 * width)
        )
        self.sparsity = nn.Linear(_CONTEXT_SIZE, 1)
        self.slot, self.slot_norm = nn.Linear(LATENT_SIZE, width), nn.LayerNorm(width)
        self.rounds = nn.ModuleList(_Round(width) for _ in range(n_rounds))
        self.relate = nn.Linear(relation_width, _CHANNELS)
        self.channel = nn.Linear(width, _CHANNELS)
        self.feature_key, self.output_key = nn.Linear(width, width), nn.Linear(width, width)
        self.affinity_query = nn.Linear(width, width)
        self.affinity_common = nn.Linear(width, width)
        self.activation = nn.Linear(width, n_activations)
        self.per_slot = nn.Linear(width, 2)  # log gain, bias
        self.amplitude = nn.Linear(width, 1)
        self.per_output = nn.Linear(width, 1)
        initialise(self, generator=generator)
        self._start_at_linear_guess(linear=linear)

    def _start_at_linear_guess(self, *, linear: int | None) -> None:
        """Begin where every hidden neuron carries the first relation channel to its outputs.

        With random affinities A, the weights A^T A R_0 are then near a multiple of the encoder's
        own linear guess R_0, and training improves on it instead of finding it.
        """
        with torch.no_grad():
            for layer in (self.feature_key, self.output_key, self.relate, self.channel):
                layer.weight.mul_(0.1)
                layer.bias.zero_()
            self.relate.weight[0, 0] = _GUESS_SCALE
            self.channel.bias[0] = 1.0
            self.sparsity.weight.zero_()
            self.sparsity.weight[0, 0] = -2 * _PRICE_SLOPE  # that number is log λ / 2
            self.sparsity.bias.fill_(_PRICE_SLOPE * math.log(_MIDDLE_PRICE))
            for layer in (self.per_slot, self.per_output, self.activation):
                layer.weight.mul_(0.1)
                layer.bias.zero_()
            if linear is not None:
                self.activation.bias[linear] = _LINEAR_LEAD

    def forward(
        self, embeddings: Sequence[Embedding], *, prices: Tensor, latents: Sequence[Tensor]
    ) -> Decoded:
        """Decode one network a data set.

        Args:
            embeddings: One a data set.
            prices: λ of every data set, positive. Float, shape ``(G,)``.
            latents: z of the hidden neurons of every data set, each ``(h, LATENT_SIZE)``.
        """
        sizes = tuple(
            (len(e.features), len(z), len(e.outputs))
            for e, z in zip(embeddings, latents, strict=True)
        )
        context = _context(sizes, prices)  # (G, _CONTEXT_SIZE)
        for_feature, for_slot, for_output = self.context(context).chunk(3, dim=1)
        present = [_present([size[i] for size in sizes], like=prices) for i in range(3)]
        features = _pad([e.features for e in embeddings]) + for_feature.unsqueeze(1)  # (G, n, d)
        outputs = _pad([e.outputs for e in embeddings]) + for_output.unsqueeze(1)  # (G, c, d)
        relations, size = _normalised(_pad_relations([e.relations for e in embeddings]))
        guessed_bias = _pad([_bias_of(e)[:, None] for e in embeddings]).squeeze(2)  # (G, c)
        slots = self.slot(_pad(list(latents))) + for_slot.unsqueeze(1)  # (G, h, d)
        known = torch.cat([features, outputs], dim=1)
        known_present = torch.cat([present[0], present[2]], dim=1)
        for layer in self.rounds:
            slots = layer(slots, known=known, present=(present[1], known_present))
        slots = self.slot_norm(slots)
        decoded = self._read(
            slots,
            features=features,
            outputs=outputs,
            relations=relations,
            present=(present[1], present[2]),
        )
        # A price makes v smaller and the gain larger by as much: fewer edges, the same function.
        scale = torch.exp(self.sparsity(context).clamp(-3, 3))  # (G, 1)
        decoded["hidden"] = _cap(decoded["hidden"] * scale.unsqueeze(2))
        decoded["output"] = _cap(decoded["output"] * scale.sqrt().unsqueeze(2))
        decoded["gain"] = decoded["gain"] * size / scale**1.5
        decoded["output_bias"] = decoded["output_bias"] + guessed_bias
        return Decoded(sizes=sizes, **_masked(decoded, present))

    def _read(
        self,
        slots: Tensor,
        *,
        features: Tensor,
        outputs: Tensor,
        relations: Tensor,
        present: tuple[Tensor, Tensor],
    ) -> dict[str, Tensor]:
        """Heads: everything of ``Decoded`` but the sizes, padded places not yet cleared."""
        root = math.sqrt(slots.shape[2])
        log_gain, bias = self.per_slot(slots).unbind(dim=2)
        logits = self._affinity_logits(slots, outputs, present=present[1])  # (G, h, c)
        amplitude = torch.exp(_SPREAD * self.amplitude(slots))  # (G, h, 1)
        affinity = _frame(torch.tanh(logits) * amplitude, present=present)  # (G, h, c)
        mixed = affinity.unsqueeze(3) * self.channel(slots).unsqueeze(2)  # (G, h, c, r')
        direct = torch.einsum("gjkr,gikr->gji", self.relate(relations), mixed)  # (G, n, h)
        hidden = features @ self.feature_key(slots).mT / root + direct
        output = self.output_key(slots) @ outputs.mT / root + affinity
        return {
            "hidden": hidden,
            "output": output,
            "gain": torch.exp(log_gain.clamp(-3, 3)) * _initial_gain(present),
            "hidden_bias": _cap(bias),
            "output_bias": _cap(self.per_output(outputs).squeeze(2)),
            "activation": self.activation(slots),
        }

    def _affinity_logits(self, slots: Tensor, outputs: Tensor, *, present: Tensor) -> Tensor:
        """How each slot leans to each output: by what sets the output apart from the others.

        Args:
            slots: Float, shape ``(G, h, d)``.
            outputs: Float, shape ``(G, c, d)``.
            present: 1 for real outputs. Float, shape ``(G, c)``.

        Returns:
            Float, shape ``(G, h, c)``.
        """
        root = math.sqrt(slots.shape[2])
        weight = (present / present.sum(dim=1, keepdim=True)).unsqueeze(2)  # (G, c, 1)
        mean = (outputs * weight).sum(dim=1, keepdim=True)  # (G, 1, d)
        apart = (outputs - mean) * (present.sum(dim=1) > 1)[:, None, None]
        apart = apart * (apart.square().mean(dim=2, keepdim=True) + 1e-4).rsqrt()
        common = self.affinity_common(mean) @ slots.mT / root  # (G, 1, h)
        logits: Tensor = self.affinity_query(slots) @ apart.mT * _SHARPNESS / root + common.mT
        return logits


class _Round(nn.Module):
    """One round of attention over the data set, then over the slots, then a feed-forward step."""

    def __init__(self, width: int, n_heads: int = 4) -> None:
        super().__init__()
        self.look, self.talk = _Attention(width, n_heads), _Attention(width, n_heads)
        self.think = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )

    def forward(self, slots: Tensor, *, known: Tensor, present: tuple[Tensor, Tensor]) -> Tensor:
        slots = slots + self.look(slots, known, present=present[1])
        slots = slots + self.talk(slots, slots, present=present[0])
        thought: Tensor = self.think(slots)
        return slots + thought


class _Attention(nn.Module):
    """Multi-head attention that passes over padded keys."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm, self.key_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor, *, present: Tensor) -> Tensor:
        key, value = self.key_value(self.key_norm(keys)).chunk(2, dim=2)
        q, k, v = (self._heads(x) for x in (self.query(self.norm(queries)), key, value))
        mask = present.bool()[:, None, None, :]
        heads = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out: Tensor = self.out(heads.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        """From ``(G, l, d)`` to ``(G, heads, l, d / heads)``."""
        heads: Tensor = x.view(x.shape[0], x.shape[1], self.n_heads, -1).transpose(1, 2)
        return heads


def _normalised(relations: Tensor) -> tuple[Tensor, Tensor]:
    """The guessed weights divided by their size, which is given back: ``(G, n, c, r)``, ``(G, 1)``.

    So which edges there are does not depend on how large the weights should be.
    """
    guess = relations[:, :, :, 0]  # (G, n, c)
    largest = guess.abs().amax(dim=1)  # (G, c)
    real = (largest > 0).sum(dim=1).clamp(min=1)
    size = (largest.square().sum(dim=1) / real).sqrt().clamp(min=0.02)  # (G,)
    scaled = (guess / size[:, None, None]).unsqueeze(3)
    return torch.cat([scaled, relations[:, :, :, 1:]], dim=3), size.unsqueeze(1)


def _bias_of(embedding: Embedding) -> Tensor:
    if embedding.bias is None:
        return embedding.outputs.new_zeros(len(embedding.outputs))
    return embedding.bias


def _frame(leaning: Tensor, *, present: tuple[Tensor, Tensor]) -> Tensor:
    """Affinities near the given ones whose slots, taken together, serve all outputs alike.

    The nearest tight frame A: A^T A is a multiple of the identity (for classes, of what is left of
    it without their mean, which softmax does not see), so that slots which carry R A^T and are
    read by A add up to the linear guess R, whatever their number. It is the polar factor, by the
    iteration of Newton and Schulz.

    Args:
        leaning: Float, shape ``(G, h, c)``.
        present: 1 for real slots, ``(G, h)``, and for real outputs, ``(G, c)``.
    """
    slots, outputs = present[0].unsqueeze(2), present[1].unsqueeze(1)
    n_slots, n_outputs = slots.sum(dim=1, keepdim=True), outputs.sum(dim=2, keepdim=True)
    frame = (leaning * slots * outputs).double()  # small directions are made as large as others
    mean = frame.sum(dim=2, keepdim=True) / n_outputs
    frame = torch.where(n_outputs > 1, frame - mean, frame) * slots * outputs
    frame = frame / (frame.square().sum(dim=(1, 2), keepdim=True) + 1e-6).sqrt()
    for _ in range(_FRAME_STEPS):
        frame = 1.5 * frame - 0.5 * frame @ (frame.mT @ frame)
    return (frame * (_MEAN_SQUARE * n_slots).sqrt()).to(leaning.dtype)


def _initial_gain(present: tuple[Tensor, Tensor]) -> Tensor:
    """Gain at which the slots add up to the linear guess. Float, shape ``(G, 1)``."""
    n_slots = present[0].sum(dim=1, keepdim=True)
    return 1 / (_GUESS_SCALE * _MEAN_SQUARE * n_slots)


def _context(sizes: Sequence[tuple[int, int, int]], prices: Tensor) -> Tensor:
    """Price and sizes as numbers of order 1. Float, shape ``(G, _CONTEXT_SIZE)``."""
    log_sizes = torch.log(prices.new_tensor(sizes)) / 3 - 1  # (G, 3)
    log_price = torch.log(prices) / 2  # (G,)
    columns = [log_price, log_price.square() / 4, log_price.sin()]
    return torch.cat([torch.stack(columns, dim=1), log_sizes], dim=1)


def _cap(v: Tensor) -> Tensor:
    return _CAP * torch.tanh(v / _CAP)


def _pad(parts: list[Tensor]) -> Tensor:
    """Stack ``(l, d)`` tensors of different l. Float, shape ``(G, max l, d)``."""
    return nn.utils.rnn.pad_sequence(parts, batch_first=True)


def _pad_relations(relations: list[Tensor]) -> Tensor:
    """Stack ``(n, c, r)`` tensors. Float, shape ``(G, max n, max c, r)``."""
    n, c = (max(r.shape[axis] for r in relations) for axis in (0, 1))
    return torch.stack(
        [nn.functional.pad(r, (0, 0, 0, c - r.shape[1], 0, n - r.shape[0])) for r in relations]
    )


def _present(lengths: list[int], *, like: Tensor) -> Tensor:
    """1 where a place is real and 0 where it is padded. Float, shape ``(G, max length)``."""
    places = torch.arange(max(lengths), device=like.device)
    return (places < torch.tensor(lengths, device=like.device)[:, None]).to(like.dtype)


def _masked(decoded: dict[str, Tensor], present: list[Tensor]) -> dict[str, Tensor]:
    """Clear padded places."""
    n, h, c = present
    masks = {
        "hidden": n.unsqueeze(2) * h.unsqueeze(1),
        "output": h.unsqueeze(2) * c.unsqueeze(1),
        "gain": h,
        "hidden_bias": h,
        "output_bias": c,
        "activation": h.unsqueeze(2),
    }
    return {name: value * masks[name] for name, value in decoded.items()}
