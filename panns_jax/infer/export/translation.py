"""From JAX's equations to ONNX's operations.

Only what evaluating our models takes is known; anything else is refused by name. Of what differs between platforms, the
part that is not for CPUs is taken: it says what is meant (a depthwise convolution, a pool), not how XLA does it best.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax.extend import core

from panns_jax.infer.export.graph import Complex, Graph, Shape, Tensor, constant, folded, is_fixed, not_translated

Value = Tensor | Complex
Rule = Callable[[Graph, Any, Sequence[Tensor], Shape], Value]

# Numbers of constants that are worth computing ahead.
_MOST = 1 << 24


def translated(graph: Graph, closed: Any, arguments: Sequence[Value], rules: Mapping[str, Rule]) -> list[Value]:
    """What the equations yield of the arguments, as part of the graph.

    Args:
      graph: where nodes are added.
      closed: the equations.
      arguments: what they are given.
      rules: by names of JAX's operations.

    Raises:
      InputError: an operation is not translated.
    """
    values: dict[Any, Value] = dict(zip(closed.jaxpr.invars, arguments, strict=True))
    values.update((variable, constant(array)) for variable, array in _pairs(closed))

    def value(atom: Any) -> Value:
        return constant(atom.val) if isinstance(atom, core.Literal) else values[atom]

    for equation in closed.jaxpr.eqns:
        inputs = [value(atom) for atom in equation.invars]
        values.update(zip(equation.outvars, _outputs(graph, equation, inputs, rules), strict=True))
    return [_whole(graph, value(atom), atom.aval.shape) for atom in closed.jaxpr.outvars]


def _pairs(closed: Any) -> Any:
    return zip(closed.jaxpr.constvars, closed.consts, strict=True)


def _outputs(graph: Graph, equation: Any, inputs: Sequence[Value], rules: Mapping[str, Rule]) -> list[Value]:
    name, parameters = equation.primitive.name, equation.params
    if name in _CALLS:
        inner = parameters[_CALLS[name]]
        return translated(graph, inner, inputs, rules)
    if name == "platform_index":
        return [constant(np.int32(parameters["platforms"].index(None)))]
    if name == "cond":
        choice = inputs[0]
        if isinstance(choice, Complex) or choice.array is None:
            raise not_translated("a choice that depends on the waveform")
        return translated(graph, parameters["branches"][int(choice.array)], inputs[1:], rules)
    known = [tensor.array for tensor in inputs if isinstance(tensor, Tensor) and tensor.array is not None]
    if len(known) == len(inputs) and _may_be_folded(equation):
        shapes = [atom.aval.shape for atom in equation.invars]
        whole = [np.broadcast_to(array, shape) for array, shape in zip(known, shapes, strict=True)]
        return [constant(array) for array in folded(equation, whole)]
    if name not in rules:
        raise not_translated(f"the operation {name}")
    (out,) = equation.outvars
    if name not in _BROADCASTING:
        inputs = [_whole(graph, one, atom.aval.shape) for one, atom in zip(inputs, equation.invars, strict=True)]
    return [rules[name](graph, equation, inputs, out.aval.shape)]  # pyright: ignore[reportArgumentType]


def _may_be_folded(equation: Any) -> bool:
    sizes = [size for variable in equation.outvars for size in variable.aval.shape]
    return (
        equation.primitive.name not in ("dim_as_value", "fft")
        and is_fixed([*equation.invars, *equation.outvars])
        and int(np.prod(sizes)) <= _MOST
        and equation.primitive.name != "broadcast_in_dim"
    )


def _whole(graph: Graph, value: Value, shape: Shape) -> Value:
    return value if isinstance(value, Complex) else graph.repeated(value, shape)


_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}


def _each(operation: str) -> Rule:
    """An operation on every value alone."""

    def rule(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
        return graph.add(operation, inputs, _joint(inputs))

    return rule


def _joint(inputs: Sequence[Tensor]) -> Shape:
    """The shape that comes of shapes with ones where values are repeated."""
    shape = list(max((tensor.shape for tensor in inputs), key=len))
    for tensor in inputs:
        ahead = len(shape) - len(tensor.shape)
        for axis, size in enumerate(tensor.shape):
            if size != 1:
                shape[ahead + axis] = size
    return tuple(shape)


def _same(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Value:
    return inputs[0]


def _not_equal(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
    return graph.add("Not", [graph.add("Equal", inputs, _joint(inputs))], _joint(inputs))


def _square(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
    return graph.add("Mul", [inputs[0], inputs[0]], inputs[0].shape)


def _select(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
    which, when_false, when_true = inputs
    return graph.add("Where", [which, when_true, when_false], _joint(inputs))


def _remainder(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
    return graph.add("Mod", inputs, _joint(inputs), fmod=1)


def _clamped(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
    low, x, high = inputs
    return graph.add("Min", [graph.add("Max", [x, low], _joint([x, low])), high], _joint(inputs))


def _cast(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
    return graph.cast(inputs[0], equation.params["new_dtype"])


def _broadcast(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
    x, places = inputs[0], equation.params["broadcast_dimensions"]
    sizes: list[Any] = [1] * len(shape)
    for axis, place in enumerate(places):
        sizes[place] = x.shape[axis]
    return graph.reshaped(x, tuple(sizes))  # what is to be repeated is repeated where that is needed


def _reshape(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
    return graph.reshaped(inputs[0], shape)


def _transpose(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
    return graph.transposed(inputs[0], equation.params["permutation"])


def _concatenate(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
    return graph.add("Concat", inputs, shape, axis=equation.params["dimension"])


def _slice(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
    parameters = equation.params
    strides = parameters["strides"] or (1,) * len(shape)
    (x,) = inputs
    bounds = zip(parameters["start_indices"], parameters["limit_indices"], strides, x.shape, strict=True)
    cut = [
        (axis, *cuts[:3])
        for axis, cuts in enumerate(bounds)
        if not (cuts[0] == 0 and cuts[1] == cuts[3] and cuts[2] == 1)
    ]
    if not cut:
        return x
    axes, starts, ends, steps = zip(*cut, strict=True)
    arguments = [graph.integers(values) for values in (starts, ends, axes, steps)]
    return graph.add("Slice", [x, *arguments], shape)


def _reverse(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
    axes = equation.params["dimensions"]
    count = len(axes)
    first, last, step = [-1] * count, [np.iinfo(np.int64).min] * count, [-1] * count
    return graph.add("Slice", [inputs[0], *map(graph.integers, (first, last, axes, step))], shape)


def _pad(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
    x, fill = inputs
    before, after, between = zip(*equation.params["padding_config"], strict=True)
    if any(between) or min(*before, *after) < 0:
        raise not_translated("padding between values, or of less than nothing")
    if not any(before) and not any(after):
        return x
    return graph.add("Pad", [x, graph.integers([*map(int, before), *map(int, after)]), fill], shape)


def _iota(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
    (count,) = shape  # those of more dimensions have known sizes
    end = graph.reshaped(graph.size(count), ())
    numbers = graph.add("Range", [constant(np.int64(0)), end, constant(np.int64(1))], shape)
    return graph.cast(numbers, equation.params["dtype"])


def _size(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
    (out,) = equation.outvars
    return graph.cast(graph.reshaped(graph.size(equation.params["dim"]), ()), out.aval.dtype)


def _reduce(operation: str) -> Rule:
    def rule(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
        return graph.add(operation, [inputs[0], graph.integers(equation.params["axes"])], shape, keepdims=0)

    return rule


def _argmax(graph: Graph, equation: Any, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
    (axis,) = equation.params["axes"]
    return graph.cast(graph.add("ArgMax", inputs, shape, axis=axis, keepdims=0), equation.params["index_dtype"])


_EACH = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "max": "Max",
    "min": "Min",
    "neg": "Neg",
    "abs": "Abs",
    "sign": "Sign",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "logistic": "Sigmoid",
    "tanh": "Tanh",
    "pow": "Pow",
    "lt": "Less",
    "le": "LessOrEqual",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
    "eq": "Equal",
    "and": "And",
    "or": "Or",
    "not": "Not",
}

_ALONE: dict[str, Rule] = {
    **{name: _each(operation) for name, operation in _EACH.items()},
    **dict.fromkeys(("stop_gradient", "copy", "copy_p", "name", "optimization_barrier"), _same),
    "ne": _not_equal,
    "square": _square,
    "select_n": _select,
    "rem": _remainder,
    "clamp": _clamped,
    "convert_element_type": _cast,
    "broadcast_in_dim": _broadcast,
}
_BROADCASTING = frozenset(_ALONE) | {"real", "imag"}

SIMPLE: dict[str, Rule] = {
    **_ALONE,
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "transpose": _transpose,
    "concatenate": _concatenate,
    "slice": _slice,
    "rev": _reverse,
    "pad": _pad,
    "iota": _iota,
    "dim_as_value": _size,
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_max": _reduce("ReduceMax"),
    "argmax": _argmax,
}
