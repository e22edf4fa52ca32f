"""The outputs of all shards of a list, as one."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from panns_jax.errors import InputError
from panns_jax.infer.bulk.shards import Shard
from panns_jax.infer.vectors.reading import open_vectors
from panns_jax.infer.vectors.table import Table, Tap

_SHARD = "shard"
_SUMMED = ("files", "failed")


class JoinedTable:
    """The rows of all shards, in the order of the whole list; as `Table`. One shard is open at a time.

    Use as a context manager.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Looks into every shard.

        Args:
          paths: of the outputs of all shards, in any order.

        Raises:
          InputError: one cannot be read, is none of these, or is there twice; some are missing; or they were made from
            different lists or with different settings.
        """
        self._paths = list(paths)
        self._opened: tuple[int, Table] | None = None
        self._stack = contextlib.ExitStack()
        shards: dict[int, Path] = {}
        self.attributes: dict[str, Any] = {}
        tables: dict[Path, _Read] = {}
        for path in paths:
            with open_vectors(path) as table:
                shard = _shard_of(path, table)
                if shard.number in shards:
                    raise InputError(f"{shards[shard.number]} and {path} are both shard {shard}; name each shard once")
                shards[shard.number] = path
                tables[path] = _Read(table)
                self._require_same(path, shard, dict(table.attributes))
        of = max(self._of, 1)
        if missing := [str(number) for number in range(1, of + 1) if number not in shards]:
            raise InputError(f"of {of} shards, {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
        self._paths = [shards[number] for number in sorted(shards)]
        parts = [tables[path] for path in self._paths]
        self._begins = np.cumsum([0, *(len(part.names) for part in parts)])
        self.names: list[str] = [name for part in parts for name in part.names]
        filled = [part for part in parts if part.names]  # an empty one tells neither times nor taps
        self.start = _joined([part.start for part in filled])
        self.end = _joined([part.end for part in filled])
        self.taps: dict[str, Tap] = {
            name: Tap(tap.dtype, tap.width, _joined([part.taps[name].steps for part in filled]))
            for name, tap in (filled[0].taps if filled else {}).items()
        }

    def _require_same(self, path: Path, shard: Shard, told: dict[str, Any]) -> None:
        told.pop(_SHARD)
        counts = {name: told.pop(name, 0) for name in _SUMMED}
        if not self.attributes:
            self._of, self._told, self._first = shard.of, told, path
            self.attributes = told | counts
            return
        if shard.of != self._of:
            raise InputError(f"{path} is one of {shard.of} shards, and {self._first} one of {self._of}")
        for name in {**self._told, **told}:
            if self._told.get(name) != told.get(name):
                what = "another list of files" if name.startswith("list_") else f"{name} {told.get(name)}"
                than = "" if name.startswith("list_") else f", not {self._told.get(name)}"
                raise InputError(f"{path} was made with {what}{than}, unlike {self._first}")
        self.attributes |= {name: self.attributes[name] + count for name, count in counts.items()}

    def __enter__(self) -> "JoinedTable":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, tap: str, first: int, end: int) -> np.ndarray:
        """See `Table`."""
        described = self.taps[tap]
        parts = [np.zeros((0, described.width), described.dtype)]
        number = int(np.searchsorted(self._begins, first, side="right")) - 1
        while first < end:
            begin, stop = int(self._begins[number]), int(self._begins[number + 1])
            upto = min(end, stop)
            if first < upto:
                parts.append(self._shard(number).read(tap, first - begin, upto - begin))
            first, number = upto, number + 1
        return parts[1] if len(parts) == 2 else np.concatenate(parts)

    def _shard(self, number: int) -> Table:
        if self._opened is None or self._opened[0] != number:
            self._stack.close()
            self._opened = number, self._stack.enter_context(open_vectors(self._paths[number]))
        return self._opened[1]


class _Read:
    """What is small of a table, which may be closed by now."""

    def __init__(self, table: Table) -> None:
        self.names = list(table.names)
        self.start, self.end, self.taps = table.start, table.end, dict(table.taps)


def _shard_of(path: Path, table: Table) -> Shard:
    written = table.attributes.get(_SHARD)
    if not isinstance(written, str):
        raise InputError(f"{path} is no shard: it was made without --shard")
    return Shard.parse(written)


def _joined(columns: Sequence[np.ndarray | None]) -> np.ndarray | None:
    there = [column for column in columns if column is not None]
    return np.concatenate(there) if there else None
