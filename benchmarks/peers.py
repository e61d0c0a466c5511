"""The contestants of ``population.py``: ``Population`` and what people use in its place.

Notation: B networks, m rows, n features, h hidden neurons, c classes; a activation classes. Rows of
data stand in columns, (n, m), so that the values of one neuron lie side by side.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional

from graphpred.activations import ACTIVATIONS, activation_indices
from graphpred.architecture import Architecture
from graphpred.population import LEARNING_RATE, Population
from graphpred.space import DEFAULT_ACTIVATIONS
from graphpred.weights import Weights, initial_weights

try:
    from neat.nn import FeedForwardNetwork
except ImportError:  # not a dependency of the project
    FeedForwardNetwork = None

ENSEMBLE_BLOCK = 32
"""Networks in one stacked ensemble: the fastest of 4, 8, 16, 32, or level with it."""

Run = Callable[[], Tensor]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Networks and data of one row of the table; the networks have one hidden layer.

    Attributes:
        networks: The architectures.
        seeds: Of the starting weights, one a network.
        X: Float, shape ``(m, n)``.
        y: Classes, int64, shape ``(m,)``.
        steps: Optimiser steps, each on all rows.
    """

    networks: list[Architecture]
    seeds: list[int]
    X: Tensor
    y: Tensor
    steps: int

    def first(self, n_networks: int) -> "Problem":
        """The same problem with the first few networks only."""
        return Problem(
            networks=self.networks[:n_networks],
            seeds=self.seeds[:n_networks],
            X=self.X,
            y=self.y,
            steps=self.steps,
        )


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One way to train, or only to run, the networks of a problem.

    Attributes:
        prepare: Takes a problem and returns the function whose time counts. That returns final
            losses, ``(B,)``, or scores, ``(B, c, m)``, or nothing comparable, ``(0,)``.
        n_networks: It gets only so many of the networks; slow ones need not run them all.
    """

    prepare: Callable[[Problem], Run]
    n_networks: int | None = None


# Population


def _population(problem: Problem) -> Tensor:
    """Train all networks together."""
    population = Population(problem.networks, seed=problem.seeds)
    population.fit(problem.X, problem.y, steps=problem.steps)
    return population.losses(problem.X, problem.y, loss="log_loss")


def _population_forward(problem: Problem) -> Run:
    population = Population(problem.networks, seed=problem.seeds)
    return partial(population.scores, problem.X)


# One network at a time, and many in a stacked ensemble, in plain PyTorch


@dataclass(frozen=True, eq=False, kw_only=True)
class _Dense:
    """A network as dense arrays; masks are 1 at live edges.

    Attributes:
        W1: ``(h, n)``; ``mask_1`` alike.
        b1: ``(h, 1)``.
        W2: ``(c, h)``; ``mask_2`` alike.
        b2: ``(c, 1)``.
    """

    W1: Tensor
    b1: Tensor
    W2: Tensor
    b2: Tensor
    mask_1: Tensor
    mask_2: Tensor

    @property
    def parameters(self) -> list[Tensor]:
        return [self.W1, self.b1, self.W2, self.b2]


def _dense(z: Architecture, weights: Weights, *, order: Tensor) -> _Dense:
    """Dense arrays of a network with its hidden neurons in a given order, ``(h,)``."""
    n, h, _ = z.widths
    values, mask = torch.zeros(2, z.n_neurons, z.n_neurons)
    values[z.edges[0], z.edges[1]] = weights.edge
    mask[z.edges[0, z.live], z.edges[1, z.live]] = 1.0

    def first(matrix: Tensor) -> Tensor:
        return matrix[:n, n : n + h][:, order].T.contiguous()  # (h, n)

    def second(matrix: Tensor) -> Tensor:
        return matrix[n : n + h, n + h :][order].T.contiguous()  # (c, h)

    return _Dense(
        W1=first(values),
        b1=weights.bias[:h][order].unsqueeze(1),
        W2=second(values),
        b2=weights.bias[h:].unsqueeze(1).clone(),
        mask_1=first(mask),
        mask_2=second(mask),
    )


def _rate(step: int, steps: int) -> float:
    """Adam's step size: half a cosine."""
    return LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * step / steps))


