"""Tagging, sound events and embeddings from Python: arrays or files in, arrays or records out.

An array is one sound (samples,) or several of one length (batch, samples): floating point, mono, in [-1, 1]. Integers
are refused with a sentence: what full scale is would be a guess. An array of another sample rate is resampled (soxr,
very high quality). A file is any that `panns_jax.audio.read_waveform` reads.
"""

import collections
import dataclasses
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from panns_jax.audio import resample
from panns_jax.errors import InputError
from panns_jax.infer.files import HeardSound, heard_sounds
from panns_jax.infer.heard import Heard
from panns_jax.infer.listener import Listener, load_listener
from panns_jax.infer.sources import SoundFile, Source
from panns_jax.infer.tags import Tagged, top_tags
from panns_jax.infer.windows import Windows
from panns_jax.labels import LabelSet
from panns_jax.models.config import Precision
from panns_jax.models.model import Model

Path_ = str | os.PathLike[str]
Sound = Path_ | np.ndarray
"""A file, or an array of one sound, (samples,)."""


@dataclasses.dataclass(frozen=True)
class Tags:
    """What is heard in a sound.

    Attributes:
      name: the file's path, or "array".
      duration: seconds.
      tags: the most probable classes, the first of equals first.
      clipwise: probability of each class, in [0, 1].
      start: seconds from the beginning of the sound where this part of it begins; 0 for a whole sound.
    """

    name: str
    duration: float
    tags: tuple[Tagged, ...]
    clipwise: Float[np.ndarray, " classes"]
    start: float = 0.0


@dataclasses.dataclass(frozen=True)
class Embedding:
    """A sound as a vector.

    Attributes:
      name: the file's path, or "array".
      duration: seconds.
      embedding: the vector.
      start: seconds from the beginning of the sound where this part of it begins; 0 for a whole sound.
    """

    name: str
    duration: float
    embedding: Float[np.ndarray, " embedding_dim"]
    start: float = 0.0


@dataclasses.dataclass(frozen=True)
class Failure:
    """A sound that could not be heard, in the place of its result.

    Attributes:
      name: the file's path, or "array".
      error: why, in one sentence.
    """

    name: str
    error: InputError


