"""Which class is a kind of which, as AudioSet's ontology tells it: a file that Google publishes and users bring."""

import collections
import dataclasses
import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panns_jax.errors import InputError
from panns_jax.labels import LabelSet, plain

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float


@dataclasses.dataclass(frozen=True)
class Ontology:
    """Sounds and their kinds. A node may be below several others; circles do no harm.

    Attributes:
      ids: of the nodes, such as "/m/0jbk".
      names: of the nodes, such as "Animal".
      children: the places of each node's children among the nodes.

    Raises:
      InputError: there are no nodes, or an id is there twice.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    children: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.ids:
            raise InputError("the ontology has no entries")
        if len(set(self.ids)) != len(self.ids):
            twice, _ = collections.Counter(self.ids).most_common(1)[0]
            raise InputError(f"the ontology has the id {twice!r} twice")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Ontology":
        """Reads a file of the form of AudioSet's `ontology.json`: a list of objects with id, name and child_ids.

        Raises:
          InputError: the file cannot be read, or is of another form; the message names it.
        """
        path = Path(path)
        try:
            entries = json.loads(path.read_bytes())
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: is no JSON, and AudioSet's ontology.json is expected: {error}") from error
        if not isinstance(entries, list):
            raise InputError(
                f"{path}: is no list of objects with id, name and child_ids, as AudioSet's ontology.json is"
            )
        try:
            return _built([_entry(entry, number) for number, entry in enumerate(entries, start=1)])
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def find(self, text: str) -> int | None:
        """The node of that id or name, in any case and with any punctuation; None where there is none, or several."""
        found = self._by_id.get(text.strip().casefold())
        if found is not None:
            return found
        named = self._by_name.get(plain(text), [])
        return named[0] if len(named) == 1 else None

    def node_of(self, labels: LabelSet, index: int) -> int | None:
        """The node of a class: that of its id, or else of its name; None where there is none."""
        node = self._by_id.get(labels.ids[index].casefold())
        return self.find(labels.names[index]) if node is None else node

    def below(self, node: int) -> tuple[int, ...]:
        """The node itself and all nodes that can be come to from it, each once."""
        reached = {node: None}
        pending = [node]
        while pending:
            for child in self.children[pending.pop()]:
                if child not in reached:
                    reached[child] = None
                    pending.append(child)
        return tuple(reached)

    def classes_below(self, node: int, labels: LabelSet) -> tuple[int, ...]:
        """The classes of a label set that are the node or below it, in the order of the label set."""
        return self._at_or_below(node, self._classes_of(labels))

    def roll_up(self, labels: LabelSet) -> "RollUp":
        """Scores of the nodes that have classes at or below them, from the scores of the classes.

        Classes that are not in the ontology follow, as they are.

        Raises:
          InputError: no class of the label set is in the ontology.
        """
        own = self._classes_of(labels)
        if not own:
            raise InputError(f"no class of {labels.task} is in the ontology, neither by id nor by name")
        nodes = [(node, classes) for node in range(len(self.ids)) if (classes := self._at_or_below(node, own))]
        others = sorted(set(range(len(labels))) - {index for classes in own.values() for index in classes})
        ids = [*(self.ids[node] for node, _ in nodes), *(labels.ids[index] for index in others)]
        names = [*(self.names[node] for node, _ in nodes), *(labels.names[index] for index in others)]
        counts = collections.Counter(names)
        names = [f"{name} ({own_id})" if counts[name] > 1 else name for own_id, name in zip(ids, names, strict=True)]
        members = (*(classes for _, classes in nodes), *((index,) for index in others))
        return RollUp(LabelSet(f"{labels.task}, rolled up", tuple(ids), tuple(names)), members)

    def _at_or_below(self, node: int, classes_of: dict[int, list[int]]) -> tuple[int, ...]:
        return tuple(sorted({index for other in self.below(node) for index in classes_of.get(other, ())}))

    def _classes_of(self, labels: LabelSet) -> dict[int, list[int]]:
        """The classes that each node stands for."""
        found: dict[int, list[int]] = {}
        for index in range(len(labels)):
            if (node := self.node_of(labels, index)) is not None:
                found.setdefault(node, []).append(index)
        return found

    @functools.cached_property
    def _by_id(self) -> dict[str, int]:
        return {node_id.casefold(): node for node, node_id in enumerate(self.ids)}

    @functools.cached_property
    def _by_name(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for node, name in enumerate(self.names):
            found.setdefault(plain(name), []).append(node)
        return found


@dataclasses.dataclass(frozen=True)
class RollUp:
    """Scores of parents from those of classes.

    The score of a node is the largest of those of the classes at and below it: an animal is heard at least as surely as
    a dog. As classes are not exclusive, and not independent, nothing is added up.

    Attributes:
      labels: the nodes, as classes of their own.
      members: the classes at and below each of them; at least one.
    """

    labels: LabelSet
    members: tuple[tuple[int, ...], ...]

    def __call__(self, clipwise: "Float[np.ndarray, '*batch classes']") -> "Float[np.ndarray, '*batch nodes']":
        """The scores of the nodes, in the order of `labels`."""
        import numpy as np

        return np.stack([clipwise[..., list(classes)].max(axis=-1) for classes in self.members], axis=-1)


@dataclasses.dataclass(frozen=True)
class _Entry:
    id: str
    name: str
    child_ids: tuple[str, ...]


def _entry(entry: Any, number: int) -> _Entry:
    entry = entry if isinstance(entry, dict) else {}
    node_id, name, child_ids = entry.get("id"), entry.get("name"), entry.get("child_ids", [])
    if not (isinstance(node_id, str) and isinstance(name, str) and node_id and name):
        raise InputError(f"entry {number} has no id or no name")
    if not (isinstance(child_ids, list) and all(isinstance(child, str) for child in child_ids)):
        raise InputError(f"entry {number} ({name}) has child_ids that are no list of ids")
    return _Entry(node_id, name, tuple(child_ids))


def _built(entries: Sequence[_Entry]) -> Ontology:
    place = {entry.id: node for node, entry in enumerate(entries)}
    for entry in entries:
        for child in entry.child_ids:
            if child not in place:
                raise InputError(f"{entry.name} has the child {child!r}, of which there is no entry")
    children = tuple(tuple(place[child] for child in entry.child_ids) for entry in entries)
    return Ontology(tuple(entry.id for entry in entries), tuple(entry.name for entry in entries), children)
