"""Memory for batches, used again for a later batch once nobody holds the earlier one."""

import collections
import math
import weakref

import numpy as np


class Buffers:
    """Gives out arrays, and takes their memory back when they and all views of them are gone.

    Fresh memory takes longer to get than to fill: of 40 MB, the system clears every page first, one at a time. Many
    threads may ask at once. What was given back is kept as long as this object is.
    """

    def __init__(self) -> None:
        self._free: dict[int, collections.deque[np.ndarray]] = collections.defaultdict(collections.deque)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array whose values are whatever was there before."""
        size = math.prod(shape) * dtype.itemsize
        free = self._free[size]
        try:
            block = free.pop()
        except IndexError:
            block = np.empty(size, np.uint8)
        lease = _Lease(block, shape, dtype)
        weakref.finalize(lease, free.append, block).atexit = False
        return np.asarray(lease)


class _Lease:
    """What an array stands on, as do all views of it and of them: it goes when they all have gone."""

    def __init__(self, block: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (block.ctypes.data, False),
            "shape": shape,
            "typestr": dtype.str,
        }
