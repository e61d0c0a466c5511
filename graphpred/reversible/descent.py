"""Momentum descent that can be run backwards, and the gradient of its outcome.

Source: Maclaurin, Duvenaud and Adams, "Gradient-based Hyperparameter Optimization through
Reversible Learning", arXiv:1502.03492, algorithms 1 and 2.

Notation: w weights, v velocity, both fixed-point, P each; T steps; a learning rates, one a step
and group of weights; β momentum of a step, always the fraction n / 2^16 that the state is
multiplied by; θ whatever else the loss L depends on; f the outer loss.

Forward, from v = 0:   v ← βv − (1−β) g,  w ← w + a v,  g = ∇_w L(w, θ).

Backward, from dw = ∇_w f, dθ = ∇_θ f, dv = 0:

    dv ← dv + a dw;  da = Σ dw v over the group;  w ← w − a v;  g = ∇_w L(w, θ);
    v ← (v + (1−β) g) / β;  dβ = dv·(v + g);
    dw ← dw − (1−β) ∇_w (g·dv);  dθ ← dθ − (1−β) ∇_θ (g·dv);  dv ← β dv.

The trajectory is not stored: w and v of every step come back bit by bit, for which the bits lost
by multiplying with β are kept (see ``fixed_point``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from graphpred.errors import InputError
from graphpred.reversible.fixed_point import (
    DENOMINATOR,
    BitBuffer,
    DivergenceError,
    Floats,
    add,
    multiply,
    numerator_of,
    to_fixed,
    to_float,
)

Theta = Mapping[str, Tensor]
Loss = Callable[[Tensor, Theta, int], Tensor]
"""L: from weights, float64 ``(P,)``, θ and the number of the step to one number; twice
differentiable by autograd, and the same whenever it is asked for the same."""
Outer = Callable[[Tensor, Theta], Tensor]
"""f: from the weights at the end and θ to one number."""

_UNSTEADY = (
    "the loss must give the same gradient whenever it is asked for the same weights and step; "
    "going back did not end at the start."
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Schedule:
    """Learning rates and momentum of every step.

    Attributes:
        rates: a, of every step and group. Float64, shape ``(T, n_groups)``.
        momentum: β of every step, between 0 and 1; the nearest multiple of 2^-16 is used.
            Float64, shape ``(T,)``.
        groups: Group of every weight. Int64, shape ``(P,)``.

    Raises:
        InputError: If shapes or values differ from what is said above.
    """

    rates: Tensor
    momentum: Tensor
    groups: Tensor

    def __post_init__(self) -> None:
        if self.rates.ndim != 2 or self.momentum.shape != self.rates.shape[:1]:
            raise InputError(
                "rates and momentum must have shapes (T, n_groups) and (T,); "
                f"got {tuple(self.rates.shape)} and {tuple(self.momentum.shape)}."
            )
        n_groups = self.rates.shape[1]
        if not bool(((self.groups >= 0) & (self.groups < n_groups)).all()):
            raise InputError(f"groups must be 0 to {n_groups - 1}; got others.")
        for momentum in self.momentum.tolist():
            numerator_of(momentum)

    @classmethod
    def constant(
        cls, groups: Tensor, *, steps: int, rate: float, momentum: float = 0.9
    ) -> "Schedule":
        """The same learning rate and momentum at every step."""
        n_groups = int(groups.max()) + 1
        return cls(
            rates=torch.full((steps, n_groups), rate, dtype=torch.float64),
            momentum=torch.full((steps,), momentum, dtype=torch.float64),
            groups=groups,
        )

    @property
    def n_steps(self) -> int:
        """T."""
        return len(self.rates)

    def numerator(self, step: int) -> int:
        """The n of β = n / 2^16 at a step."""
        return numerator_of(float(self.momentum[step]))

    def rate(self, step: int) -> Tensor:
        """Learning rate of every weight at a step. Float64, shape ``(P,)``."""
        return self.rates[step, self.groups]


@dataclass(frozen=True, eq=False)
class Gradient:
    """∇_w L with the graph that leads to it, so that it can be differentiated once more.

    Attributes:
        at: w. Float64, shape ``(P,)``.
        theta: θ.
        value: g. Float64, shape ``(P,)``.
    """

    at: Tensor
    theta: dict[str, Tensor]
    value: Tensor

    def times(self, direction: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """∇_w (g·direction) and ∇_θ (g·direction)."""
        inputs = [self.at, *self.theta.values()]
        if not self.value.requires_grad:  # L is linear
            zeros = [torch.zeros_like(tensor) for tensor in inputs]
            return zeros[0], dict(zip(self.theta, zeros[1:], strict=True))
        product = self.value @ direction
        first, *others = torch.autograd.grad(product, inputs, materialize_grads=True)
        return first, dict(zip(self.theta, others, strict=True))


class Descent:
    """The state of a momentum descent that can go forwards and backwards.

    Args:
        loss: L.
        start: w at first, rounded to multiples of 2^-52. Float, shape ``(P,)``.
        schedule: Learning rates and momentum.
        theta: θ, tensors by name.

    Raises:
        InputError: If ``start`` does not have a number per entry of ``schedule.groups``.
    """

    def __init__(
        self, loss: Loss, start: Tensor, *, schedule: Schedule, theta: Theta | None = None
    ) -> None:
        if start.shape != schedule.groups.shape:
            raise InputError(
                f"start must hold one number per weight, {tuple(schedule.groups.shape)}; "
                f"got shape {tuple(start.shape)}."
            )
        self.loss = loss
        self.schedule = schedule
        self.theta = {name: value.detach().double() for name, value in (theta or {}).items()}
        self.step = 0
        self._w = to_fixed(start.detach().double().numpy())
        self._start = self._w.copy()
        self._v = np.zeros_like(self._w)
        self._buffer = BitBuffer(len(self._w))

    @property
    def weights(self) -> Tensor:
        """The w of now. Float64, shape ``(P,)``."""
        return torch.from_numpy(to_float(self._w))

    @property
    def velocity(self) -> Tensor:
        """The v of now. Float64, shape ``(P,)``."""
        return torch.from_numpy(to_float(self._v))

    @property
    def buffer(self) -> BitBuffer:
        """The bits kept for the way back."""
        return self._buffer

    @property
    def n_bytes(self) -> int:
        """Bytes kept: the state, the buffer, and the start to compare with at the end."""
        return self._w.nbytes + self._v.nbytes + self._start.nbytes + self._buffer.n_bytes

    @property
    def is_at_start(self) -> bool:
        """Whether weights are those of the start to the last bit, velocity and buffer empty."""
        return np.array_equal(self._w, self._start) and not self._v.any() and not self._buffer.limbs

    def forward(self) -> None:
        """One step of descent."""
        n = self.schedule.numerator(self.step)
        g = self._gradient(self.step).value.detach()
        multiply(self._v, numerator=n, denominator=DENOMINATOR, buffer=self._buffer)
        add(self._v, self._push(g, n))
        add(self._w, self._move())
        self.step += 1

    def backward(self) -> Gradient:
        """Undo the last step.

        Returns:
            The gradient that the step was made with.
        """
        self.step -= 1
        n = self.schedule.numerator(self.step)
        add(self._w, -self._move())
        gradient = self._gradient(self.step)
        add(self._v, -self._push(gradient.value.detach(), n))
        multiply(self._v, numerator=DENOMINATOR, denominator=n, buffer=self._buffer)
        return gradient

    def run(self) -> Tensor:
        """Make all steps that are left and return w."""
        while self.step < self.schedule.n_steps:
            self.forward()
        return self.weights

    def _move(self) -> Floats:
        """What w moves by, a v."""
        moved: Floats = to_float(self._v) * self.schedule.rate(self.step).numpy()
        return moved

    def _push(self, g: Tensor, n: int) -> Floats:
        """What v is pushed by, −(1−β) g."""
        pushed: Floats = g.numpy() * (n / DENOMINATOR - 1)
        return pushed

    def _gradient(self, step: int) -> Gradient:
        """With its graph in both directions: some kernels differ when none is recorded."""
        w = self.weights.requires_grad_()
        theta = {name: value.clone().requires_grad_() for name, value in self.theta.items()}
        value = self.loss(w, theta, step)
        (g,) = torch.autograd.grad(value, w, create_graph=True)
        return Gradient(w, theta, g)


@dataclass(frozen=True, eq=False, kw_only=True)
class Hypergradients:
    """The outer loss, where training ended, and derivatives of f by all that training was given.

    Attributes:
        value: f.
        weights: w at the end. Float64, shape ``(P,)``.
        start: By the weights at first. Float64, shape ``(P,)``.
        rates: By a. Float64, shape ``(T, n_groups)``.
        momentum: By β, as if it were continuous. Float64, shape ``(T,)``.
        theta: By θ.
        n_bytes: Bytes kept for the way back when training ended.
    """

    value: float
    weights: Tensor
    start: Tensor
    rates: Tensor
    momentum: Tensor
    theta: dict[str, Tensor]
    n_bytes: int


def hypergradients(
    loss: Loss,
    start: Tensor,
    *,
    outer: Outer,
    schedule: Schedule,
    theta: Theta | None = None,
) -> Hypergradients:
    """Train, and go all the way back for the exact gradient of the outer loss.

    Args:
        loss: L.
        start: w at first. Float, shape ``(P,)``.
        outer: f.
        schedule: Learning rates and momentum.
        theta: θ, tensors by name.

    Raises:
        DivergenceError: If weights leave the range of ±1024 or f is not finite.
        InputError: If shapes do not fit, or ``loss`` is not the same when asked again.

    >>> schedule = Schedule.constant(torch.zeros(1, dtype=torch.int64), steps=1, rate=0.5)
    >>> found = hypergradients(
    ...     lambda w, theta, step: (w**2).sum() / 2,
    ...     torch.tensor([1.0]),
    ...     outer=lambda w, theta: w.sum(),
    ...     schedule=schedule,
    ... )
    >>> found.rates  # w = 1 - a (1 - β)
    tensor([[-0.1000]], dtype=torch.float64)
    """
    descent = Descent(loss, start, schedule=schedule, theta=theta)
    end = descent.run()
    n_bytes = descent.n_bytes
    value, dw, dtheta = _at_end(outer, end, theta=descent.theta)
    dv = torch.zeros_like(dw)
    rates, momentum = torch.zeros_like(schedule.rates), torch.zeros_like(schedule.momentum)
    while descent.step > 0:
        step = descent.step - 1
        beta = schedule.numerator(step) / DENOMINATOR
        dv += schedule.rate(step) * dw
        rates[step].index_add_(0, schedule.groups, dw * descent.velocity)
        gradient = _undone(descent)
        momentum[step] = dv @ (descent.velocity + gradient.value.detach())
        by_w, by_theta = gradient.times(dv)
        dw -= (1 - beta) * by_w
        for name, part in by_theta.items():
            dtheta[name] -= (1 - beta) * part
        dv *= beta
    if not descent.is_at_start:
        raise InputError(_UNSTEADY)
    return Hypergradients(
        value=value,
        weights=end,
        start=dw,
        rates=rates,
        momentum=momentum,
        theta=dtheta,
        n_bytes=n_bytes,
    )


def _undone(descent: Descent) -> Gradient:
    """One step back, which stays in range where the step forward did."""
    try:
        return descent.backward()
    except DivergenceError as error:
        raise InputError(_UNSTEADY) from error


def _at_end(
    outer: Outer, end: Tensor, *, theta: dict[str, Tensor]
) -> tuple[float, Tensor, dict[str, Tensor]]:
    """f, and its derivatives by w and θ where they stand in f itself."""
    w = end.clone().requires_grad_()
    leaves = {name: value.clone().requires_grad_() for name, value in theta.items()}
    value = outer(w, leaves)
    if not bool(value.isfinite()):
        raise DivergenceError(f"the outer loss must be finite; got {float(value.detach())}.")
    inputs = [w, *leaves.values()]
    dw, *others = torch.autograd.grad(value, inputs, materialize_grads=True)
    parts = [part.clone() for part in others]
    return float(value.detach()), dw.clone(), dict(zip(leaves, parts, strict=True))
