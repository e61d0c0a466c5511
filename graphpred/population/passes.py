"""Forward and backward passes of a block, written by hand over one table.

Notation as in ``layout``; z_k are the sums of layer k before its activations, shape ``(R_k, m)``.
"""

import torch
from torch import Tensor

from graphpred.population.kernels import kernel
from graphpred.population.layout import Bags, Layer, Layout


class Passes:
    """The table of a block, and how values and gradients go through it.

    Args:
        layout: Places of neurons and parameters.
        n_outputs: c.
        parameters: The flat vector. Float, shape ``(n_parameters,)``; read in place.
        gradient: Where ``backward`` writes, of the same shape.

    Attributes:
        residual: Where the gradient of the scores is put before ``backward``, which uses it up.
            Float, shape ``(B, c, m)``.
    """

    def __init__(
        self, layout: Layout, *, n_outputs: int, parameters: Tensor, gradient: Tensor
    ) -> None:
        self._layout = layout
        self._n_outputs = n_outputs
        self._flat = parameters
        self._parameters = [parameters[layer.parameters] for layer in layout.layers]
        self._gradient = [gradient[layer.parameters] for layer in layout.layers]
        self._kernels = [[kernel(index) for index in layer.classes] for layer in layout.layers]
        first = layout.layers[0]
        n_rows = first.rows.stop - first.rows.start if first.dense is not None else 0
        self._matrix = parameters.new_zeros(n_rows, layout.n_input_rows)  # of a dense first layer
        self._matrix_gradient = torch.empty_like(self._matrix)
        self._data: Tensor | None = None
        self._allocate(0)

    def _allocate(self, m: int) -> None:
        """Buffers for m rows of data, and views of them."""
        layers, n_inputs = self._layout.layers, self._layout.n_input_rows
        self._table = self._flat.new_zeros(self._layout.n_rows, m)
        self._table[0] = 1
        self._gradients = self._flat.new_empty(self._layout.n_rows - n_inputs, m)
        self._values = [self._table[layer.rows] for layer in layers]
        self._parts = [
            values.split(layer.sizes) for layer, values in zip(layers, self._values, strict=True)
        ]
        self._sums: list[tuple[Tensor, ...]] = [() for _ in layers]
        outputs = self._gradients[layers[-1].rows.start - n_inputs :]  # (B * c, m)
        self.residual = outputs.unflatten(0, (-1, self._n_outputs))

    def read(self, X: Tensor) -> None:
        """Put rows of data into the table. X: float, shape ``(m, n)``."""
        if X is self._data:
            return
        if len(X) != self._table.shape[1]:
            self._allocate(len(X))
        self._table[1 : X.shape[1] + 1] = X.T
        self._data = X

    def forward(self) -> Tensor:
        """Outputs for the rows read last: ``(B, c, m)``, a buffer that the next call overwrites."""
        for k, layer in enumerate(self._layout.layers):
            parts = self._sum(layer, self._parameters[k]).split(layer.sizes)
            for run, z, value in zip(self._kernels[k], parts, self._parts[k], strict=True):
                run.forward(z, value)
            self._sums[k] = parts
        scores = self._values[-1]  # (B * c, m)
        if self._layout.outputs is not None:
            scores = scores.index_select(0, self._layout.outputs)
        by_network: Tensor = scores.unflatten(0, (-1, self._n_outputs))
        return by_network

    def backward(self) -> None:
        """Write the gradient of the parameters, given that of the scores in ``residual``."""
        gradient = self.residual.flatten(0, 1)  # (B * c, m)
        if self._layout.rows_of_outputs is not None:
            gradient = gradient.index_select(0, self._layout.rows_of_outputs)
        for k in range(len(self._layout.layers) - 1, -1, -1):
            layer = self._layout.layers[k]
            if layer.out is not None:
                weights = self._flat.index_select(0, layer.out.parameter)
                gradient = _sums(self._gradients, layer.out, weights)  # (R_k, m)
            parts = gradient.split(layer.sizes)
            for run, part, z, value in zip(
                self._kernels[k], parts, self._sums[k], self._parts[k], strict=True
            ):
                run.backward(part, z, value)
            self._weight_gradient(layer, gradient, out=self._gradient[k])
            if k:
                first = layer.rows.start - self._layout.n_input_rows
                self._gradients[first : first + len(gradient)] = gradient

    def _sum(self, layer: Layer, parameters: Tensor) -> Tensor:
        if layer.dense is None:
            return _sums(self._table, layer.into, parameters)
        self._matrix.view(-1).index_copy_(0, layer.dense, parameters)
        return self._matrix @ self._table[: self._layout.n_input_rows]  # (R_1, m)

    def _weight_gradient(self, layer: Layer, gradient: Tensor, *, out: Tensor) -> None:
        """Products of every parameter's row of the table with the gradient of its sum."""
        if layer.dense is not None:
            inputs = self._table[: self._layout.n_input_rows]
            torch.mm(gradient, inputs.T, out=self._matrix_gradient)
            torch.index_select(self._matrix_gradient.view(-1), 0, layer.dense, out=out)
        elif len(out):
            bags = layer.into
            out.copy_(_dot_products(gradient, self._table, bags.row, bags.offset, bags.bag, 0))


_dot_products = torch.ops.aten._embedding_bag_per_sample_weights_backward


def _sums(table: Tensor, bags: Bags, weights: Tensor) -> Tensor:
    """Weighted sums of rows of a table. Float, shape ``(n_sums, m)``."""
    if not len(weights):
        return table.new_zeros(len(bags.offset), table.shape[1])
    total: Tensor = torch.embedding_bag(
        table, bags.row, bags.offset, mode=0, per_sample_weights=weights
    )[0]
    return total
