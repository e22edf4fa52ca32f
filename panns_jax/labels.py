"""Classes by index, id and name."""

import collections
import csv
import dataclasses
import difflib
import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from panns_jax.errors import InputError

if TYPE_CHECKING:
    from panns_jax.ontology import Ontology

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
        raise InputError(f"{value!r} is no class of {self.task}{did_you_mean(value, self.names)}")

    def select(self, wanted: Sequence[str], ontology: "Ontology | None" = None) -> tuple[int, ...]:
        """The classes that people mean by what they type.

        A class is meant by its name or id, in any case and with any punctuation ("child speech kid speaking"), by a
        part of its name between commas that no other class has ("kid speaking"), or by its index. Several may stand in
        one string, between commas or semicolons; commas within names are understood: "Music, Child speech, kid
        speaking" is two classes. With an ontology, each of its nodes means all classes at and below it: "Animal".

        Args:
          wanted: what was typed; each at least one class.
          ontology: of the classes; without it, a name is that class alone.

        Returns:
          Indices, each once, in the order of what was typed.

        Raises:
          InputError: something is no class, or is a part of the names of several; the message names the nearest ones.
        """
        found = (index for text in wanted for index in self._typed(text, ontology))
        return tuple(dict.fromkeys(found))

    def _typed(self, text: str, ontology: "Ontology | None") -> Iterator[int]:
        """The classes of one string."""
        if (meant := self._meant(text, ontology)) is not None:
            yield from meant
            return
        for part in filter(None, map(str.strip, text.split(";"))) if ";" in text else (text,):
            yield from self._between_commas(part, ontology)

    def _between_commas(self, text: str, ontology: "Ontology | None") -> Iterator[int]:
        words = [word for word in map(str.strip, text.split(",")) if word]
        if not words:
            raise InputError(f"no class is named in {text!r}")
        names = self.names if ontology is None else (*self.names, *ontology.names)
        longest = max(name.count(",") for name in names) + 1
        while words:
            # The longest first: a name with commas goes before the classes that its parts might be.
            for number in range(min(longest, len(words)), 0, -1):
                meant = self._meant(", ".join(words[:number]), ontology)
                if meant is not None:
                    yield from meant
                    words = words[number:]
                    break
            else:
                raise self._unknown(words[0], ontology)

    def _meant(self, text: str, ontology: "Ontology | None") -> Sequence[int] | None:
        """The classes that a single name means; None where it means none, or not one alone."""
        node = None if ontology is None else ontology.find(text)
        index = self._class_meant(text) if node is None else None
        if ontology is not None and index is not None:
            node = ontology.node_of(self, index)
        if ontology is None or node is None:
            return None if index is None else (index,)
        if classes := ontology.classes_below(node, self):
            return classes
        raise InputError(f"no class of {self.task} is at or below {ontology.names[node]!r} in the ontology")

    def _class_meant(self, text: str) -> int | None:
        found = self._index_of.get(text.strip().casefold())
        if found is not None:
            return found
        key = plain(text)
        for names in (self._plain_names, self._name_parts):
            if len(names.get(key, ())) == 1:
                return names[key][0]
        digits = text.strip()
        return int(digits) if digits.isdecimal() and int(digits) < len(self) else None

    def _unknown(self, text: str, ontology: "Ontology | None") -> InputError:
        key = plain(text)
        several = self._plain_names.get(key) or self._name_parts.get(key)
        if several:
            choice = " or ".join(repr(self.names[index]) for index in several)
            return InputError(f"{text!r} is no class of {self.task} alone; did you mean {choice}?")
        names = self.names if ontology is None else tuple(dict.fromkeys((*self.names, *ontology.names)))
        return InputError(f"{text!r} is no class of {self.task}{did_you_mean(text, names)}")

    @functools.cached_property
    def _index_of(self) -> dict[str, int]:
        return {key.casefold(): i for keys in (self.names, self.ids) for i, key in enumerate(keys)}

    @functools.cached_property
    def _plain_names(self) -> dict[str, list[int]]:
        return _by_key((plain(name), index) for index, name in enumerate(self.names))

    @functools.cached_property
    def _name_parts(self) -> dict[str, list[int]]:
        """The classes by the parts of their names between commas."""
        return _by_key((plain(part), index) for index, name in enumerate(self.names) for part in name.split(","))

    def __hash__(self) -> int:
        # Models carry their label set through every jit call: hash the short part only.
        return hash((self.task, len(self.ids)))

    def __reduce__(self) -> tuple[Any, ...]:
        return LabelSet, (self.task, self.ids, self.names)


def plain(name: str) -> str:
    """A name without what people leave out or type in another way: case, punctuation, blanks."""
    words = "".join(character if character.isalnum() else " " for character in name.casefold().replace("'", ""))
    return " ".join(words.split())


def did_you_mean(text: str, names: Sequence[str]) -> str:
    """The end of a sentence that says which names are nearest to what was typed; empty where none is near."""
    by_key: dict[str, str] = {}
    for name in names:
        for part in (name, *name.split(",")):
            by_key.setdefault(plain(part), name)
    key = plain(text)
    words = set(key.split())
    # Names that have its words, and then those that look like it, or of which a part does.
    near = [other for other in by_key if words and words <= set(other.split())]
    near += difflib.get_close_matches(key, by_key, n=3, cutoff=0.6)
    chosen = [repr(name) for name in dict.fromkeys(by_key[other] for other in near)][:3]
    return f"; did you mean {' or '.join(chosen)}?" if chosen else ""


def _by_key(pairs: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for key, index in pairs:
        if key and index not in found.setdefault(key, []):
            found[key].append(index)
    return found


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
