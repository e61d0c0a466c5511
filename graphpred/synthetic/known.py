"""Data sets whose true structure is known, so that what a method finds can be scored.

The kind of study that Kalugin, Bakhteev and Strijov (2018) make on synthetic data: a sparse network
is drawn, all of whose edges matter, and its outputs, with noise, are the target. See ``recovery``
for the score. Notation: widths n_0 … n_t, K* live edges, c outputs, m rows.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.network import Signature, SparseNetwork
from graphpred.objective import Kind
from graphpred.space import SearchSpace
from graphpred.split import Split
from graphpred.synthetic.draws import coin, uniform
from graphpred.task import Task, standardise
from graphpred.weights import Weights

MIN_INFLUENCE = 0.1
"""Least deviation of the change of a score, itself of deviation 1, when an edge is taken out."""
MIN_SPREAD = 0.5
"""Least root mean square of the distances of the classes' scores from their mean in a row."""
MIN_CLASS_SHARE = 0.4
"""Least share of a class in the rows, times the number of classes; two more rows are asked for."""

_MAX_DRAWS = 400
_DRAWS_PER_ARCHITECTURE = 20


@dataclass(frozen=True, eq=False, kw_only=True)
class KnownTask:
    """A data set and the network that it comes from.

    Attributes:
        task: Half of the rows for training, a quarter each for validation and testing.
        architecture: The true structure; every edge is live.
        weights: With them it gives the noiseless scores: of classes, of deviation 1; or of
            outputs, scaled as in ``task``.
        influence: What taking out an edge changes, beyond what biases could make up for: the
            deviation over the rows of the change of a score (of classes, less the mean score of
            the row, which no class depends on), for the output where it is largest. In deviations
            of a noiseless score. Float, shape ``(n_edges,)``.
    """

    task: Task
    architecture: Architecture
    weights: Weights
    influence: Tensor

    @property
    def network(self) -> SparseNetwork:
        """The true network, which takes rows of ``task.X``."""
        return SparseNetwork(self.architecture, self.weights, signature=Signature.of(self.task))


def draw_known(
    space: SearchSpace,
    *,
    generator: torch.Generator,
    n_rows: int = 1000,
    noise: float = 0.1,
    kind: Kind = "classification",
    n_irrelevant: int = 0,
) -> KnownTask:
    """Draw a network with live edges only, and a data set from it.

    Features are independent and normal. A class is the arg max of the scores, each of mean 0 and
    deviation 1, with normal noise; a quantity is a score with normal noise. Networks with an edge
    of little influence are drawn again, and so are those with a rare class or with much the same
    score for every class. A neuron that is linear where it is used hides which neurons there are,
    so leave identity out of ``space`` if they matter.

    Args:
        space: Widths n_0 … n_t, activations and density of the network.
        generator: Source of randomness.
        n_rows: Rows of all parts, 16 or more.
        noise: Deviation of the noise, in deviations of a score.
        kind: What the target is.
        n_irrelevant: Features that stand beside those of ``space`` and lead nowhere.

    Raises:
        InputError: If an argument is out of its range, or no network of the space is fit: with
            many edges each of them matters little, and few rows may lack a class.

    >>> space = SearchSpace(widths=(4, 3, 2), activations=("relu", "tanh"), density=0.5)
    >>> known = draw_known(space, generator=torch.Generator().manual_seed(0), n_irrelevant=2)
    >>> known.task.n_features, known.architecture.n_edges == known.architecture.n_live_edges
    (6, True)
    """
    if n_rows < 16 or n_irrelevant < 0:
        raise InputError(
            "n_rows must be at least 16 and n_irrelevant at least 0; "
            f"got {n_rows} and {n_irrelevant}."
        )
    if not 0 <= noise < torch.inf:
        raise InputError(f"noise must be 0 or a finite number above; got {noise}.")
    if space.output_activations != ("identity",):
        raise InputError(
            f"outputs must have the activation identity; got {space.output_activations}."
        )
    n, c = space.widths[0] + n_irrelevant, space.widths[-1]
    X, split = _draw_rows(n_rows, n, generator=generator)
    for attempt in range(_MAX_DRAWS):
        if attempt % _DRAWS_PER_ARCHITECTURE == 0:
            z = _draw_architecture(space, n_irrelevant=n_irrelevant, generator=generator)
        weights, scores = _draw_weights(z, X, generator=generator)
        y = scores + noise * torch.randn(n_rows, c, generator=generator)
        if kind == "classification":
            y, mean, scale = y.argmax(dim=1), torch.zeros(c), torch.ones(c)
            if not _is_balanced(y, c) or float(_centred(scores).square().mean()) < MIN_SPREAD**2:
                continue
        else:
            y, mean, scale = standardise(y, split.train)
        influence = _influence(z, weights, X, centred=kind == "classification")
        if influence is not None:
            weights = _scaled_outputs(z, weights, mean=mean, scale=scale)
            task = _task(X, y, c=c, split=split)
            return KnownTask(task=task, architecture=z, weights=weights, influence=influence)
    raise InputError(
        f"space must have networks whose every edge matters and whose {c} classes all occur; "
        f"{_MAX_DRAWS} draws of widths {space.widths} with {space.n_edges} edges had none."
    )


