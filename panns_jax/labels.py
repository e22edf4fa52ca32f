"""Classes by index, id and name."""

import collections
import csv
import dataclasses
import difflib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from panns_jax.errors import InputError

_DATA = Path(__file__).parent / "labels"


@dataclasses.dataclass(frozen=True)
class LabelSet(Sequence[str]):
    """The classes of a task, in the order of a model's outputs; as a sequence, their names.

    Attributes:
      task: name of the label set, such as "audioset".
      ids: identifier of each class; AudioSet's are ontology ids such as "/m/09x0r".
      names: display name of each class.

    Raises:
      InputError: there are no classes, or not as many ids as names, or one of them twice.
    """

    task: str
    ids: tuple[str, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.names):
            raise InputError(f"label set {self.task} has {len(self.ids)} ids for {len(self.names)} names")
        if not self.ids:
            raise InputError(f"label set {self.task} has no classes")
        for what, values in (("id", self.ids), ("name", self.names)):
            if len(set(values)) != len(values):
                twice, _ = collections.Counter(values).most_common(1)[0]
                raise InputError(f"label set {self.task} has the {what} {twice!r} twice")

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return self.names[index]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __repr__(self) -> str:
        return f"LabelSet({self.task!r}, {len(self)} classes)"

    def index(self, value: str, start: int = 0, stop: int | None = None) -> int:  # type: ignore[override]
        """Index of the class whose id or name is `value`; case does not matter.

        Raises:
          InputError: there is no such class; the message names the nearest ones.
        """
        found = self._index_of.get(value.casefold())
        if found is not None and found in range(start, len(self) if stop is None else stop):
            return found
        near = difflib.get_close_matches(value.casefold(), [name.casefold() for name in self.names], n=3, cutoff=0.6)
        hint = f"; did you mean {' or '.join(repr(self.names[self._index_of[name]]) for name in near)}?" if near else ""
        raise InputError(f"{value!r} is no class of {self.task}{hint}")

    @functools.cached_property
    def _index_of(self) -> dict[str, int]:
        return {key.casefold(): i for keys in (self.names, self.ids) for i, key in enumerate(keys)}

    def __hash__(self) -> int:
        # Models carry their label set through every jit call: hash the short part only.
        return hash((self.task, len(self.ids)))

    def __reduce__(self) -> tuple[Any, ...]:
        return LabelSet, (self.task, self.ids, self.names)


@functools.cache
def audioset() -> LabelSet:
    """The 527 classes of AudioSet in the published order (`class_labels_indices.csv`)."""
    rows = _audioset_rows()
    return LabelSet("audioset", tuple(row["mid"] for row in rows), tuple(row["display_name"] for row in rows))


@functools.cache
def audioset_train_clips() -> tuple[int, ...]:
    """Number of training clips of each class of AudioSet, in the order of `audioset()`."""
    return tuple(int(row["train_clips"]) for row in _audioset_rows())


def numbered(num_classes: int) -> LabelSet:
    """Placeholder names "class 0", "class 1", … for a model whose classes have not been named."""
    names = tuple(f"class {i}" for i in range(num_classes))
    return LabelSet(f"{num_classes} unnamed classes", names, names)


def _audioset_rows() -> list[dict[str, str]]:
    with (_DATA / "audioset.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
