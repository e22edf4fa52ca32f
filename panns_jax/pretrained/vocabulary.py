"""What the names in a pickle stand for, and what a pickle may ask for: the terms that its reader and builders share."""

import abc
import dataclasses
from collections.abc import Callable

import numpy as np

# Rough costs of CPython's objects, in bytes; STEP is that of every opcode.
STEP = 16
NUMBER = 32
TEXT = 64
MEMO_ENTRY = 104
DICT_ENTRY = 104
LIST_ENTRY = 16
LONGEST_NAME = 1000
OBJECT = 400


class Malformed(ValueError):
    """The bytes are no pickle, or one that asks for what no checkpoint needs; the message completes "FILE: …"."""


class Budget:
    """How many bytes of memory a file may still ask for beside those that it fills itself."""

    def __init__(self, limit: int):
        self._limit = limit
        self._left = limit

    def charge(self, amount: int) -> None:
        """Takes `amount` bytes.

        Raises:
          Malformed: they are not left.
        """
        self._left -= amount
        if self._left < 0:
            raise Malformed(
                f"asks for more than {max(self._limit >> 20, 1)} MiB of memory to hold its list of contents, "
                "which no checkpoint of its size needs"
            )


Key = str | bytes | int | float | None
"""What is a key of a table, or a member of a set."""

Builder = Callable[[tuple[object, ...], Budget], object]


@dataclasses.dataclass(frozen=True, eq=False)
class Known:
    """A name that a pickle may use.

    Attributes:
      name: module and name as the pickle writes them, such as "collections.OrderedDict".
      build: what calling it makes of the arguments; None where it may be named but not called.
    """

    name: str
    build: Builder | None = None


class Unfinished(abc.ABC):
    """A value that a pickle creates first and fills later (opcode BUILD), as NumPy does with arrays and dtypes."""

    def __init__(self) -> None:
        self.memo_keys: list[int] = []

    @abc.abstractmethod
    def finish(self, state: object, budget: Budget) -> object:
        """The value that `state` makes of it."""


def hashable(key: object) -> Key:
    """`key`, if it is of a kind that can safely be a key: None, a number of 64 bits, or a text that is not long.

    Raises:
      Malformed: it is not.
    """
    if isinstance(key, np.generic):
        key = key.item()  # NumPy's own numbers and texts hash as they like
    if key is None or type(key) is bool or type(key) is float or (type(key) is int and key.bit_length() <= 64):
        return key
    if (type(key) is str or type(key) is bytes) and len(key) <= LONGEST_NAME:  # long ones are slow to compare
        return key
    raise Malformed(f"has a {type(key).__name__} as a key of a table, where names and small numbers are expected")


def members(values: list[object] | tuple[object, ...], budget: Budget) -> list[Key]:
    """The members of a set, charged.

    Raises:
      Malformed: one of them is of a kind that can not safely be hashed.
    """
    budget.charge((LIST_ENTRY + DICT_ENTRY) * len(values))
    return [hashable(value) for value in values]


def printable(name: str) -> str:
    """A name from a file as it can be shown: escaped and not endless."""
    shown = ascii(name[:101])[1:-1]
    return shown if len(shown) <= 100 else f"{shown[:100]}…"
