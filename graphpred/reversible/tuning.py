"""Learning rates, momentum, weight decay and edge gates tuned on the validation loss.

Source: Maclaurin, Duvenaud and Adams, arXiv:1502.03492, section 4: hyperparameters descend the
gradient of the validation loss through a whole training, by Adam. Rates are tuned as logarithms,
momentum as logits, one of each a step, and rates one a layer besides. Ours, not the paper's: gates,
a factor sigmoid(logit) on every edge in training and after, and a price on their sum.

Notation: n features, c outputs, t layers of weights, N possible edges; T steps, P weights and
biases.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.network import Signature, SparseNetwork
from graphpred.population.batches import Batches
from graphpred.reversible.descent import Hypergradients, Loss, Outer, Schedule, hypergradients
from graphpred.reversible.fixed_point import DivergenceError
from graphpred.seeds import derived_seed
from graphpred.task import Task
from graphpred.weights import Weights, initial_weights

HYPERPARAMETERS = ("rates", "momentum", "decay", "gates")
"""What can be tuned. Rates, momentum and decay are in force anyway, gates only if tuned."""


@dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """Where hyperparameters begin and how fast they move.

    Attributes:
        rate: First learning rate of all steps and layers.
        momentum: First momentum of all steps.
        decay: First weight decay of all layers: the loss has decay / 2 times the squared weights
            of the layer's edges.
        gate: First factor on all edges, in (0, 1).
        price: λ; the outer loss has λ times the sum of the gates over N.
        tuning_rate: Adam's, on logarithms and logits.
    """

    rate: float = 0.3
    momentum: float = 0.9
    decay: float = 1e-3
    gate: float = 0.9
    price: float = 0.0
    tuning_rate: float = 0.1

    def __post_init__(self) -> None:
        for name in ("rate", "decay", "tuning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} must be above 0; got {getattr(self, name)}.")
        for name in ("momentum", "gate"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"{name} must be between 0 and 1; got {getattr(self, name)}.")
        if not 0 <= self.price < math.inf:
            raise InputError(f"price must be at least 0; got {self.price}.")


@dataclass(frozen=True, eq=False, kw_only=True)
class Tuned:
    """A network trained with the best hyperparameters found, and what they are.

    Attributes:
        network: With gates multiplied into its weights.
        rates: Learning rates. Float64, shape ``(T, t)``.
        momentum: Float64, shape ``(T,)``.
        decay: Float64, shape ``(t,)``.
        gates: Factor on every edge, 1 if they were not tuned. Float64, shape ``(n_edges,)``.
        losses: Outer loss with the hyperparameters of every round, the first as they began;
            ∞ where training diverged.
        n_bytes: Bytes kept for the way back through the training of the network.
    """

    network: SparseNetwork
    rates: Tensor
    momentum: Tensor
    decay: Tensor
    gates: Tensor
    losses: tuple[float, ...]
    n_bytes: int

    def architecture(self, *, gate: float = 0.5) -> Architecture:
        """The edges whose gates are at least so far open, without dead ones."""
        z = self.network.architecture
        edges = z.edges[:, self.gates >= gate]
        return Architecture(
            edges=edges, activation=z.activation, widths=z.widths
        ).without_dead_edges()


def tune_training(
    network: SparseNetwork | Architecture,
    task: Task,
    *,
    hyper: Sequence[str] = ("rates", "decay"),
    steps: int = 100,
    rounds: int = 20,
    config: TuningConfig | None = None,
    seed: int = 0,
) -> Tuned:
    """Tune how a network is trained by gradient descent on its validation loss.

    Every round trains on the training rows from the same weights and goes all the way back; the
    loss is cross-entropy, or squared error of scaled outputs. Validation rows are fitted to, the
    more the more hyperparameters there are: judge the result by other rows.

    Args:
        network: Its weights are where training starts; an architecture starts from weights drawn.
        task: Has training and validation rows; its test rows are not looked at.
        hyper: What to tune, names of ``HYPERPARAMETERS``.
        steps: T of a training: full batches up to 1,024 rows, else batches of 512.
        rounds: Trainings after the first, each with hyperparameters changed.
        config: Where hyperparameters begin and how fast they move.
        seed: Of weights that are drawn, and of batches.

    Raises:
        DivergenceError: If training diverges with the hyperparameters as they begin.
        InputError: If an argument has a wrong value or the network does not fit the task.
    """
    if not hyper or set(hyper) - set(HYPERPARAMETERS):
        known = ", ".join(HYPERPARAMETERS)
        raise InputError(f"hyper must name some of {known}; got {tuple(hyper)}.")
    if steps < 1 or rounds < 0:
        raise InputError(f"steps must be 1 or more, rounds 0 or more; got {steps}, {rounds}.")
    config = config or TuningConfig()
    if isinstance(network, Architecture):
        weights = initial_weights(network, seed=derived_seed(seed, "reversible"))
        network = SparseNetwork(network, weights, signature=Signature.of(task))
    training = _Training(network, task, gated="gates" in hyper, price=config.price, seed=seed)
    best, found, losses = _descend(
        training,
        training.first(steps, config),
        hyper=tuple(dict.fromkeys(hyper)),
        rounds=rounds,
        tuning_rate=config.tuning_rate,
    )
    schedule, theta = training.natural(best)
    return Tuned(
        network=training.network_of(found.weights, best),
        rates=schedule.rates,
        momentum=schedule.momentum,
        decay=theta["decay"],
        gates=training.gates(theta),
        losses=tuple(losses),
        n_bytes=found.n_bytes,
    )


Raw = Mapping[str, Tensor]
"""Hyperparameters as they are tuned: logarithms and logits, by the names of HYPERPARAMETERS."""


def _descend(
    training: "_Training", first: Raw, *, hyper: Sequence[str], rounds: int, tuning_rate: float
) -> tuple[dict[str, Tensor], Hypergradients, list[float]]:
    """The best hyperparameters, the training with them, and the outer loss of every round."""
    raw = {name: value.clone() for name, value in first.items()}
    moved = [raw[name] for name in hyper]
    adam = torch.optim.Adam(moved, lr=tuning_rate)
    found, by_raw = training.gradient(raw)
    best, losses = (_copied(raw), found, by_raw), [found.value]
    for _ in range(rounds):
        for name in hyper:
            raw[name].grad = by_raw[name]
        adam.step()
        try:
            found, by_raw = training.gradient(raw)
        except DivergenceError:  # from the best again, half as far
            losses.append(math.inf)
            for name in hyper:
                raw[name].copy_(best[0][name])
            adam = torch.optim.Adam(moved, lr=adam.param_groups[0]["lr"] / 2)
            _, found, by_raw = best
            continue
        losses.append(found.value)
        if found.value < best[1].value:
            best = _copied(raw), found, by_raw
    return best[0], best[1], losses


def _copied(raw: Raw) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in raw.items()}


class _Training:
    """The training of one network as a function of raw hyperparameters.

    Args:
        network: Its weights are the start.
        task: Training and validation rows.
        gated: Whether edges have gates.
        price: λ.
        seed: Of the batches.
    """

    def __init__(
        self, network: SparseNetwork, task: Task, *, gated: bool, price: float, seed: int
    ) -> None:
        z = network.architecture
        if (z.widths[0], z.widths[-1]) != (task.n_features, task.n_outputs):
            raise InputError(
                f"the network must lead from {task.n_features} features to {task.n_outputs} "
                f"outputs; got widths {z.widths}."
            )
        self.network, self.gated, self.price = network, gated, price
        self.is_classification = task.is_classification
        X, y = task.rows("train")
        self.batches = Batches(
            X.double(), _in_double(y), weight=None, n_outputs=task.n_outputs, seed=seed
        )
        X, y = task.rows("validation")
        self.validation = X.double(), _in_double(y)
        self.groups = torch.cat([z.layer[z.edges[1]], z.layer[z.widths[0] :]]) - 1  # (P,)
        weights = network.weights
        self.start = torch.cat([weights.edge, weights.bias]).double()  # (P,)

    def first(self, steps: int, config: TuningConfig) -> dict[str, Tensor]:
        """Raw hyperparameters as they begin."""
        z = self.network.architecture

        def full(shape: tuple[int, ...], value: float) -> Tensor:
            return torch.full(shape, value, dtype=torch.float64)

        return {
            "rates": full((steps, z.n_layers), math.log(config.rate)),
            "momentum": full((steps,), _logit(config.momentum)),
            "decay": full((z.n_layers,), math.log(config.decay)),
            "gates": full((z.n_edges,), _logit(config.gate)),
        }

    def natural(self, raw: Raw) -> tuple[Schedule, dict[str, Tensor]]:
        """The schedule, and θ: decay, and gates if there are any."""
        schedule = Schedule(
            rates=raw["rates"].exp(),
            momentum=raw["momentum"].sigmoid().clamp(1e-6, 1 - 1e-6),
            groups=self.groups,
        )
        theta = {"decay": raw["decay"].exp()}
        return schedule, theta | ({"gates": raw["gates"].sigmoid()} if self.gated else {})

    def gates(self, theta: Mapping[str, Tensor]) -> Tensor:
        """Factor on every edge. Float64, shape ``(n_edges,)``."""
        n_edges = self.network.architecture.n_edges
        return theta["gates"] if self.gated else torch.ones(n_edges, dtype=torch.float64)

    def gradient(self, raw: Raw) -> tuple[Hypergradients, dict[str, Tensor]]:
        """Train, go back, and the derivatives of the outer loss by raw hyperparameters.

        Raises:
            DivergenceError: If training diverges or a derivative is not finite.
        """
        schedule, theta = self.natural(raw)
        found = hypergradients(
            self._loss(), self.start, outer=self._outer(), schedule=schedule, theta=theta
        )
        by_raw = {
            "rates": found.rates * schedule.rates,
            "momentum": found.momentum * schedule.momentum * (1 - schedule.momentum),
            "decay": found.theta["decay"] * theta["decay"],
        }
        if self.gated:
            by_raw["gates"] = found.theta["gates"] * theta["gates"] * (1 - theta["gates"])
        if not all(bool(part.isfinite().all()) for part in by_raw.values()):
            raise DivergenceError("hypergradients must be finite; lower learning rates help.")
        return found, by_raw

    def network_of(self, w: Tensor, raw: Raw) -> SparseNetwork:
        """The network of given weights, with gates multiplied into them."""
        _, theta = self.natural(raw)
        edge, bias = self._parts(w, theta)
        old = self.network
        return SparseNetwork(
            old.architecture,
            Weights(edge=edge.float(), bias=bias.float()),
            signature=old.signature,
            facts=old.facts,
            evidence=old.evidence | {"gate": self.gates(theta)},
        )

    def _parts(self, w: Tensor, theta: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Weights of edges, with their gates, and biases."""
        n_edges = self.network.architecture.n_edges
        return w[:n_edges] * self.gates(theta), w[n_edges:]

    def _data_loss(self, w: Tensor, theta: Mapping[str, Tensor], *, X: Tensor, y: Tensor) -> Tensor:
        edge, bias = self._parts(w, theta)
        scores = functional_call(self.network, {"edge": edge, "bias": bias}, (X,))  # (m, c)
        if self.is_classification:
            return functional.cross_entropy(scores, y)
        return functional.mse_loss(scores, y)

    def _loss(self) -> Loss:
        n_edges = self.network.architecture.n_edges
        group = self.groups[:n_edges]

        def loss(w: Tensor, theta: Mapping[str, Tensor], step: int) -> Tensor:
            batch = self.batches[step]
            decayed = (theta["decay"][group] * w[:n_edges].square()).sum() / 2
            return self._data_loss(w, theta, X=batch.X, y=batch.y) + decayed

        return loss

    def _outer(self) -> Outer:
        X, y = self.validation
        n_possible = self.network.architecture.n_possible_edges

        def outer(w: Tensor, theta: Mapping[str, Tensor]) -> Tensor:
            cost = self.price / n_possible * self.gates(theta).sum()
            return self._data_loss(w, theta, X=X, y=y) + cost

        return outer


def _in_double(y: Tensor) -> Tensor:
    return y.double() if y.is_floating_point() else y


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))
