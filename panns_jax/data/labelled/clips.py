"""Labelled clips, wherever they come from."""

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from panns_jax.labels import LabelSet


@runtime_checkable
class Sound(Protocol):
    """Where a clip's samples come from: a file, a part of one, or a record of a data set."""

    @property
    def name(self) -> str:
        """What tells it apart for people, such as the path of its file."""
        ...

    def waveform(self, sample_rate: int) -> Float[np.ndarray, " samples"]:
        """The whole clip: mono float32 in [-1, 1], at `sample_rate` samples per second.

        Raises:
          InputError: it cannot be used; the message begins with its name.
        """
        ...


@dataclasses.dataclass(frozen=True)
class LabelledClip:
    """A sound and what is in it.

    Attributes:
      sound: the samples.
      labels: names of its classes; a single one where the classes exclude each other.
      fold: number of its fold, as the data set's makers chose it; None where they did not.
      split: "train", "validation" or "test", as its makers chose it; None where they did not.
    """

    sound: Sound
    labels: tuple[str, ...]
    fold: int | None = None
    split: str | None = None


@dataclasses.dataclass(frozen=True)
class LabelledSet:
    """A set of labelled clips.

    Attributes:
      origin: what it was read from, as the user named it.
      labels: the classes, in the order of a model's outputs.
      clips: the clips, in an order that does not depend on the file system.
      multi_label: whether a clip may carry several classes, or none, rather than just one.
      notes: what was taken to be so where the data does not tell, for people; a line each.
    """

    origin: str
    labels: LabelSet
    clips: tuple[LabelledClip, ...]
    multi_label: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.clips)

    def targets(self) -> Bool[np.ndarray, "clips classes"]:
        """Which classes each clip carries."""
        column = {name: number for number, name in enumerate(self.labels)}
        targets = np.zeros((len(self.clips), len(self.labels)), dtype=bool)
        for row, clip in zip(targets, self.clips, strict=True):
            row[[column[label] for label in clip.labels]] = True
        return targets

    def take(self, rows: Int[np.ndarray, " rows"]) -> "LabelledSet":
        """Those clips alone, of the same classes."""
        return dataclasses.replace(self, clips=tuple(self.clips[int(row)] for row in rows))
