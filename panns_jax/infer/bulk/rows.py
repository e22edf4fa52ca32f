"""What is kept of one sound."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int64

from panns_jax.errors import InputError
from panns_jax.infer.files import HeardSound
from panns_jax.infer.sources import Source

StoredTap = Literal["embedding", "pooled", "frames", "logits"]
Dtype = Literal["float32", "float16"]

Stamp = tuple[int, int] | None
"""Size of a file, bytes, and when it was changed last, nanoseconds; None where there is no file."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of a sound: one, or one for each window.

    Attributes:
      start: seconds from the beginning of the sound.
      end: likewise.
      vectors: by tap: one for each row, or the steps of all rows one after another.
      steps: of each sequence among them, how many each row has.
    """

    start: Float[np.ndarray, " rows"]
    end: Float[np.ndarray, " rows"]
    vectors: Mapping[str, Float[np.ndarray, "vectors _"]]
    steps: Mapping[str, Int64[np.ndarray, " rows"]]


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of a sound.

    Attributes:
      stamp: of its file, before it was read.
      rows: None where it failed.
      failure: why, in a sentence; None where it did not.
    """

    stamp: Stamp
    rows: Rows | None
    failure: str | None = None


def stamp_of(source: Source) -> Stamp:
    """Of the file that a sound is read from."""
    path = getattr(source, "path", None)
    if path is None:
        return None
    try:
        found = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


def result_of(heard: HeardSound | InputError, stamp: Stamp, taps: Sequence[StoredTap], dtype: Dtype) -> Result:
    """What is kept of what a model made of a sound."""
    if isinstance(heard, InputError):
        return Result(stamp, None, str(heard))
    try:
        return Result(stamp, _rows(heard, taps, dtype))
    except InputError as error:
        return Result(stamp, None, str(error))


def _rows(sound: HeardSound, taps: Sequence[StoredTap], dtype: Dtype) -> Rows:
    vectors: dict[str, np.ndarray] = {}
    steps: dict[str, np.ndarray] = {}
    for tap in taps:
        arrays = [getattr(excerpt.heard, tap) for excerpt in sound.excerpts]
        if arrays[0].ndim == 2:
            steps[tap] = np.array([len(array) for array in arrays], np.int64)
            joined = np.concatenate(arrays)
        else:
            joined = np.stack(arrays)
        vectors[tap] = _as(joined, dtype, f"{sound.source.name}: {tap}")
    start = np.array([excerpt.start for excerpt in sound.excerpts])
    end = np.array([excerpt.end for excerpt in sound.excerpts])
    return Rows(start, end, vectors, steps)


def _as(array: np.ndarray, dtype: Dtype, what: str) -> np.ndarray:
    largest = float(np.finfo(dtype).max)
    peak = float(np.abs(array).max(initial=0.0))
    if peak > largest:
        raise InputError(f"{what} reaches {peak:g}, beyond what {dtype} holds; --dtype float32 does")
    return array.astype(dtype)
