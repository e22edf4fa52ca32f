"""From probabilities to the classes that are told of a sound, and of the windows of a long one."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float

from panns_jax.infer.writers.spans import Span
from panns_jax.infer.writers.tables import shortest

if TYPE_CHECKING:
    from panns_jax.infer.heard import Excerpt
    from panns_jax.labels import LabelSet

Only = Literal["windows", "max", "mean"]


@dataclasses.dataclass(frozen=True)
class Tagged:
    """A class heard in a clip: its name, id and index in the label set, and its probability in [0, 1]."""

    label: str
    id: str
    index: int
    probability: float


def top_tags(clipwise: Float[np.ndarray, " classes"], labels: "LabelSet", top: int) -> list[Tagged]:
    """The most probable classes, the first of equals first.

    Args:
      clipwise: probability of each class.
      labels: the classes.
      top: how many; all where there are fewer.
    """
    return Choice(labels, top=top).tags(clipwise)


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which classes are told of a sound.

    Attributes:
      labels: the classes of the model.
      classes: indices of those that may be told; None for all.
      top: how many are told, the most probable; None for all.
      min_confidence: probability that a class has at least, in [0, 1].
    """

    labels: "LabelSet"
    classes: Sequence[int] | None = None
    top: int | None = None
    min_confidence: float = 0.0

    @property
    def indices(self) -> Sequence[int]:
        """The classes that may be told, in the order that they are asked for."""
        return range(len(self.labels)) if self.classes is None else self.classes

    def tags(self, clipwise: Float[np.ndarray, " classes"]) -> list[Tagged]:
        """The classes that are told, the most probable first, the first of equals first."""
        let_through = np.array([i for i in self.indices if clipwise[i] >= self.min_confidence], np.int64)
        order = let_through[np.lexsort((let_through, -clipwise[let_through]))][: self.top]
        return [Tagged(self.labels.names[i], self.labels.ids[i], int(i), shortest(clipwise[int(i)])) for i in order]


@dataclasses.dataclass(frozen=True)
class Part:
    """What is told of a sound at once: a window of it, the whole, or what its windows come to.

    Attributes:
      start: seconds from the beginning of the sound.
      end: likewise.
      clipwise: probability of each class.
      summary: "max" or "mean" over the windows of the sound; None for a window or the whole, heard as such.
    """

    start: float
    end: float
    clipwise: Float[np.ndarray, " classes"]
    summary: Literal["max", "mean"] | None = None


def parts(excerpts: "Sequence[Excerpt]", only: Only | None) -> list[Part]:
    """The windows of a sound in order, then the highest probability of each class, then the mean one.

    In the mean, a window counts by its length, as the last one may be short.

    Args:
      excerpts: the windows; at least one.
      only: leaves out the others.
    """
    told = []
    if only in (None, "windows"):
        told += [Part(excerpt.start, excerpt.end, excerpt.heard.clipwise) for excerpt in excerpts]
    if only == "windows":
        return told
    clipwise = np.stack([excerpt.heard.clipwise for excerpt in excerpts])
    start, end = excerpts[0].start, excerpts[-1].end
    if only in (None, "max"):
        told.append(Part(start, end, clipwise.max(axis=0), "max"))
    if only in (None, "mean"):
        lengths = [excerpt.end - excerpt.start for excerpt in excerpts]
        mean = np.average(clipwise.astype(np.float64), axis=0, weights=lengths)
        told.append(Part(start, end, mean.astype(np.float32), "mean"))
    return told


def spans(tagged: Iterable[tuple[Part, Sequence[Tagged]]], *, merge: bool) -> list[Span]:
    """A span for each class of each part.

    Args:
      tagged: windows that follow one another, and the classes that are told of them.
      merge: makes one span of windows in a row with the same class, whose score is the highest of theirs.

    Returns:
      The spans, by their beginning, then the highest score first.
    """
    complete: list[Span] = []
    going_on: dict[int, Span] = {}
    for part, tags in tagged:
        begun = {tag.index: Span(part.start, part.end, tag.label, tag.id, tag.probability) for tag in tags}
        if merge:
            begun = {i: _joined(going_on.pop(i), span) if i in going_on else span for i, span in begun.items()}
        complete += going_on.values()
        going_on = begun
    complete += going_on.values()
    return sorted(complete, key=lambda span: (span.start, -span.score))


def _joined(before: Span, after: Span) -> Span:
    return dataclasses.replace(before, end=after.end, score=max(before.score, after.score))
