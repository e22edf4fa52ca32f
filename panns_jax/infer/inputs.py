"""From what people type to the sounds that they mean: files, folders, patterns, lists of paths, standard input."""

import csv
import dataclasses
import fnmatch
import glob
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from panns_jax.audio import SOUND_EXTENSIONS, Reading
from panns_jax.errors import InputError
from panns_jax.files import files_below, is_visible
from panns_jax.infer.sources import SoundFile, Source, StandardInput, Unusable
from panns_jax.streams import RawFormat
from panns_jax.tables import PATH_COLUMNS, decoded, delimiter_of

RAW_EXTENSIONS = (".raw", ".pcm")

_STANDARD_INPUT = "-"
_WILDCARDS = frozenset("*?[")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """What was named on the command line.

    Attributes:
      names: files; folders, for the sound files in them and in the folders in them; patterns with * ? [ ] and **;
        "-" for standard input.
      lists: files that name files or folders: csv and tsv tables, else one path a line (or with a NUL after each, as
        `find -print0` prints them); "-" for standard input. Relative paths are looked for beside the list, and then in
        the working folder.
      column: of the lists, which are then all tables; by default the first of `PATH_COLUMNS`.
      reading: how sounds are mixed and resampled.
      raw: what standard input, and files of raw samples, hold.
    """

    names: Sequence[Path] = ()
    lists: Sequence[Path] = ()
    column: str | None = None
    reading: Reading = dataclasses.field(default_factory=Reading)
    raw: RawFormat | None = None

    def sources(self) -> list[Source]:
        """The sounds, in the order of the names and then of the lists; those of a folder are sorted.

        Hidden files of folders are left out, and those whose names do not end as those of sounds do. What is named
        twice is there twice, but for the rows of a table, several of which may speak of the same file. What cannot be
        heard, such as an empty folder or a pattern that nothing matches, is there as `Unusable`.

        Raises:
          InputError: a list cannot be read or names nothing, standard input is asked for twice, or an option means
            nothing here.
        """
        if [*self.names, *self.lists].count(Path(_STANDARD_INPUT)) > 1:
            raise InputError("standard input (-) can be read once only")
        if self.column is not None and not self.lists:
            raise InputError("--column tells the column of a list that is a table: name one with --list")
        sources = [source for name in self.names for source in self._named(name)]
        sources += [source for path in self.lists for source in self._listed(path)]
        if self.raw is not None and not any(getattr(source, "raw", None) for source in sources):
            raise InputError(
                f"--raw-rate is for standard input (-) and files that end in {' or '.join(RAW_EXTENSIONS)}, and none is"
                " named"
            )
        return sources

    def _named(self, name: Path) -> Iterator[Source]:
        if name == Path(_STANDARD_INPUT):
            yield StandardInput(self.reading, self.raw)
        elif not _WILDCARDS.isdisjoint(str(name)) and not os.path.lexists(name):
            yield from self._matching(name)
        else:
            yield from self._at(name)

    def _matching(self, pattern: Path) -> Iterator[Source]:
        """What a pattern stands for that the shell did not replace.

        Where its end matches everything, what is no sound by its name is left out.
        """
        is_any = pattern.name in ("*", "**", "*.*")
        failures: list[Unusable] = []
        if "**" in pattern.parts:
            place = pattern.parts.index("**")
            matches = set[Path]()
            # Not by the glob of Python, which walks in circles where links do.
            for base in _glob(Path(*pattern.parts[:place])) if place else [Path()]:
                found, closed = sound_files_below(base, self._is_wanted if is_any else is_visible)
                parts = pattern.parts[place:]
                matches |= {path for path in found if _matches(path.relative_to(base).parts, parts)}
                failures += closed
        else:
            matches = {match for match in _glob(pattern) if not is_any or self._is_wanted(match.name) or match.is_dir()}
        if not matches and not failures:
            yield Unusable(str(pattern), f"no {'sound ' if is_any else ''}file matches the pattern")
        for match in sorted(matches):
            yield from self._at(match)
        yield from failures

    def _at(self, path: Path) -> Iterator[Source]:
        if not os.path.isdir(path):  # noqa: PTH112 - without an error for names that cannot even be looked at
            yield self._file(path)
            return
        found, failures = sound_files_below(path, self._is_wanted)
        if not found and not failures:
            yield Unusable(str(path), "no sound file is in the folder, as far as their names tell")
        sources = [*map(self._file, found), *failures]
        yield from sorted(sources, key=lambda source: Path(source.name))

    def _file(self, path: Path) -> SoundFile:
        is_raw = self.raw is not None and path.suffix.lower() in RAW_EXTENSIONS
        return SoundFile(path, self.reading, self.raw if is_raw else None)

    def _is_wanted(self, name: str) -> bool:
        """Whether a file that nobody named is a sound, as far as its name tells."""
        extensions = SOUND_EXTENSIONS if self.raw is None else (*SOUND_EXTENSIONS, *RAW_EXTENSIONS)
        return is_visible(name) and os.path.splitext(name)[1].lower() in extensions  # noqa: PTH122

    def _is_table(self, path: Path) -> bool:
        return self.column is not None or path.suffix.lower() in (".csv", ".tsv")

    def _listed(self, path: Path) -> Iterator[Source]:
        if path.suffix.lower() in SOUND_EXTENSIONS:
            raise InputError(f"--list {path}: is no list but a sound, by its name; name it without --list")
        names = self._names(path)
        if not names:
            raise InputError(f"--list {path}: names no files")
        for name in names:
            beside = path.parent / name
            yield from self._at(beside if os.path.lexists(beside) or not os.path.lexists(name) else Path(name))

    def _names(self, path: Path) -> list[str]:
        """The paths of a list as they stand there; those of a table once each."""
        try:
            content = sys.stdin.buffer.read() if path == Path(_STANDARD_INPUT) else path.read_bytes()
        except OSError as error:
            raise InputError(f"--list {path}: cannot be read: {error.strerror}") from error
        text = decoded(content)
        if self._is_table(path):
            return list(dict.fromkeys(self._column(path, text)))
        lines = text.split("\0") if "\0" in text else [line.removesuffix("\r") for line in text.split("\n")]
        return [line for line in lines if line.strip()]

    def _column(self, path: Path, text: str) -> Iterator[str]:
        if "\0" in text:
            raise InputError(f"--list {path}: is no table but something else than text")
        delimiter = delimiter_of(path, text.partition("\n")[0])
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        try:
            header = [name.strip() for name in next(rows, [])]
            place = self._place(path, header)
            for row in rows:
                if place < len(row) and row[place].strip():
                    yield row[place]
        except csv.Error as error:
            raise InputError(f"--list {path}, line {rows.line_num}: {error}") from error

    def _place(self, path: Path, header: list[str]) -> int:
        """The column of the paths."""
        columns = [name.casefold() for name in header]
        for wanted in PATH_COLUMNS if self.column is None else (self.column.strip().casefold(),):
            if wanted in columns:
                return columns.index(wanted)
        there = f"those of its first line are {', '.join(map(repr, header))}" if header else "it is empty"
        if self.column is not None:
            raise InputError(f"--list {path}: has no column {self.column!r}; {there}")
        raise InputError(
            f"--list {path}: no column is called {', '.join(PATH_COLUMNS[:4])} or the like ({there});"
            " choose one with --column"
        )


def sound_files_below(folder: Path, is_wanted: Callable[[str], bool]) -> tuple[list[Path], list[Unusable]]:
    """The files in a folder and in the folders in it, and the folders that cannot be looked into (`files_below`)."""
    found, closed = files_below(folder, is_wanted)
    return found, [Unusable(str(path), f"the folder cannot be listed: {reason}") for path, reason in closed]


def _glob(pattern: Path) -> list[Path]:
    return list(map(Path, glob.glob(str(pattern))))  # noqa: PTH207 - that of Path takes no absolute patterns


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path matches a pattern, part by part, of which ** stands for any number."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[first:], pattern[1:]) for first in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatch(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
