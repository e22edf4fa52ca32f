"""Zip archives as PyTorch writes them: entries stored without compression, so that they can be mapped.

Python's `zipfile` would do, but for files made to harm: it builds about ten times the directory's size in objects, and
believes what entries say of their sizes.
"""

import dataclasses
import struct
import zlib
from collections.abc import Mapping

from panns_jax.pretrained.vocabulary import Malformed, printable

MAGIC = b"PK\x03\x04"

_END = b"PK\x05\x06"
_END_64 = b"PK\x06\x06"
_LOCATOR_64 = b"PK\x06\x07"
_ENTRY = b"PK\x01\x02"
_END_SIZE = 22
_LOCATOR_64_SIZE = 20
_END_64_SIZE = 56
_ENTRY_SIZE = 46
_LOCAL_SIZE = 30
_LONGEST_COMMENT = 0xFFFF
# About what an entry costs as objects, over the bytes it takes at least (two headers).
_COST_PER_ENTRY = 400
_FREE_ENTRIES = 10_000


@dataclasses.dataclass(frozen=True, slots=True)
class _Entry:
    start: int
    size: int
    checksum: int


class Archive:
    """The entries of a zip archive by name, without the folder that holds all of them.

    Raises:
      Malformed: the bytes are no such archive, or entries are compressed, encrypted, overlapping or out of reach.
    """

    def __init__(self, data: memoryview):
        self._data = data
        start, count = _directory(data)
        if count > max(_FREE_ENTRIES, len(data) // _COST_PER_ENTRY):
            raise Malformed(f"announces {count} entries, more than any checkpoint has")
        entries = self._read_directory(start, count)
        if sum(entry.size for entry in entries.values()) > len(data):
            raise Malformed("is damaged: its entries overlap")
        self._entries = entries
        self._folder = _folder(entries)

    def __contains__(self, name: str) -> bool:
        return self._path(name) in self._entries

    def read(self, name: str) -> memoryview:
        """The content of an entry, mapped and compared with its checksum.

        Raises:
          Malformed: there is no such entry, or its content is damaged.
        """
        entry = self._entries.get(self._path(name))
        if entry is None:
            raise Malformed(f"is damaged: the part {printable(name)} is missing")
        content = self._data[entry.start : entry.start + entry.size]
        # PyTorch writes 0 where it was told to leave the checksums out.
        if entry.checksum and zlib.crc32(content) != entry.checksum:
            raise Malformed(
                f"is damaged: the part {printable(name)} does not have the checksum that it was written with"
            )
        return content

    def _path(self, name: str) -> bytes:
        return self._folder + name.encode(errors="replace")

    def _read_directory(self, start: int, count: int) -> dict[bytes, _Entry]:
        # Names stay bytes: as texts they can take four times the memory.
        entries: dict[bytes, _Entry] = {}
        position = start
        for _ in range(count):
            name, entry, position = self._read_entry(position)
            if name in entries:
                raise Malformed(f"is damaged: it has the part {_shown(name)} twice")
            entries[name] = entry
        return entries

    def _read_entry(self, position: int) -> tuple[bytes, _Entry, int]:
        header = _part(self._data, position, _ENTRY_SIZE)
        if header[:4] != _ENTRY:
            raise Malformed(f"is damaged: no entry of its directory at byte {position}")
        flags, method = struct.unpack_from("<HH", header, 8)
        checksum, packed, size, name_size, extra_size, comment_size = struct.unpack_from("<IIIHHH", header, 16)
        (local,) = struct.unpack_from("<I", header, 42)
        name = bytes(_part(self._data, position + _ENTRY_SIZE, name_size))
        extra = _part(self._data, position + _ENTRY_SIZE + name_size, extra_size)
        size, packed, local = _wide(extra, size, packed, local)
        if flags & 1 or method or packed != size:
            raise Malformed(
                f"has the part {_shown(name)} compressed or encrypted, which PyTorch never does: "
                "it is no checkpoint as torch.save writes it"
            )
        start = self._content_start(local)
        _part(self._data, start, size)
        return name, _Entry(start, size, checksum), position + _ENTRY_SIZE + name_size + extra_size + comment_size

    def _content_start(self, local: int) -> int:
        header = _part(self._data, local, _LOCAL_SIZE)
        if header[:4] != MAGIC:
            raise Malformed(f"is damaged: no part begins at byte {local}")
        name_size, extra_size = struct.unpack_from("<HH", header, 26)
        return local + _LOCAL_SIZE + name_size + extra_size


def _directory(data: memoryview) -> tuple[int, int]:
    """Where the directory starts, and how many entries it has."""
    tail_start = max(len(data) - _END_SIZE - _LONGEST_COMMENT, 0)
    found = bytes(data[tail_start:]).rfind(_END)
    if found < 0:
        raise Malformed("is cut short or damaged: the directory at the end of its zip archive is missing")
    end = tail_start + found
    count, _, start = struct.unpack_from("<HII", _part(data, end, _END_SIZE), 10)
    locator = end - _LOCATOR_64_SIZE
    if locator >= 0 and data[locator : locator + 4] == _LOCATOR_64:
        (end_64,) = struct.unpack_from("<Q", data, locator + 8)
        header = _part(data, end_64, _END_64_SIZE)
        if header[:4] != _END_64:
            raise Malformed("is damaged: the directory at the end of its zip archive is missing")
        count, _, start = struct.unpack_from("<QQQ", header, 32)
    return start, count


def _wide(extra: memoryview, size: int, packed: int, local: int) -> tuple[int, int, int]:
    """Sizes and place of an entry, of which those beyond 32 bits stand in its extra fields (zip64)."""
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        position += 4
        if kind == 1:
            wide = list(struct.iter_unpack("<Q", _part(extra, position, length // 8 * 8)))
            values = [wide.pop(0)[0] if value == 0xFFFFFFFF and wide else value for value in (size, packed, local)]
            return values[0], values[1], values[2]
        position += length
    return size, packed, local


def _part(data: memoryview, start: int, size: int) -> memoryview:
    if start + size > len(data):
        raise Malformed(f"is cut short or damaged: {size} bytes at byte {start} are beyond its end ({len(data)} bytes)")
    return data[start : start + size]


def _shown(name: bytes) -> str:
    return printable(name[:400].decode(errors="replace"))


def _folder(entries: Mapping[bytes, _Entry]) -> bytes:
    """The folder that holds everything, with its slash."""
    folders = {name.partition(b"/")[0] for name in entries if name.partition(b"/")[2] == b"data.pkl"}
    if len(folders) != 1:
        raise Malformed("is a zip archive, but no PyTorch checkpoint: it has no data.pkl")
    return folders.pop() + b"/"
