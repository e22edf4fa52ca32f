"""Files that are complete or absent, their fingerprints, and the folder of what can be had again."""

import contextlib
import glob
import hashlib
import os
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from panns_jax.errors import InputError

CACHE_VARIABLE = "PANNS_JAX_CACHE"

_LOOK_AGAIN_AFTER = 0.1  # seconds


def cache_folder() -> Path:
    """`PANNS_JAX_CACHE`, else the platform's folder for such files, such as `~/.cache/panns_jax`.

    Raises:
      InputError: the variable names the home folder of a user that there is none of.
    """
    if named := os.environ.get(CACHE_VARIABLE):
        try:
            return Path(named).expanduser()
        except RuntimeError as error:
            raise InputError(f"{CACHE_VARIABLE} names {named}, and there is no such home folder") from error
    from pooch import os_cache

    return os_cache("panns_jax")


@contextlib.contextmanager
def written_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a new path beside `path`; what is written there becomes `path` at the end, or vanishes on an error.

    The rename is atomic, so that a reader sees the old file or the whole new one, never a part. What a process that was
    killed left of an earlier attempt is removed (not on Windows).

    Raises:
      InputError: the folder of `path` does not exist or cannot be written to, the disk is full, or `path` is a folder,
        pipe or device.
    """
    path = Path(path)
    _require_replaceable(path)
    try:
        _remove_abandoned(path)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror} ({path.parent})") from error
    aside = Path(name)
    held = _lock(handle)
    if not held:
        os.close(handle)  # Windows renames no open file
    try:
        yield aside
        _take_default_permissions(aside)
        _flush_to_disk(aside)
        aside.replace(path)
    except OSError as error:
        if error.filename in (None, name):  # not of another file that the block reads
            raise InputError(f"cannot write {path}: {error.strerror or error}") from error
        raise
    finally:
        aside.unlink(missing_ok=True)
        if held:
            os.close(handle)


def _remove_abandoned(path: Path) -> None:
    """Removes what stands beside `path` from attempts that nobody is at any more: their writers hold a lock."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part") if fcntl else ():
        with contextlib.suppress(OSError):  # gone, or another user's
            handle = os.open(part, os.O_RDWR)
            if _lock(handle):
                part.unlink(missing_ok=True)
            os.close(handle)


def is_being_written(part: Path) -> bool:
    """Whether the writer of a file that `written_aside` made is still at work, as far as that can be told."""
    try:
        handle = os.open(part, os.O_RDWR)
    except OSError:  # gone by now, or another user's
        return True
    try:
        return not _lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    """Takes the lock of an open file, until it is closed; False where another process has it, or there are no locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def alone(path: str | os.PathLike[str], refusal: str) -> Iterator[None]:
    """Keeps other processes out of a block until it is left, in whatever way (not on Windows).

    Args:
      path: the file that is locked; made where it is not there.
      refusal: the sentence for the others.

    Raises:
      InputError: another process is in the block, or the file cannot be made.
    """
    if fcntl is None:
        yield
        return
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(refusal) from error
        except OSError:
            pass  # a file system without locks keeps nobody out
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def in_turn(path: str | os.PathLike[str], waiting: str) -> Iterator[bool]:
    """Lets one process (and thread) at a time into a block; others wait until it is left.

    The system itself frees the lock of a process that ended, in whatever way, so that none is left behind.

    Args:
      path: the file that is locked; made where it is not there, and left there, as removing it would free the next one.
      waiting: what to print on standard error where one has to wait.

    Yields:
      Whether the lock is held; False on a file system without locks, which lets everybody in.

    Raises:
      InputError: the file cannot be made.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    try:
        yield _wait_for_lock(handle, waiting)
    finally:
        os.close(handle)


def _wait_for_lock(handle: int, waiting: str) -> bool:
    told = False
    while True:
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            elif fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except (BlockingIOError, PermissionError):  # the latter on Windows
            if not told:
                print(waiting, file=sys.stderr, flush=True)
            told = True
            time.sleep(_LOOK_AGAIN_AFTER)
        except OSError:
            return False


def require_parent(path: str | os.PathLike[str]) -> None:
    """Fails early, before long work, where `path` could not be written in the end.

    Raises:
      InputError: the parent folder is missing or may not be looked into, or `path` is a folder, pipe or device, or no
        possible name.
    """
    path = Path(path)
    try:
        _require_replaceable(path)
        if not path.parent.is_dir():
            raise InputError(f"cannot write {path}: the folder {path.parent} does not exist")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def make_folder(out: Path, option: str = "--out") -> None:
    """Makes the folder that an option names, where there is none.

    Raises:
      InputError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{option} {out}: cannot be made: {error.strerror}") from error


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether there is a folder; False also where that cannot be told, as inside one that may not be looked into."""
    try:
        return Path(path).is_dir()
    except OSError:
        return False


def files_below(folder: Path, is_wanted: Callable[[str], bool]) -> tuple[list[Path], list[tuple[Path, str]]]:
    """The files in a folder and in the folders in it, but for hidden ones; sorted.

    Links to folders are followed, but each folder is read once, under its own path where it has one below `folder`.

    Args:
      folder: where to look.
      is_wanted: whether a file of that name counts.

    Returns:
      The files, and the folders that cannot be looked into, with the reason.
    """
    found: list[Path] = []
    closed: list[tuple[Path, str]] = []
    folders, links = [folder], list[Path]()
    known: set[str] = set()
    while folders or links:
        # Links wait until all else was read, so that a file goes by the path that does not depend on them.
        here = folders.pop() if folders else links.pop(0)
        try:
            real = os.path.realpath(here)
            if real in known:
                continue
            known.add(real)
            with os.scandir(here) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if not is_visible(entry.name):
                        continue
                    if _is_folder_entry(entry):
                        (links if entry.is_symlink() else folders).append(here / entry.name)
                    elif is_wanted(entry.name):
                        found.append(here / entry.name)
        except OSError as error:
            closed.append((here, str(error.strerror)))
    return sorted(found), closed


def is_visible(name: str) -> bool:
    """Whether a file or folder of that name is not hidden."""
    return not name.startswith(".")


def _is_folder_entry(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, or to where one may not look
        return False


def _require_replaceable(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it")
    if path.exists() and not path.is_file():  # a rename would put a file in the place of /dev/null
        raise InputError(f"{path} is a pipe or device, which cannot be replaced; name a file")


def require_file(path: str | os.PathLike[str], kind: str) -> None:
    """Checks that there is a file, and that it may be read.

    Args:
      path: the file.
      kind: what it is to be, such as "a sound file".

    Raises:
      InputError: there is none, or a folder or pipe in its place, or it may not be read.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            path.open("rb").close()
            return
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: there is no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    found = "a folder" if stat.S_ISDIR(mode) else "a pipe or device, which cannot be read twice"
    raise InputError(f"{path}: is {found}, not {kind}")


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
