"""Vectors read back, in whichever form they are stored."""

import contextlib
import dataclasses
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from panns_jax.errors import InputError
from panns_jax.infer.vectors.table import Table, form_of, offsets_of


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Vectors of many sounds, in memory: a row for each sound, or for each window of each.

    Attributes:
      names: of the sound of each row.
      arrays: by tap: "embedding" (N, D), for example; of a sequence, such as "frames", the steps of all rows (S, D).
      offsets: of each sequence: row i has arrays["frames"][offsets["frames"][i] : offsets["frames"][i + 1]].
      start: of each row's window, seconds; None where each row is a whole sound.
      end: likewise.
      attributes: what holds for all: "model", "sample_rate", "checkpoint", …
    """

    names: list[str]
    arrays: Mapping[str, Float[np.ndarray, "vectors _"]]
    offsets: Mapping[str, Int64[np.ndarray, " rows_and_one"]]
    start: Float[np.ndarray, " rows"] | None
    end: Float[np.ndarray, " rows"] | None
    attributes: Mapping[str, Any]


def read_vectors(path: str | os.PathLike[str], taps: Collection[str] | None = None) -> Vectors:
    """Reads what `panns-jax embed` wrote, whole.

    >>> vectors = read_vectors("vectors.h5")
    >>> dict(zip(vectors.names, vectors.arrays["embedding"]))

    Args:
      path: a file that ends in .h5, .hdf5, .npz or .parquet, or a folder.
      taps: what is read of the arrays; all where it is None.

    Raises:
      InputError: it is not there, damaged, something else, or has no such tap.
    """
    with open_vectors(path) as table:
        for tap in taps or ():
            if tap not in table.taps:
                raise InputError(f"{path}: has no {tap!r}, only {', '.join(table.taps)}")
        wanted = table.taps if taps is None else taps
        rows = len(table.names)
        steps = {tap: table.taps[tap].steps for tap in wanted}
        return Vectors(
            list(table.names),
            {tap: table.read(tap, 0, rows) for tap in wanted},
            {tap: offsets_of(counts) for tap, counts in steps.items() if counts is not None},
            table.start,
            table.end,
            dict(table.attributes),
        )


@contextlib.contextmanager
def open_vectors(path: str | os.PathLike[str]) -> Iterator[Table]:
    """Opens what `panns-jax embed` wrote, to read some of it at a time.

    Args:
      path: as for `read_vectors`.

    Raises:
      InputError: it is not there, damaged, or something else.
    """
    path = Path(path)
    match form_of(path):
        case "h5":
            from panns_jax.data.hdf5 import reading
            from panns_jax.infer.vectors.hdf5 import Hdf5Table

            with reading(path) as file:
                yield Hdf5Table(path, file)
        case "npz":
            from panns_jax.infer.vectors.npz import NpzTable

            yield NpzTable(path)
        case "parquet":
            from panns_jax.infer.vectors.parquet import ParquetTable

            yield ParquetTable(path)
        case "folder":
            from panns_jax.infer.vectors.folder import FolderTable

            yield FolderTable(path)
