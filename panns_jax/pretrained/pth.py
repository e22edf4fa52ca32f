"""PyTorch checkpoints (`.pth`) read without PyTorch, and without running anything that they contain.

Both formats of `torch.save` are read: the stream of pickles of PyTorch 1.0 to 1.5, which ends with the raw storages,
and the zip archive since. The file is mapped, and tensors are read-only views of it: what is read beside them is
limited by the size of the file (see `vocabulary.Budget`), whatever the file declares.
"""

import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from panns_jax.errors import InputError
from panns_jax.files import require_file
from panns_jax.pretrained import archive
from panns_jax.pretrained.arrays import NUMPY
from panns_jax.pretrained.containers import PLAIN
from panns_jax.pretrained.pickles import read_pickle
from panns_jax.pretrained.tensors import TORCH, FindStorage, Reference, Storage, elements_of, parse_reference
from panns_jax.pretrained.vocabulary import Budget, Known, Malformed, printable

_KNOWN: Mapping[str, Known] = {**PLAIN, **NUMPY, **TORCH}
_STREAM_MAGIC = 0x1950A86A20F9469CFC6C
_STREAM_VERSION = 1001
_FREE_MEMORY = 2 << 20


def read_pth(path: str | os.PathLike[str]) -> dict[Any, Any]:
    """Reads what `torch.save` wrote of a dict: weights, and whatever plain containers and arrays are beside them.

    Args:
      path: a file in either format.

    Returns:
      The dict. Tensors are NumPy arrays of their own dtype (bfloat16 that of `ml_dtypes`), read-only and mapped: the
      file must neither change nor, on Windows, be deleted while they are used. OrderedDicts are dicts, parameters
      tensors. Containers may contain themselves.

    Raises:
      InputError: there is no such file; it is no checkpoint, cut short or damaged; it refers to anything but tensors,
        arrays and containers; or it asks for much more memory than twice its size.
    """
    path = Path(path)
    data = _mapped(path)
    try:
        contents = _read_archive(data) if data[:4] == archive.MAGIC else _read_stream(data)
    except Malformed as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(contents, dict):
        raise InputError(f"{path}: holds a {type(contents).__name__}, not a table of weights")
    return contents


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads the weights of a `.pth`: its entry "model", or all of it where it is a bare state dict.

    Args:
      path: a file as `read_pth` reads.

    Returns:
      Arrays by name in PyTorch's layouts and the file's order, without the prefix "module." that
      `torch.nn.DataParallel` puts before all names.

    Raises:
      InputError: as `read_pth`, or the file holds no weights.
    """
    contents = read_pth(path)
    weights = contents.get("model", contents)
    if not isinstance(weights, dict) or not weights:
        raise InputError(f'{path}: its entry "model" holds no weights')
    others = [
        f"{name!a:.60} ({type(value).__name__})" for name, value in weights.items() if not _is_weight(name, value)
    ]
    if others:
        listed = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
        what = (
            'its entry "model" holds'
            if "model" in contents
            else 'it has no entry "model", and is no state dict: it holds'
        )
        raise InputError(f"{path}: {what} {listed} where only named tensors are expected")
    if all(name.startswith("module.") for name in weights):
        return {name.removeprefix("module."): value for name, value in weights.items()}
    return dict(weights)


def _is_weight(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, np.ndarray)


def _mapped(path: Path) -> memoryview:
    require_file(path, "a .pth file")
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise InputError(f"{path}: is empty")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _budget(data: memoryview) -> Budget:
    # Twice the file is what NumPy arrays in a pickle of protocol 2 take, as texts and then as bytes; three times with
    # the mapped pages themselves.
    return Budget(_FREE_MEMORY + 2 * len(data))


def _read_archive(data: memoryview) -> object:
    parts = archive.Archive(data)
    big_endian = "byteorder" in parts and bytes(parts.read("byteorder")) == b"big"
    budget = _budget(data)
    found: dict[tuple[str, np.dtype], Storage] = {}

    def find(reference: Reference) -> Storage:
        # Asked for by every tensor: each checksum is computed once.
        key = (reference.key, reference.dtype)
        if key not in found:
            raw = parts.read(f"data/{reference.key}")
            budget.charge(len(raw) if big_endian else 0)
            found[key] = Storage(elements_of(reference, raw, big_endian=big_endian))
        return found[key]

    value, _ = _read(parts.read("data.pkl"), 0, budget, find)
    return value


def _read_stream(data: memoryview) -> object:
    if data[:1] != b"\x80":
        _refuse_foreign()
    budget = _budget(data)
    magic, position = read_pickle(data, 0, PLAIN, budget)
    if magic != _STREAM_MAGIC:
        _refuse_foreign()
    version, position = read_pickle(data, position, PLAIN, budget)
    if version != _STREAM_VERSION:
        shown = version if isinstance(version, int) else "unknown"
        raise Malformed(f"is in version {shown} of PyTorch's old format; {_STREAM_VERSION} is read")
    _, start = read_pickle(data, position, PLAIN, budget)  # sizes and byte order of the machine, of no consequence

    # The storages lie behind the pickle that refers to them, and it alone says how long they are: so it is read twice,
    # first for the storages that it names.
    named: dict[str, Reference] = {}

    def note(reference: Reference) -> Storage:
        other = named.setdefault(reference.key, reference)
        if (other.dtype, other.size) != (reference.dtype, reference.size):
            raise Malformed(f"is damaged: it describes the storage {printable(reference.key)} in two ways")
        return Storage(None)

    _, end = _read(data, start, _budget(data), note)
    keys, end = read_pickle(data, end, PLAIN, budget)
    storages = _read_storages(data, end, keys, named)

    def find(reference: Reference) -> Storage:
        elements = storages[reference.key]
        if reference.view is not None:
            _, first, count = reference.view
            if min(first, count) < 0 or first + count > len(elements):
                raise Malformed(f"is damaged: a view reaches beyond its storage {printable(reference.key)}")
            elements = elements[first : first + count]
        return Storage(elements)

    value, _ = _read(data, start, _budget(data), find)
    return value


def _read_storages(data: memoryview, position: int, keys: object, named: dict[str, Reference]) -> dict[str, np.ndarray]:
    if (
        not isinstance(keys, list)
        or len(keys) != len(named)
        or not all(isinstance(key, str) for key in keys)
        or {*keys} != named.keys()
    ):
        raise Malformed("is damaged: the list of its storages does not match its tensors")
    storages: dict[str, np.ndarray] = {}
    for key in keys:
        reference = named[key]
        content = position + 8
        end = content + reference.num_bytes
        if end > len(data):
            raise Malformed(
                f"is cut short: the storage {printable(key)} of {reference.num_bytes} bytes begins at byte {content}, "
                f"and the file ends at byte {len(data)}"
            )
        size = int.from_bytes(data[position:content], "little")
        if size != reference.size:
            raise Malformed(f"is damaged: the storage {printable(key)} of {reference.size} elements announces {size}")
        storages[key] = elements_of(reference, data[content:end])
        position = end
    return storages


def _read(data: memoryview, start: int, budget: Budget, find: FindStorage) -> tuple[object, int]:
    return read_pickle(data, start, _KNOWN, budget, persistent=lambda value: find(parse_reference(value)))


def _refuse_foreign() -> NoReturn:
    raise Malformed("is no PyTorch checkpoint: it begins like neither of the two formats of torch.save")
