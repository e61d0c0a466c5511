"""Independent random generators from a seed and numbers that name what it is for."""

import hashlib

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
