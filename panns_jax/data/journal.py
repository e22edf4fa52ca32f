"""What became of each clip of a download: one line of JSON per clip and try, appended."""

import contextlib
import datetime
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from panns_jax.data.obstacles import Reason
from panns_jax.data.youtube import Fetched
from panns_jax.errors import InputError

NAME = "journal.jsonl"


class Journal:
    """Appends to the journal of a folder; use as a context manager.

    A line has clip_id, status ("done" or "failed"), reason (a `Reason`) and message (null where done), attempts, time
    (UTC), and in a cluster node.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        try:
            self._file = self.path.open("a+b", buffering=0)
            self._file.seek(0, os.SEEK_END)
            if self._file.tell():
                self._file.seek(-1, os.SEEK_END)
                if self._file.read(1) != b"\n":  # whoever wrote it was killed amidst a line
                    self._file.write(b"\n")
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}") from error

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def enter(self, clip_id: str, fetched: Fetched, node: str | None = None) -> None:
        """Writes what became of a clip.

        Raises:
          InputError: the disk is full.
        """
        entry: dict[str, Any] = {
            "clip_id": clip_id,
            "status": "failed" if fetched.reason else "done",
            "reason": fetched.reason,
            "message": fetched.message,
            "attempts": fetched.attempts,
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        if node is not None:
            entry["node"] = node
        try:
            self._file.write((json.dumps(entry, ensure_ascii=False) + "\n").encode(errors="backslashreplace"))
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}") from error


def read_failures(folder: Path) -> dict[str, Fetched]:
    """The clips that failed, each as it was told last. Lines that were cut off are passed over.

    Raises:
      InputError: the journal cannot be read.
    """
    failures: dict[str, Fetched] = {}
    for entry in _entries(folder / NAME):
        with contextlib.suppress(KeyError, TypeError, ValueError):  # not a line of ours
            if entry["status"] == "done":
                failures.pop(entry["clip_id"], None)
            else:
                failures[entry["clip_id"]] = Fetched(entry["attempts"], Reason(entry["reason"]), entry["message"])
    return failures


def _entries(path: Path) -> Iterator[Any]:
    try:
        with path.open("rb") as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    yield json.loads(line)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
