"""Python's own containers inside pickles, and bytes as protocol 2 writes them."""

from collections.abc import Mapping

from panns_jax.pretrained.vocabulary import DICT_ENTRY, LIST_ENTRY, Budget, Known, Malformed, hashable, members


def _ordered_dict(arguments: tuple[object, ...], budget: Budget) -> dict[object, object]:
    match arguments:
        case ():
            pairs = []
        case ([*pairs],):  # Python 2
            pass
        case _:
            raise Malformed("is damaged: an OrderedDict of something else than pairs")
    budget.charge(216 + (LIST_ENTRY + DICT_ENTRY) * len(pairs))
    table: dict[object, object] = {}
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise Malformed("is damaged: an OrderedDict of something else than pairs")
        table[hashable(pair[0])] = pair[1]
    return table


def _set(arguments: tuple[object, ...], budget: Budget) -> set[object]:
    match arguments:
        case ():
            return set()
        case (list() | tuple() as values,):
            return set(members(values, budget))
    raise Malformed("is damaged: a set of something else than a list")


def _bytes(arguments: tuple[object, ...], budget: Budget) -> bytes:
    match arguments:
        case ():
            return b""
        case (bytes() as raw,):
            return raw
        case (str() as text, str() as encoding):  # bytearray in protocol 2
            return _encode((text, encoding), budget)
    raise Malformed("is damaged: bytes made of something else than bytes")


def _encode(arguments: tuple[object, ...], budget: Budget) -> bytes:
    """Protocol 2 has no bytes: Python 3 writes them as a text whose characters are the bytes."""
    match arguments:
        case (str() as text, str("latin1" | "latin-1")):
            budget.charge(len(text))
            try:
                return text.encode("latin-1")
            except UnicodeEncodeError as error:
                raise Malformed("is damaged: bytes written as a text that has other characters") from error
    raise Malformed("calls _codecs.encode otherwise than to write bytes, which no checkpoint does")


def _table(*known: Known) -> dict[str, Known]:
    return {entry.name: entry for entry in known}


PLAIN: Mapping[str, Known] = _table(
    Known("collections.OrderedDict", _ordered_dict),
    Known("_codecs.encode", _encode),
    *(
        Known(f"{module}.{name}", build)
        for module in ("builtins", "__builtin__")
        for name, build in (
            ("set", _set),
            ("frozenset", lambda arguments, budget: frozenset(_set(arguments, budget))),
            ("bytes", _bytes),
            ("bytearray", _bytes),
        )
    ),
)
"""The names behind Python's own containers."""
