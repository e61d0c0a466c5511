"""Independent random generators from a seed and what it is for, and a common draw."""

import hashlib
import math

import torch


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part and on their order.

    >>> derived_seed(0, "search", 7) == derived_seed(0, "search", 7)
    True
    >>> derived_seed(0, "search", 7) == derived_seed(0, "search", 8)
    False
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator_for(*parts: int | str) -> torch.Generator:
    """A generator on the CPU, seeded by ``derived_seed``."""
    return torch.Generator().manual_seed(derived_seed(*parts))


def log_uniform(low: int, high: int, *, generator: torch.Generator) -> int:
    """Draw an integer between two positive bounds, both included, log-uniformly.

    The logarithm of a real number is uniform on [log low, log (high + 1)); its floor is drawn.
    """
    span = math.log(high + 1) - math.log(low)
    drawn = math.exp(math.log(low) + span * float(torch.rand((), generator=generator)))
    return min(int(drawn), high)
