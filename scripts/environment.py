"""The virtual environment that the scripts of this folder work in: made once, reused while it fits, never half-made.

Only the standard library is used: this runs before anything is installed.
"""

import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class SetupError(Exception):
    """Set-up cannot go on; the message is one sentence for whoever called the script."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """How far an environment has come; written after each finished step, so that a broken-off one does not count.

    Attributes:
      python: its version of Python, such as "3.11"; "" until it is made.
      project: fingerprint of the checkout's place and of what it asks for; "" until pip has finished.
      installed: the extras (in brackets) and packages that were asked for.
    """

    python: str = ""
    project: str = ""
    installed: tuple[str, ...] = ()


@contextlib.contextmanager
def one_sentence_errors(script: str) -> Iterator[None]:
    """Turns a failed set-up into one sentence and exit code 2, and Ctrl-C into exit code 130."""
    try:
        yield
    except SetupError as error:
        print(f"{script}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{script}: interrupted; start it again to go on", file=sys.stderr)
        sys.exit(130)


def prepare(*, extras: Sequence[str], packages: Sequence[str] = ()) -> str:
    """Makes or reuses the environment, with the project (editable), its `extras` and `packages` installed.

    Returns:
      The path of the environment's Python.

    Raises:
      SetupError: it cannot be made, or pip failed.
    """
    folder = venv_folder()
    wanted = {*(f"[{extra}]" for extra in extras), *packages}
    with _alone(folder):
        state = _made(folder)
        project = _fingerprint()
        if state.project != project or not wanted <= set(state.installed):
            together = tuple(sorted(wanted | set(state.installed)))
            _write_state(folder, State(python=PYTHON, installed=together))
            _install(folder, together)
            _write_state(folder, State(python=PYTHON, project=project, installed=together))
    return str(python_of(folder))


def venv_folder(variables: Mapping[str, str] = os.environ) -> Path:
    """The environment's folder: what PANNS_JAX_VENV names, or `.venv` in the checkout."""
    chosen = variables.get("PANNS_JAX_VENV")
    return Path(chosen).expanduser().absolute() if chosen else ROOT / ".venv"


def python_of(folder: Path) -> Path:
    """Where an environment keeps its Python."""
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def become(command: Sequence[str], *, folder: Path | None = None) -> NoReturn:
    """Goes on as another program, in another folder if one is given; its exit code is ours."""
    if folder is not None:
        os.chdir(folder)
    sys.stdout.flush()
    if os.name != "nt":
        os.execv(command[0], list(command))
    # On Windows exec returns to the shell at once, and the program would go on behind the prompt.
    child = subprocess.Popen(command)
    while True:
        try:
            sys.exit(child.wait())
        except KeyboardInterrupt:  # the child has had it too; its exit code tells
            continue


def read_state(folder: Path) -> State | None:
    """How far the environment in `folder` has come; None where these scripts have not made it."""
    try:
        entries = json.loads(_state_file(folder).read_text(encoding="utf-8"))
        return State(**{**entries, "installed": tuple(entries["installed"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write_state(folder: Path, state: State) -> None:
    path = _state_file(folder)
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps(dataclasses.asdict(state), indent=1), encoding="utf-8")
    aside.replace(path)


def _state_file(folder: Path) -> Path:
    return folder / "panns_jax-setup.json"


def _fingerprint() -> str:
    # The place counts too: an editable installation points to it.
    asked = (ROOT / "pyproject.toml").read_bytes()
    return hashlib.sha256(b"\0".join([os.fsencode(ROOT), PYTHON.encode(), asked])).hexdigest()


def _made(folder: Path) -> State:
    """Makes the environment unless there is one to use; returns how far it has come."""
    state = read_state(folder)
    works = _python_with_pip(folder) == PYTHON
    if works and state and state.python == PYTHON:
        return state
    foreign = state is None and folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if foreign and not works:
        raise SetupError(
            f"{folder} is there already and is no virtual environment with pip and Python {PYTHON}; "
            "move it away, or name another folder in PANNS_JAX_VENV"
        )
    if not foreign:
        _make(folder)
    state = State(python=PYTHON)
    _write_state(folder, state)
    return state


def _python_with_pip(folder: Path) -> str | None:
    """The version of an environment's Python, such as "3.11"; None where it does not run or has no pip."""
    probe = "import pip, sys; print('%d.%d' % sys.version_info[:2])"
    try:
        run = subprocess.run([python_of(folder), "-I", "-c", probe], capture_output=True, text=True)
    except OSError:
        return None
    return run.stdout.strip() if run.returncode == 0 else None


def _make(folder: Path) -> None:
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        raise SetupError(
            f"this Python ({sys.executable}) lacks the module {' and '.join(missing)}; "
            f"install the package python{PYTHON}-venv (Debian, Ubuntu: sudo apt install python{PYTHON}-venv)"
        )
    print(f"Making a virtual environment in {folder}", file=sys.stderr, flush=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_state(folder, State())  # marks a folder that a broken-off set-up leaves as one of ours to make anew
        _empty(folder)
    except OSError as error:
        raise SetupError(f"cannot make a virtual environment in {folder}: {error.strerror}") from error
    run = subprocess.run([sys.executable, "-m", "venv", folder], capture_output=True, text=True)
    if run.returncode or _python_with_pip(folder) != PYTHON:
        log = folder / "panns_jax-setup.log"
        log.write_text(run.stdout + run.stderr, encoding="utf-8")
        raise SetupError(f"{sys.executable} -m venv could not make a virtual environment; the reason is in {log}")


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry == _state_file(folder):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _install(folder: Path, wanted: Sequence[str]) -> None:
    extras = ",".join(name.strip("[]") for name in wanted if name.startswith("["))
    packages = [name for name in wanted if not name.startswith("[")]
    print(f"Installing panns_jax[{extras}] {' '.join(packages)}".rstrip(), file=sys.stderr, flush=True)
    log = folder / "panns_jax-setup.log"
    log.unlink(missing_ok=True)
    pip = [python_of(folder), "-I", "-m", "pip", "install", "--disable-pip-version-check", "--log", log]
    # Settings meant for installations outside virtual environments make pip refuse or install elsewhere.
    variables = {k: v for k, v in os.environ.items() if k not in ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")}
    started = time.monotonic()
    run = subprocess.run(
        [*pip, *packages, "--editable", f"{ROOT}[{extras}]"], stdout=sys.stderr, env=variables, stdin=subprocess.DEVNULL
    )
    if run.returncode:
        raise SetupError(f"pip could not install what is needed; what it said is above, its whole log in {log}")
    print(f"Installed in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lets one set-up of an environment run at a time; the others wait, and find it done."""
    path = folder.with_name(folder.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise SetupError(f"cannot make a virtual environment in {folder}: {error.strerror}") from error
    with file:
        if not _try_lock(file):
            print(f"Waiting for another set-up of {folder}", file=sys.stderr, flush=True)
            while not _try_lock(file):
                time.sleep(0.2)
        yield  # closing the file gives the lock back, and so does the end of the process, however it comes


def _try_lock(file: IO[bytes]) -> bool:
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems know no locks: better unlocked than never
        return True
    return True
