"""The price that is sought for a number of edges."""

import pytest
import torch
from toys import seeded, toy_task

from graphpred.activations import activation_index
from graphpred.meta.decoder import Decoded
from graphpred.meta.draft import LATENT_SIZE
from graphpred.meta.encoders import Embedding
from graphpred.meta.prediction import PRICE_RANGE, Prediction
from graphpred.meta.samples import RowSample


class PricedDecoder:
    """Stands in for a decoder: every edge has its own price above which it is unlikely."""

    def __init__(self, *, widths):
        n, h, c = widths
        generator = seeded()
        self.hidden = 4 * torch.rand(1, n, h, generator=generator) - 4
        self.output = 4 * torch.rand(1, h, c, generator=generator) - 4

    def __call__(self, embeddings, *, samples, prices, latents, allowed):
        off = prices.log()[:, None, None]
        hidden, output = (self.hidden - off).clamp(min=0), (self.output - off).clamp(min=0)
        (n_sets, h, c), a = output.shape, 2
        choice = torch.zeros(n_sets, h, dtype=torch.int64)
        decoded = Decoded(
            hidden=hidden,
            output=output,
            weights=(hidden, output),
            biases=(torch.zeros(n_sets, h), torch.zeros(n_sets, c)),
            classes=choice + activation_index("relu"),
            activation=torch.zeros(n_sets, h, a).log_softmax(dim=2),
        )
        return [decoded]


@pytest.fixture
def priced():
    n, h, c = widths = (4, 5, 2)
    nothing = torch.zeros(0)
    return Prediction.decode(
        PricedDecoder(widths=widths),
        embedding=Embedding(features=nothing, outputs=nothing, relations=nothing),
        sample=RowSample.of(toy_task(n=n, c=c)),
        price=0.1,
        activations=("relu", "tanh"),
        latents=[torch.zeros(h, LATENT_SIZE)],
    )


def sample_loss(prediction, limit):
    """Loss on the sample of the network that is cut down to a number of edges."""
    return prediction._chosen(limit)[1]


def test_near_respects_the_limit(priced):
    cheap, dear = (priced.at(price).architecture().n_edges for price in PRICE_RANGE)
    assert (cheap, dear) == (priced.n_possible_edges, 0)

    for limit in range(2, cheap + 1):
        n_edges = priced.near(limit).chosen(limit).architecture.n_edges
        assert 2 <= n_edges <= limit


def test_near_loses_no_more_than_a_fine_grid_of_prices(priced):
    low, high = PRICE_RANGE
    grid = [low * (high / low) ** (i / 80) for i in range(81)]
    for limit in (4, 9, 17):
        enough = [p for p in grid if priced.at(p).architecture().n_edges >= limit]

        expected = sample_loss(priced.at(max(enough)), limit)

        assert sample_loss(priced.near(limit), limit) <= expected + 0.01


def test_near_of_more_edges_than_there_are_takes_all_that_help(priced):
    everything = sample_loss(priced.at(PRICE_RANGE[0]), priced.n_possible_edges)

    assert sample_loss(priced.near(priced.n_possible_edges + 1), None) <= everything + 1e-6
