"""What a worker answers for an item, whatever runs it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from panns_jax.errors import InputError


class Answer(NamedTuple):
    """The result of a function for one item, or why there is none; and the machine that worked, in a cluster."""

    result: Any
    failure: str | None
    node: str | None = None


def answer(function: Callable[[Any], Any], item: Any, node: str | None = None) -> Answer:
    """Calls the function; an InputError is the failure of this item alone."""
    try:
        return Answer(function(item), None, node)
    except InputError as error:
        return Answer(None, str(error), node)
