"""From scores to targets: noisy classes of unequal sizes, and quantities under several noise laws.

Notation: b data sets of one shape, m rows, c classes or outputs; scores ``(b, c, m)`` of mean 0 and
deviation 1 along the rows.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from graphpred.synthetic.draws import coin, uniform, unit

ORDINAL_SHARE = 0.25
"""Share of classifications whose classes are consecutive ranges of one noisy score."""
BALANCED_SHARE = 0.4
"""Share of classifications whose classes are meant to have one size."""
FLIPPED_SHARE = 0.3
"""Share of classifications some of whose rows have a class drawn blindly."""
SKEWED_SHARE = 0.2
"""Share of regressions whose outputs are exponentials of what they would be."""

_TIE_BREAK = 1e-3  # noise that is always there
_BALANCING_ROUNDS = 4
_BALANCING_ROWS = 512


def draw_classes(
    scores: Tensor,
    *,
    noise: float,
    label_noise: float,
    imbalance: float,
    generator: torch.Generator,
) -> Tensor:
    """Draw the class of every row: a noisy arg max, or a range of the first score.

    Args:
        scores: Float, shape ``(b, c, m)``.
        noise: Highest level of noise in the scores; low levels are more common.
        label_noise: Highest share of rows whose class is drawn blindly.
        imbalance: Highest deviation of the logarithm of the class sizes.
        generator: Source of randomness.

    Returns:
        Int64, shape ``(b, m)``.
    """
    b, c, m = scores.shape
    level = noise * uniform(0, 1, b, 1, 1, generator=generator) ** 2
    share = _class_shares(b, c, imbalance=imbalance, generator=generator)
    ordinal = coin(ORDINAL_SHARE, b, generator=generator)
    errors = torch.randn(b, c, m, generator=generator)
    labels = _argmax(errors.mul_(level + _TIE_BREAK).add_(scores), share)
    if bool(ordinal.any()):
        latent = scores[ordinal, 0]  # (k, m)
        errors = torch.randn(latent.shape, generator=generator)
        latent = latent + (level[ordinal, 0] + _TIE_BREAK) * errors
        labels[ordinal] = _ranges(latent, share[ordinal])
    flipped = label_noise * torch.rand(b, 1, generator=generator)
    flipped = flipped * coin(FLIPPED_SHARE, b, 1, generator=generator)
    blind = torch.randint(c, (b, m), generator=generator)
    return torch.where(torch.rand(b, m, generator=generator) < flipped, blind, labels)


def _class_shares(b: int, c: int, *, imbalance: float, generator: torch.Generator) -> Tensor:
    """How large the classes are meant to be. Float, shape ``(b, c)``, rows of sum 1."""
    spread = imbalance * torch.rand(b, 1, generator=generator)
    spread = spread * coin(1 - BALANCED_SHARE, b, 1, generator=generator)
    return torch.softmax(spread * torch.randn(b, c, generator=generator), dim=1)


def _argmax(scores: Tensor, share: Tensor) -> Tensor:
    """Arg max after adding numbers to the scores that bring class sizes near the shares."""
    some = scores[:, :, :_BALANCING_ROWS]
    m = some.shape[2]
    bias = 0.5 * share.log()  # (b, c)
    for _ in range(_BALANCING_ROUNDS):
        biased = some + bias[..., None]
        size = (biased == biased.amax(dim=1, keepdim=True)).sum(dim=2)  # (b, c)
        bias = bias + 0.4 * ((share * m + 1) / (size + 1)).log()
    return (scores + bias[..., None]).max(dim=1).indices  # on the CPU far faster than argmax


def _ranges(latent: Tensor, share: Tensor) -> Tensor:
    """Consecutive ranges of one number that hold the shares. Int64, shape ``(b, m)``."""
    m = latent.shape[1]
    last = (share.cumsum(dim=1)[:, :-1] * m).long().clamp_(0, m - 1)  # (b, c - 1)
    cuts = latent.sort(dim=1).values.gather(1, last)
    return torch.searchsorted(cuts, latent.contiguous(), right=True)


def _normal(noise: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
    return noise


def _laplace(noise: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
    return noise * torch.empty_like(noise).exponential_(generator=generator).sqrt_()


def _student(noise: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
    """Student's t with three degrees of freedom, of deviation 1."""
    square = torch.randn(3, *noise.shape, generator=generator).square_().sum(dim=0)
    return noise / square.clamp_(min=1e-2).sqrt_()


def _uneven(noise: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
    """Heteroscedastic: more where the score is high, in every output."""
    slope = uniform(0.5, 1.5, len(noise), 1, 1, generator=generator)
    return noise * torch.exp(slope * scores.clamp(-2, 2)).mul_(0.6)


def _outliers(noise: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
    """A few rows in a hundred are far off."""
    share = uniform(0.01, 0.06, len(noise), 1, 1, generator=generator)
    return noise * (0.5 + 6.0 * (torch.rand(noise.shape, generator=generator) < share))


_Law = Callable[[Tensor, Tensor, torch.Generator], Tensor]
NOISE_LAWS: dict[str, _Law] = {
    "normal": _normal,
    "laplace": _laplace,
    "student": _student,
    "uneven": _uneven,
    "outliers": _outliers,
}
"""From standard normal noise and the scores, ``(k, c, m)`` each, to noise of another law."""


def draw_quantities(scores: Tensor, *, noise: float, generator: torch.Generator) -> Tensor:
    """Draw the outputs of every row: scores with noise, some of them skewed.

    Args:
        scores: Float, shape ``(b, c, m)``.
        noise: Highest deviation of the noise, in deviations of the score.
        generator: Source of randomness.

    Returns:
        Float, shape ``(b, c, m)``.
    """
    b = len(scores)
    errors = torch.randn(scores.shape, generator=generator)
    law = torch.randint(len(NOISE_LAWS), (b,), generator=generator)
    for number, bend in enumerate(NOISE_LAWS.values()):
        chosen = (law == number).nonzero().squeeze(1)
        if len(chosen) and number:
            errors[chosen] = bend(errors[chosen], scores[chosen], generator)
    level = noise * uniform(0, 1, b, 1, 1, generator=generator)
    y = scores + level * errors.clamp_(-12, 12)
    skew = uniform(0.3, 1.0, b, 1, 1, generator=generator)
    is_skewed = coin(SKEWED_SHARE, b, 1, 1, generator=generator)
    return torch.where(is_skewed, torch.exp(skew * unit(y).clamp_(-4, 4)), y)
