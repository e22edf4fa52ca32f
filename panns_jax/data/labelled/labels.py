"""The classes of a data set of one's own."""

from collections.abc import Iterable

from panns_jax.errors import InputError
from panns_jax.labels import LabelSet


def label_set(task: str, names: Iterable[str]) -> LabelSet:
    """The classes that clips carry, each once: by their names, or by number where all names are whole numbers."""
    distinct = set(names)
    by_number = all(name.isascii() and name.isdecimal() for name in distinct)
    ordered = sorted(distinct, key=lambda name: (int(name), name)) if by_number else sorted(distinct)
    return LabelSet(task, tuple(ordered), tuple(ordered))


def require_text(name: str, where: str) -> str:
    """A class's name, which has to be text that a file can keep.

    Raises:
      InputError: it is not.
    """
    if any("\ud800" <= character <= "\udfff" for character in name):
        told = name.encode("utf-8", "backslashreplace").decode()
        raise InputError(f"{where}: the name of the class, {told}, is no text in UTF-8; rename it")
    return name
