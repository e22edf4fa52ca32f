"""An ONNX graph under construction."""

import ast
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from panns_jax.errors import InputError

if TYPE_CHECKING:
    import onnx

Size = int | Any
"""A whole number, or what stands for one that is left open."""

Shape = tuple[Size, ...]


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A value in the graph.

    Attributes:
      shape: with sizes of 1 where it is to be repeated, as ONNX does by itself in operations on every value.
      name: in the graph; None for a constant that is not in it yet.
      array: the numbers of a constant.
    """

    shape: Shape
    name: str | None = None
    array: np.ndarray | None = None


class Complex(NamedTuple):
    """Complex numbers, which few runtimes know."""

    real: Tensor
    imag: Tensor


def constant(array: Any) -> Tensor:
    """A tensor of known numbers."""
    array = np.asarray(array)
    return Tensor(array.shape, array=array)


def not_translated(what: str) -> InputError:
    """The error where a model does what the translation doesn't know."""
    return InputError(f"the model cannot be written as ONNX: {what} is not translated; --format stablehlo can hold it")


class Graph:
    """Nodes and constants, one after another.

    Attributes:
      waveform: the input, (batch, samples).
    """

    def __init__(self, shape: Shape, symbols: Sequence[str]) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._count = 0
        self.waveform = Tensor(shape, "waveform")
        self._symbols = dict(zip(symbols, range(len(symbols)), strict=True))
        self.size = functools.cache(self._size)

    def add(self, operation: str, inputs: Sequence[Tensor], shape: Shape, **attributes: Any) -> Tensor:
        """Adds a node of one output."""
        from onnx import helper

        name = self._fresh(operation.lower())
        names = [self.named(tensor) for tensor in inputs]
        self._nodes.append(helper.make_node(operation, names, [name], name=name, **attributes))
        return Tensor(shape, name)

    def named(self, tensor: Tensor) -> str:
        """The tensor's name; a constant is put into the graph."""
        if tensor.name is not None:
            return tensor.name
        from onnx import numpy_helper

        assert tensor.array is not None
        name = self._fresh("constant")
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(tensor.array), name))
        return name

    def integers(self, values: Sequence[Size]) -> Tensor:
        """Whole numbers, some of them yet to be known, as a vector (int64)."""
        if all(isinstance(value, int | np.integer) for value in values):
            return constant(np.array(values, np.int64))
        parts = [self.size(value) for value in values]
        return parts[0] if len(parts) == 1 else self.add("Concat", parts, (len(parts),), axis=0)

    def repeated(self, tensor: Tensor, shape: Shape) -> Tensor:
        """The tensor with all that it is to be repeated."""
        if tensor.shape == shape:
            return tensor
        if tensor.array is not None and all(isinstance(size, int) for size in shape):
            return constant(np.broadcast_to(tensor.array, shape))
        return self.add("Expand", [tensor, self.integers(shape)], shape)

    def reshaped(self, tensor: Tensor, shape: Shape) -> Tensor:
        """The tensor in another shape."""
        if tensor.shape == shape:
            return tensor
        if tensor.array is not None and all(isinstance(size, int) for size in shape):
            return constant(tensor.array.reshape(shape))
        open_sizes = [axis for axis, size in enumerate(shape) if not isinstance(size, int)]
        if len(open_sizes) == 1:
            sizes = constant(np.array([size if isinstance(size, int) else -1 for size in shape], np.int64))
        else:
            sizes = self.integers(shape)
        return self.add("Reshape", [tensor, sizes], shape)

    def transposed(self, tensor: Tensor, order: Sequence[int]) -> Tensor:
        """The tensor with its axes in another order."""
        if tuple(order) == tuple(range(len(order))):
            return tensor
        if tensor.array is not None:
            return constant(tensor.array.transpose(order))
        return self.add("Transpose", [tensor], tuple(tensor.shape[axis] for axis in order), perm=list(order))

    def cast(self, tensor: Tensor, dtype: Any) -> Tensor:
        """The tensor in another type."""
        if tensor.array is not None:
            return constant(tensor.array.astype(dtype))
        from onnx import helper

        return self.add("Cast", [tensor], tensor.shape, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def model(self, outputs: Mapping[str, Tensor], description: dict[str, str], opset: int) -> "onnx.ModelProto":
        """The finished graph."""
        from onnx import TensorProto, helper

        begin = helper.make_tensor_value_info("waveform", TensorProto.FLOAT, [_told(n) for n in self.waveform.shape])
        ends = []
        for name, tensor in outputs.items():
            self._nodes.append(helper.make_node("Identity", [self.named(tensor)], [name], name=name))
            sizes = [_told(size, name) for size in tensor.shape]
            ends.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes))
        graph = helper.make_graph(self._nodes, description["model"], [begin], ends, self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="panns_jax")
        model.ir_version = min(model.ir_version, 10)  # newer ones are refused by older runtimes
        helper.set_model_props(model, description)
        return model

    def _fresh(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._count}"

    def _size(self, size: Size) -> Tensor:
        """A size as a vector of one number."""
        if isinstance(size, int | np.integer):
            return constant(np.array([size], np.int64))
        # As JAX writes sizes: sums and products of symbols, floordiv, mod, max and min.
        return self._evaluated(ast.parse(str(size), mode="eval").body)

    def _evaluated(self, tree: ast.expr) -> Tensor:
        match tree:
            case ast.Constant(value=int() as value):
                return constant(np.array([value], np.int64))
            case ast.Name(id=symbol) if symbol in self._symbols:
                whole = self.add("Shape", [self.waveform], (2,))
                return self.add("Gather", [whole, constant(np.array([self._symbols[symbol]]))], (1,), axis=0)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.add("Neg", [self._evaluated(operand)], (1,))
            case ast.BinOp(left=left, op=operation, right=right) if type(operation) in _OPERATORS:
                return self.add(_OPERATORS[type(operation)], [self._evaluated(left), self._evaluated(right)], (1,))
            case ast.Call(func=ast.Name(id=function), args=arguments) if function in _FUNCTIONS:
                # All that is divided here is positive, where ONNX's division rounds down, too.
                return self.add(_FUNCTIONS[function], [self._evaluated(argument) for argument in arguments], (1,))
        raise not_translated(f"a size of {ast.unparse(tree)}")


_OPERATORS = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul"}
_FUNCTIONS = {"floordiv": "Div", "mod": "Mod", "max": "Max", "min": "Min"}


def _told(size: Size, output: str = "") -> int | str:
    """A size as the file tells it: a number, a symbol of the input, or a name of its own."""
    if isinstance(size, int):
        return size
    return str(size) if str(size).isidentifier() else f"{output}_steps"


def folded(equation: Any, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What an equation yields of known numbers."""
    results = equation.primitive.bind(*arrays, **equation.params)
    return [np.asarray(result) for result in (results if equation.primitive.multiple_results else [results])]


def is_fixed(variables: Sequence[Any]) -> bool:
    """Whether the shapes of all variables are known."""
    return all(isinstance(size, int) for variable in variables for size in variable.aval.shape)


def trace(run: Any, argument: jax.ShapeDtypeStruct) -> Any:
    """A function as equations (`jax.core.ClosedJaxpr`)."""
    return jax.jit(run).trace(argument).jaxpr
