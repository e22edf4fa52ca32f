"""What the commands that listen to sound files have in common: their options, and what becomes of files that fail."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import sys
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from panns_jax.errors import InputError

if TYPE_CHECKING:
    from panns_jax.audio import Reading
    from panns_jax.infer.heard import Excerpt, Heard
    from panns_jax.infer.listener import Listener, Sound, Waveform
    from panns_jax.infer.sources import Source
    from panns_jax.infer.windows import Windows
    from panns_jax.streams import RawFormat


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoundFiles:
    """Options of the commands that run a model on sound files."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE...", help_behavior_hint="")]
    """Sound files in any format that libsndfile or ffmpeg reads, of any sample rate, channel count and length; folders,
    for all sound files in them and in folders in them, sorted; patterns such as "day*/**/*.wav"; - for standard input.
    What is named twice is heard twice."""
    lists: Annotated[
        tuple[Path, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(name="list", metavar="FILE", help_behavior_hint="(may be given several times)"),
    ] = ()
    """A file that names files or folders: a csv or tsv table, of which each file is taken once, else one path a line; -
    for standard input. Relative paths begin at the list's folder, or else at the working folder."""
    column: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Column of the lists, which are then all tables; by default the one called path, file, filename or the like."""
    channel: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """The channel to hear, counted from 1; by default the mean of all."""
    resampling: Literal["soxr", "decimate"] = "soxr"
    """soxr has very high quality; decimate takes every 2nd or 4th sample of 32 kHz, without a filter, as the training
    of the published 16 and 8 kHz models did."""
    raw_rate: Annotated[int | None, tyro.conf.arg(metavar="HZ", help_behavior_hint="")] = None
    """Standard input, and files that end in .raw or .pcm, are raw samples of this rate."""
    raw_format: Literal["s16le", "s24le", "s32le", "f32le"] = "s16le"
    """What a raw sample is: a signed integer or a float, of so many bits, the lowest byte first."""
    raw_channels: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Channels of the raw samples, which take turns."""

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

    memory: Literal["fast", "low"] = "fast"
    """Where there is much to hear on CPU: fast holds up to three times the weights of the model; low holds nothing
    beside them, and takes longer."""

    @property
    def reading(self) -> "Reading":
        """How sounds become waveforms.

        Raises:
          InputError: there is no such channel.
        """
        from panns_jax.audio import Reading

        return Reading(self.channel, self.resampling)

    @functools.cached_property
    def sources(self) -> "list[Source]":
        """The sounds of the options, in their order; folders and lists are read the first time alone.

        Raises:
          InputError: nothing is named, a list cannot be read, or an option cannot be used.
        """
        from panns_jax.infer.inputs import Inputs

        if not self.files and not self.lists:
            raise InputError("name at least one sound file")
        inputs = Inputs(
            names=self.files, lists=self.lists, column=self.column, reading=self.reading, raw=self._raw_format
        )
        return inputs.sources()

    @property
    def _raw_format(self) -> "RawFormat | None":
        from panns_jax.streams import RawFormat

        if self.raw_rate is not None:
            return RawFormat(self.raw_rate, self.raw_format, self.raw_channels)
        if (self.raw_format, self.raw_channels) != ("s16le", 1):
            raise InputError("--raw-format and --raw-channels are for raw samples, whose rate --raw-rate tells")
        return None

    def load(self) -> "Listener":
        """The model of the options, once it is known that there is something to hear.

        Raises:
          InputError: no file is named, none can be read, or the model cannot be loaded or hear them as the options say.
        """
        from panns_jax.infer.sources import failure

        failures = list(itertools.takewhile(lambda reason: reason is not None, map(failure, self.sources)))
        if len(failures) == len(self.sources):
            raise nothing_heard(list(filter(None, failures)))
        return self.listener()

    def listener(self) -> "Listener":
        """The model of the options.

        Raises:
          InputError: it cannot be loaded, or cannot hear sounds as the options say.
        """
        from panns_jax.infer.listener import load_listener

        listener = load_listener(self.model, self.checkpoint, self.mirror, self.precision, self.memory)
        self.reading.require_rate(listener.config.sample_rate)
        return listener


@dataclasses.dataclass(frozen=True)
class HeardSound:
    """A sound, and what the model made of it.

    Attributes:
      source: where it comes from.
      duration: seconds.
      excerpts: the whole, or one for each window; at least one.
    """

    source: "Source"
    duration: float
    excerpts: "Sequence[Excerpt]"


class Hearing:
    """The sounds of `hear_sounds`, in order, and those that failed so far."""

    def __init__(self, heard: "Iterator[HeardSound | InputError]") -> None:
        self.failures: list[str] = []
        self._heard = heard
        self._done = 0

    def __iter__(self) -> "Iterator[HeardSound]":
        for heard in self._heard:
            if isinstance(heard, InputError):
                self.failures.append(str(heard))
                continue
            self._done += 1
            yield heard

    def report(self) -> int:
        """Names the sounds that failed on standard error, and gives the command's exit code.

        Raises:
          InputError: every sound failed.
        """
        if self.failures and not self._done:
            raise nothing_heard(self.failures)
        if not self.failures:
            return 0
        print(f"left out {len(self.failures)} of {self._done + len(self.failures)} files:", file=sys.stderr)
        for failure in self.failures:
            print(f"  {failure}", file=sys.stderr)
        return 1


@contextlib.contextmanager
def hear_sounds(
    sources: "Sequence[Source]",
    listener: "Listener",
    *,
    task: str,
    windows: "Windows | None" = None,
    taps: Collection[str] = (),
) -> Generator[Hearing]:
    """Runs a model on one sound after another, with a progress bar where there are several.

    >>> with hear_sounds(sources, listener, task="tagging") as hearing:
    ...     for sound in hearing: ...
    ...     exit_code = hearing.report()

    Args:
      sources: the sounds; those that cannot be used are left out and remembered.
      listener: the model.
      task: what the progress bar is headed with.
      windows: the parts that are heard one by one; None for every sound as a whole.
      taps: what of `Heard` is wanted beside clipwise and embedding.
    """
    from panns_jax.progress import progress_bar

    with progress_bar("files", shown=len(sources) > 1) as bar:
        task_id = bar.add_task(task, total=len(sources), note="")

        def shown() -> "Iterator[HeardSound | InputError]":
            failures = 0
            expected = _seconds(sources, windows)
            for heard in heard_sounds(sources, listener, windows=windows, taps=taps, expected=expected):
                failures += isinstance(heard, InputError)
                bar.update(task_id, advance=1, note=f"{failures} failed" if failures else "")
                yield heard

        yield Hearing(shown())


# Sound files that are looked at to tell how much there is to hear.
_LOOKED_AT = 100


def _seconds(sources: "Sequence[Source]", windows: "Windows | None") -> float:
    """How much there is to hear, about, by what the heads of some sound files tell: seconds."""
    from panns_jax.infer.sources import SoundFile
    from panns_jax.libsndfile import told_duration

    some = sources[:: max(1, len(sources) // _LOOKED_AT)]
    told = [told_duration(one.path) for one in some if isinstance(one, SoundFile) and one.raw is None]
    lengths = [length for length in told if length is not None]
    overlap = 1.0 if windows is None else windows.length / windows.hop
    return overlap * len(sources) * sum(lengths) / len(lengths) if lengths else 0.0


def heard_sounds(
    sources: "Iterable[Source]",
    listener: "Listener",
    *,
    windows: "Windows | None" = None,
    taps: Collection[str] = (),
    expected: float = 0.0,
) -> "Generator[HeardSound | InputError]":
    """What a model makes of one sound after another, in their order, or why one cannot be used.

    Threads read ahead of what is heard. Arguments as in `hear_sounds`, and:

    Args:
      expected: seconds of sound in all, about, where that is known.
    """
    from panns_jax.execute import available_workers
    from panns_jax.infer.reading import Reader

    under_way: collections.deque[_Reading] = collections.deque()
    rate = listener.config.sample_rate
    with contextlib.closing(Reader(sources, rate, threads=available_workers())) as reader:

        def parts() -> "Iterator[Sound]":
            for source, blocks in reader:
                under_way.append(_Reading(source, rate, blocks))
                yield from under_way[-1].parts(windows)

        for answer in listener.hear(parts(), taps=taps, expected=expected):
            next(reading for reading in under_way if reading.unanswered).answers.append(answer)
            while under_way and under_way[0].is_complete:
                yield under_way.popleft().result()
    yield from (reading.result() for reading in under_way)


@dataclasses.dataclass
class _Reading:
    """A sound whose parts are on their way through the model."""

    source: "Source"
    sample_rate: int
    waveform: "Iterator[Waveform]"
    spans: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    answers: "list[Heard | InputError]" = dataclasses.field(default_factory=list)
    samples: int = 0
    failure: InputError | None = None
    is_read: bool = False

    @property
    def unanswered(self) -> bool:
        return len(self.answers) < len(self.spans)

    @property
    def is_complete(self) -> bool:
        return self.is_read and not self.unanswered

    def parts(self, windows: "Windows | None") -> "Iterator[Sound]":
        """What the model is to hear, read while it is asked for."""
        if windows is None:
            self.spans.append((0, 0))
            yield self._blocks()
            self.spans[0] = (0, self.samples)
        else:
            with contextlib.suppress(InputError):  # which `_blocks` has remembered
                for first, waveform in windows.cut(self._blocks(), self.sample_rate):
                    self.spans.append((first, first + len(waveform)))
                    yield waveform
        self.is_read = True

    def _blocks(self) -> "Iterator[Waveform]":
        try:
            for block in self.waveform:
                self.samples += len(block)
                yield block
        except InputError as error:
            self.failure = error
            raise

    def result(self) -> "HeardSound | InputError":
        """What became of the sound."""
        from panns_jax.infer.heard import Excerpt

        if self.failure is not None:
            return self.failure
        excerpts = []
        for (first, end), heard in zip(self.spans, self.answers, strict=True):
            if isinstance(heard, InputError):
                return InputError(f"{self.source.name}: {heard}")
            excerpts.append(Excerpt(first / self.sample_rate, end / self.sample_rate, heard))
        return HeardSound(self.source, self.samples / self.sample_rate, excerpts)


def nothing_heard(failures: Sequence[str]) -> InputError:
    """The error where none of the sounds could be used."""
    if len(failures) == 1:
        return InputError(failures[0])
    return InputError("\n  ".join([f"none of the {len(failures)} files could be used:", *failures]))
