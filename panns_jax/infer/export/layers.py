"""The translation of what layers are made of: convolutions, pools, products, Fourier transforms, look-ups."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from panns_jax.infer.export.graph import Complex, Graph, Shape, Tensor, constant, not_translated
from panns_jax.infer.export.translation import SIMPLE, Rule


def _convolution(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
    parameters, (x, kernel) = equation.params, inputs
    order = parameters["dimension_numbers"]
    if any(step != 1 for step in parameters["lhs_dilation"]) or parameters["batch_group_count"] != 1:
        raise not_translated("a transposed convolution")
    # ONNX's convolutions have their channels before their places.
    out_shape = tuple(shape[axis] for axis in order.out_spec)
    pads = parameters["padding"]
    y = graph.add(
        "Conv",
        [graph.transposed(x, order.lhs_spec), graph.transposed(kernel, order.rhs_spec)],
        out_shape,
        strides=list(parameters["window_strides"]),
        pads=[int(before) for before, _ in pads] + [int(after) for _, after in pads],
        dilations=list(parameters["rhs_dilation"]),
        group=parameters["feature_group_count"],
    )
    return graph.transposed(y, np.argsort(order.out_spec).tolist())


def _pool(operation: str) -> Any:
    def rule(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
        parameters, x = equation.params, inputs[0]
        window, strides, pads = (parameters[key] for key in ("window_dimensions", "window_strides", "padding"))
        dilated = {*parameters["base_dilation"], *parameters["window_dilation"]} != {1}
        if dilated or not window[0] == window[-1] == strides[0] == strides[-1] == 1:
            raise not_translated("a pool over other things than space")
        last = len(shape) - 1
        first, back = (0, last, *range(1, last)), (0, *range(2, last + 1), 1)
        y = graph.add(
            operation,
            [graph.transposed(x, first)],
            tuple(shape[axis] for axis in first),
            kernel_shape=list(window[1:-1]),
            strides=list(strides[1:-1]),
            pads=[int(before) for before, _ in pads[1:-1]] + [int(after) for _, after in pads[1:-1]],
            **({"count_include_pad": 1} if operation == "AveragePool" else {}),
        )
        y = graph.transposed(y, back)
        if operation == "MaxPool":
            return y
        return graph.add("Mul", [y, constant(np.float32(math.prod(window)))], shape)

    return rule


def _product(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
    x, matrix = inputs
    (of_x, of_matrix), (batch, _) = equation.params["dimension_numbers"]
    if batch or len(matrix.shape) != 2 or tuple(of_x) != (len(x.shape) - 1,):
        raise not_translated("a product of other things than rows and a matrix")
    if tuple(of_matrix) == (1,):
        matrix = graph.transposed(matrix, (1, 0))
    return graph.add("MatMul", [x, matrix], shape)


def _fourier(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Complex:
    """The transform of real numbers as a product with a matrix: few runtimes have ONNX's own."""
    if equation.params["fft_type"].name != "RFFT" or len(equation.params["fft_lengths"]) != 1:
        raise not_translated("another Fourier transform than that of real numbers along one axis")
    (size,) = equation.params["fft_lengths"]
    bins = size // 2 + 1
    turns = np.outer(np.arange(size), np.arange(bins)) % size
    angles = 2 * np.pi / size * turns
    matrix = np.concatenate([np.cos(angles), -np.sin(angles)], axis=1).astype(np.float32)
    both = graph.add("MatMul", [inputs[0], constant(matrix)], (*shape[:-1], 2 * bins))
    parts = [
        graph.add("Slice", [both, *map(graph.integers, ([first], [first + bins], [len(shape) - 1]))], shape)
        for first in (0, bins)
    ]
    return Complex(*parts)


def _real(graph: Graph, equation: Any, inputs: Sequence[Any], shape: Shape) -> Tensor:
    return inputs[0].real


def _imag(graph: Graph, equation: Any, inputs: Sequence[Any], shape: Shape) -> Tensor:
    return inputs[0].imag


def _look_up(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
    """Values at places along one axis, the same in all else (`x[:, places]`) or for each (`take_along_axis`)."""
    x, places = inputs
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    if numbers.collapsed_slice_dims != numbers.start_index_map or len(numbers.start_index_map) != 1:
        raise not_translated("a look-up along several axes")
    (axis,) = numbers.start_index_map
    places = graph.reshaped(places, places.shape[:-1])
    others = tuple(other for other in range(len(x.shape)) if other != axis)
    if numbers.operand_batching_dims == others == numbers.start_indices_batching_dims:
        return graph.add("GatherElements", [x, places], shape, axis=axis)
    whole = all(sizes[other] == x.shape[other] for other in others)
    behind = len(places.shape) - 1
    if numbers.operand_batching_dims or not whole:
        raise not_translated("a look-up of parts")
    if numbers.offset_dims != tuple(other if other < axis else other + behind for other in others):
        raise not_translated("a look-up in another order")
    return graph.add("Gather", [x, places], shape, axis=axis)


ALL: dict[str, Rule] = {
    **SIMPLE,
    "conv_general_dilated": _convolution,
    "reduce_window_sum": _pool("AveragePool"),
    "reduce_window_max": _pool("MaxPool"),
    "dot_general": _product,
    "fft": _fourier,
    "real": _real,
    "imag": _imag,
    "gather": _look_up,
}
