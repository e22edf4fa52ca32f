"""Where a run keeps its files, and which run a command goes on with.

    WORKSPACE/checkpoints/RUN/config.json     the resolved options
    WORKSPACE/checkpoints/RUN/ITERATION/      a checkpoint
    WORKSPACE/statistics/RUN/                 metrics over iterations
    WORKSPACE/logs/RUN/                       log.jsonl and TensorBoard files

RUN is named after what tells experiments apart, such as `Cnn14-full_train-balanced-mixup-batch32`. A run that is
started anew, or branches off, stands beside it with `~2`, `~3`, … at its end; the highest number is gone on with.
"""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

from panns_jax.errors import InputError
from panns_jax.files import written_aside
from panns_jax.pretrained.training import checkpoint_steps

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

    def create(self, options: dict[str, Any]) -> None:
        """Makes the folders and saves the resolved options.

        Raises:
          InputError: they cannot be made.
        """
        for folder in (self.checkpoints, self.statistics, self.logs):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"cannot make {folder}: {error.strerror}") from error
        with written_aside(self.config) as path:
            path.write_text(json.dumps(options, indent=2) + "\n", encoding="utf-8")

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


def newest_run(workspace: Path, name: str) -> Run | None:
    """The run of this name with the highest number that was started, or None where there is none."""
    runs = [Run(workspace, _numbered(name, number)) for number in sorted(_numbers(workspace, name), reverse=True)]
    return next((run for run in runs if run.config.exists()), None)


def next_run(workspace: Path, name: str) -> Run:
    """A run of this name, of a higher number than all others, that has no files yet."""
    return Run(workspace, _numbered(name, max(_numbers(workspace, name), default=0) + 1))


def branch_off(source: Run, branch: Run, iteration: int) -> None:
    """Copies the checkpoint of an iteration, the statistics and the log into a new run, which `create` is to follow.

    What the latter two tell of later iterations is left out by those who read them.
    """
    for old, new in ((source.statistics, branch.statistics), (source.logs, branch.logs)):
        new.mkdir(parents=True)
        for name in ("statistics.npz", "log.jsonl"):
            if (old / name).exists():
                shutil.copy2(old / name, new / name)
    shutil.copytree(source.checkpoints / str(iteration), branch.checkpoints / str(iteration))


def require_same(saved: dict[str, Any], given: dict[str, Any], run: Run, free: frozenset[str]) -> None:
    """Checks that a run goes on as it began.

    Args:
      saved: options that the run was started with.
      given: options of now.
      run: for the message.
      free: names of options that may differ, as they do not change the weights.

    Raises:
      InputError: another option differs; the message names it.
    """
    for name in sorted(saved.keys() | given.keys()):
        if name not in free and saved.get(name) != given.get(name):
            raise InputError(
                f"the run {run.name} was started with {_told(name, saved)}, now it is {_told(name, given)}: go on with"
                " the same, or give --fresh to start a new run beside it"
            )


def require_checkpoint(run: Run | None, iteration: int) -> Run:
    """The run, if it has a checkpoint of this iteration.

    Raises:
      InputError: there is not; the message names those there are.
    """
    steps = checkpoint_steps(run.checkpoints) if run else []
    if run is None or iteration not in steps:
        there = f"there are those of {', '.join(map(str, steps))}" if steps else "there is none yet"
        raise InputError(f"--resume-iteration {iteration}: the run has no checkpoint of this iteration; {there}")
    return run


def _told(name: str, options: dict[str, Any]) -> str:
    return f"{name} {options.get(name)}"


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}~{number}"


def _numbers(workspace: Path, name: str) -> list[int]:
    """Numbers of the runs that have files, be it those of a branch that was cut off."""
    pattern = re.compile(re.escape(name) + r"(?:~(\d+))?")
    found = [
        pattern.fullmatch(folder.name)
        for root in _ROOTS
        for folder in (workspace / root).glob("*")
        if any(folder.glob("*"))
    ]
    return [int(match[1] or 1) for match in found if match]
