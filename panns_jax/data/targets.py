"""Which clips carry which classes, kept as lists: AudioSet's two million clips carry about two classes each."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Int

Dense = Bool[np.ndarray, "clips classes"]


@dataclasses.dataclass(frozen=True, eq=False)
class Targets:
    """The classes of every clip, as the lists of a compressed sparse matrix.

    Attributes:
      num_classes: number of classes.
      starts: where the classes of each clip begin in `classes`, and the end; (clips + 1,).
      classes: the classes of the clips, one clip after another, ascending.
    """

    num_classes: int
    starts: Int[np.ndarray, " starts"]
    classes: Int[np.ndarray, " labels"]

    @classmethod
    def from_slabs(cls, slabs: Iterable[Dense], num_classes: int) -> "Targets":
        """Gathers slabs of a dense matrix, so that it need not be in memory whole."""
        counts = [np.zeros(1, np.int64)]
        classes = [np.zeros(0, np.int32)]
        for slab in slabs:
            rows, columns = np.nonzero(slab)
            counts.append(np.bincount(rows, minlength=len(slab)))
            classes.append(columns.astype(np.int32))
        return cls(num_classes, np.cumsum(np.concatenate(counts)), np.concatenate(classes))

    @classmethod
    def from_dense(cls, dense: Dense) -> "Targets":
        """The same from a whole matrix."""
        return cls.from_slabs([dense], dense.shape[1])

    @classmethod
    def concatenate(cls, parts: Iterable["Targets"]) -> "Targets":
        """The clips of all parts, one part after another; the parts have the same classes."""
        parts = list(parts)
        counts = [np.zeros(1, np.int64), *(np.diff(part.starts) for part in parts)]
        return cls(parts[0].num_classes, np.cumsum(np.concatenate(counts)), np.concatenate([p.classes for p in parts]))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def dense(self, clips: Int[np.ndarray, " n"] | slice | None = None) -> Bool[np.ndarray, "n classes"]:
        """The matrix of some clips, all by default."""
        if isinstance(clips, slice):
            clips = np.arange(*clips.indices(len(self)))
        chosen = self if clips is None else self.take(clips)
        result = np.zeros((len(chosen), self.num_classes), bool)
        result[np.repeat(np.arange(len(chosen)), np.diff(chosen.starts)), chosen.classes] = True
        return result

    def take(self, clips: Int[np.ndarray, " n"]) -> "Targets":
        """The classes of some clips, in the order asked for."""
        begins = self.starts[:-1][clips]
        counts = self.starts[1:][clips] - begins
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        # Position of every label in the old list: where its clip begins, and on from there.
        places = np.repeat(begins - starts[:-1], counts) + np.arange(starts[-1])
        return Targets(self.num_classes, starts, self.classes[places])

    def by_class(self) -> tuple[Int[np.ndarray, " labels"], Int[np.ndarray, " starts"]]:
        """The clips of each class, ascending, one class after another; and where each class begins, and the end."""
        clips = np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.starts))
        order = np.argsort(self.classes, kind="stable")
        counts = np.bincount(self.classes, minlength=self.num_classes)
        return clips[order], np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