def _loop(problem: Problem, *, without_dead_neurons: bool) -> Tensor:
    """Train all networks, one after another."""
    inputs = problem.X.T.contiguous()  # (n, m)
    n, losses = len(inputs), []
    for z, seed in zip(problem.networks, problem.seeds, strict=True):
        weights = initial_weights(z, seed=seed)
        if without_dead_neurons:
            edge = weights.edge[z.live]
            z, kept = z.without_dead_neurons()  # noqa: PLW2901
            weights = Weights(edge=edge, bias=weights.bias[kept[n:] - n])
        losses.append(_train_alone(z, weights, inputs, problem.y, steps=problem.steps))
    return torch.tensor(losses, dtype=torch.float64)


def _train_alone(
    z: Architecture, weights: Weights, inputs: Tensor, y: Tensor, *, steps: int
) -> float:
    """Train one network; its final loss."""
    n, h, _ = z.widths
    classes = z.activation[n : n + h]
    order = classes.argsort(stable=True)  # hidden neurons by activation class
    indices, counts = classes[order].unique_consecutive(return_counts=True)
    functions = [ACTIVATIONS[index].function for index in indices.tolist()]
    sizes = counts.tolist()
    net = _dense(z, weights, order=order)
    for parameter in net.parameters:
        parameter.requires_grad_()
    optimizer = torch.optim.Adam(net.parameters, lr=LEARNING_RATE, fused=True)

    def loss() -> Tensor:
        summed = torch.addmm(net.b1, net.W1, inputs)  # (h, m)
        fired = [f(part) for f, part in zip(functions, summed.split(sizes), strict=True)]
        hidden = torch.cat(fired) if len(fired) > 1 else fired[0]
        return functional.cross_entropy(torch.addmm(net.b2, net.W2, hidden).T, y)

    for step in range(steps):
        optimizer.param_groups[0]["lr"] = _rate(step, steps)
        optimizer.zero_grad()
        loss().backward()
        net.W1.grad.mul_(net.mask_1)
        net.W2.grad.mul_(net.mask_2)
        optimizer.step()
    with torch.no_grad():
        return float(loss())


class _MaskedNetwork(nn.Module):
    """A dense network that computes every activation class on every neuron and picks one each."""

    def __init__(self, net: _Dense, activation: Tensor) -> None:
        super().__init__()
        self.W1, self.b1, self.W2, self.b2 = map(nn.Parameter, net.parameters)
        indices = activation_indices(DEFAULT_ACTIVATIONS)
        self.functions = [ACTIVATIONS[index].function for index in indices]
        chosen = torch.stack([activation == index for index in indices])  # (a, h)
        self.register_buffer("chosen", chosen.unsqueeze(2).float())  # (a, h, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Scores ``(c, m)`` of inputs ``(n, m)``."""
        summed = torch.addmm(self.b1, self.W1, inputs)  # (h, m)
        hidden = self.chosen[0] * self.functions[0](summed)
        for chosen, function in zip(self.chosen[1:], self.functions[1:], strict=True):
            hidden = hidden + chosen * function(summed)
        return torch.addmm(self.b2, self.W2, hidden)


def _ensembles(problem: Problem) -> Tensor:
    """Train stacked ensembles, one after another."""
    blocks = range(0, len(problem.networks), ENSEMBLE_BLOCK)
    inputs = problem.X.T.contiguous()  # (n, m)
    losses = []
    for start in blocks:
        members = slice(start, start + ENSEMBLE_BLOCK)
        nets, modules = [], []
        for z, seed in zip(problem.networks[members], problem.seeds[members], strict=True):
            n, h, _ = z.widths
            nets.append(_dense(z, initial_weights(z, seed=seed), order=torch.arange(h)))
            modules.append(_MaskedNetwork(nets[-1], z.activation[n : n + h]))
        masks = {
            "W1": torch.stack([net.mask_1 for net in nets]),  # (B, h, n)
            "W2": torch.stack([net.mask_2 for net in nets]),  # (B, c, h)
        }
        losses.append(_train_stacked(modules, masks, inputs, problem.y, steps=problem.steps))
    return torch.cat(losses).double()


