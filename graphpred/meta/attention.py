"""Attention of one set over another, and of hidden neurons over the data set and each other.

Notation: G data sets, l queries, k keys, d the width of embeddings.
"""

from torch import Tensor, nn

_HEADS = 4


class Round(nn.Module):
    """One round of attention over the data set, then over the slots, then a feed-forward step."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.look, self.talk = Attention(width), Attention(width)
        self.think = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )

    def forward(self, slots: Tensor, known: Tensor) -> Tensor:
        """Slots ``(G, h, d)`` that have looked at ``known``, ``(G, k, d)``."""
        slots = slots + self.look(slots, known)
        slots = slots + self.talk(slots, slots)
        thought: Tensor = self.think(slots)
        return slots + thought


class Attention(nn.Module):
    """Multi-head attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.key_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """What queries ``(G, l, d)`` find in keys ``(G, k, d)``, which have no order."""
        key, value = self.key_value(self.key_norm(keys)).chunk(2, dim=2)
        q, k, v = (_split(x) for x in (self.query(self.norm(queries)), key, value))
        heads = nn.functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out(heads.transpose(1, 2).flatten(2))
        return out


def _split(x: Tensor) -> Tensor:
    """From ``(G, l, d)`` to ``(G, heads, l, d / heads)``."""
    return x.view(x.shape[0], x.shape[1], _HEADS, -1).transpose(1, 2)
