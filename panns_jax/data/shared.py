"""A sequence whose arrays worker processes read in one piece of memory, instead of each holding a copy."""

import mmap
import os
import pickle
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, SupportsIndex, TypeVar, runtime_checkable

Item = TypeVar("Item", covariant=True)

_LEAST_BYTES = 1 << 16  # smaller arrays travel with the rest
_ALIGNMENT = 64


@runtime_checkable
class Items(Protocol[Item]):
    """What a worker process asks a sequence for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: SupportsIndex) -> Item: ...


class Shared(Items[Item]):
    """A sequence; pickled and unpickled in another process of this machine, it is the sequence itself again.

    There its large arrays cannot be written to and lie in memory that all such processes share (Linux; elsewhere each
    gets a copy). The memory is given back when this object is gone, those processes have ended, or all were killed.
    """

    def __init__(self, items: Items[Item]) -> None:
        self._items = items
        # At once, as several threads may pickle this at the same time.
        self._state = self._share() if can_share() else None

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: SupportsIndex) -> Item:
        return self._items[index]

    def __reduce__(self) -> tuple[Any, ...]:
        return (_itself, (self._items,)) if self._state is None else (_mapped, self._state)

    def _share(self) -> tuple[bytes, str, list[tuple[int, int]]]:
        """The sequence without its large arrays, where these are, and at which bytes each begins and ends."""
        arrays: list[memoryview] = []

        def keeps_in_place(buffer: pickle.PickleBuffer) -> bool:
            view = buffer.raw()
            if view.nbytes < _LEAST_BYTES:
                return True
            arrays.append(view)
            return False

        pickled = pickle.dumps(self._items, protocol=5, buffer_callback=keeps_in_place)
        # Memory with a descriptor and no name: nothing is left behind, in whatever way the process ends.
        descriptor = os.memfd_create("panns_jax")
        weakref.finalize(self, os.close, descriptor)
        places: list[tuple[int, int]] = []
        with open(descriptor, "wb", closefd=False) as file:
            for array in arrays:
                file.seek(-(-file.tell() // _ALIGNMENT) * _ALIGNMENT)
                begin = file.tell()
                file.write(array)
                places.append((begin, file.tell()))
        return pickled, f"/proc/{os.getpid()}/fd/{descriptor}", places


def can_share() -> bool:
    """Whether processes can share memory that has a descriptor and no name, as on Linux."""
    return hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir()


def _itself(items: Items[Item]) -> Items[Item]:
    return items


def _mapped(pickled: bytes, path: str, places: Sequence[tuple[int, int]]) -> Any:
    if not places:
        return pickle.loads(pickled)
    with Path(path).open("rb") as file:
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return pickle.loads(pickled, buffers=[whole[begin:end] for begin, end in places])