class _Ears:
    """What the three have in common: a model, and ways to have it hear things."""

    def __init__(
        self,
        model: str | Model | Listener | None = None,
        *,
        checkpoint: Path_ | None = None,
        mirror: str | None = None,
        precision: Precision = "float32",
    ) -> None:
        """Loads the model.

        Args:
          model: name of one (Cnn14 where neither it nor a checkpoint is given); or a model that is loaded already, in
            evaluation mode, or its `Listener`, which several of these objects may share.
          checkpoint: as in `load_model`.
          mirror: as in `load_model`.
          precision: as in `load_model`; a model that is loaded already keeps its own.

        Raises:
          InputError: as `load_model` does; or a checkpoint was given with a model that is loaded already.
        """
        if isinstance(model, Model | Listener):
            if checkpoint is not None or mirror is not None or precision != "float32":
                raise InputError("a model that is loaded already takes no checkpoint, mirror or precision")
            self.listener = Listener(model) if isinstance(model, Model) else model
            return
        path = None if checkpoint is None else Path(checkpoint)
        self.listener = load_listener(model, path, mirror, precision)

    @property
    def labels(self) -> LabelSet:
        """The classes, in the order of the probabilities."""
        return self.listener.config.labels

    @property
    def sample_rate(self) -> int:
        """Samples per second that the model hears; arrays of this rate are not resampled."""
        return self.listener.config.sample_rate

    def _one(self, sound: Sound, sample_rate: int | None, **options: Any) -> HeardSound:
        (heard,) = self._all([sound], sample_rate, **options)
        if isinstance(heard, Failure):
            raise heard.error
        return heard

    def _all(
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

    def _rows(self, waveforms: np.ndarray, sample_rate: int | None, taps: Collection[str] = ()) -> list[Heard]:
        """What the model makes of an array, row by row."""
        rows = checked_waveforms(waveforms)
        rate = self.sample_rate if sample_rate is None else sample_rate
        heard = list(self.listener.hear((_at(row, rate, self.sample_rate) for row in rows), taps=taps))
        for number, answer in enumerate(heard):
            if isinstance(answer, InputError):
                raise InputError(f"sound {number} of the array: {answer}" if len(rows) > 1 else str(answer))
        return [answer for answer in heard if isinstance(answer, Heard)]


class Tagger(_Ears):
    """Names what is heard in sounds, and how likely it is.

    >>> tagger = Tagger("Cnn14")
    >>> tagger(waveform, sample_rate=44100)  # (samples,) to (classes,); (batch, samples) to (batch, classes)
    >>> tagger.tag("street.flac").tags[0].label
    >>> for result in tagger.tag_all(paths): ...  # one after another; a Failure stands for what could not be read
    """

    def __call__(self, waveforms: np.ndarray, *, sample_rate: int | None = None) -> Float[np.ndarray, "*batch classes"]:
        """Probability of each class, in [0, 1].

        Args:
          waveforms: (samples,) or (batch, samples), in [-1, 1].
          sample_rate: theirs; None for the model's.

        Raises:
          InputError: the array is no such, or cannot be heard.
        """
        return _shaped([heard.clipwise for heard in self._rows(waveforms, sample_rate)], waveforms)

    def tag(self, sound: Sound, *, top: int = 10, sample_rate: int | None = None) -> Tags:
        """What is heard in a file, or an array (samples,), as a whole.

        Args:
          sound: what is heard.
          top: number of classes named.
          sample_rate: of an array; None for the model's.

        Raises:
          InputError: the sound cannot be read or heard.
        """
        (tags,) = self._named(self._one(sound, sample_rate), top)
        return tags

    def tag_windows(
        self,
        sound: Sound,
        *,
        window: float = 10.0,
        hop: float | None = None,
        top: int = 10,
        sample_rate: int | None = None,
    ) -> list[Tags]:
        """What is heard in each window of a file or an array.

        Args:
          sound: what is heard.
          window: its length, seconds.
          hop: from one window to the next, seconds; None for as long as the window.
          top: number of classes named in each.
          sample_rate: of an array; None for the model's.

        Raises:
          InputError: the sound cannot be read or heard, or the hop is longer than the window.
        """
        windows = Windows(window, window if hop is None else hop)
        return self._named(self._one(sound, sample_rate, windows=windows), top)

    def tag_all(
        self, sounds: Iterable[Sound], *, top: int = 10, sample_rate: int | None = None
    ) -> Iterator[Tags | Failure]:
        """What is heard in one sound after another, in their order.

        Sounds are taken while results are asked for, a few of them ahead. One that cannot be read or heard gives a
        `Failure` in its place, and stops nothing.

        Args:
          sounds: files and arrays (samples,), of any number.
          top: number of classes named in each.
          sample_rate: of the arrays; None for the model's.
        """
        for heard in self._all(sounds, sample_rate):
            yield heard if isinstance(heard, Failure) else self._named(heard, top)[0]

    def _named(self, sound: HeardSound, top: int) -> list[Tags]:
        if top < 1:
            raise InputError(f"top must be at least 1, not {top}")
        return [
            Tags(
                sound.source.name,
                excerpt.end - excerpt.start,
                tuple(top_tags(excerpt.heard.clipwise, self.labels, top)),
                excerpt.heard.clipwise,
                excerpt.start,
            )
            for excerpt in sound.excerpts
        ]


class Embedder(_Ears):
    """Sounds as vectors.

    >>> embedder = Embedder("Cnn14")
    >>> embedder(waveforms)  # (batch, samples) to (batch, 2048)
    >>> embedder.embed("street.flac").embedding
    >>> for result in embedder.embed_all(paths): ...

    Raises:
      InputError: the model makes no embedding, as decision-level ones don't.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        config = self.listener.config
        if config.embedding_dim is None:
            raise InputError(f"{config.name} makes no embedding: choose a model with one, such as Cnn14")
        self.embedding_dim: int = config.embedding_dim

    def __call__(
        self, waveforms: np.ndarray, *, sample_rate: int | None = None
    ) -> Float[np.ndarray, "*batch embedding_dim"]:
        """A vector for each sound. Arguments and errors as in `Tagger`."""
        return _shaped([_vector(heard) for heard in self._rows(waveforms, sample_rate)], waveforms)

    def embed(self, sound: Sound, *, sample_rate: int | None = None) -> Embedding:
        """A file, or an array (samples,), as one vector.

        Raises:
          InputError: the sound cannot be read or heard.
        """
        (embedding,) = self._records(self._one(sound, sample_rate))
        return embedding

    def embed_windows(
        self, sound: Sound, *, window: float = 10.0, hop: float | None = None, sample_rate: int | None = None
    ) -> list[Embedding]:
        """A vector for each window of a file or an array; arguments and errors as in `Tagger.tag_windows`."""
        windows = Windows(window, window if hop is None else hop)
        return self._records(self._one(sound, sample_rate, windows=windows))

    def embed_all(self, sounds: Iterable[Sound], *, sample_rate: int | None = None) -> Iterator[Embedding | Failure]:
        """A vector for one sound after another, in their order; failures as in `Tagger.tag_all`."""
        for heard in self._all(sounds, sample_rate):
            yield heard if isinstance(heard, Failure) else self._records(heard)[0]

    def _records(self, sound: HeardSound) -> list[Embedding]:
        return [
            Embedding(sound.source.name, excerpt.end - excerpt.start, _vector(excerpt.heard), excerpt.start)
            for excerpt in sound.excerpts
        ]


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


def _vector(heard: Heard) -> Float[np.ndarray, " embedding_dim"]:
    assert heard.embedding is not None  # Embedder has asked the model for one
    return heard.embedding


def _shaped(rows: Sequence[np.ndarray], like: Any) -> np.ndarray:
    """Rows as an array with the batch that `like` has."""
    return rows[0] if np.ndim(like) == 1 else np.stack(rows)
