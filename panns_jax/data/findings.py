"""What `panns-jax check` finds: each a sentence that names the file, what is there, and how to mend it."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int, Shaped

from panns_jax.errors import InputError

Seen = TypeVar("Seen")

_LISTED = 100
_UNREADABLE = "copy it again from where it came, or make it anew"


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """Something about a file.

    Attributes:
      path: the file.
      kind: one of a few words, such as "unreadable" or "silent", for programs.
      what: is found, as a part of a sentence.
      mend: what to do about it.
      is_note: whether nothing is wrong with that.
      count: how many clips it concerns; 0 where it concerns the file.
      clips: names of the first of them.
    """

    path: Path
    kind: str
    what: str
    mend: str
    is_note: bool = False
    count: int = 0
    clips: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.path}: {self.what}; {self.mend}"

    def to_json(self) -> dict[str, Any]:
        """The same for programs."""
        return dataclasses.asdict(self) | {"path": str(self.path)}


def about_clips(path: Path, kind: str, clips: Sequence[str], what: str, mend: str) -> list[Finding]:
    """A finding about some clips; none where there are none.

    Args:
      path: the file.
      kind: as in `Finding`.
      clips: their names.
      what: they are, such as "clips without labels".
      mend: as in `Finding`.
    """
    if not clips:
        return []
    shown = ", ".join(clips[:3]) + (", …" if len(clips) > 3 else "")
    sentence = f"{what}: {len(clips)} ({shown})"
    return [Finding(path, kind, sentence, mend, count=len(clips), clips=tuple(clips[:_LISTED]))]


def names_of(names: Shaped[np.ndarray, " rows"], rows: Int[np.ndarray, " some"]) -> list[str]:
    """The names in some rows."""
    return [os.fsdecode(bytes(name)) for name in names[rows]]


def repeated(names: Shaped[np.ndarray, " rows"]) -> Int[np.ndarray, " some"]:
    """The rows whose name is that of an earlier row."""
    return np.setdiff1d(np.arange(len(names)), np.unique(names, return_index=True)[1])


def unless_unreadable(path: Path, look: Callable[[Path], Seen]) -> Seen | Finding:
    """What a look at a file gives, or the finding that it cannot be read, whatever is wrong with it."""
    try:
        return look(path)
    except InputError as error:
        what = str(error).removeprefix(f"{path}: ")
    # What h5py and numpy raise at what damaged files say of themselves is of all kinds.
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError, MemoryError) as error:
        what = f"cannot be read: {' '.join(str(error).split()) or type(error).__name__}"
    return Finding(path, "unreadable", what, _UNREADABLE)
