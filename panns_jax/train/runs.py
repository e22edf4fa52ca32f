"""Where a run keeps its files, and which run a command goes on with.

    WORKSPACE/checkpoints/RUN/config.json     the resolved options
    WORKSPACE/checkpoints/RUN/ITERATION/      a checkpoint
    WORKSPACE/statistics/RUN/                 metrics over iterations
    WORKSPACE/logs/RUN/                       log.jsonl and TensorBoard files

RUN is named after what tells experiments apart, such as `Cnn14-full_train-balanced-mixup-batch32`. A run that is
started anew, or branches off, stands beside it with `~2`, `~3`, … at its end. Of those that were started with the same
options, the highest number is gone on with.
"""

import contextlib
import dataclasses
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from panns_jax.errors import InputError
from panns_jax.files import alone, written_aside

BRANCHED_AT = "branched_at"
"""Entry of config.json: the iteration of another run that this one began with."""
_LOCK = ".lock"
_SEEN_WITHIN = 15.0  # seconds
_ROOTS = ("checkpoints", "statistics", "logs")


@dataclasses.dataclass(frozen=True)
class Run:
    """The folders of a run, which need not exist.

    Attributes:
      workspace: folder of the workspace.
      name: of the run, with its number.
    """

    workspace: Path
    name: str

    @property
    def checkpoints(self) -> Path:
        return self.workspace / "checkpoints" / self.name

    @property
    def statistics(self) -> Path:
        return self.workspace / "statistics" / self.name

    @property
    def logs(self) -> Path:
        return self.workspace / "logs" / self.name

    @property
    def config(self) -> Path:
        return self.checkpoints / "config.json"

    @property
    def branched_at(self) -> int | None:
        """The iteration of another run that this one began with, or None where it began anew."""
        return (self.saved_options() or {}).get(BRANCHED_AT)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Makes the run's folder, and keeps the run for this process: two that write one would spoil it.

        Raises:
          InputError: another process is at work on it.
        """
        _make(self.checkpoints)
        told = (
            f"{self.checkpoints}: another process is training this run; wait for it, or give --fresh to start a new run"
        )
        with alone(self.checkpoints / _LOCK, told):
            yield

    def create(self, options: dict[str, Any], *, branched_at: int | None = None) -> None:
        """Makes the folders and saves the resolved options.

        Args:
          options: the resolved options.
          branched_at: the iteration of another run that it begins with, if it does.

        Raises:
          InputError: they cannot be made.
        """
        for folder in (self.checkpoints, self.statistics, self.logs):
            _make(folder)
        with written_aside(self.config) as path:
            path.write_text(json.dumps({**options, BRANCHED_AT: branched_at}, indent=2) + "\n", encoding="utf-8")

    def require_shared(self, written: int) -> None:
        """Checks that this process sees what process 0 has just written; a network's folder may take its time.

        Args:
          written: modification time of the configuration as process 0 sees it, ns.

        Raises:
          InputError: it does not see it.
        """
        until = time.monotonic() + _SEEN_WITHIN
        while not (self.config.exists() and abs(self.config.stat().st_mtime_ns - written) < 1e9):
            if time.monotonic() > until:
                raise InputError(
                    f"{self.config}: process 0 has written this file and it is not here; --workspace must be a folder"
                    " that all processes share"
                )
            time.sleep(0.1)

    def saved_options(self) -> dict[str, Any] | None:
        """The options that the run was started with; None where it was not started yet.

        Raises:
          InputError: the file is damaged.
        """
        if not self.config.exists():
            return None
        try:
            saved = json.loads(self.config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{self.config}: cannot be read; give --fresh to start a new run") from error
        if not isinstance(saved, dict):
            raise InputError(f"{self.config}: is no configuration of a run; give --fresh to start a new run")
        return saved


def started_runs(workspace: Path, name: str) -> list[Run]:
    """The runs of this name that were started, the highest number first."""
    runs = [Run(workspace, _numbered(name, number)) for number in sorted(_numbers(workspace, name), reverse=True)]
    return [run for run in runs if run.config.exists()]


def next_run(workspace: Path, name: str) -> Run:
    """A run of this name, of a higher number than all others, that has no files yet."""
    return Run(workspace, _numbered(name, max(_numbers(workspace, name), default=0) + 1))


def branch_off(source: Run, branch: Run, iteration: int) -> None:
    """Copies the checkpoint of an iteration, the statistics and the log into a new run, which `create` is to follow.

    What the latter two tell of later iterations is left out by those who read them.

    Raises:
      InputError: it cannot be copied, for instance because the disk is full; nothing of it stays.
    """
    with branch.alone():
        try:
            for old, new in ((source.statistics, branch.statistics), (source.logs, branch.logs)):
                new.mkdir(parents=True, exist_ok=True)
                for name in ("statistics.npz", "log.jsonl"):
                    if (old / name).exists():
                        shutil.copy2(old / name, new / name)
            shutil.copytree(source.checkpoints / str(iteration), branch.checkpoints / str(iteration))
        except BaseException as error:
            for folder in (branch.statistics, branch.logs, branch.checkpoints):
                shutil.rmtree(folder, ignore_errors=True)
            if not isinstance(error, OSError):
                raise
            told = f"the checkpoint of iteration {iteration} cannot be copied there: {_reason(error)}"
            raise InputError(f"{branch.checkpoints}: {told}") from error


def of_same_options(
    runs: Sequence[Run], given: dict[str, Any], free: frozenset[str], defaults: Mapping[str, Any] = MappingProxyType({})
) -> list[Run]:
    """Those of the runs that go on, under the options of now, as they began.

    Args:
      runs: of one name, the newest first.
      given: options of now.
      free: names of options that may differ, as they do not change the weights.
      defaults: what runs did that began before there was an option.

    Raises:
      InputError: there are runs, but all began with other options; the message names one that differs in the newest.
    """
    differences = [(run, _difference({**defaults, **(run.saved_options() or {})}, given, free)) for run in runs]
    same = [run for run, differs in differences if differs is None]
    if runs and not same:
        run, differs = differences[0]
        raise InputError(
            f"the run {run.name} was started with {differs}: go on with the same, or give --fresh to start a new run"
            " beside it"
        )
    return same


def _difference(saved: dict[str, Any], given: dict[str, Any], free: frozenset[str]) -> str | None:
    for name in sorted((saved.keys() | given.keys()) - free - {BRANCHED_AT}):
        if saved.get(name) != given.get(name):
            return f"{_told(name, saved)}, now it is {_told(name, given)}"
    return None


def run_with_checkpoint(runs: Sequence[Run], iteration: int) -> Run:
    """The newest of the runs that has a checkpoint of this iteration, or that branched off at it.

    Raises:
      InputError: there is none; the message names the checkpoints that the newest has.
    """
    from panns_jax.pretrained.training import checkpoint_steps  # brings JAX and Orbax, which figures of runs don't need

    for run in runs:
        if iteration in checkpoint_steps(run.checkpoints) or run.branched_at == iteration:
            return run
    steps = checkpoint_steps(runs[0].checkpoints) if runs else []
    there = f"there are those of {', '.join(map(str, steps))}" if steps else "there is none yet"
    raise InputError(f"--resume-iteration {iteration}: the run has no checkpoint of this iteration; {there}")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make {folder}: {error.strerror}") from error


def _reason(error: OSError) -> str:
    # `copytree` goes on after errors, and tells of all in the end: of each the two paths and what happened.
    first = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror or error
    return re.sub(r"^\[Errno \d+\] ", "", str(first))


def _told(name: str, options: dict[str, Any]) -> str:
    return f"{name} {options.get(name)}"


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}~{number}"


def _numbers(workspace: Path, name: str) -> set[int]:
    """Numbers of the runs that have files, be it those of a branch that was cut off."""
    pattern = re.compile(re.escape(name) + r"(?:~(\d+))?")
    found = [
        pattern.fullmatch(folder.name)
        for root in _ROOTS
        for folder in (workspace / root).glob("*")
        if any(not path.name.startswith(".") for path in folder.glob("*"))  # what is hidden was cut off, or a lock
    ]
    return {int(match[1] or 1) for match in found if match}
