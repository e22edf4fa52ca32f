"""Memory for batches, used again for a later batch once nobody holds the earlier one.

Fresh memory takes longer to get than to fill: the system clears every page of a batch's 40 MB first, one at a time.
"""

import collections
import dataclasses
import math
import mmap
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Shape = tuple[int, ...]


class Buffers:
    """Gives out arrays to the threads of a process, and takes their memory back when they and all views are gone.

    What was given back is kept as long as this object is.
    """

    def __init__(self) -> None:
        self._free: dict[int, collections.deque[np.ndarray]] = collections.defaultdict(collections.deque)

    def empty(self, shape: Shape, dtype: np.dtype) -> np.ndarray:
        """An array whose values are whatever was there before."""
        size = math.prod(shape) * dtype.itemsize
        free = self._free[size]
        try:
            block = free.pop()
        except IndexError:
            block = np.empty(size, np.uint8)
        return _lent(block, shape, dtype, lambda: free.append(block))


@dataclasses.dataclass(frozen=True, slots=True)
class Filled:
    """A place of `Places` that a worker process has filled, and with what."""

    place: int
    shape: Shape
    dtype: np.dtype


class Places:
    """Memory that worker processes fill and the process that made it reads, which frees each place for the next batch.

    The places fall into groups, and each group is one worker's, so that no two fill the same place. Linux alone has the
    means: see `shared.can_share`.
    """

    def __init__(self, *, groups: int, in_each: int, size: int) -> None:
        """Reserves memory, none of which is taken until it is used.

        Args:
          groups: number of groups.
          in_each: places in each of them.
          size: bytes of a place.
        """
        count = groups * in_each
        page = mmap.PAGESIZE
        # Memory with a descriptor and no name: nothing is left behind, in whatever way the process ends.
        descriptor = os.memfd_create("panns_jax_batches")
        weakref.finalize(self, os.close, descriptor)
        self._groups, self._in_each = groups, in_each
        self._size = -(-max(size, 1) // page) * page
        self._flags_size = -(-count // page) * page
        os.truncate(descriptor, self._flags_size + count * self._size)
        self._path = f"/proc/{os.getpid()}/fd/{descriptor}"
        self._open()

    def _open(self) -> None:
        with Path(self._path).open("r+b") as file:
            whole = np.frombuffer(mmap.mmap(file.fileno(), 0), np.uint8)
        count = self._groups * self._in_each
        self._taken = whole[:count]  # 1 for the places that are being filled or read
        self._memory = whole[self._flags_size :].reshape(count, self._size)

    def claim(self, group: int, shape: Shape, dtype: np.dtype) -> Filled | None:
        """In a worker: a place to fill, of those of its group; None where all are taken, or too small."""
        first = group * self._in_each
        free = np.flatnonzero(self._taken[first : first + self._in_each] == 0)
        if not len(free) or math.prod(shape) * dtype.itemsize > self._size:
            return None
        place = first + int(free[0])  # the first, so that places that are never needed never take memory
        self._taken[place] = 1
        return Filled(place, shape, dtype)

    def array(self, filled: Filled) -> np.ndarray:
        """In a worker: the array to fill."""
        size = math.prod(filled.shape) * filled.dtype.itemsize
        return self._memory[filled.place][:size].view(filled.dtype).reshape(filled.shape)

    def free(self, filled: Filled) -> None:
        """Lets the place be filled again."""
        self._taken[filled.place] = 0

    def received(self, filled: Filled) -> np.ndarray:
        """In the process that reads: the array; its place is free again when it and all views of it are gone."""
        return _lent(self._memory[filled.place], filled.shape, filled.dtype, lambda: self.free(filled))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_taken", "_memory")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


class _Lease:
    """What an array stands on, as do all views of it and of them: it goes when they all have gone."""

    def __init__(self, block: np.ndarray, shape: Shape, dtype: np.dtype) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (block.ctypes.data, False),
            "shape": shape,
            "typestr": dtype.str,
        }


def _lent(block: np.ndarray, shape: Shape, dtype: np.dtype, give_back: Callable[[], None]) -> np.ndarray:
    """An array in a block of memory; `give_back` keeps the block alive, and is called when array and views are gone."""
    lease = _Lease(block, shape, dtype)
    weakref.finalize(lease, give_back).atexit = False
    return np.asarray(lease)
