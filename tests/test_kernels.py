"""Hand-written activations and derivatives against autograd in float64."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphpred.activations import ACTIVATIONS, activation_index, register_activation
from graphpred.population.kernels import kernel
from graphpred.seeds import generator_for

NAMES = [activation.name for activation in ACTIVATIONS]


class Fired(torch.autograd.Function):
    """An activation that goes forward and backward by its kernel alone."""

    @staticmethod
    def forward(ctx, z, index):
        value = torch.empty_like(z)
        kernel(index).forward(z, value)
        ctx.save_for_backward(z, value)
        ctx.index = index
        return value

    @staticmethod
    def backward(ctx, gradient):
        z, value = ctx.saved_tensors
        derived = gradient.clone()
        kernel(ctx.index).backward(derived, z.clone(), value)
        return derived, None


def points(seed, *, n=40):
    """Away from the kinks of relu and abs, where a finite difference says nothing."""
    z = 3 * torch.randn(n, generator=generator_for(seed), dtype=torch.float64)
    return z + 0.01 * z.sign()


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 2**20))
def test_derivative_is_that_of_finite_differences(name, seed):
    z = points(seed).requires_grad_()

    assert torch.autograd.gradcheck(Fired.apply, (z, activation_index(name)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_value_and_derivative_are_those_of_the_registered_function(name, dtype):
    index = activation_index(name)
    special = torch.tensor([0.0, -0.0, 1e-30, 50.0, -50.0, 1e4, -1e4], dtype=dtype)
    z = torch.cat([points(0, n=1000).to(dtype), special])
    value, gradient = torch.empty_like(z), torch.randn_like(z.double()).to(dtype)
    expected_z = z.clone().requires_grad_()
    expected = ACTIVATIONS[index].function(expected_z)
    (expected_gradient,) = torch.autograd.grad(expected, expected_z, gradient)

    kernel(index).forward(z, value)
    kernel(index).backward(gradient, z, value)

    atol = 1e-6 if dtype == torch.float32 else 1e-14
    torch.testing.assert_close(value, expected.detach(), atol=atol, rtol=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, atol=atol, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_stays_in_its_place(name):
    z = torch.tensor([1.0, torch.nan, torch.inf, -torch.inf, 2.0])
    value, gradient = torch.empty(5), torch.ones(5)

    kernel(activation_index(name)).forward(z, value)
    kernel(activation_index(name)).backward(gradient, z, value)

    assert value[[0, 4]].isfinite().all()
    assert gradient[[0, 4]].isfinite().all()


def test_a_registered_activation_is_derived_by_autograd(registry):
    register_activation("bump", lambda z: z / (1 + z * z))
    z = points(1).requires_grad_()

    assert torch.autograd.gradcheck(Fired.apply, (z, activation_index("bump")))
