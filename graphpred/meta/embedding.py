"""What an encoder makes of a data set, and the protocol of encoders.

A ``DatasetEncoder`` has two halves: ``describe`` looks at the rows, once and without gradient, and
the call embeds many descriptions at a time and is trained with the rest of the meta-model.
Notation: n features, c outputs, d the width of an embedding, r that of a relation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from graphpred.task import Task


@dataclass(frozen=True, eq=False, kw_only=True)
class Embedding:
    """What the decoder knows of a data set.

    Attributes:
        features: Float, shape ``(n, d)``.
        outputs: Float, shape ``(c, d)``.
        relations: How feature j is related to output k. Float, shape ``(n, c, r)``; the direct
            path from statistics to weights reads it. The first of the r numbers should be a guess
            of the weight from j to k in a linear model, since training starts there.
        bias: A guess of that model's biases, likewise; None for zeros. Float, shape ``(c,)``.
    """

    features: Tensor
    outputs: Tensor
    relations: Tensor
    bias: Tensor | None = None


@runtime_checkable
class DatasetEncoder(Protocol):
    """Embeds data sets; a ``torch.nn.Module`` whose parameters the meta-model trains.

    Permuting features or classes should permute the embeddings and nothing else.

    Attributes:
        width: d, the width of feature and output embeddings.
        relation_width: r, the width of a relation.
    """

    width: int
    relation_width: int

    def describe(self, task: Task) -> Any:
        """Everything ``forward`` needs of a task, from its training rows; no gradient."""
        ...

    def __call__(self, descriptions: Sequence[Any]) -> Sequence[Embedding]:
        """Embed data sets, one ``Embedding`` per description, in order."""
        ...
