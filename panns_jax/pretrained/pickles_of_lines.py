"""The opcodes of pickle protocols 0 and 1, which Python 2 wrote and no release of PyTorch does: values as lines.

They are read within the same bounds as the others: lines of numbers and of names have a longest length, texts are
charged before they are made, and a value is made of nothing but its digits or letters.
"""

import pickle
import re
from collections.abc import Callable, Mapping
from typing import Protocol

from panns_jax.pretrained.vocabulary import DICT_ENTRY, LIST_ENTRY, NUMBER, TEXT, Malformed, hashable

_LONGEST_NUMBER = 160  # characters; of integers of 64 bytes
_INTEGER = re.compile(rb"[+-]?[0-9]+")
_OTHER_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*\\(?:[^\\'\"nrtx]|$)")
"""A backslash before what Python 2 never wrote behind one."""
_PAGE = 1 << 16


class Machine(Protocol):
    """What the opcodes need of the reader."""

    data: memoryview
    position: int
    charge: Callable[[int], None]

    def push(self, value: object) -> None: ...
    def pop_marked(self) -> list[object]: ...
    def put(self, key: int) -> None: ...
    def get(self, key: int) -> None: ...


def _line(machine: Machine, longest: int | None = None) -> bytes:
    """The bytes to the end of the line."""
    begin = at = machine.position
    last = len(machine.data) if longest is None else min(len(machine.data), begin + longest + 1)
    while at < last:
        found = bytes(machine.data[at : min(at + _PAGE, last)]).find(b"\n")
        if found >= 0:
            machine.position = at + found + 1
            return bytes(machine.data[begin : at + found])
        at += _PAGE
    raise Malformed(f"is cut short or damaged: an unended line at byte {begin}")


def _integer(machine: Machine, digits: bytes) -> int:
    if not _INTEGER.fullmatch(digits):
        raise Malformed(f"is damaged: no integer before byte {machine.position}")
    machine.charge(NUMBER + len(digits))
    return int(digits)


def _int(machine: Machine) -> None:
    digits = _line(machine, _LONGEST_NUMBER)
    truths = {b"00": False, b"01": True}  # these protocols have no other way to write them
    machine.push(truths[digits] if digits in truths else _integer(machine, digits))


def _long(machine: Machine) -> None:
    machine.push(_integer(machine, _line(machine, _LONGEST_NUMBER).removesuffix(b"L")))


def _float(machine: Machine) -> None:
    digits = _line(machine, _LONGEST_NUMBER)
    machine.charge(NUMBER)
    try:
        machine.push(float(digits))
    except ValueError as error:
        raise Malformed(f"is damaged: no number before byte {machine.position}") from error


def _string(machine: Machine) -> None:
    """Python 2's `str` between quotes, with escapes: a text where it is ASCII, else bytes."""
    quoted = _line(machine).rstrip(b"\r")
    if len(quoted) < 2 or quoted[:1] not in b"'\"" or quoted[:1] != quoted[-1:]:
        raise Malformed(f"is damaged: no text before byte {machine.position}")
    if _OTHER_ESCAPE.search(quoted[1:-1]):
        raise Malformed(f"is damaged: no text before byte {machine.position}")
    raw = _unescaped(machine, quoted[1:-1], "unicode_escape").encode("latin-1")
    machine.push(raw.decode("ascii") if raw.isascii() else raw)


def _unicode(machine: Machine) -> None:
    machine.push(_unescaped(machine, _line(machine), "raw_unicode_escape"))


def _unescaped(machine: Machine, escaped: bytes, encoding: str) -> str:
    machine.charge(TEXT + 6 * len(escaped))  # the line, four bytes for a character at most, and what is made of them
    try:
        text = escaped.decode(encoding)
        text.encode("latin-1" if encoding == "unicode_escape" else "utf-8")
    except UnicodeError as error:
        raise Malformed(f"is damaged: no text before byte {machine.position}") from error
    return text


def _list(machine: Machine) -> None:
    values = machine.pop_marked()
    machine.charge(216 + LIST_ENTRY * len(values))
    machine.push(values)


def _dict(machine: Machine) -> None:
    values = machine.pop_marked()
    if len(values) % 2:
        raise Malformed(f"is damaged: a key without a value at byte {machine.position - 1}")
    machine.charge(216 + DICT_ENTRY * len(values))
    machine.push({hashable(key): value for key, value in zip(values[::2], values[1::2], strict=True)})


LINES: Mapping[int, Callable[[Machine], object]] = {
    pickle.INT[0]: _int,
    pickle.LONG[0]: _long,
    pickle.FLOAT[0]: _float,
    pickle.STRING[0]: _string,
    pickle.UNICODE[0]: _unicode,
    pickle.LIST[0]: _list,
    pickle.DICT[0]: _dict,
    pickle.PUT[0]: lambda machine: machine.put(_integer(machine, _line(machine, _LONGEST_NUMBER))),
    pickle.GET[0]: lambda machine: machine.get(_integer(machine, _line(machine, _LONGEST_NUMBER))),
}
"""What each of these opcodes does."""
