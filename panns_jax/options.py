"""Options that cannot be read, told in a sentence as every other bad input is."""

import contextlib
import io
import re
import sys
from collections.abc import Iterator

from panns_jax.errors import InputError

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_RULE = re.compile(r"[─\-]{8,}")


def _choices(listed: str) -> str:
    """What can be chosen; where nothing is the default, tyro lists that, too, and all in any order."""
    choices = listed.split(", ")
    return ", ".join(sorted(set(choices) - {"'None'"})) if "'None'" in choices else listed


# What Python and tyro say for programmers, and what it means to whoever typed the option.
_PLAINLY = (
    (
        re.compile(r"error parsing (\S+): invalid literal for int\(\) with base 10: (.*)"),
        r"\1 must be a whole number, not \2",
    ),
    (re.compile(r"error parsing (\S+): could not convert string to float: (.*)"), r"\1 must be a number, not \2"),
    (
        re.compile(r"error parsing (\S+): no type matching \{None\}\|INT could be instantiated from \[(.*?)\].*"),
        r"\1 must be a whole number, not \2",
    ),
    (
        re.compile(
            r"error parsing (\S+): no type matching \{None\}\|INT\|\{(\w+)\} could be instantiated from \[(.*?)\].*"
        ),
        r"\1 must be a whole number or \2, not \3",
    ),
    (
        re.compile(
            r"error parsing (\S+): no type matching \{None\}\|FLOAT\|\{(\w+)\} could be instantiated from \[(.*?)\].*"
        ),
        r"\1 must be a number or \2, not \3",
    ),
    (
        re.compile(r"error parsing (\S+): no type matching \{None\}\|FLOAT could be instantiated from \[(.*?)\].*"),
        r"\1 must be a number, not \2",
    ),
    (
        re.compile(r"unrecognized options: ((?:[^-][^,]*)(?:, [^-][^,]*)*)$"),
        r"there is no place for \1: name the files together, before or after the options",
    ),
    (re.compile(r"missing value for argument '(\S+)'\. Expected 1 values"), r"\1 needs a value"),
    (
        re.compile(r"invalid choice (.*) for argument '(\S+)'\. Expected one of \((.*)\)"),
        lambda found: f"{found[2]} must be one of {_choices(found[3])}, not {found[1]}",
    ),
)


@contextlib.contextmanager
def told_in_a_sentence(prog: str) -> Iterator[None]:
    """Turns the boxes in which tyro shows what is wrong with options into an InputError.

    Args:
      prog: the command, for the reference to its help.

    Raises:
      InputError: tyro refused the options.
    """
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            yield
    except SystemExit as end:
        if end.code == 0:
            raise
        if sentence := _sentence(shown.getvalue()):
            raise InputError(f"{sentence} (see {prog} --help)") from None
        sys.stderr.write(shown.getvalue())
        raise
    sys.stderr.write(shown.getvalue())


def _sentence(box: str) -> str:
    """What a box says, without the help on the options that it names."""
    parts: list[list[str]] = [[]]
    for line in _ANSI.sub("", box).splitlines():
        if not line.startswith(("│", "|", "  ")):  # a terminal without box drawing has blanks for borders
            continue
        text = line[1:].rstrip("│| ").removeprefix(" ")
        if _RULE.fullmatch(text.strip()):
            parts.append([])
        elif not text.startswith(" " * 8):  # the help on an option stands below it, further in
            parts[-1].append(text.strip())
    told = [" ".join(part) for part in parts if part and not part[0].startswith(("For full helptext", "Argument help"))]
    return "; ".join(_plainly(part[:1].lower() + part[1:].rstrip(".:")) for part in told)


def _plainly(sentence: str) -> str:
    for pattern, words in _PLAINLY:
        sentence = pattern.sub(words, sentence)
    return sentence
