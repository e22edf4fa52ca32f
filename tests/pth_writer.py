"""Writes `.pth` files in both of PyTorch's formats without PyTorch, also such as it would never write.

`test_pth.py` compares what is written here with `torch.save` and `torch.load`, where PyTorch is installed.
"""

import collections
import dataclasses
import io
import itertools
import pickle
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import ml_dtypes
import numpy as np

STREAM_MAGIC = 0x1950A86A20F9469CFC6C

STORAGE_NAMES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}

DTYPES = {name: np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name) for name in STORAGE_NAMES}


@dataclasses.dataclass(frozen=True)
class Name:
    """A global that is written by its name; it need not exist here."""

    module: str
    name: str

    def __call__(self, *arguments: object) -> "Call":
        return Call(self, arguments)


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """What a pickle is to call when it is read."""

    function: Name
    arguments: tuple[object, ...]

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.function, self.arguments


@dataclasses.dataclass(eq=False)
class Storage:
    """A row of elements in the file; tensors are views of it."""

    elements: np.ndarray
    location: str = "cpu"
    size: int | None = None  # what the file says; None for the truth
    view: tuple[str, int, int] | None = None  # old format: a part of the storage, under a key of its own
    key: str = ""


def tensor(array: np.ndarray, *, location: str = "cpu") -> Call:
    """A tensor with a storage of its own."""
    flat = Storage(np.ascontiguousarray(array).reshape(-1), location)
    return view(flat, 0, array.shape, contiguous_strides(array.shape))


def view(storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Call:
    """A tensor that shows a part of a storage; strides count elements."""
    rebuild = Name("torch._utils", "_rebuild_tensor_v2")
    return rebuild(storage, offset, shape, strides, False, collections.OrderedDict())


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a tensor whose rows lie one after the other."""
    return tuple(itertools.accumulate(shape[:0:-1], lambda a, b: a * b, initial=1))[::-1] if shape else ()


def parameter(array: np.ndarray) -> Call:
    """A `torch.nn.Parameter`."""
    return Name("torch._utils", "_rebuild_parameter")(tensor(array), True, collections.OrderedDict())


def state_dict(weights: Mapping[str, np.ndarray]) -> collections.OrderedDict[str, Call]:
    """Weights by name, as tensors."""
    return collections.OrderedDict((name, tensor(array)) for name, array in weights.items())


_PythonPickler: Any = pickle._Pickler  # the one in Python can be taught to write names that do not exist here


class _Pickler(_PythonPickler):
    dispatch: ClassVar[dict[type, Callable[..., None]]] = dict(_PythonPickler.dispatch)

    def __init__(self, file: io.BytesIO, storages: dict[str, Storage], protocol: int, *, stream: bool):
        super().__init__(file, protocol)
        self.storages = storages
        self.stream = stream

    def persistent_id(self, obj: object) -> object:
        if not isinstance(obj, Storage):
            return None
        obj.key = obj.key or str(len(self.storages))
        self.storages[obj.key] = obj
        kind = Name("torch", STORAGE_NAMES[obj.elements.dtype.name])
        size = len(obj.elements) if obj.size is None else obj.size
        rest = (obj.view,) if self.stream else ()
        return ("storage", kind, obj.key, obj.location, size, *rest)

    def save_name(self, obj: Name) -> None:
        self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        self.memoize(obj)

    dispatch[Name] = save_name


def pickled(content: object, storages: dict[str, Storage], *, protocol: int = 2, stream: bool = False) -> bytes:
    """`content` as a pickle; the storages that it refers to are added to `storages`."""
    file = io.BytesIO()
    _Pickler(file, storages, protocol, stream=stream).dump(content)
    return file.getvalue()


def stream_bytes(content: object, *, protocol: int = 2) -> bytes:
    """A file in the old format: pickles, then raw storages."""
    storages: dict[str, Storage] = {}
    body = pickled(content, storages, protocol=protocol, stream=True)
    return stream_around(body, storages)


def stream_around(body: bytes, storages: Mapping[str, Storage] | None = None) -> bytes:
    """A file in the old format around a pickle that is given."""
    storages = storages or {}
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = [pickle.dumps(part, 2) for part in (STREAM_MAGIC, 1001, system)]
    tail = [pickle.dumps(list(storages), 2)]
    raw = [struct.pack("<q", len(storage.elements)) + storage.elements.tobytes() for storage in storages.values()]
    return b"".join([*head, body, *tail, *raw])


def zip_bytes(content: object, *, protocol: int = 2, big_endian: bool = False) -> bytes:
    """A file in the zip format."""
    storages: dict[str, Storage] = {}
    return zip_around(pickled(content, storages, protocol=protocol), storages, big_endian=big_endian)


def zip_around(body: bytes, storages: Mapping[str, Storage] | None = None, *, big_endian: bool = False) -> bytes:
    """A file in the zip format around a pickle that is given."""
    parts = {"data.pkl": body, ".format_version": b"1", "byteorder": b"big" if big_endian else b"little"}
    for key, storage in (storages or {}).items():
        parts[f"data/{key}"] = (storage.elements.byteswap() if big_endian else storage.elements).tobytes()
    parts["version"] = b"3\n"
    return archive_bytes([Part(f"archive/{name}", raw) for name, raw in parts.items()])


@dataclasses.dataclass
class Part:
    """An entry of a zip archive, and what its headers say where that is not the truth."""

    name: str
    raw: bytes
    method: int = 0
    checksum: int | None = None
    packed: int | None = None
    size: int | None = None
    offset: int | None = None  # of another entry's header, whose content this one then is
    flags: int = 0x800


def archive_bytes(parts: list[Part], *, count: int | None = None, start: int | None = None) -> bytes:
    """A zip archive; `count` and `start` are what the end says of its directory where that is not the truth."""
    body = b""
    directory = b""
    for part in parts:
        name = part.name.encode()
        checksum = zlib.crc32(part.raw) if part.checksum is None else part.checksum
        packed = len(part.raw) if part.packed is None else part.packed
        size = len(part.raw) if part.size is None else part.size
        offset = len(body) if part.offset is None else part.offset
        common = struct.pack("<HHHHHIIIHH", 20, part.flags, part.method, 0, 0, checksum, packed, size, len(name), 0)
        directory += b"PK\x01\x02" + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, offset) + name
        if part.offset is None:
            body += b"PK\x03\x04" + common + name + part.raw
    count = len(parts) if count is None else count
    start = len(body) if start is None else start
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count & 0xFFFF, count & 0xFFFF, len(directory), start, 0)
    return body + directory + end


WRITERS: Mapping[str, Callable[..., bytes]] = {"stream": stream_bytes, "zip": zip_bytes}
AROUND: Mapping[str, Callable[..., bytes]] = {"stream": stream_around, "zip": zip_around}


def write_checkpoint(path: Path, weights: Mapping[str, np.ndarray], *, kind: str = "zip", **others: object) -> Path:
    """Writes weights as the published trainer does: {"iteration", "model", …}; returns `path`."""
    path.write_bytes(WRITERS[kind]({"iteration": 1000, "model": state_dict(weights), **others}))
    return path
