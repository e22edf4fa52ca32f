"""Names of any letters and length, as figures have room for them."""

from collections.abc import Callable, Sequence
from typing import Any


def as_typed(texts: Sequence[Any]) -> None:
    """Has names shown as they are: a dollar sign in them begins no formula."""
    for text in texts:
        text.set_parse_math(False)


def shortened(name: str, longest: int) -> str:
    """A name without its middle, where it is too long: beginnings and ends tell runs apart."""
    if len(name) <= longest:
        return name
    end = (longest - 1) // 2
    return f"{name[: longest - 1 - end].rstrip()}…{name[len(name) - end :].lstrip()}"


def cut(name: str, longest: int) -> str:
    """A name without its end, where it is too long: what classes are is said first."""
    return name if len(name) <= longest else f"{name[: longest - 1].rstrip(' ,(')}…"


def fitted(name: str, width: float, size: float, how: Callable[[str, int], str] = shortened) -> str:
    """As much of a name as there is room for.

    Args:
      name: of any letters.
      width: of the room, points.
      size: of the letters, points.
      how: it is made shorter.
    """
    longest = len(name)
    while longest > 3 and (excess := width_of(how(name, longest), size) - width) > 0:
        longest -= max(1, int(excess / size))
    return how(name, longest)


def told_apart(names: Sequence[str], width: float, size: float) -> list[str]:
    """Names as there is room for, with their number before them where they would be the same."""
    short = [fitted(name, width, size) for name in names]
    if len(set(short)) == len(short):
        return short
    numbers = [f"{number}: " for number in range(1, len(names) + 1)]
    return [
        number + fitted(name, width - width_of(number, size), size) for number, name in zip(numbers, names, strict=True)
    ]


def wrapped(label: str, width: float, size: float) -> str:
    """A label in lines that there is room for, as far as it has commas to break at."""
    lines = [""]
    for part in label.split(", "):
        longer = f"{lines[-1]}, {part}" if lines[-1] else part
        if lines[-1] and width_of(longer, size) > width:
            lines[-1] += ","
            lines.append(part)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def width_of(text: str, size: float) -> float:
    """Width of a text, points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    return float(TextToPath().get_text_width_height_descent(text, FontProperties(size=size), False)[0])
