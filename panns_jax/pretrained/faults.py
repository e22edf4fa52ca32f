"""Everything that is wrong with a table of weights, in one message."""

from collections.abc import Iterable, Mapping

import numpy as np

from panns_jax.errors import InputError
from panns_jax.pretrained.vocabulary import printable

_MOST_LISTED = 8
_PART = 1 << 16  # numbers that stay in a processor's cache


class Faults:
    """Collects what is wrong, by kind, and reports all of it at once."""

    def __init__(self) -> None:
        self._by_kind: dict[str, list[str]] = {}

    def add(self, kind: str, what: str) -> None:
        """Adds one fault; `kind` is a phrase such as "missing", `what` names the entry."""
        self._by_kind.setdefault(kind, []).append(what)

    def __len__(self) -> int:
        return sum(map(len, self._by_kind.values()))

    def require_none(self, source: str, hint: str = "") -> None:
        """Does nothing where there is no fault.

        Raises:
          InputError: all faults, the long lists cut and counted.
        """
        if not self:
            return
        kinds = "; ".join(f"{kind}: {_listed(whats)}" for kind, whats in self._by_kind.items())
        raise InputError(f"{source}: {len(self)} fault{'s' if len(self) > 1 else ''}: {kinds}{hint}")


def check_arrays(given: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, ...]], faults: Faults) -> None:
    """Compares names, shapes and kinds of numbers both ways, and looks for what is no finite number.

    Args:
      given: arrays by name.
      wanted: their shapes by name.
      faults: where the differences go.
    """
    check_shapes({name: array.shape for name, array in given.items()}, wanted, faults)
    for name in given.keys() & wanted.keys():
        array = given[name]
        if not is_floating(array.dtype):
            faults.add("not floating point", f"{printable(name)} ({array.dtype})")
        elif array.shape == wanted[name]:
            check_numbers(name, array, faults)


def check_numbers(name: str, array: np.ndarray, faults: Faults) -> None:
    """Looks for what is no finite number, and for variances that are none."""
    if not finite(array):
        faults.add("holds NaN or infinity", printable(name))
    elif name.endswith((".running_var", ".var")) and (array < 0).any():
        faults.add("holds negative variances", printable(name))


def check_shapes(given: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], faults: Faults) -> None:
    """Compares names and shapes both ways."""
    for name, shape in wanted.items():
        if name not in given:
            faults.add("missing", f"{name} {shape}")
        elif given[name] != shape:
            faults.add("of another shape", f"{name} {given[name]} instead of {shape}")
    for name, shape in given.items():
        if name not in wanted:
            faults.add("not part of the model", f"{printable(name)} {shape}")


def is_floating(dtype: np.dtype) -> bool:
    """Whether numbers of `dtype` become weights: float16, bfloat16, float32 or float64."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def finite(array: np.ndarray) -> bool:
    """Whether all numbers stay finite in float32; looks at a part at a time, as the array may be a large mapped one."""
    with np.errstate(over="ignore"):
        return all(bool(np.isfinite(part.astype(np.float32, copy=False)).all()) for part in _parts(array))


def _parts(array: np.ndarray) -> Iterable[np.ndarray]:
    if not array.flags.c_contiguous:
        return array if array.ndim > 1 else (array,)
    flat = array.reshape(-1)
    return (flat[start : start + _PART] for start in range(0, flat.size, _PART))


def _listed(whats: list[str]) -> str:
    shown = ", ".join(sorted(whats)[:_MOST_LISTED])
    more = len(whats) - _MOST_LISTED
    return f"{shown} and {more} more" if more > 0 else shown