def _draw_rows(m: int, n: int, *, generator: torch.Generator) -> tuple[Tensor, Split]:
    """Normal features, scaled by the training rows, and a random split."""
    order = torch.randperm(m, generator=generator)
    parts = order.split([m - 2 * (m // 4), m // 4, m // 4])
    split = Split(*(rows.sort().values for rows in parts))
    return standardise(torch.randn(m, n, generator=generator), split.train)[0], split


def _draw_architecture(
    space: SearchSpace, *, n_irrelevant: int, generator: torch.Generator
) -> Architecture:
    """A live architecture whose inputs stand at random places among irrelevant ones."""
    z = space.sample_live(generator=generator)
    n = space.widths[0]
    place = torch.randperm(n + n_irrelevant, generator=generator)[:n]
    number = torch.cat([place, torch.arange(n, z.n_neurons) + n_irrelevant])  # (n_neurons,)
    return Architecture.from_edges(
        number[z.edges],
        activation=torch.cat([z.activation[:1].expand(n_irrelevant), z.activation]),
        widths=(n + n_irrelevant, *z.widths[1:]),
    )


def _draw_weights(
    z: Architecture, X: Tensor, *, generator: torch.Generator
) -> tuple[Weights, Tensor]:
    """Weights bounded away from 0, and the scores of mean 0 and deviation 1 that they give."""
    fan_in = torch.bincount(z.edges[1], minlength=z.n_neurons)[z.edges[1]]  # (n_edges,)
    size = uniform(0.7, 1.5, z.n_edges, generator=generator) * (2 / fan_in).sqrt()
    sign = 1.0 - 2.0 * coin(0.5, z.n_edges, generator=generator)
    bias = uniform(-0.5, 0.5, z.n_neurons - z.widths[0], generator=generator)
    weights = Weights(edge=sign * size, bias=bias)
    _, mean, scale = standardise(_scores(z, weights, X), torch.arange(len(X)))
    weights = _scaled_outputs(z, weights, mean=mean, scale=scale)
    return weights, _scores(z, weights, X)


def _influence(z: Architecture, weights: Weights, X: Tensor, *, centred: bool) -> Tensor | None:
    """See ``KnownTask``; None as soon as an edge has too little of it."""
    scores, influence = _scores(z, weights, X), []
    for i in range(z.n_edges):
        edge = weights.edge.clone()
        edge[i] = 0.0
        change = _scores(z, replace(weights, edge=edge), X) - scores  # (m, c)
        change = _centred(change) if centred else change
        influence.append(float(change.std(dim=0, correction=0).max()))
        if influence[-1] < MIN_INFLUENCE:
            return None
    return torch.tensor(influence)


def _centred(scores: Tensor) -> Tensor:
    """Scores less their mean in the row. Float, shape ``(m, c)``."""
    return scores - scores.mean(dim=1, keepdim=True)


@torch.no_grad()
def _scores(z: Architecture, weights: Weights, X: Tensor) -> Tensor:
    names = tuple(str(i) for i in range(max(z.widths[0], z.widths[-1])))
    signature = Signature(
        kind="regression",
        feature_names=names[: z.widths[0]],
        class_names=names[: z.widths[-1]],
    )
    scores: Tensor = SparseNetwork(z, weights, signature=signature)(X)
    return scores


def _scaled_outputs(z: Architecture, weights: Weights, *, mean: Tensor, scale: Tensor) -> Weights:
    """Weights whose outputs are ``(output - mean) / scale``, unscaled where that is 0."""
    mean, scale = mean.float(), torch.where(scale > 0, scale, 1.0).float()
    first = z.starts[-2]
    into_output = z.edges[1] >= first
    edge, bias = weights.edge.clone(), weights.bias.clone()
    edge[into_output] /= scale[z.edges[1, into_output] - first]
    outputs = bias[first - z.widths[0] :]  # a view of the last c biases
    outputs -= mean
    outputs /= scale
    return Weights(edge=edge, bias=bias)


def _is_balanced(y: Tensor, c: int) -> bool:
    return bool((torch.bincount(y, minlength=c) >= MIN_CLASS_SHARE * len(y) / c + 2).all())


def _task(X: Tensor, y: Tensor, *, c: int, split: Split) -> Task:
    is_regression = y.is_floating_point()
    return Task(
        X=X,
        y=y,
        kind="regression" if is_regression else "classification",
        split=split,
        feature_names=tuple(f"x{j}" for j in range(X.shape[1])),
        class_names=tuple(f"y{k}" if is_regression else str(k) for k in range(c)),
        name="known structure",
        source="synthetic",
        digest="",
        encoder=None,
        target_mean=(0.0,) * c if is_regression else (),
        target_scale=(1.0,) * c if is_regression else (),
        origin=torch.arange(len(X)),
    )
