"""NumPy arrays, scalars and dtypes inside pickles, as NumPy 1 and NumPy 2 write them."""

import math
import re
from collections.abc import Mapping
from typing import TypeGuard

import numpy as np

from panns_jax.pretrained.vocabulary import LIST_ENTRY, Budget, Builder, Known, Malformed, Unfinished

_MOST_DIMENSIONS = 32
# Booleans, integers, floats, complex numbers, fixed-length bytes and texts, Python objects; no records.
_DTYPE = re.compile(r"[biufcSU][1-9][0-9]{0,5}|O[48]")
_LAST_CHARACTER = 0x10FFFF


def checked_shape(shape: object, itemsize: int) -> tuple[int, ...]:
    """`shape`, if an array of it can exist at all.

    Raises:
      Malformed: it is no tuple of sizes, or one beyond any memory.
    """
    if not is_sizes(shape):
        raise Malformed("is damaged: the shape of an array is no row of sizes")
    # The sizes beside a 0 count as well: NumPy refuses what it cannot address.
    if math.prod(max(size, 1) for size in shape) * itemsize >= 1 << 62:
        raise Malformed("is damaged: an array is larger than any memory")
    return tuple(shape)


def is_sizes(value: object) -> TypeGuard[tuple[int, ...] | list[int]]:
    """Whether `value` is a tuple or list of at most 32 integers from 0 to 2**62."""
    return (
        isinstance(value, tuple | list)
        and len(value) <= _MOST_DIMENSIONS
        and all(type(size) is int and 0 <= size < 1 << 62 for size in value)
    )


class _Dtype(Unfinished):
    def __init__(self, code: str):
        super().__init__()
        if not _DTYPE.fullmatch(code):
            raise Malformed(f"holds an array of dtype {code[:20]!a}; numbers, booleans, texts and objects are read")
        try:
            self.dtype = np.dtype(object if code[0] == "O" else code)
        except TypeError as error:
            raise Malformed(f"holds an array of dtype {code!r}, which NumPy does not have here") from error

    def finish(self, state: object, budget: Budget) -> np.dtype:
        match state:
            case (int(), str() as order, None, None, None, *_) if order in ("<", ">", "|", "="):
                return self.dtype.newbyteorder(order)
        raise Malformed("holds an array of records, which no checkpoint needs")


class _Array(Unfinished):
    def finish(self, state: object, budget: Budget) -> np.ndarray:
        match state:
            case (int(), shape, np.dtype() as dtype, bool() | int() as fortran, bytes() | str() as raw):
                return _filled(_content(raw, budget), dtype, shape, "F" if fortran else "C")
            case (int(), shape, np.dtype(kind="O"), bool() | int(), list() as values):
                return _of_objects(values, shape, budget)
        raise Malformed("is damaged: an array without shape, dtype and content")


def _content(raw: bytes | str, budget: Budget) -> bytes:
    if isinstance(raw, bytes):
        return raw
    if not raw.isascii():  # Python 2 wrote the bytes of an array as a text, which is kept as one if it is ASCII
        raise Malformed("is damaged: the content of an array is no bytes")
    budget.charge(len(raw))
    return raw.encode("ascii")


def _filled(raw: bytes, dtype: np.dtype, shape: object, order: str) -> np.ndarray:
    if dtype.hasobject:
        raise Malformed("is damaged: an array of objects made of bytes")  # they would be addresses
    sizes = checked_shape(shape, dtype.itemsize)
    wanted = math.prod(sizes) * dtype.itemsize
    if len(raw) != wanted:
        raise Malformed(f"is damaged: an array of {wanted} bytes has {len(raw)}")
    if not wanted:
        return np.empty(sizes, dtype)
    if dtype.kind == "U" and np.frombuffer(raw, f"{dtype.str[0]}u4").max() > _LAST_CHARACTER:
        raise Malformed("is damaged: an array of texts with characters that do not exist")
    return np.ndarray(sizes, dtype, buffer=raw, order="F" if order == "F" else "C")


def _of_objects(values: list[object], shape: object, budget: Budget) -> np.ndarray:
    sizes = checked_shape(shape, np.dtype(object).itemsize)
    if math.prod(sizes) != len(values):
        raise Malformed(f"is damaged: an array of {math.prod(sizes)} objects has {len(values)}")
    # Python takes nested lists apart step by step; arrays directly in arrays would overflow the interpreter's stack.
    if any(isinstance(value, np.ndarray) and value.dtype.hasobject for value in values):
        raise Malformed("holds arrays of objects in one another, which no checkpoint needs")
    budget.charge(LIST_ENTRY * len(values))
    array = np.empty(len(values), object)
    for i, value in enumerate(values):
        array[i] = value
    return array.reshape(sizes)


def _dtype(arguments: tuple[object, ...], budget: Budget) -> _Dtype:
    match arguments:
        case (str() as code, *_):
            return _Dtype(code)
    raise Malformed("is damaged: a dtype without a name")


def _reconstruct(arguments: tuple[object, ...], budget: Budget) -> _Array:
    match arguments:
        case (Known(name="numpy.ndarray"), _, _):
            return _Array()
    raise Malformed("builds an array of a class of its own, which no checkpoint needs")


def _scalar(arguments: tuple[object, ...], budget: Budget) -> object:
    match arguments:
        case (np.dtype() as dtype, bytes() | str() as raw):
            budget.charge(len(raw))
            return _filled(_content(raw, budget), dtype, (), "C")[()]
    raise Malformed("is damaged: a number without dtype and content")


def _from_buffer(arguments: tuple[object, ...], budget: Budget) -> np.ndarray:
    """Protocol 5."""
    match arguments:
        case (bytes() as raw, np.dtype() as dtype, shape, str("C" | "F") as order):
            return _filled(raw, dtype, shape, order)
        case (bytes() as raw, np.dtype() as dtype, shape, str("K"), axes) if is_sizes(axes):
            array = _filled(raw, dtype, shape, "C")
            if sorted(axes) == list(range(array.ndim)):
                return array.transpose(axes)
    raise Malformed("is damaged: an array without content, dtype and shape")


_BUILDERS: Mapping[str, Builder] = {
    "multiarray._reconstruct": _reconstruct,
    "multiarray.scalar": _scalar,
    "numeric._frombuffer": _from_buffer,
}

NUMPY: Mapping[str, Known] = {
    "numpy.ndarray": Known("numpy.ndarray"),
    "numpy.dtype": Known("numpy.dtype", _dtype),
    **{
        f"{module}.{name}": Known(f"{module}.{name}", build)
        for module in ("numpy.core", "numpy._core")  # NumPy 1, NumPy 2
        for name, build in _BUILDERS.items()
    },
}
"""The names behind arrays, scalars and dtypes."""
