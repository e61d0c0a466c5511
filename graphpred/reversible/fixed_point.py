"""Numbers that can be multiplied by a fraction and divided again without losing a bit.

Source: Maclaurin, Duvenaud and Adams, "Gradient-based Hyperparameter Optimization through
Reversible Learning", arXiv:1502.03492, section 3.

Notation: P parameters; x = c / 2^52, c an int64; a momentum β = n / d with d = 2^16; i, a natural
number per parameter, holds the bits that rounding would lose.

Multiplication by n / d:   i ← i·d + c mod d;  c ← ⌊c / d⌋;  c ← c·n + i mod n;  i ← ⌊i / n⌋.

The inverse swaps n and d. A multiplication adds log2(d / n) bits to i, 0.152 at β = 0.9. Limbs of
i have 32 bits, so that a limb and what is carried over fit into a machine's 64 while they are
multiplied or divided by at most 2^16.
"""

import numpy as np
from numpy.typing import NDArray

from graphpred.errors import InputError

RADIX = 2**52
DENOMINATOR = 2**16
LIMB_BITS = 32
LIMIT = 1024.0
"""Largest size of a number or of what is added to it: the sum of two stays within int64."""

_MASK = np.uint64(2**LIMB_BITS - 1)
_SHIFT = np.uint64(LIMB_BITS)

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


class DivergenceError(InputError):
    """Training left the range of fixed-point numbers, or what it computed is not finite."""


def to_fixed(values: Floats) -> Integers:
    """The nearest multiples of 2^-52, in units of it.

    Raises:
        DivergenceError: If a value is not below 1024 in size, or no number.

    >>> to_fixed(np.array([1.0, -0.5])) / RADIX
    array([ 1. , -0.5])
    """
    if not (np.abs(values) < LIMIT).all():
        raise DivergenceError(
            f"numbers in training must stay below {LIMIT:g}; got one that does not. "
            "Lower learning rates help."
        )
    return np.rint(values * RADIX).astype(np.int64)


def to_float(fixed: Integers) -> Floats:
    """The numbers themselves, rounded to float64."""
    numbers: Floats = fixed / RADIX
    return numbers


def add(fixed: Integers, values: Floats) -> None:
    """Add to numbers in place; adding ``-values`` afterwards restores them exactly.

    Raises:
        DivergenceError: If a summand or a sum is not below 1024 in size.
    """
    fixed += to_fixed(values)
    if not (np.abs(fixed) < LIMIT * RADIX).all():
        raise DivergenceError(
            f"weights and velocities must stay below {LIMIT:g} in size; training left that range. "
            "Lower learning rates help."
        )


def numerator_of(momentum: float) -> int:
    """Numerator of the fraction n / 2^16 that is nearest to a momentum between 0 and 1.

    >>> numerator_of(0.9) / DENOMINATOR
    0.899993896484375
    """
    if not 0 < momentum < 1:
        raise InputError(f"momentum must be between 0 and 1, both excluded; got {momentum}.")
    return min(max(round(momentum * DENOMINATOR), 1), DENOMINATOR - 1)


class BitBuffer:
    """A stack of remainders per parameter, each packed into one natural number.

    Attributes:
        limbs: The numbers, least significant limb first; as many limbs for all parameters as the
            largest number needs. Uint32, shape ``(P,)`` each.

    Args:
        n_parameters: P.

    >>> buffer = BitBuffer(1)
    >>> buffer.push(np.array([5]), base=7)
    >>> buffer.pop(base=7)
    array([5])
    """

    def __init__(self, n_parameters: int) -> None:
        self.limbs: list[NDArray[np.uint32]] = []
        self._n_parameters = n_parameters

    @property
    def n_bytes(self) -> int:
        """Bytes that all limbs take."""
        return sum(limb.nbytes for limb in self.limbs)

    @property
    def bit_lengths(self) -> Integers:
        """Bits of every number without its leading zeros. Int64, shape ``(P,)``."""
        lengths = np.zeros(self._n_parameters, dtype=np.int64)
        for k, limb in enumerate(self.limbs):
            _, exponent = np.frexp(limb.astype(np.float64))  # exact: a limb has 32 bits
            lengths = np.where(limb > 0, k * LIMB_BITS + exponent, lengths)
        return lengths

    def push(self, remainders: Integers, *, base: int) -> None:
        """Put a remainder of division by ``base``, at most 2^16, on every stack."""
        carry = remainders.astype(np.uint64)
        for limb in self.limbs:
            carry += limb.astype(np.uint64) * np.uint64(base)
            limb[:] = carry & _MASK
            carry >>= _SHIFT
        if carry.any():
            self.limbs.append(carry.astype(np.uint32))

    def pop(self, *, base: int) -> Integers:
        """Take the remainder that was pushed last with this ``base`` from every stack."""
        rest = np.zeros(self._n_parameters, dtype=np.uint64)
        for limb in reversed(self.limbs):
            rest = (rest << _SHIFT) | limb
            limb[:], rest = np.divmod(rest, np.uint64(base))
        while self.limbs and not self.limbs[-1].any():
            self.limbs.pop()
        return rest.astype(np.int64)


def multiply(fixed: Integers, *, numerator: int, denominator: int, buffer: BitBuffer) -> None:
    """Multiply numbers in place by a fraction; the swapped fraction undoes it exactly.

    Args:
        fixed: c. Int64, shape ``(P,)``.
        numerator: 1 to 2^16.
        denominator: 1 to 2^16.
        buffer: Takes the bits that rounding would lose, and gives back those it took.
    """
    buffer.push(fixed % denominator, base=denominator)
    fixed //= denominator
    fixed *= numerator
    fixed += buffer.pop(base=numerator)
