"""The first guess of a network, from embeddings, a price and latents of hidden neurons.

Notation: G data sets of one shape; n features, h hidden neurons, c outputs; d the width of
embeddings; a activation classes. Every hidden neuron has a latent of its own; neurons are
exchangeable, so are features and outputs, and any number of each will do.

The latent decides the activation class, by the Gumbel-max trick from the distribution that the
slot, which has looked at the data set, gives. The neuron's class is known when its weights are
decoded: v[j, i] = f_j · W s_i + Σ_k Σ_r A[i, k] R[j, k, r] U s_i[r], with relations R of features
to outputs and affinities A of neurons to outputs, the tight frame nearest to tanh(s_i · o_k),
so that the neurons look in all directions between the outputs alike. Every neuron's v has mean
square 1, times an amplitude of the neuron and a scale that falls with the price. There are no
weights to the outputs yet: refinement finds them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graphpred.meta.attention import Round
from graphpred.meta.encoders import Embedding
from graphpred.meta.initialisation import initialise

LATENT_SIZE = 16
CONTEXT_SIZE = 6
_CHANNELS = 16  # of the direct path
_FRAME_STEPS = 8
_EXPLORATION = 0.4  # share of activation classes that are drawn evenly
# Where training starts:
_SHARPNESS = 1.7  # of affinities before tanh
_INPUT_SCALE = 0.8  # deviation of what a neuron sums up, for independent features
_PRICE_SLOPE = 0.2  # v shrinks by this power of the price,
_MIDDLE_PRICE = 0.02  # from this one on
_FAVOUR = 4.0  # log odds of activation classes that are favoured


@dataclass(frozen=True, eq=False, kw_only=True)
class Draft:
    """A first guess of networks, and what its refinement should know.

    Attributes:
        v: Importance of the edges from features. Float, shape ``(G, n, h)``.
        gain: What turns it into weights. Float, shape ``(G, h)``.
        hidden_bias: Float, shape ``(G, h)``.
        output_bias: Float, shape ``(G, c)``.
        choice: Position of every neuron's activation class. Int64, shape ``(G, h)``.
        activation: Log-probabilities of the classes. Float, shape ``(G, h, a)``.
        slots: Embeddings of the hidden neurons. Float, shape ``(G, h, d)``.
        features: Float, shape ``(G, n, d)``.
        outputs: Float, shape ``(G, c, d)``.
        context: Price and sizes. Float, shape ``(G, CONTEXT_SIZE)``.
    """

    v: Tensor
    gain: Tensor
    hidden_bias: Tensor
    output_bias: Tensor
    choice: Tensor
    activation: Tensor
    slots: Tensor
    features: Tensor
    outputs: Tensor
    context: Tensor


class Drafter(nn.Module):
    """Slots, one a hidden neuron, attend to the data set and to each other; heads read them.

    Args:
        width: d, of the embeddings and slots.
        relation_width: r, of the relations.
        n_activations: a, the activation classes to choose from.
        n_rounds: Rounds of attention.
        favoured: Positions of the classes that are likely before anything is learned.
        generator: Source of the initial parameters.
    """

    def __init__(
        self,
        *,
        width: int,
        relation_width: int,
        n_activations: int,
        n_rounds: int,
        favoured: Sequence[int] = (),
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.n_activations = n_activations
        self.context = nn.Sequential(
            nn.Linear(CONTEXT_SIZE, width), nn.SiLU(), nn.Linear(width, 3 * width)
        )
        self.sparsity = nn.Linear(CONTEXT_SIZE, 1)
        self.slot, self.slot_norm = nn.Linear(LATENT_SIZE, width), nn.LayerNorm(width)
        self.rounds = nn.ModuleList(Round(width) for _ in range(n_rounds))
        self.activation = nn.Linear(width, n_activations)
        self.chosen = nn.Linear(n_activations, width)
        self.relate = nn.Linear(relation_width, _CHANNELS)
        self.channel = nn.Linear(width, _CHANNELS)
        self.feature_key = nn.Linear(width, width)
        self.affinity_query = nn.Linear(width, width)
        self.affinity_common = nn.Linear(width, width)
        self.per_slot = nn.Linear(width, 3)  # log gain, bias, log amplitude
        initialise(self, generator=generator)
        self._start(favoured)

    def _start(self, favoured: Sequence[int]) -> None:
        """Where training starts: usual activation classes, the linear guess as the main channel."""
        with torch.no_grad():
            self.activation.weight.zero_(), self.activation.bias.zero_()
            self.activation.bias[torch.tensor(favoured, dtype=torch.int64)] = _FAVOUR
            self.chosen.weight.mul_(math.sqrt(self.n_activations))
            self.relate.weight.mul_(0.5), self.relate.bias.zero_()
            self.relate.weight[0].zero_()
            self.relate.weight[0, 0] = 1.0
            self.channel.weight.mul_(0.7)
            self.channel.weight[0].mul_(0.3)
            self.channel.bias[0] = 1.0
            self.per_slot.weight.mul_(0.5)
            self.sparsity.weight.zero_()
            self.sparsity.weight[0, 0] = -2 * _PRICE_SLOPE  # the context has half the log price
            self.sparsity.bias.fill_(_PRICE_SLOPE * math.log(_MIDDLE_PRICE))

    def forward(
        self,
        embeddings: Sequence[Embedding],
        *,
        prices: Tensor,
        latents: Tensor,
        allowed: Tensor | None = None,
        explore: bool = False,
    ) -> Draft:
        """Guess one network a data set.

        Args:
            embeddings: One a data set, of one shape.
            prices: λ of every data set, positive. Float, shape ``(G,)``.
            latents: Of the hidden neurons. Float, shape ``(G, h, LATENT_SIZE)``.
            allowed: Activation classes that may be drawn; None for all. Bool, shape ``(a,)``.
            explore: Whether some classes are drawn evenly, so that all are tried.
        """
        features, outputs, relations, bias = _stacked(embeddings)
        n, h, c = features.shape[1], latents.shape[1], outputs.shape[1]
        context = _context((n, h, c), prices)  # (G, CONTEXT_SIZE)
        for_feature, for_slot, for_output = self.context(context).chunk(3, dim=1)
        features = features + for_feature.unsqueeze(1)  # (G, n, d)
        outputs = outputs + for_output.unsqueeze(1)  # (G, c, d)
        slots = self.slot(latents) + for_slot.unsqueeze(1)  # (G, h, d)
        known = torch.cat([features, outputs], dim=1)
        for layer in self.rounds:
            slots = layer(slots, known)
        slots = self.slot_norm(slots)
        # What a class is worth is learned from pairs alone; see ``relaxed.pair_loss``.
        activation = self.activation(slots.detach()).log_softmax(dim=2)
        if explore:
            activation = _explored(activation)
        if allowed is not None:
            activation = activation.masked_fill(~allowed, -math.inf).log_softmax(dim=2)
        choice = (activation + _gumbel(latents[:, :, : self.n_activations])).argmax(dim=2)
        one_hot = nn.functional.one_hot(choice, self.n_activations).to(slots)
        slots = slots + self.chosen(one_hot)
        v = self._importance(slots, features=features, outputs=outputs, relations=relations)
        log_gain, hidden_bias, log_amplitude = self.per_slot(slots).unbind(dim=2)
        scale = torch.exp(self.sparsity(context).clamp(-3, 3))  # (G, 1)
        gain = torch.exp(log_gain.clamp(-3, 3)) * _INPUT_SCALE / math.sqrt(n) / scale
        return Draft(
            v=v * (scale * torch.exp(0.5 * log_amplitude)).unsqueeze(1),
            gain=gain,
            hidden_bias=hidden_bias,
            output_bias=bias,
            choice=choice,
            activation=activation,
            slots=slots,
            features=features,
            outputs=outputs,
            context=context,
        )

    def _importance(
        self, slots: Tensor, *, features: Tensor, outputs: Tensor, relations: Tensor
    ) -> Tensor:
        """v, of mean square 1 in every neuron. Float, shape ``(G, n, h)``."""
        affinity = frame(torch.tanh(self._affinity_logits(slots, outputs)))  # (G, h, c)
        mixed = affinity.unsqueeze(3) * self.channel(slots).unsqueeze(2)  # (G, h, c, r')
        direct = torch.einsum("gjkr,gikr->gji", self.relate(relations), mixed)  # (G, n, h)
        v: Tensor = features @ self.feature_key(slots).mT / math.sqrt(slots.shape[2]) + direct
        return v * (v.square().mean(dim=1, keepdim=True) + 1e-4).rsqrt()

    def _affinity_logits(self, slots: Tensor, outputs: Tensor) -> Tensor:
        """How each slot leans to each output: by what sets the output apart from the others.

        Args:
            slots: Float, shape ``(G, h, d)``.
            outputs: Float, shape ``(G, c, d)``.

        Returns:
            Float, shape ``(G, h, c)``.
        """
        root = math.sqrt(slots.shape[2])
        mean = outputs.mean(dim=1, keepdim=True)  # (G, 1, d)
        apart = outputs - mean  # 0 if there is but one output
        apart = apart * (apart.square().mean(dim=2, keepdim=True) + 1e-4).rsqrt()
        common = self.affinity_common(mean) @ slots.mT / root  # (G, 1, h)
        logits: Tensor = self.affinity_query(slots) @ apart.mT * _SHARPNESS / root + common.mT
        return logits


def _stacked(embeddings: Sequence[Embedding]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, outputs, relations and biases of data sets of one shape.

    The guessed weights, first of the relations, are divided by their size, so that which edges
    there are does not depend on how large the weights should be.
    """
    features = torch.stack([e.features for e in embeddings])
    outputs = torch.stack([e.outputs for e in embeddings])
    relations = torch.stack([e.relations for e in embeddings])  # (G, n, c, r)
    biases = torch.stack([o.new_zeros(len(o)) if e.bias is None else e.bias
                          for e, o in zip(embeddings, outputs, strict=True)])  # fmt: skip
    guess = relations[..., 0]  # (G, n, c)
    size = guess.abs().amax(dim=1).square().mean(dim=1).sqrt().clamp(min=0.02)  # (G,)
    guess = (guess / size[:, None, None]).unsqueeze(3)
    return features, outputs, torch.cat([guess, relations[..., 1:]], dim=3), biases


