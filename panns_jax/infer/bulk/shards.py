"""A list of sounds shared out among jobs that know nothing of each other."""

import dataclasses
import re
from collections.abc import Sequence
from typing import TypeVar

from panns_jax.errors import InputError

Item = TypeVar("Item")

_WRITTEN = re.compile(r"(\d{1,9})/(\d{1,9})")


@dataclasses.dataclass(frozen=True)
class Shard:
    """One of several parts of a list, which lie one after another and differ by one item at most.

    Attributes:
      number: from 1.
      of: how many there are.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, written: str) -> "Shard":
        """Reads "3/16".

        Raises:
          InputError: it is no shard.
        """
        match = _WRITTEN.fullmatch(written)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise InputError(f"--shard must be a part of all, such as 3/16: from 1/16 to 16/16; not {written}")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def part(self, items: Sequence[Item]) -> Sequence[Item]:
        """The items of this shard."""
        first, end = ((number * len(items)) // self.of for number in (self.number - 1, self.number))
        return items[first:end]
