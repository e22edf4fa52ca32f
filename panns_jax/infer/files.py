"""What the commands that listen to sound files have in common: their options, and what becomes of files that fail."""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from panns_jax.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from panns_jax.execute import Outcome
    from panns_jax.infer.predict import Heard, Predictor


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoundFiles:
    """Options of the commands that run a model on sound files."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE...", help_behavior_hint="")]
    """Sound files in any format that libsndfile reads, of any sample rate, channel count and length."""
    model: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Name of the architecture, for checkpoints that do not tell it; Cnn14 where there is no checkpoint either."""
    checkpoint: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """Converted file, published .pth or training checkpoint."""

    def load(self) -> "Predictor":
        """The model of the options, once it is known that there is something to hear.

        Raises:
          InputError: no file is named, none exists, or the model cannot be loaded.
        """
        if not self.files:
            raise InputError("name at least one sound file")
        if not any(path.exists() for path in self.files):
            raise _nothing_heard([f"{path}: there is no such file" for path in self.files])
        from panns_jax.infer.predict import load_predictor

        return load_predictor(self.model, self.checkpoint)


@dataclasses.dataclass(frozen=True)
class Clip:
    """A sound file and what the model made of it; `duration` is in seconds."""

    path: Path
    duration: float
    heard: "Heard"


class Hearing:
    """The clips of `hear_files`, in order, and the files that failed so far."""

    def __init__(self, outcomes: "Iterator[Outcome[Path, np.ndarray]]", predictor: "Predictor") -> None:
        self.failures: list[str] = []
        self._outcomes = outcomes
        self._predictor = predictor
        self._done = 0

    def __iter__(self) -> Iterator[Clip]:
        for outcome in self._outcomes:
            if outcome.result is None:
                self.failures.append(str(outcome.failure))
                continue
            try:
                heard = self._predictor.hear(outcome.result)
            except InputError as error:
                self.failures.append(f"{outcome.item}: {error}")
                continue
            self._done += 1
            yield Clip(outcome.item, len(outcome.result) / self._predictor.config.sample_rate, heard)

    def report(self) -> int:
        """Names the files that failed on standard error, and gives the command's exit code.

        Raises:
          InputError: every file failed.
        """
        if self.failures and not self._done:
            raise _nothing_heard(self.failures)
        if not self.failures:
            return 0
        print(f"left out {len(self.failures)} of {self._done + len(self.failures)} files:", file=sys.stderr)
        for failure in self.failures:
            print(f"  {failure}", file=sys.stderr)
        return 1


@contextlib.contextmanager
def hear_files(files: Sequence[Path], predictor: "Predictor", *, task: str) -> Generator[Hearing]:
    """Runs a model on one file after another, with a progress bar where there are several.

    >>> with hear_files(paths, predictor, task="tagging") as hearing:
    ...     for clip in hearing: ...
    ...     exit_code = hearing.report()

    Args:
      files: sound files; those that cannot be read are left out and remembered.
      predictor: the model.
      task: what the progress bar is headed with.
    """
    from panns_jax.audio import read_waveform
    from panns_jax.execute import for_each

    read = functools.partial(read_waveform, sample_rate=predictor.config.sample_rate)
    with for_each(read, files, workers=0, task=task, unit="files") as outcomes:
        yield Hearing(outcomes, predictor)


def _nothing_heard(failures: Sequence[str]) -> InputError:
    if len(failures) == 1:
        return InputError(failures[0])
    return InputError("\n  ".join([f"none of the {len(failures)} files could be used:", *failures]))
