"""`panns-jax split`: a large segments csv to part files of some rows each."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import tyro

from panns_jax.errors import InputError
from panns_jax.files import make_folder, written_aside

PUBLISHED_ROWS = 50_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """Splits a segments csv into files of some rows each, every one with the comment lines at its head.

    unbalanced_train_segments.csv of 2,041,789 rows becomes unbalanced_train_segments_part00.csv to _part40.csv, as the
    published pipeline has them. Parts that are there already, and the same, stay as they are.
    """

    csv: Path
    """Segments csv, as AudioSet publishes."""
    out: Path
    """Folder of the part files; made where there is none."""
    rows_per_part: int = PUBLISHED_ROWS
    """Clips per part file; the last one has what is left."""
    force: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Replace part files that are there and differ."""

    def run(self) -> int:
        """Splits and tells what was written."""
        parts = split(self.csv, self.out, rows_per_part=self.rows_per_part, replace=self.force)
        names = parts[0].name if len(parts) == 1 else f"{parts[0].name} to {parts[-1].name}"
        print(f"split {self.csv} into {len(parts)} of {self.rows_per_part} rows at most: {names} in {self.out}")
        return 0


def split(
    segments_csv: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    rows_per_part: int = PUBLISHED_ROWS,
    replace: bool = False,
) -> list[Path]:
    """Writes OUT/<name of the csv>_part00.csv and so on, and returns their paths.

    Args:
      segments_csv: as AudioSet publishes.
      out: folder of the parts.
      rows_per_part: clips per part.
      replace: whether part files that are there and differ may be replaced.

    Raises:
      InputError: an option or the csv is wrong, a part file is there and differs, or there is one more than the csv
        has parts, or a file cannot be written.
    """
    from panns_jax.data.metadata import read_segments

    source, out = Path(segments_csv), Path(out)
    if rows_per_part < 1:
        raise InputError(f"--rows-per-part must be 1 or more, not {rows_per_part}")
    if not read_segments(source):  # names the line that is wrong
        raise InputError(f"{source}: holds no segments")
    # Not by splitlines, which also ends lines at letters that a comment may hold.
    lines = [line.strip() for line in source.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    head = [line for line in lines if line.startswith("#")]
    rows = [line for line in lines if not line.startswith("#")]
    count = -(-len(rows) // rows_per_part)
    digits = max(2, len(str(count - 1)))
    paths = [out / f"{source.stem}_part{number:0{digits}}.csv" for number in range(count)]
    contents = [
        "\n".join([*head, *rows[number * rows_per_part : (number + 1) * rows_per_part], ""]) for number in range(count)
    ]
    make_folder(out)
    _require_no_others(source.stem, out, paths)
    changed = [(path, content) for path, content in zip(paths, contents, strict=True) if not _holds(path, content)]
    for path, _ in changed:
        if path.exists() and not replace:
            raise InputError(f"{path} exists already and differs; --force replaces it")
    for path, content in changed:
        with written_aside(path) as aside:
            aside.write_text(content, encoding="utf-8", newline="\n")
    return paths


def _require_no_others(stem: str, out: Path, paths: list[Path]) -> None:
    """Parts of another split in the same folder would be taken for clips of this one."""
    known = {path.name for path in paths}
    for name in sorted(_names(out)):
        digits = name.removeprefix(f"{stem}_part").removesuffix(".csv")
        if name == f"{stem}_part{digits}.csv" and digits.isdecimal() and name not in known:
            raise InputError(f"{out / name} is of a split into other parts; remove it first")


def _names(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        yield from (entry.name for entry in entries)


def _holds(path: Path, content: str) -> bool:
    try:
        return path.read_bytes() == content.encode()
    except OSError:
        return False
