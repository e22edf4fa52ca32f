"""`panns-jax check`: what is wrong with the HDF5 files of a workspace, and how to mend it."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from panns_jax.data.check_folders import Folders
from panns_jax.data.check_index import SeenIndex, look_at_index
from panns_jax.data.check_waveforms import (
    Part,
    SeenRows,
    SeenWaveforms,
    about_rows,
    look_at_rows,
    look_at_waveforms,
    parts_of,
    unlike_the_others,
)
from panns_jax.data.findings import Finding, unless_unreadable
from panns_jax.errors import InputError
from panns_jax.execute import Outcome, available_workers, for_each
from panns_jax.files import is_being_written, require_parent, written_aside

_INDEX_FOLDERS = ("indexes", "targets")  # the latter in 2019

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """Checks the waveforms and index files of a workspace, and tells for each fault how to mend it.

    Exit code 0: all is well; 1: something was found; 2: there is no workspace.
    """

    workspace: Annotated[Path, tyro.conf.Positional]
    """Folder with hdf5s/waveforms/, and hdf5s/indexes/ or, of 2019, hdf5s/targets/."""
    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Read no waveforms: names, labels, and what the files say of themselves."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Also write what is found to this file."""
    workers: int = dataclasses.field(default_factory=available_workers)
    """Number of processes that read, 0 for none; as many as there are processor cores by default."""

    def run(self) -> int:
        """Checks, and prints what is found."""
        if self.json is not None:
            require_parent(self.json)
        checked = check(self.workspace, quick=self.quick, workers=self.workers)
        for finding in checked.findings:
            print(f"note: {finding}" if finding.is_note else finding)
        clips = sum(file.clips for file in checked.waveforms)
        read = "" if self.quick else ", all waveforms read"
        files = f"{len(checked.waveforms)} waveforms files with {clips} clips and {len(checked.indexes)} index files"
        faults = sum(not finding.is_note for finding in checked.findings)
        print(f"{files} can be read{read}; {faults or 'no'} {'fault' if faults == 1 else 'faults'}")
        if self.json is not None:
            with written_aside(self.json) as aside:
                told = json.dumps(checked.to_json(), indent=2, ensure_ascii=False, default=str) + "\n"
                # What is no text of a file's name is escaped, as JSON does it.
                aside.write_text(told, encoding="utf-8", errors="backslashreplace")
        return 1 if faults else 0


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """What a check of a workspace found.

    Attributes:
      waveforms: the waveforms files that can be read.
      indexes: the index files that can be read.
      findings: all findings, by file.
    """

    waveforms: tuple[SeenWaveforms, ...]
    indexes: tuple[SeenIndex, ...]
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """The same for programs."""

        def plain(seen: SeenWaveforms | SeenIndex) -> dict[str, Any]:
            fields = (field.name for field in dataclasses.fields(seen) if field.name != "findings")
            return {name: getattr(seen, name) for name in fields}

        return {
            "waveforms": [plain(file) for file in self.waveforms],
            "indexes": [plain(file) for file in self.indexes],
            "findings": [finding.to_json() for finding in self.findings],
        }