def _train_stacked(
    modules: list[nn.Module], masks: dict[str, Tensor], inputs: Tensor, y: Tensor, *, steps: int
) -> Tensor:
    """Train networks of one shape together with torch.func; their final losses, ``(B,)``."""
    parameters, buffers = stack_module_state(modules)
    optimizer = torch.optim.Adam(parameters.values(), lr=LEARNING_RATE, fused=True)

    def loss(own: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        scores = functional_call(modules[0], (own, buffers), (inputs,))  # (c, m)
        return functional.cross_entropy(scores.T, y)

    gradients_of_all = vmap(grad(loss))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = _rate(step, steps)
        gradients = gradients_of_all(parameters, buffers)
        for name, mask in masks.items():
            gradients[name].mul_(mask)
        for name, parameter in parameters.items():
            parameter.grad = gradients[name]
        optimizer.step()
    with torch.no_grad():
        losses: Tensor = vmap(loss)(parameters, buffers)
        return losses


# Other libraries


def _scikit_learn(problem: Problem) -> Tensor:
    """Train scikit-learn's dense networks of the same width, all rows in every step."""
    X, y = problem.X.numpy(), problem.y.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for z, seed in zip(problem.networks, problem.seeds, strict=True):
            model = MLPClassifier(
                hidden_layer_sizes=z.widths[1:-1],
                activation="relu",
                solver="adam",
                alpha=0.0,
                batch_size=len(X),
                learning_rate_init=LEARNING_RATE,
                max_iter=problem.steps,
                tol=0.0,
                n_iter_no_change=problem.steps + 1,
                random_state=seed,
            ).fit(X, y)
            assert model.n_iter_ == problem.steps
    return torch.empty(0)


_PYTHON_FUNCTIONS: dict[str, Callable[[float], float]] = {
    "identity": lambda x: x,
    "relu": lambda x: max(x, 0.0),
    "tanh": math.tanh,
    "sin": math.sin,
    "gaussian": lambda x: math.exp(-x * x),
    "abs": abs,
}


def _neat_forward(problem: Problem) -> Run:
    """Run neat-python's networks row by row, without dead neurons and untrained."""
    networks = [
        _neat_network(z, initial_weights(z, seed=seed))
        for z, seed in zip(problem.networks, problem.seeds, strict=True)
    ]
    rows = problem.X.tolist()

    def run() -> Tensor:
        scores = [[network.activate(row) for row in rows] for network in networks]
        return torch.tensor(scores).transpose(1, 2)  # (B, c, m)

    return run


def _neat_network(z: Architecture, weights: Weights) -> "FeedForwardNetwork":
    n, h, _ = z.widths
    live = z.live
    links: list[list[tuple[int, float]]] = [[] for _ in range(z.n_neurons)]
    for (source, target), weight in zip(
        z.edges.T[live].tolist(), weights.edge[live].tolist(), strict=True
    ):
        links[target].append((source, weight))
    functions = [_PYTHON_FUNCTIONS[ACTIVATIONS[index].name] for index in z.activation.tolist()]
    outputs = list(range(n + h, z.n_neurons))
    evaluated = [i for i in range(n, n + h) if links[i]] + outputs
    biases = weights.bias.tolist()
    steps = [(i, functions[i], sum, biases[i - n], 1.0, links[i]) for i in evaluated]
    return FeedForwardNetwork(list(range(n)), outputs, steps)


TRAINING: dict[str, Contestant] = {
    "population": Contestant(prepare=lambda problem: partial(_population, problem)),
    "loop": Contestant(prepare=lambda problem: partial(_loop, problem, without_dead_neurons=False)),
    "loop_live": Contestant(
        prepare=lambda problem: partial(_loop, problem, without_dead_neurons=True)
    ),
    "torch_func": Contestant(prepare=lambda problem: partial(_ensembles, problem)),
    "scikit_learn": Contestant(
        prepare=lambda problem: partial(_scikit_learn, problem), n_networks=16
    ),
}
"""Those that train; all but scikit-learn must reach the same losses."""

FORWARD: dict[str, Contestant] = {
    "population_forward": Contestant(prepare=_population_forward),
    **({"neat": Contestant(prepare=_neat_forward, n_networks=4)} if FeedForwardNetwork else {}),
}
"""Those that only compute the scores of untrained networks once."""
