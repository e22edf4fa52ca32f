"""PyTorch's tensors inside pickles: views of storages that lie elsewhere in the file."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import ml_dtypes
import numpy as np

from panns_jax.pretrained.arrays import checked_shape, is_sizes
from panns_jax.pretrained.vocabulary import Budget, Known, Malformed, printable

_DTYPES: Mapping[str, np.dtype] = {
    "Double": np.dtype(np.float64),
    "Float": np.dtype(np.float32),
    "Half": np.dtype(np.float16),
    "BFloat16": np.dtype(ml_dtypes.bfloat16),
    "Long": np.dtype(np.int64),
    "Int": np.dtype(np.int32),
    "Short": np.dtype(np.int16),
    "Char": np.dtype(np.int8),
    "Byte": np.dtype(np.uint8),
    "Bool": np.dtype(np.bool_),
}
_UNTYPED = "torch.storage.UntypedStorage"
# dtypes that have no storage class: PyTorch stores their bytes and names the dtype (`_rebuild_tensor_v3`).
_NAMED_DTYPES: Mapping[str, np.dtype] = {f"torch.{name}": np.dtype(name) for name in ("uint16", "uint32", "uint64")}


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """What a pickle says of a storage (its "persistent id").

    Attributes:
      key: name of the storage in the file.
      dtype: of its elements; uint8 where it is untyped.
      size: number of elements.
      view: of the old format, where the storage is a part of the one named `key`: (key, first element, elements).
    """

    key: str
    dtype: np.dtype
    size: int
    view: tuple[str, int, int] | None = None

    @property
    def num_bytes(self) -> int:
        return self.size * self.dtype.itemsize


@dataclasses.dataclass(frozen=True, eq=False)
class Storage:
    """A storage found: its elements, or None while the places of the storages are still unknown."""

    elements: np.ndarray | None


def parse_reference(persistent_id: object) -> Reference:
    """Reads a persistent id: ("storage", class, key, device, elements), and in the old format a view or None.

    Raises:
      Malformed: it is something else, such as the source code of a module.
    """
    match persistent_id:
        case (str("storage"), Known(name=name), str() as key, str(), int() as size, *rest) if (
            name in STORAGES and size >= 0
        ):
            dtype = STORAGES[name]
            match rest:
                case [] | [None]:
                    return Reference(key, dtype, size)
                case [(str() as view_key, int() as first, int() as count)]:
                    return Reference(key, dtype, size, (view_key, first, count))
        case (str("module"), *_):
            raise Malformed(
                "holds a whole PyTorch module with its code, not a table of weights; "
                "save module.state_dict() with PyTorch instead"
            )
    raise Malformed("is damaged: a tensor refers to no storage")


def elements_of(reference: Reference, raw: memoryview, *, big_endian: bool = False) -> np.ndarray:
    """The elements of a storage, mapped: (reference.size,), read-only.

    Raises:
      Malformed: `raw` is not as long as the reference says.
    """
    if len(raw) != reference.num_bytes:
        raise Malformed(
            f"is damaged: the storage {printable(reference.key)} of {reference.num_bytes} bytes has {len(raw)}"
        )
    if not reference.size:
        return np.empty(0, reference.dtype)
    if not big_endian or reference.dtype.itemsize == 1:
        return np.frombuffer(raw, reference.dtype)
    words = np.frombuffer(raw, np.dtype(f">u{reference.dtype.itemsize}"))
    return words.astype(words.dtype.newbyteorder("=")).view(reference.dtype)


def _view(storage: object, first: object, shape: object, strides: object, budget: Budget) -> np.ndarray | None:
    if not isinstance(storage, Storage):
        raise Malformed("is damaged: a tensor without a storage")
    elements = storage.elements
    if elements is None:
        return None
    sizes = checked_shape(shape, elements.itemsize)
    if not is_sizes(strides) or len(strides) != len(sizes) or not is_sizes((first,)) or not isinstance(first, int):
        raise Malformed("is damaged: a tensor whose strides do not fit its shape")
    count = math.prod(sizes)
    if not count:
        return np.empty(sizes, elements.dtype)
    # A stride along one element is never used, and can be anything.
    steps = [0 if size == 1 else stride for size, stride in zip(sizes, strides, strict=True)]
    last = first + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
    if last >= len(elements):
        raise Malformed(f"is damaged: a tensor of shape {sizes} reaches beyond its storage of {len(elements)} elements")
    # An expanded tensor (stride 0) is larger than what it takes in the file.
    budget.charge(max(count - len(elements), 0) * elements.itemsize)
    byte_steps = [step * elements.itemsize for step in steps]
    return np.lib.stride_tricks.as_strided(elements[first:], sizes, byte_steps, writeable=False)


def _rebuild_tensor(arguments: tuple[object, ...], budget: Budget) -> np.ndarray | None:
    match arguments:
        case (storage, first, shape, strides, *rest):
            _require_plain(rest[2:])  # behind requires_grad and hooks
            return _view(storage, first, shape, strides, budget)
    raise Malformed("is damaged: a tensor without storage, shape and strides")


def _rebuild_tensor_v3(arguments: tuple[object, ...], budget: Budget) -> np.ndarray | None:
    match arguments:
        case (Storage() as storage, first, shape, strides, _, _, Known(name=name), *rest) if name in _NAMED_DTYPES:
            _require_plain(rest)
            if storage.elements is not None:
                dtype = _NAMED_DTYPES[name]
                if storage.elements.nbytes % dtype.itemsize:
                    raise Malformed("is damaged: a storage holds a part of an element")
                storage = Storage(storage.elements.view(dtype))
            return _view(storage, first, shape, strides, budget)
    raise Malformed("is damaged: a tensor without storage, shape, strides and dtype")


def _require_plain(metadata: list[object]) -> None:
    """Refuses tensors marked as to be negated or conjugated: their numbers are not those in the file."""
    match metadata:
        case [] | [None]:
            return
        case [dict() as marks] if not marks:
            return
    raise Malformed("holds a tensor to be negated when it is read, which no checkpoint of weights needs")


def _rebuild_parameter(arguments: tuple[object, ...], budget: Budget) -> np.ndarray | None:
    match arguments:
        case (np.ndarray() | None as tensor, _, _):
            return tensor
    raise Malformed("is damaged: a parameter without a tensor")


def _size(arguments: tuple[object, ...], budget: Budget) -> tuple[object, ...]:
    match arguments:
        case (tuple() as sizes,):
            return sizes
    raise Malformed("is damaged: a torch.Size of something else than sizes")


STORAGES: Mapping[str, np.dtype] = {
    # Old files name the classes of CUDA; where a tensor lay when it was saved does not matter here.
    **{f"{module}.{name}Storage": dtype for name, dtype in _DTYPES.items() for module in ("torch", "torch.cuda")},
    _UNTYPED: np.dtype(np.uint8),
}

TORCH: Mapping[str, Known] = {
    **{name: Known(name) for name in (*STORAGES, *_NAMED_DTYPES)},
    **{
        name: Known(name, build)
        for name, build in {
            "torch._utils._rebuild_tensor": _rebuild_tensor,
            "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
            "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
            "torch._utils._rebuild_parameter": _rebuild_parameter,
            "torch.Size": _size,
        }.items()
    },
}
"""The names behind tensors."""

FindStorage = Callable[[Reference], Storage]
