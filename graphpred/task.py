"""A data set D = (X, y) with its split, and smaller data sets drawn from it.

The test part is a function of the data alone: a hash of the contents seeds its draw. Training and
validation rows are drawn from an explicit generator; everything is scaled by the training rows.
Notation: m rows, n features, c classes or outputs.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from graphpred.encoding import TableEncoder
from graphpred.errors import DataError, InputError
from graphpred.objective import Kind
from graphpred.split import VALIDATION_SHARE, Split, held_out_rows, split_rows, stratified_draw
from graphpred.tables import Source, Table, read_table
from graphpred.targets import array_labels, guess_kind, rare_classes, target_labels

Part = Literal["train", "validation", "test", "fit"]

MIN_ROWS = 8


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """A data set D = (X, y) with a split.

    Attributes:
        X: Features, scaled by the training rows. Float32, shape ``(m, n)``.
        y: Class indices, int64, shape ``(m,)``; or outputs scaled by the training rows, float32,
            shape ``(m, c)``.
        kind: What y is.
        split: Rows of the parts.
        feature_names: One per column of X.
        class_names: One per class, or per output of a regression.
        name: What to call the data set.
        source: Where it was read; see ``Table.source``.
        digest: Hash of the contents of the whole source.
        encoder: From raw columns to X; None for a task that has no raw columns.
        target_mean: Added to ``y * target_scale``, gives outputs in their unit; empty for classes.
        target_scale: See ``target_mean``; c numbers.
        origin: Row of the source that every row is. Int64, shape ``(m,)``, ascending.
        notices: Sentences on what reading the data left out.

    Raises:
        InputError: If shapes or types differ from what is said above.
    """

    X: Tensor
    y: Tensor
    kind: Kind
    split: Split
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    name: str
    source: str
    digest: str
    encoder: TableEncoder | None
    target_mean: tuple[float, ...]
    target_scale: tuple[float, ...]
    origin: Tensor
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        m, n = self.n_rows, len(self.feature_names)
        if self.X.shape != (m, n) or self.X.dtype != torch.float32:
            raise InputError(
                f"X must be float32 of shape {(m, n)}; got {self.X.dtype}, {tuple(self.X.shape)}."
            )
        shape = (m,) if self.is_classification else (m, self.n_outputs)
        dtype = torch.int64 if self.is_classification else torch.float32
        if self.y.shape != shape or self.y.dtype != dtype:
            raise InputError(
                f"y must be {dtype} of shape {shape}; got {self.y.dtype}, {tuple(self.y.shape)}."
            )
        rows = torch.cat([self.split.fit, self.split.test])
        if rows.numel() and not 0 <= int(rows.min()) <= int(rows.max()) < m:
            raise InputError(f"the rows of a split must be in 0 … {m - 1}; got {int(rows.max())}.")

    @classmethod
    def from_source(
        cls,
        source: Source | Table,
        *,
        target: str | None = None,
        kind: Kind | None = None,
        seed: int = 0,
        name: str | None = None,
        hold_out_test: bool = True,
        validation_share: float = VALIDATION_SHARE,
    ) -> "Task":
        """Read a data set, split it and encode it from its training rows.

        Args:
            source: See ``read_table``; or a table that it has read.
            target: Name of the column to predict; the last one by default.
            kind: Guessed from the target by default; see ``guess_kind``. The test rows are drawn
                by the guess whatever it says.
            seed: Draws the training and validation rows, never the test rows.
            name: What to call the data set.
            hold_out_test: False to use all rows for training and validation.
            validation_share: Of the rows that are not for testing.

        Raises:
            DataError: If the source cannot be read, encoded or split.

        >>> task = Task.from_source("breast_cancer")
        >>> task.n_features, task.class_names, len(task.split.test)
        (30, ('benign', 'malignant'), 142)
        """
        table = source if isinstance(source, Table) else read_table(source, target=target)
        if table.target is None:
            raise DataError(f"a data set must have a target; {table.source} has none.")
        kind = kind or guess_kind(table.target)
        labels, class_names = target_labels(table.target, kind=kind)
        if len(labels) < MIN_ROWS:
            raise DataError(f"a data set must have at least {MIN_ROWS} rows; got {len(labels)}.")
        split = split_rows(
            labels,
            generator=torch.Generator().manual_seed(seed),
            test=_test_rows(table.target, digest=table.digest) if hold_out_test else None,
            validation_share=validation_share,
        )
        encoder = TableEncoder.fit(table.frame, rows=split.train.numpy(), nominal=table.nominal)
        y, target_mean, target_scale = _scaled_target(labels, split.train)
        return cls(
            X=torch.from_numpy(encoder.transform(table.frame)),
            y=y,
            kind=kind,
            split=split,
            feature_names=encoder.feature_names,
            class_names=class_names,
            name=name or table.name,
            source=table.source,
            digest=table.digest,
            encoder=encoder,
            target_mean=target_mean,
            target_scale=target_scale,
            origin=torch.arange(len(y)),
            notices=(*encoder.notices, *rare_classes(labels, class_names)),
        )

    @classmethod
    def from_arrays(
        cls,
        X: ArrayLike | Tensor,
        y: ArrayLike | Tensor,
        *,
        kind: Kind | None = None,
        split: Split | None = None,
        generator: torch.Generator | None = None,
        feature_names: tuple[str, ...] | None = None,
        class_names: tuple[str, ...] | None = None,
        name: str = "arrays",
        validation_share: float = VALIDATION_SHARE,
    ) -> "Task":
        """A task of numbers, scaled by the training rows; a constant feature becomes 0.

        Args:
            X: Finite features, shape ``(m, n)``.
            y: Classes or one output, shape ``(m,)``; or outputs, shape ``(m, c)``.
            kind: Guessed from y by default.
            split: The parts; drawn from ``generator`` without test rows by default.
            generator: Draws training and validation rows if there is no split.
            feature_names: ``x0``, ``x1``, … by default.
            class_names: The classes that the integers of y index, also those without rows, or
                the names of the outputs. By default, what y holds.
            name: What to call the data set.
            validation_share: Of all rows, if there is no split.

        Raises:
            DataError: If the values cannot be used.
            InputError: If neither split nor generator is given, or the names do not fit.

        >>> X, y = torch.tensor([[0.0], [1.0], [2.0], [4.0]]), torch.tensor([0, 0, 1, 1])
        >>> Task.from_arrays(X, y, generator=torch.Generator().manual_seed(0)).n_outputs
        2
        """
        features = _finite_features(X)
        names = _feature_names(feature_names, n_features=features.shape[1])
        labels, outputs = array_labels(np.asarray(y), kind=kind, class_names=class_names)
        if len(labels) != len(features):
            raise DataError(f"y must have the {len(features)} rows of X; got {len(labels)}.")
        if split is None:
            if generator is None:
                raise InputError("a split, or a generator to draw one, must be given; got neither.")
            split = split_rows(labels, generator=generator, validation_share=validation_share)
        y_scaled, target_mean, target_scale = _scaled_target(labels, split.train)
        mean, scale = _spread(features, split.train)
        encoder = TableEncoder.of_numbers(names, mean=mean.tolist(), scale=scale.tolist())
        frame = pd.DataFrame(features.numpy(), columns=list(names))
        return cls(
            X=torch.from_numpy(encoder.transform(frame)),
            y=y_scaled,
            kind="regression" if labels.is_floating_point() else "classification",
            split=split,
            feature_names=names,
            class_names=outputs,
            name=name,
            source="arrays",
            digest=_array_digest(features, labels),
            encoder=encoder,
            target_mean=target_mean,
            target_scale=target_scale,
            origin=torch.arange(len(labels)),
        )

    @property
    def n_rows(self) -> int:
        """Number of rows m, test rows included."""
        return len(self.origin)

    @property
    def n_features(self) -> int:
        """Number of features n."""
        return len(self.feature_names)

    @property
    def n_outputs(self) -> int:
        """Number of classes or outputs c."""
        return len(self.class_names)

    @property
    def is_classification(self) -> bool:
        """Whether y holds classes."""
        return self.kind == "classification"

    def rows(self, part: Part) -> tuple[Tensor, Tensor]:
        """X and y of one part; ``"fit"`` is training and validation rows together."""
        rows: Tensor = getattr(self.split, part)
        return self.X[rows], self.y[rows]

    def resplit(self, seed: int) -> "Task":
        """The same data and test part, with other training and validation rows.

        What was learnt from the old training rows besides scale (medians, levels) stays.
        """
        fit = self.split.fit
        split = split_rows(
            self.y,
            generator=torch.Generator().manual_seed(seed),
            test=self.split.test,
            among=fit,
            validation_share=len(self.split.validation) / max(len(fit), 1),
        )
        return _rescaled(replace(self, split=split))

    def subsample(self, n_rows: int, *, generator: torch.Generator) -> "Task":
        """A smaller task drawn from the rows that are not for testing, without test rows.

        The draw is stratified by class and keeps two rows of every class that has them; a third
        of it is for validation.

        Args:
            n_rows: How many; all there are if there are fewer.
            generator: Draws the rows.

        Raises:
            InputError: If ``n_rows`` is under 4 or under two per class.
        """
        least = max(4, 2 * self.n_outputs if self.is_classification else 0)
        if n_rows < least:
            raise InputError(f"n_rows must be at least {least} for {self.name}; got {n_rows}.")
        fit = self.split.fit
        drawn = fit[stratified_draw(self.y[fit], n_rows, generator=generator, at_least=2)]
        split = split_rows(
            self.y, generator=generator, among=drawn, validation_share=VALIDATION_SHARE
        )
        return self.take(train=self.origin[split.train], validation=self.origin[split.validation])

    def take(self, *, train: Tensor, validation: Tensor, test: Tensor | None = None) -> "Task":
        """The smaller task of given rows of the source, scaled by its own training rows.

        Args:
            train: Rows as ``origin`` numbers them, none for testing here. Int64, any order.
            validation: Likewise.
            test: Some of the rows for testing here; none by default.

        Raises:
            InputError: If a row is not in this task, is in two parts, or crosses into or out of
                the test part.
        """
        test = train.new_empty(0) if test is None else test
        kept = torch.cat([train, validation, test]).sort().values
        positions = torch.searchsorted(self.origin, kept).clamp(max=self.n_rows - 1)
        strange = self.origin[positions] != kept
        if bool(strange.any()):
            raise InputError(f"rows must be rows of {self.name}; got {int(kept[strange][0])}.")
        own_test = self.origin[self.split.test]
        if bool(torch.isin(torch.cat([train, validation]), own_test).any()):
            raise InputError("test rows must stay test rows; train or validation has some.")
        if not bool(torch.isin(test, own_test).all()):
            raise InputError("test rows must come from the test part; some do not.")
        parts = [torch.searchsorted(kept, rows.sort().values) for rows in (train, validation, test)]
        return _rescaled(
            replace(
                self,
                X=self.X[positions],
                y=self.y[positions],
                origin=kept,
                split=Split(*parts),
            )
        )


def _test_rows(target: pd.Series, *, digest: str) -> Tensor:
    """The rows to hold out; stratified by the kind the target looks like, not by one told."""
    strata, _ = target_labels(target, kind=guess_kind(target))
    return held_out_rows(strata, digest=digest)


def _finite_features(X: ArrayLike | Tensor) -> Tensor:
    """A copy of X as finite numbers. Float64, shape ``(m, n)``."""
    try:
        features = torch.from_numpy(np.asarray(X).astype(np.float64))
    except (TypeError, ValueError) as error:
        raise DataError("X must be finite numbers, rows by features; it is not.") from error
    shape = tuple(features.shape)
    if features.ndim != 2 or not features.numel():
        raise DataError(f"X must be finite numbers, rows by features; got shape {shape}.")
    if not bool(features.isfinite().all()):
        raise DataError(
            f"X must be finite numbers, rows by features; got shape {shape} with NaN or inf."
        )
    return features


def _feature_names(names: tuple[str, ...] | None, *, n_features: int) -> tuple[str, ...]:
    """The names given, one per feature; ``x0``, ``x1``, … by default."""
    if names is None:
        return tuple(f"x{j}" for j in range(n_features))
    if len(names) != n_features or len(set(names)) != n_features:
        raise InputError(f"feature_names must be {n_features} different names; got {names}.")
    return names


def _array_digest(X: Tensor, labels: Tensor) -> str:
    state = hashlib.blake2b(repr((X.shape, labels.shape)).encode(), digest_size=16)
    state.update(X.contiguous().numpy().data)
    state.update(labels.contiguous().numpy().data)
    return state.hexdigest()


def standardise(values: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scale columns by the mean and deviation of some rows; constant ones become 0.

    Args:
        values: Float, shape ``(m, n)``.
        rows: The rows to scale by. Int64, shape ``(m_train,)``.

    Returns:
        The scaled values, float32, shape ``(m, n)``; mean and deviation, float64, shape ``(n,)``
        each, deviation 0 for a constant column.
    """
    mean, scale = _spread(values, rows)
    factor = torch.where(scale > 0, 1 / scale, 0.0)
    return ((values.double() - mean) * factor).float(), mean, scale


