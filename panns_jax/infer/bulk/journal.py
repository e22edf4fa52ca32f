"""What became of each sound of a list, a line of JSON each, so that work that was cut off can be gone on with."""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from panns_jax.errors import InputError
from panns_jax.infer.bulk.rows import Stamp

NAME = "journal.jsonl"


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """What became of one sound.

    Attributes:
      stamp: of its file, before it was read.
      row: the first of its rows, in the order in which they were written; None where it failed.
      rows: how many there are.
      steps: of each sequence, the first step and how many there are.
      failure: why it failed; None where it did not.
    """

    stamp: Stamp
    row: int | None = None
    rows: int = 0
    steps: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    failure: str | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be done: the first line of a journal.

    Attributes:
      settings: what the results depend on.
      files: number of sounds in the list.
      list_sha256: of their names.
    """

    settings: Mapping[str, Any]
    files: int
    list_sha256: str

    @classmethod
    def of(cls, settings: Mapping[str, Any], names: Iterable[str]) -> "Plan":
        """The plan for a list of sounds."""
        digest, files = hashlib.sha256(), 0
        for name in names:
            digest.update(os.fsencode(name) + b"\0")
            files += 1
        return cls(settings, files, digest.hexdigest())

    def difference(self, begun: "Plan") -> str | None:
        """What is not as when the work was begun, for a sentence; None where all is."""
        for name in {**self.settings, **begun.settings}:
            now, then = self.settings.get(name), begun.settings.get(name)
            if now != then:
                return f"with {name} {_shown(then)}, not {_shown(now)}"
        if self.files != begun.files:
            return f"on a list of {begun.files} files, not {self.files}"
        return None if self.list_sha256 == begun.list_sha256 else f"on another list of {self.files} files"


def _shown(value: object) -> str:
    return "not set" if value is None else str(value)


class Journal:
    """The journal of work that is under way; each line is written at once, and whole or cut off.

    Attributes:
      path: of the file.
      plan: what is to be done.
      taps: of each tap the type, width and whether it is a sequence, once the first sound told; else None.
      entries: the latest of each sound, by its place in the list.
    """

    def __init__(self, path: Path) -> None:
        """Reads the journal, if there is one.

        Raises:
          InputError: it cannot be read.
        """
        self.path = path
        self.plan: Plan | None = None
        self.taps: dict[str, dict[str, Any]] | None = None
        self.entries: dict[int, Entry] = {}
        self._size = 0
        try:
            with path.open("rb") as file:
                for line in file:
                    if line.endswith(b"\n"):  # else whoever wrote it was killed amidst it
                        self._size += len(line)
                        with contextlib.suppress(ValueError, KeyError, TypeError):
                            self._take(json.loads(line))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        self._file: Any = None

    def _take(self, line: dict[str, Any]) -> None:
        if "settings" in line:
            self.plan = Plan(line["settings"], line["files"], line["list_sha256"])
        elif "taps" in line:
            self.taps = line["taps"]
        else:
            stamp = None if line["size"] is None else (line["size"], line["mtime_ns"])
            steps = {name: (first, count) for name, (first, count) in line.get("steps", {}).items()}
            entry = Entry(stamp, line.get("row"), line.get("rows", 0), steps, line.get("reason"))
            self.entries[line["file"]] = entry

    def open(self) -> None:
        """Makes ready to write, after the last line that is whole.

        Raises:
          InputError: it cannot be written.
        """
        try:
            self._file = self.path.open("ab", buffering=0)
            self._file.truncate(self._size)
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}") from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def begin(self, plan: Plan) -> None:
        """Writes the first line."""
        self.plan = plan
        self._write(dataclasses.asdict(plan))

    def describe(self, taps: dict[str, dict[str, Any]]) -> None:
        """Writes what there is to store."""
        self.taps = taps
        self._write({"taps": taps})

    def enter(self, number: int, name: str, entry: Entry, node: str | None = None) -> None:
        """Writes what became of a sound."""
        self.entries[number] = entry
        size, mtime = entry.stamp or (None, None)
        line: dict[str, Any] = {"file": number, "name": name, "size": size, "mtime_ns": mtime}
        if entry.failure is None:
            line |= {"status": "done", "row": entry.row, "rows": entry.rows, "steps": entry.steps}
        else:
            line |= {"status": "failed", "reason": entry.failure}
        self._write(line if node is None else {**line, "node": node})

    def _write(self, line: dict[str, Any]) -> None:
        # Where the disk is full, a part of the line may be written: it is dropped when the work is gone on with.
        rest = memoryview(json.dumps(line).encode() + b"\n")
        while len(rest):
            rest = rest[self._file.write(rest) :]