def check(workspace: Path, *, quick: bool = False, workers: int = 0) -> Checked:
    """Checks the HDF5 files of a workspace; a bad one stops nothing.

    Args:
      workspace: folder with `hdf5s`.
      quick: whether to leave the waveforms unread.
      workers: processes that read; 0 for none.

    Raises:
      InputError: there is no workspace, or no HDF5 file in it.
    """
    folders = Folders()
    waveform_files = folders.hdf5_files(workspace / "hdf5s" / "waveforms")
    index_files = [path for folder in _INDEX_FOLDERS for path in folders.hdf5_files(workspace / "hdf5s" / folder)]
    folders.hdf5_files(workspace, links=False)  # of the rest, what writers left is wanted alone
    if not waveform_files and not index_files and not folders.findings:
        raise InputError(f"{workspace}: is no workspace: it has no HDF5 files in hdf5s/waveforms or hdf5s/indexes")
    findings = list(folders.findings)
    waveforms: list[SeenWaveforms] = []
    indexes: list[SeenIndex] = []
    for outcome in _outcomes(_look, [*waveform_files, *index_files], workers, "looking at files", "files"):
        seen = outcome.result or _lost(outcome.item, outcome.failure)
        if isinstance(seen, Finding):
            findings.append(seen)
            continue
        findings += seen.findings
        (waveforms if isinstance(seen, SeenWaveforms) else indexes).append(seen)  # pyright: ignore[reportArgumentType]
    if waveforms:
        findings += unlike_the_others(waveforms)
    if not quick:
        findings += _read_all(waveforms, workers)
    findings += _unlisted(waveforms, indexes)
    findings += _left_over(folders.parts)
    order = {path: number for number, path in enumerate([*waveform_files, *index_files])}
    findings.sort(key=lambda finding: (order.get(finding.path, len(order)), finding.is_note))
    return Checked(tuple(waveforms), tuple(indexes), tuple(findings))


def _look(path: Path) -> SeenWaveforms | SeenIndex | Finding:
    look = look_at_index if _is_in_index_folder(path) else look_at_waveforms
    return unless_unreadable(path, look)


def _is_in_index_folder(path: Path) -> bool:
    folders = path.parts
    return folders[len(folders) - 1 - folders[::-1].index("hdf5s") + 1] in _INDEX_FOLDERS


def _read_all(files: Sequence[SeenWaveforms], workers: int) -> list[Finding]:
    """Reads every row of every file."""
    parts = [part for file in files for part in parts_of(file)]
    seen: dict[Path, list[SeenRows]] = {file.path: [] for file in files}
    findings: dict[Path, Finding] = {}
    for outcome in _outcomes(_look_at_rows, parts, workers, "reading waveforms", "parts"):
        found = outcome.result or _lost(outcome.item.path, outcome.failure)
        if isinstance(found, Finding):
            findings.setdefault(outcome.item.path, found)
        else:
            seen[outcome.item.path].append(found)
    return [*findings.values(), *(finding for path, rows in seen.items() for finding in about_rows(path, rows))]


def _look_at_rows(part: Part) -> SeenRows | Finding:
    return unless_unreadable(part.path, lambda _: look_at_rows(part))


def _outcomes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, task: str, unit: str
) -> Iterator[Outcome[Item, Result]]:
    """Those of `for_each`; an item whose process dies, as the HDF5 library may at a damaged file, fails alone."""
    done = 0
    while done < len(items):
        try:
            with for_each(function, items[done:], workers=workers, task=task, unit=unit) as outcomes:
                for outcome in outcomes:
                    yield outcome
                    done += 1
        except InputError as error:
            if workers < 0:
                raise
            if workers == 1:  # which works in order, and so was at this item
                yield Outcome(items[done], None, str(error))
                done += 1
            workers = 1


def _lost(path: Path, failure: str | None) -> Finding:
    return Finding(path, "unreadable", failure or "cannot be read", "copy it again from where it came, or make it anew")


def _unlisted(waveforms: Sequence[SeenWaveforms], indexes: Sequence[SeenIndex]) -> list[Finding]:
    listed = {file.resolve() for index in indexes for file in index.files}
    mend = "panns-jax index makes one, to train on it"
    return [
        Finding(file.path, "unlisted", "no index lists its clips", mend, is_note=True)
        for file in waveforms
        if file.path.resolve() not in listed
    ]


def _left_over(parts: Sequence[Path]) -> list[Finding]:
    """What writers that were killed left beside the files that they were at."""
    return [
        Finding(part, "left over", "is what is left of a file whose writer was killed", "remove it")
        for part in sorted(parts)
        if part.is_file() and not is_being_written(part)
    ]
