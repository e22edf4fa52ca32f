"""What the commands that listen to sound files have in common: their options, and what becomes of files that fail."""

import collections
import contextlib
import dataclasses
import itertools
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from panns_jax.errors import InputError
from panns_jax.infer.input_options import InputOptions
from panns_jax.infer.model_options import ModelOptions
from panns_jax.left_out import report_left_out

if TYPE_CHECKING:
    from panns_jax.infer.heard import Excerpt, Heard
    from panns_jax.infer.listener import Listener, Sound, Waveform
    from panns_jax.infer.sources import Source
    from panns_jax.infer.windows import Windows


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoundFiles(ModelOptions, InputOptions):
    """Options of the commands that run a model on sound files."""

    memory: Literal["fast", "low"] = "fast"
    """Where there is much to hear on CPU: fast holds up to three times the weights of the model; low holds nothing
    beside them, and takes longer."""

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
        return report_left_out(self.failures, self._done + len(self.failures), "files")


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
