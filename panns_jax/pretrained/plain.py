"""Pickles of plain data, such as published statistics: containers, numbers, texts and NumPy arrays."""

import pickle
from pathlib import Path

from panns_jax.errors import InputError
from panns_jax.files import require_file
from panns_jax.pretrained.arrays import NUMPY
from panns_jax.pretrained.containers import PLAIN
from panns_jax.pretrained.pickles import read_pickle
from panns_jax.pretrained.vocabulary import Budget, Malformed

_FREE_MEMORY = 2 << 20
_EACH_BYTE = {False: 4, True: 16}
"""Memory that each byte of a file may ask for; more in protocols 0 and 1, which have no header."""


def read_plain_pickle(path: Path, kind: str) -> object:
    """Reads a pickle of which nothing is run.

    Args:
      path: the file.
      kind: what it is to be, such as "a statistics file".

    Raises:
      InputError: it is missing or damaged, or names anything but containers and arrays.
    """
    require_file(path, kind)
    data = memoryview(path.read_bytes())
    try:
        budget = Budget(_FREE_MEMORY + _EACH_BYTE[bytes(data[:1]) != pickle.PROTO] * len(data))
        return read_pickle(data, 0, {**PLAIN, **NUMPY}, budget, lines=True)[0]
    except Malformed as error:
        raise InputError(f"{path}: {error}") from error
