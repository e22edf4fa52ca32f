"""Tagging and embeddings from Python: arrays or files in, arrays or records out.

An array is one sound (samples,) or several of one length (batch, samples): floating point, mono, in [-1, 1]. Integers
are refused with a sentence: what full scale is would be a guess. An array of another sample rate is resampled (soxr,
very high quality). A file is any that `panns_jax.audio.read_waveform` reads.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from panns_jax.errors import InputError
from panns_jax.infer.ears import Ears, Failure, Sound
from panns_jax.infer.files import HeardSound
from panns_jax.infer.heard import Heard
from panns_jax.infer.tags import Tagged, top_tags
from panns_jax.infer.windows import Windows


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


class Tagger(Ears):
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
        return _shaped([heard.clipwise for heard in self.hear_rows(waveforms, sample_rate)], waveforms)

    def tag(self, sound: Sound, *, top: int = 10, sample_rate: int | None = None) -> Tags:
        """What is heard in a file, or an array (samples,), as a whole.

        Args:
          sound: what is heard.
          top: number of classes named.
          sample_rate: of an array; None for the model's.

        Raises:
          InputError: the sound cannot be read or heard.
        """
        (tags,) = self._named(self.hear_one(sound, sample_rate), top)
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
        return self._named(self.hear_one(sound, sample_rate, windows=windows), top)

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
        for heard in self.hear_all(sounds, sample_rate):
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


class Embedder(Ears):
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
        return _shaped([_vector(heard) for heard in self.hear_rows(waveforms, sample_rate)], waveforms)

    def embed(self, sound: Sound, *, sample_rate: int | None = None) -> Embedding:
        """A file, or an array (samples,), as one vector.

        Raises:
          InputError: the sound cannot be read or heard.
        """
        (embedding,) = self._records(self.hear_one(sound, sample_rate))
        return embedding

    def embed_windows(
        self, sound: Sound, *, window: float = 10.0, hop: float | None = None, sample_rate: int | None = None
    ) -> list[Embedding]:
        """A vector for each window of a file or an array; arguments and errors as in `Tagger.tag_windows`."""
        windows = Windows(window, window if hop is None else hop)
        return self._records(self.hear_one(sound, sample_rate, windows=windows))

    def embed_all(self, sounds: Iterable[Sound], *, sample_rate: int | None = None) -> Iterator[Embedding | Failure]:
        """A vector for one sound after another, in their order; failures as in `Tagger.tag_all`."""
        for heard in self.hear_all(sounds, sample_rate):
            yield heard if isinstance(heard, Failure) else self._records(heard)[0]

    def _records(self, sound: HeardSound) -> list[Embedding]:
        return [
            Embedding(sound.source.name, excerpt.end - excerpt.start, _vector(excerpt.heard), excerpt.start)
            for excerpt in sound.excerpts
        ]


def _vector(heard: Heard) -> Float[np.ndarray, " embedding_dim"]:
    assert heard.embedding is not None  # Embedder has asked the model for one
    return heard.embedding


def _shaped(rows: Sequence[np.ndarray], like: Any) -> np.ndarray:
    """Rows as an array with the batch that `like` has."""
    return rows[0] if np.ndim(like) == 1 else np.stack(rows)
