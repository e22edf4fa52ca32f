"""What the objects of the Python interface have in common: a model, and ways to have it hear arrays and files."""

import collections
import dataclasses
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from panns_jax.audio import resample
from panns_jax.errors import InputError
from panns_jax.infer.files import HeardSound, heard_sounds
from panns_jax.infer.heard import Heard
from panns_jax.infer.listener import Listener, load_listener
from panns_jax.infer.prepared import Memory
from panns_jax.infer.sources import SoundFile, Source
from panns_jax.infer.windows import Windows
from panns_jax.labels import LabelSet
from panns_jax.models.config import Precision
from panns_jax.models.model import Model

File = str | os.PathLike[str]
Sound = File | np.ndarray
"""A file, or an array of one sound, (samples,)."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """A sound that could not be heard, in the place of its result.

    Attributes:
      name: the file's path, or "array".
      error: why, in one sentence.
    """

    name: str
    error: InputError


class Ears:
    """A model, and ways to have it hear things.

    Attributes:
      listener: hears with the model; objects may share it.
    """

    def __init__(
        self,
        model: str | Model | Listener | None = None,
        *,
        checkpoint: File | None = None,
        mirror: str | None = None,
        precision: Precision = "float32",
        memory: Memory = "fast",
    ) -> None:
        """Loads the model.

        Args:
          model: name of one (Cnn14 where neither it nor a checkpoint is given); or a model that is loaded already, in
            evaluation mode, or its `Listener`, which several of these objects may share.
          checkpoint: as in `load_model`.
          mirror: as in `load_model`.
          precision: as in `load_model`; a model that is loaded already keeps its own.
          memory: where there is much to hear on CPU, "fast" holds up to three times the weights of the model, "low"
            nothing beside them, and takes longer; a listener keeps its own.

        Raises:
          InputError: as `load_model` does; or a checkpoint was given with a model that is loaded already.
        """
        if isinstance(model, Model | Listener):
            if checkpoint is not None or mirror is not None or precision != "float32":
                raise InputError("a model that is loaded already takes no checkpoint, mirror or precision")
            self.listener = Listener(model, memory=memory) if isinstance(model, Model) else model
            return
        path = None if checkpoint is None else Path(checkpoint)
        self.listener = load_listener(model, path, mirror, precision, memory)

    @property
    def labels(self) -> LabelSet:
        """The classes, in the order of the probabilities."""
        return self.listener.config.labels

    @property
    def sample_rate(self) -> int:
        """Samples per second that the model hears; arrays of this rate are not resampled."""
        return self.listener.config.sample_rate

    def hear_one(self, sound: Sound, sample_rate: int | None, **options: Any) -> HeardSound:
        """What the model makes of one sound; arguments as in `hear_all`.

        Raises:
          InputError: it cannot be read or heard.
        """
        (heard,) = self.hear_all([sound], sample_rate, **options)
        if isinstance(heard, Failure):
            raise heard.error
        return heard

    def hear_all(
        self,
        sounds: Iterable[Sound],
        sample_rate: int | None,
        *,
        windows: Windows | None = None,
        taps: Collection[str] = (),
    ) -> Iterator[HeardSound | Failure]:
        """What the model makes of one sound after another; read ahead no further than the listener does."""
        names: collections.deque[str] = collections.deque()

        def sources() -> Iterator[Source]:
            for sound in sounds:
                source = self._source(sound, sample_rate)
                names.append(source.name)
                yield source

        heard = heard_sounds(sources(), self.listener, windows=windows, taps=taps)
        for answer in heard:
            name = names.popleft()
            yield Failure(name, answer) if isinstance(answer, InputError) else answer

    def _source(self, sound: Sound, sample_rate: int | None) -> Source:
        if isinstance(sound, str | os.PathLike):
            return SoundFile(Path(sound))
        return _Samples(sound, self.sample_rate if sample_rate is None else sample_rate)

    def hear_rows(self, waveforms: np.ndarray, sample_rate: int | None, taps: Collection[str] = ()) -> list[Heard]:
        """What the model makes of an array, row by row."""
        rows = checked_waveforms(waveforms)
        rate = self.sample_rate if sample_rate is None else sample_rate
        heard = list(self.listener.hear((_at(row, rate, self.sample_rate) for row in rows), taps=taps))
        for number, answer in enumerate(heard):
            if isinstance(answer, InputError):
                raise InputError(f"sound {number} of the array: {answer}" if len(rows) > 1 else str(answer))
        return [answer for answer in heard if isinstance(answer, Heard)]


@dataclasses.dataclass(frozen=True, eq=False)
class _Samples:
    """An array as a source of sound."""

    samples: np.ndarray
    rate: int
    name: str = "array"

    def blocks(self, sample_rate: int) -> Iterator[Float[np.ndarray, "_"]]:
        rows = checked_waveforms(self.samples)
        if np.ndim(self.samples) != 1:
            raise InputError(f"{self.name}: one sound is (samples,), got shape {np.shape(self.samples)}")
        yield _at(rows[0], self.rate, sample_rate)


def checked_waveforms(waveforms: Any) -> Float[np.ndarray, "batch samples"]:
    """An array of sounds in float32, if it is one.

    Raises:
      InputError: it is not (samples,) or (batch, samples), is not floating point, has no samples, or some that are no
        numbers.
    """
    if isinstance(waveforms, str | os.PathLike):
        raise InputError(
            f"{os.fspath(waveforms)!r} is the name of a file, where an array of sounds is taken; files are taken by"
            " tag, detect and embed"
        )
    array = np.asarray(waveforms)
    if array.ndim not in (1, 2) or not array.size:
        raise InputError(f"an array of sounds is (samples,) or (batch, samples), got shape {array.shape}")
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(
            f"an array of sounds is floating point in [-1, 1], got {array.dtype}: divide PCM samples by their full"
            " scale, such as 32768 for int16"
        )
    if not np.isfinite(array).all():
        raise InputError("the array holds samples that are no finite numbers")
    return np.atleast_2d(array.astype(np.float32))


def _at(waveform: Float[np.ndarray, " samples"], rate: int, wanted: int) -> Float[np.ndarray, " resampled"]:
    if not rate > 0:
        raise InputError(f"sample_rate must be above 0, not {rate}")
    return resample(waveform, rate, wanted)
