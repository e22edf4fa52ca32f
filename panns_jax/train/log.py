"""What a run tells while it goes: JSON lines and TensorBoard files."""

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from panns_jax.errors import InputError, require_extra
from panns_jax.files import written_aside
from panns_jax.train.tensorboard import EventFile

LOG = "log.jsonl"


@runtime_checkable
class Log(Protocol):
    """Where the loop of training writes what happens."""

    @property
    def path(self) -> Path:
        """The file of the lines."""
        ...

    def write(self, kind: str, iteration: int, figures: dict[str, float] | None = None, **more: Any) -> None:
        """Adds a line."""
        ...

    def flush(self) -> None:
        """Hands everything written so far to the operating system."""
        ...


class NoLog:
    """The log of a process whose run is told of by another; use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG

    def __enter__(self) -> "NoLog":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def write(self, kind: str, iteration: int, figures: dict[str, float] | None = None, **more: Any) -> None:
        """See `Log`."""

    def flush(self) -> None:
        """See `Log`."""


class RunLog:
    """Writes `log.jsonl` and TensorBoard's event files; use as a context manager.

    Each line of the log is a JSON object with "kind" and "iteration": "start" (a run begins or goes on), "step" (its
    loss and gradient norm), "speed" (clips per second, the share of time spent waiting for data, the learning rate),
    "not_finite" (a step whose loss or gradients were not: its clips and norms) or "evaluation" (mean scores, and the
    classes of the best and worst average precision).
    A run that is taken up goes on with the same log; lines of iterations that will be done again are dropped, so that
    every step is told once.

    Attributes:
      path: the file of the lines.
    """

    def __init__(self, folder: Path, *, until: int | None) -> None:
        """Opens the log for writing at its end.

        Args:
          folder: of the run's logs, which exists.
          until: iteration that the run is taken up from, or None where it begins.

        Raises:
          InputError: tensorboardX is not installed, or the log cannot be written.
        """
        require_extra("the log of training", "train", "tensorboardX")
        self.path = folder / LOG
        _keep_lines(self.path, until)
        with self._named_errors():
            self._file = self.path.open("a", encoding="utf-8")
            self._board = EventFile(folder, purge_step=None if until is None else until + 1)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *exception: object) -> None:
        with self._named_errors():
            try:
                self._file.close()
            finally:
                self._board.close()

    def write(self, kind: str, iteration: int, figures: dict[str, float] | None = None, **more: Any) -> None:
        """Adds a line; `figures` also go to TensorBoard, as `kind/name`.

        Raises:
          InputError: it cannot be written, for instance because the disk is full.
        """
        line = {"kind": kind, "iteration": iteration, **(figures or {}), **more}
        with self._named_errors():
            self._file.write(json.dumps(_finite(line)) + "\n")
            for name, value in (figures or {}).items():
                if math.isfinite(value):  # tensorboardX warns of others, such as the d' of a perfect score
                    self._board.add(f"{kind}/{name}", value, iteration)

    def flush(self) -> None:
        """Hands everything written so far to the operating system.

        Raises:
          InputError: it cannot be written.
        """
        with self._named_errors():
            self._file.flush()
            self._board.flush()

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}") from error


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; what is none, as where a kill cut off the last, is left out."""
    told = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for text in told if (line := _parsed(text)) is not None]


def _keep_lines(path: Path, until: int | None) -> None:
    if not path.exists():
        return
    kept = [] if until is None else [line for line in read_log(path) if line["iteration"] <= until]
    with written_aside(path) as aside:
        aside.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("iteration"), int) else None


def _finite(value: Any) -> Any:
    # JSON has no NaN; other readers than Python's stumble over it.
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