def _spread(values: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of columns in some rows; see ``standardise``."""
    part = values[rows].double()
    varies = part.amax(0) > part.amin(0)
    mean = torch.where(varies, part.mean(0), part[0])
    return mean, torch.where(varies, part.std(0, correction=0), 0.0)


def _scaled_target(
    labels: Tensor, train: Tensor
) -> tuple[Tensor, tuple[float, ...], tuple[float, ...]]:
    """Class indices as they are; outputs scaled by the training rows, with mean and scale."""
    if not labels.is_floating_point():
        return labels, (), ()
    mean, scale = _spread(labels, train)
    scale = torch.where(scale > 0, scale, 1.0)
    return ((labels.double() - mean) / scale).float(), tuple(mean.tolist()), tuple(scale.tolist())


def _rescaled(task: Task) -> Task:
    """The same task, scaled anew by its training rows."""
    X, mean, scale = standardise(task.X, task.split.train)
    y, shift, factor = _scaled_target(task.y, task.split.train)
    old = list(zip(task.target_mean, task.target_scale, strict=True))
    encoder = task.encoder
    return replace(
        task,
        X=X,
        y=y,
        encoder=encoder and encoder.rescaled(mean=mean.tolist(), scale=scale.tolist()),
        target_mean=tuple(m + s * new for (m, s), new in zip(old, shift, strict=True)),
        target_scale=tuple(s * new for (_, s), new in zip(old, factor, strict=True)),
    )
