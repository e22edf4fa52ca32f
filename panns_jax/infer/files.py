"""What the commands that listen to sound files have in common: their options, and what becomes of files that fail."""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from panns_jax.errors import InputError
from panns_jax.files import require_file

if TYPE_CHECKING:
    from panns_jax.execute import Outcome
    from panns_jax.infer.predict import Heard, Predictor


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoundFiles:
    """Options of the commands that run a model on sound files."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE...", help_behavior_hint="")]
    """Sound files in any format that libsndfile reads, of any sample rate, channel count and length."""
    model: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Name of the architecture, for checkpoints that do not tell it. Without a checkpoint, the released one of this
    model (Cnn14 where none is named) is downloaded the first time, and kept."""
    checkpoint: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """Converted file, published .pth or training checkpoint."""
    mirror: Annotated[str | None, tyro.conf.arg(metavar="URL", help_behavior_hint="")] = None
    """Where released files are downloaded from, in place of their own record: a folder that has them under their names.
    The environment variable PANNS_JAX_MIRROR does the same."""

    precision: Literal["float32", "tf32", "bfloat16", "bf16"] = "float32"
    """What the body of the model computes in; tf32 is float32 with faster products on GPUs that have them, bf16 is
    bfloat16. Front end and head always compute in float32."""

    def load(self) -> "Predictor":
        """The model of the options, once it is known that there is something to hear.

        Raises:
          InputError: no file is named, none can be read, or the model cannot be loaded.
        """
        if not self.files:
            raise InputError("name at least one sound file")
        failures = [failure for path in self.files if (failure := _failure(path))]
        if len(failures) == len(self.files):
            raise _nothing_heard(failures)
        from panns_jax.infer.predict import load_predictor

        return load_predictor(self.model, self.checkpoint, self.mirror, self.precision)


@dataclasses.dataclass(frozen=True)
class Clip:
    """A sound file and what the model made of it; `duration` is in seconds."""

    path: Path
    duration: float
    heard: "Heard"


class Hearing:
    """The clips of `hear_files`, in order, and the files that failed so far."""

    def __init__(self, outcomes: "Iterator[Outcome[Path, Clip]]") -> None:
        self.failures: list[str] = []
        self._outcomes = outcomes
        self._done = 0

    def __iter__(self) -> Iterator[Clip]:
        for outcome in self._outcomes:
            if outcome.result is None:
                self.failures.append(str(outcome.failure))
                continue
            self._done += 1
            yield outcome.result

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
      files: sound files; those that cannot be used are left out and remembered.
      predictor: the model.
      task: what the progress bar is headed with.
    """
    from panns_jax.execute import for_each

    hear = functools.partial(_hear, predictor=predictor)
    with for_each(hear, files, workers=0, task=task, unit="files") as outcomes:
        yield Hearing(outcomes)


def _hear(path: Path, predictor: "Predictor") -> Clip:
    from panns_jax.audio import read_waveform

    waveform = read_waveform(path, predictor.config.sample_rate)
    try:
        heard = predictor.hear(waveform)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return Clip(path, len(waveform) / predictor.config.sample_rate, heard)


def _failure(path: Path) -> str | None:
    """Why a file cannot be read, as far as a look at it tells."""
    try:
        require_file(path, "a sound file")
    except InputError as error:
        return str(error)
    return None


def _nothing_heard(failures: Sequence[str]) -> InputError:
    if len(failures) == 1:
        return InputError(failures[0])
    return InputError("\n  ".join([f"none of the {len(failures)} files could be used:", *failures]))
