"""Where results are written: standard output, one file for all sounds, or a file for each in a folder."""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from panns_jax.errors import InputError
from panns_jax.files import is_folder, written_aside

ENDINGS = {
    "text": ".txt",
    "json": ".json",
    "jsonl": ".jsonl",
    "csv": ".csv",
    "parquet": ".parquet",
    "audacity": ".labels.txt",
    "raven": ".selections.txt",
}
"""What the names of files end in, by format."""


@runtime_checkable
class TextStream(Protocol):
    """A text file, or what stands in for standard output."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...


@contextlib.contextmanager
def writing_text(path: Path | None) -> Iterator[TextStream]:
    """Opens a text file that becomes `path` when the block ends well, and vanishes when it does not.

    Args:
      path: the file; None for standard output.

    Raises:
      InputError: the file cannot be written, for instance because the disk is full.
    """
    if path is None:
        yield sys.stdout
        return
    with (
        written_aside(path) as aside,
        # As on standard output: a file name need not be text.
        aside.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as stream,
    ):
        yield stream


def encodable(text: str) -> str:
    """A text as it stands in files, with escapes for what is no text in it, such as in "caf\\udce9.wav"."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def names_folder(out: str) -> bool:
    """Whether the option --out names a folder: one that is there, or by a separator at its end."""
    return out.endswith(tuple(filter(None, (os.sep, os.altsep)))) or is_folder(out)


def format_by_ending(out: str, endings: Mapping[str, str] = ENDINGS) -> str:
    """The format of a file, by the longest of the endings that its name has.

    Args:
      out: what the option --out names.
      endings: by format.

    Raises:
      InputError: it has none of them.
    """
    found = [format for format, ending in endings.items() if out.lower().endswith(ending)]
    if not found:
        *most, last = sorted(endings.values())
        raise InputError(
            f"--out {out}: its ending tells no format; let it end in {', '.join(most)} or {last}, name the format with"
            f" --format, or name a folder by a final {os.sep}"
        )
    return max(found, key=lambda format: len(endings[format]))


def paths_below(folder: Path, names: Iterable[str], ending: str, roots: Iterable[Path] = ()) -> dict[str, Path]:
    """A file in a folder for each sound: its whole name and an ending, as `a.wav.csv` beside `a.flac.csv`.

    The sounds lie there as they lie below the folder that all of them, and `roots`, have in common.

    Args:
      folder: where the files will be; it and the folders in it need not be there.
      names: the sounds'.
      ending: of the files.
      roots: folders that the sounds were looked for in: what is below them has the same place whatever else is there.

    Returns:
      The path of each name.
    """
    places = {name: _place(name) for name in names}
    try:
        base = os.path.commonpath([*(place.parent for place in places.values()), *map(_place, roots)])
    except ValueError:  # none at all, or on different drives
        base = None
    below = {}
    for name, place in places.items():
        relative = os.path.relpath(place, place.anchor if base is None else base)
        below[name] = folder / (relative + ending)
    return below


def _place(path: str | Path) -> Path:
    return Path(os.path.normpath(Path(path).absolute()))
