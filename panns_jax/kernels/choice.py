"""Which kernel is the fastest for a convolution, from a table of measurements (`choices.json`).

`scripts/bench/tune.py` measures and rewrites the table. A shape that is not in it gets what is fastest for the most
similar one that is.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Iterable, Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from panns_jax.kernels import processor
from panns_jax.kernels.kernel import DIRECT, KERNELS, Kernel
from panns_jax.kernels.shape import ConvShape

# What a kernel's time depends on, and how much its rank among others does. Of two shapes with the same places, that of
# fewer and larger images is another one to XLA's loops.
_SIZES = {"places": 1.0, "in_channels": 1.0, "out_channels": 1.0, "batch": 0.35}

# What a kernel holds takes room in caches, which a measurement of it alone does not show: share of its time for each
# number that it holds for one of the kernel's.
_COST_OF_GROWTH = 0.02

# Share of the time of the fastest kernels up to which others are taken beside which what is held can stay. For Cnn14
# this share is at most 1.3; to transform its weights takes as long as to hear 20 s of sound.
_WORTH_KEEPING = 1.5


@dataclasses.dataclass(frozen=True)
class Measured:
    """One row of the table.

    Attributes:
      shape: what was convolved.
      milliseconds: by name of the kernel, weights transformed beforehand.
    """

    shape: ConvShape
    milliseconds: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Choice:
    """A kernel for a convolution."""

    kernel: Kernel
    shape: ConvShape

    @property
    def nbytes(self) -> int:
        """Bytes of the weights that the kernel holds beside those that the layer has; 0 where it reads these."""
        return round(self.kernel.growth(self.shape) * self.shape.weights * jnp.dtype(self.shape.dtype).itemsize)

    def transform(self, kernel: Float[Array, "*window in_channels out_channels"]) -> tuple[Array, ...]:
        """What the kernel reads, in the type that it multiplies in."""
        dtype = jnp.dtype(self.shape.dtype)
        return tuple(array.astype(dtype) for array in _transform(kernel, self.kernel, self.shape))


@functools.partial(jax.jit, static_argnames=("by", "shape"))
def _transform(kernel: Array, by: Kernel, shape: ConvShape) -> tuple[Array, ...]:
    return by.transform(kernel, shape)


K = TypeVar("K")


def choose(
    shapes: Mapping[K, ConvShape],
    limit: float,
    *,
    platform: str,
    held: Mapping[K, Mapping[str, int]] = MappingProxyType({}),
) -> dict[K, Choice]:
    """A kernel for each convolution of a model.

    Args:
      shapes: what is to be convolved.
      limit: bytes that all of them together may hold beside the layers' own weights; as much is saved as needed,
        where it is most.
      platform: XLA's own kernels are taken on all but "cpu".
      held: what is held already and had better stay, for each convolution: bytes by name of the kernel. It counts in
        `limit` unless the kernels that let it stay take much longer.
    """
    if platform != "cpu" or not all(shape.is_fixed for shape in shapes.values()):
        return {key: Choice(DIRECT, shape) for key, shape in shapes.items()}
    fastest = _within(limit, shapes, {})
    room = limit - sum(sum(sizes.values()) for sizes in held.values())
    beside = _within(room, shapes, held)
    return beside if _milliseconds(beside) <= _WORTH_KEEPING * _milliseconds(fastest) else fastest


def _within(limit: float, shapes: Mapping[K, ConvShape], held: Mapping[K, Mapping[str, int]]) -> dict[K, Choice]:
    """The fastest kernels that hold no more than `limit` bytes beside what is held."""
    ranks = {key: [Choice(kernel, shape) for kernel in ranked(shape)] for key, shape in shapes.items()}

    def added(key: K, choice: Choice) -> int:
        return 0 if choice.kernel.name in held.get(key, ()) else choice.nbytes

    while sum(added(key, rank[0]) for key, rank in ranks.items()) > limit:
        largest = max(ranks, key=lambda key: added(key, ranks[key][0]))
        most = added(largest, ranks[largest][0])
        if not most:
            break  # more is held than may be
        ranks[largest] = [choice for choice in ranks[largest][1:] if added(largest, choice) < most]
    return {key: rank[0] for key, rank in ranks.items()}


def _milliseconds(choices: Mapping[Any, Choice]) -> float:
    return sum(times(choice.shape).get(choice.kernel, 0.0) for choice in choices.values())


def ranked(shape: ConvShape, *, level: str | None = None) -> tuple[Kernel, ...]:
    """The kernels for `shape` that are no slower than XLA's own, fastest first; the last one is XLA's own.

    Args:
      shape: what is to be convolved.
      level: kind of processor; that of this machine where none is given.
    """
    known = times(shape, level=level)
    faster = [kernel for kernel in known if known[kernel] < known[DIRECT]]
    return (*sorted(faster, key=known.__getitem__), DIRECT)


def times(shape: ConvShape, *, level: str | None = None) -> Mapping[Kernel, float]:
    """Milliseconds that each kernel is expected to take, from those of the most similar shape that was measured.

    Only XLA's own kernel is there where none is similar. What a kernel holds counts as time, a little.

    Args:
      shape: what is to be convolved.
      level: kind of processor; that of this machine where none is given.
    """
    return _times(shape, processor.level() if level is None else level)


@functools.cache
def _times(shape: ConvShape, level: str) -> Mapping[Kernel, float]:
    if shape.places == 0:
        return {DIRECT: 0.0}
    nearest = min(_table(level), key=lambda row: distance(row.shape, shape), default=None)
    if nearest is None or math.isinf(distance(nearest.shape, shape)):
        return {DIRECT: 0.0}
    work = shape.places * shape.weights / (nearest.shape.places * nearest.shape.weights)
    return {
        KERNELS[name]: work * time * (1 + _COST_OF_GROWTH * KERNELS[name].growth(shape))
        for name, time in nearest.milliseconds.items()
        if name in KERNELS and KERNELS[name].suits(shape)
    }


def distance(one: ConvShape, other: ConvShape) -> float:
    """How different two shapes are: in factors of two of their sizes.

    Infinite where not the same kernels can do both.
    """
    if _kind(one) != _kind(other):
        return math.inf
    return sum(weight * abs(math.log2(getattr(one, size) / getattr(other, size))) for size, weight in _SIZES.items())


def _kind(shape: ConvShape) -> tuple[object, ...]:
    # An image of one or two mels has algorithms of its own.
    narrow = shape.space[1] if len(shape.space) == 2 and shape.space[1] <= 2 else 0
    one_channel = shape.in_channels == 1
    return shape.window, shape.stride, shape.dilation, shape.keeps_size, shape.dtype, narrow, one_channel


@functools.cache
def _table(level: str) -> tuple[Measured, ...]:
    """The rows for a kind of processor, or for the one that is tabled and most like it."""
    tables = read_tables()
    nearest = next((name for name in (level, "avx512", *tables) if name in tables), None)
    return () if nearest is None else tuple(tables[nearest])


def gain(dtype: str, *, level: str | None = None) -> float | None:
    """How many times as fast as float32 a type was measured to be, on a kind of processor itself.

    Args:
      dtype: of input and result, such as "bfloat16".
      level: kind of processor; that of this machine where none is given.

    Returns:
      of all shapes that were measured in both, the times of the fastest kernels in sum; None where there are none.
    """
    best = {row.shape: min(row.milliseconds.values()) for row in _own_rows(level)}
    whole = {shape: dataclasses.replace(shape, dtype="float32") for shape in best if shape.dtype == dtype}
    pairs = [(best[shape], best[other]) for shape, other in whole.items() if other in best]
    return sum(other for _, other in pairs) / sum(time for time, _ in pairs) if pairs else None


def _own_rows(level: str | None) -> list[Measured]:
    return read_tables().get(processor.level() if level is None else level, [])


def read_tables() -> dict[str, list[Measured]]:
    """All rows, by kind of processor."""
    text = files("panns_jax.kernels").joinpath("choices.json").read_text(encoding="utf-8")
    return {name: [_row(row) for row in table["rows"]] for name, table in json.loads(text)["processors"].items()}


def _row(row: Mapping[str, Any]) -> Measured:
    sizes = {name: tuple(row["shape"][name]) for name in ("space", "window")}
    shape: dict[str, Any] = {**row["shape"], **sizes}
    return Measured(ConvShape(**shape), row["milliseconds"])


def rows_as_json(rows: Iterable[Measured]) -> list[dict[str, Any]]:
    """Rows as they stand in the table, in the order of their sizes."""
    ordered = sorted(rows, key=lambda row: (row.shape.window, row.shape.places, row.shape.in_channels, row.shape.dtype))
    return [{"shape": dataclasses.asdict(row.shape), "milliseconds": dict(row.milliseconds)} for row in ordered]
