"""Images of digits: read, pooled to smaller ones, and as tasks.

Notation: m images, s pixels a side.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor

from graphpred.errors import DataError, InputError
from graphpred.files import whole_file
from graphpred.seeds import generator_for
from graphpred.split import TEST_SHARE, Split
from graphpred.task import Task

_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
_VALIDATION_SHARE = 0.1


@dataclass(frozen=True, eq=False, kw_only=True)
class Images:
    """Square grey images with a class each.

    Attributes:
        name: What to call them.
        pixels: Float32, shape ``(m, s, s)``.
        labels: Int64, shape ``(m,)``.
        n_test: The last so many are the test part.
    """

    name: str
    pixels: NDArray[np.float32]
    labels: NDArray[np.int64]
    n_test: int

    @classmethod
    def read(cls, path: Path) -> "Images":
        """Images from an ``.npz`` file as MNIST comes in, with their own test part.

        Args:
            path: Holds ``X_train``, ``y_train``, ``X_test`` and ``y_test`` in either case; images
                are ``(m, s, s)`` or ``(m, s²)``.

        Raises:
            DataError: If it does not.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name.lower(): file[name] for name in file.files}
            X, y, test_X, test_y = (arrays[name] for name in _ARRAYS)
            flat = np.concatenate([part.reshape(len(part), -1) for part in (X, test_X)])
            side = round(flat.shape[1] ** 0.5)
            pixels = flat.reshape(len(flat), side, side).astype(np.float32)
            labels = np.concatenate([y, test_y]).astype(np.int64)
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise DataError(
                f"images must be an .npz file of square images with {', '.join(_ARRAYS)}; "
                f"{path} is not: {error}."
            ) from error
        return cls(name=path.stem, pixels=pixels, labels=labels, n_test=len(test_y))

    @classmethod
    def digits(cls) -> "Images":
        """The 1,797 digits of 8 × 8 pixels that scikit-learn ships; a quarter is the test part."""
        bunch = load_digits()
        order = torch.randperm(len(bunch.target), generator=generator_for(0, "digits")).numpy()
        return cls(
            name="digits",
            pixels=bunch.images[order].astype(np.float32),
            labels=bunch.target[order].astype(np.int64),
            n_test=round(TEST_SHARE * len(order)),
        )

    @property
    def side(self) -> int:
        """Pixels a side, s."""
        return int(self.pixels.shape[1])

    def pooled(self, side: int) -> "Images":
        """Smaller images of means of squares of pixels.

        Raises:
            InputError: If the side is not a divisor of the present one.
        """
        if side < 1 or self.side % side:
            raise InputError(f"side must divide {self.side}; got {side}.")
        block = self.side // side
        squares = self.pixels.reshape(-1, side, block, side, block)
        return Images(
            name=f"{self.name}, {side} x {side}",
            pixels=squares.mean(axis=(2, 4)),  # (m, side, side)
            labels=self.labels,
            n_test=self.n_test,
        )

    @property
    def split(self) -> Split:
        """A tenth of the images that are not for testing is for validation, the same always."""
        m = len(self.labels)
        n_fit = m - self.n_test
        rows = torch.randperm(n_fit, generator=generator_for(0, "mnist"))
        n_validation = round(_VALIDATION_SHARE * n_fit)
        train, validation = rows.split([n_fit - n_validation, n_validation])
        return Split(
            train=train.sort().values,
            validation=validation.sort().values,
            test=torch.arange(n_fit, m),
        )

    def task(self) -> Task:
        """All images; pixels are features."""
        return Task.from_arrays(
            self._flat, self.labels, kind="classification", split=self.split, name=self.name
        )

    def write_training(self, path: Path) -> None:
        """The training part alone, as a table that ``generate_pairs`` reads."""
        rows: Tensor = self.split.train
        with whole_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, X=self._flat[rows.numpy()], y=self.labels[rows.numpy()])

    @property
    def _flat(self) -> NDArray[np.float32]:
        return self.pixels.reshape(len(self.pixels), -1)  # (m, s²)
