"""Files that are complete or absent, and their fingerprints."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from panns_jax.errors import InputError


@contextlib.contextmanager
def written_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a new path beside `path`; what is written there becomes `path` at the end, or vanishes on an error.

    The rename is atomic, so that a reader sees the old file or the whole new one, never a part.

    Raises:
      InputError: the folder of `path` does not exist or cannot be written to.
    """
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror} ({path.parent})") from error
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        _take_default_permissions(aside)
        _flush_to_disk(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def require_parent(path: str | os.PathLike[str]) -> None:
    """Fails early, before long work, where `path` could not be written in the end.

    Raises:
      InputError: the parent folder is missing, or `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: the folder {path.parent} does not exist")


def sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _take_default_permissions(path: Path) -> None:
    # mkstemp makes files that only their owner may read; a result is an ordinary file.
    if os.name == "posix":
        umask = os.umask(0)
        os.umask(umask)
        path.chmod(0o666 & ~umask)


def _flush_to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