def _context(sizes: tuple[int, int, int], prices: Tensor) -> Tensor:
    """Price and sizes as numbers of order 1. Float, shape ``(G, CONTEXT_SIZE)``."""
    log_sizes = (torch.log(prices.new_tensor(sizes)) / 3 - 1).expand(len(prices), 3)
    log_price = torch.log(prices) / 2  # (G,)
    columns = [log_price, log_price.square() / 4, log_price.sin()]
    return torch.cat([torch.stack(columns, dim=1), log_sizes], dim=1)


def _explored(learned: Tensor) -> Tensor:
    """Log-probabilities of a mixture with the even distribution."""
    return torch.log((1 - _EXPLORATION) * learned.exp() + _EXPLORATION / learned.shape[2])


def _gumbel(normal: Tensor) -> Tensor:
    """Numbers of a Gumbel distribution from numbers of a normal one."""
    uniform = torch.special.ndtr(normal).clamp(1e-6, 1 - 1e-6)
    return -torch.log(-torch.log(uniform))


def frame(leaning: Tensor) -> Tensor:
    """Affinities near the given ones whose slots, taken together, serve all outputs alike.

    The nearest tight frame A: A^T A is a multiple of the identity (for several outputs, of what is
    left of it without their mean, which softmax does not see). It is the polar factor, by the
    iteration of Newton and Schulz.

    Args:
        leaning: Float, shape ``(G, h, c)``.

    Returns:
        The same, of mean square 1 / c.
    """
    _, n_slots, n_outputs = leaning.shape
    a = leaning.double()  # small directions are made as large as others
    if n_outputs > 1:
        a = a - a.mean(dim=2, keepdim=True)
    a = a / (a.square().sum(dim=(1, 2), keepdim=True) + 1e-6).sqrt()
    for _ in range(_FRAME_STEPS):
        a = 1.5 * a - 0.5 * a @ (a.mT @ a)
    return (a * math.sqrt(n_slots / n_outputs)).to(leaning.dtype)
