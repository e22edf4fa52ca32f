"""The files of a workspace, for `panns-jax check`: in folders behind links too, as large ones are on other disks."""

import os
from pathlib import Path

from panns_jax.data.findings import Finding
from panns_jax.data.hdf5 import SUFFIXES

_PART = ".part"


class Folders:
    """Looks through folders, each once.

    Attributes:
      findings: the folders that cannot be looked into.
      parts: files that are being written, or whose writer was killed.
    """

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.parts: list[Path] = []
        self._seen: set[str] = set()

    def hdf5_files(self, folder: Path, *, links: bool = True) -> list[Path]:
        """The HDF5 files of a folder and those below it that were not looked into yet, by name; none without it.

        Args:
          folder: where to begin.
          links: whether links below it are followed.
        """
        found: list[Path] = []
        for place, inner, names in os.walk(folder, onerror=self._note, followlinks=links):
            real = os.path.realpath(place)
            if real in self._seen:
                inner.clear()
                continue
            self._seen.add(real)
            for name in names:
                suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path of each of millions would take long
                if name.startswith("."):
                    self.parts += [Path(place, name)] if suffix == _PART else []
                elif suffix in SUFFIXES:
                    found.append(Path(place, name))
        return sorted(found)

    def _note(self, error: OSError) -> None:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return
        what = f"cannot be looked into: {error.strerror}"
        self.findings.append(Finding(Path(error.filename), "unreadable", what, "get the right to read it"))
