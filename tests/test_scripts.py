"""The scripts' own set-up, with real environments and a real pip, on a small stand-in project, without network."""

import ast
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "panns_jax"
version = "0.1.0"
[project.optional-dependencies]
train = []
dev = []
"""

# Installs nothing but a module named pytest that tells what it was asked for; takes its time while `hold` is there.
BACKEND = """
import pathlib, time, zipfile

HERE = pathlib.Path(__file__).parent

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    with (HERE / "builds").open("a") as builds:
        builds.write("build\\n")
    while (HERE / "hold").exists():
        time.sleep(0.05)
    if (HERE / "broken").exists():
        raise RuntimeError("the stand-in project cannot be built")
    info = "panns_jax-0.1.0.dist-info"
    metadata = "Metadata-Version: 2.1\\nName: panns_jax\\nVersion: 0.1.0\\n"
    metadata += "Provides-Extra: train\\nProvides-Extra: dev\\n"
    files = {
        "pytest.py": "import os, sys\\nprint('pytest ran with', sys.argv[1:], 'in', os.getcwd())\\nsys.exit(3)\\n",
        info + "/METADATA": metadata,
        info + "/WHEEL": "Wheel-Version: 1.0\\nGenerator: backend\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    record = "".join(f"{name},,\\n" for name in [*files, info + "/RECORD"])
    name = "panns_jax-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / name, "w") as wheel:
        for path, text in {**files, info + "/RECORD": record}.items():
            wheel.writestr(path, text)
    return name
"""

Run = subprocess.CompletedProcess[str]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a blank in its name that holds the real set-up scripts and the stand-in project."""
    folder = tmp_path / "check out"
    (folder / "scripts").mkdir(parents=True)
    for name in ("environment.py", "python_version.py", "test.py"):
        shutil.copy(SCRIPTS / name, folder / "scripts")
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "backend.py").write_text(BACKEND)
    return folder


@pytest.fixture(scope="module")
def bare_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with pip and nothing else, which takes seconds to make."""
    folder = tmp_path_factory.mktemp("environment") / ".venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder


@pytest.fixture
def checkout_with_environment(checkout: Path, bare_environment: Path) -> Path:
    """The same with an environment in which nothing has been installed yet."""
    shutil.copytree(bare_environment, checkout / ".venv", symlinks=True)
    return checkout


def start(checkout: Path, *arguments: str) -> "subprocess.Popen[str]":
    variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PANNS_JAX_VENV")}
    return subprocess.Popen(
        [sys.executable, str(checkout / "scripts" / "test.py"), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=checkout.parent,
        env={**variables, "PIP_NO_INDEX": "1"},
        start_new_session=True,
    )


def run(checkout: Path, *arguments: str) -> Run:
    process = start(checkout, *arguments)
    out, error = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def builds(checkout: Path) -> int:
    """How often pip has begun to install the project."""
    record = checkout / "builds"
    return len(record.read_text().splitlines()) if record.exists() else 0


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def with_python(checkout: Path, preparation: str) -> Run:
    """Runs test.py in an interpreter changed by the statements in `preparation`."""
    script = str(checkout / "scripts" / "test.py")
    program = (
        f"import sys, runpy; {preparation}; sys.argv = [{script!r}]; sys.path.insert(0, {str(checkout / 'scripts')!r})"
    )
    program += f"; runpy.run_path({script!r}, run_name='__main__')"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that these tests run in is not to be set up for the stand-in project."""
    monkeypatch.delenv("PANNS_JAX_VENV", raising=False)


@pytest.mark.parametrize("name", ["demo.py", "test.py", "python_version.py"])
def test_the_scripts_parse_on_pythons_too_old_for_them(name: str) -> None:
    source = (SCRIPTS / name).read_text(encoding="ascii")
    ast.parse(source, feature_version=(3, 4))


def test_an_old_python_is_refused_in_one_sentence(checkout: Path) -> None:
    result = with_python(checkout, "sys.version_info = (3, 9, 18, 'final', 0)")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "Python 3.11 or newer is needed, this is 3.9\n"


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_python_that_cannot_make_environments_is_told_the_package(checkout: Path, module: str) -> None:
    result = with_python(checkout, f"sys.modules[{module!r}] = None")
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    assert result.returncode == 2
    assert f"lacks the module {module}; install the package {package} " in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (checkout / ".venv").exists()


def test_the_environment_is_made_once_and_made_anew_when_the_project_asks_for_something_else(checkout: Path) -> None:
    first = run(checkout, "-k", "two words")
    assert first.returncode == 3, first.stderr
    assert first.stdout == f"pytest ran with ['-k', 'two words'] in {checkout}\n"
    assert "Making a virtual environment" in first.stderr

    second = run(checkout)
    assert (second.returncode, second.stderr) == (3, "")
    assert builds(checkout) == 1

    (checkout / "pyproject.toml").write_text(PYPROJECT + "# changed\n")
    third = run(checkout)
    assert third.returncode == 3
    assert "Making a virtual environment" not in third.stderr
    assert builds(checkout) == 2

    (checkout / ".venv" / "pyvenv.cfg").unlink()  # what is left of an environment whose Python has gone
    shutil.rmtree(checkout / ".venv" / ("Scripts" if os.name == "nt" else "bin"))
    fourth = run(checkout)
    assert fourth.returncode == 3
    assert "Making a virtual environment" in fourth.stderr


def test_what_pip_cannot_install_ends_in_a_sentence_that_names_its_log_and_is_tried_again(
    checkout_with_environment: Path,
) -> None:
    checkout = checkout_with_environment
    (checkout / "broken").touch()
    failed = run(checkout)
    last = failed.stderr.splitlines()[-1]
    log = checkout / ".venv" / "panns_jax-setup.log"
    assert failed.returncode == 2
    assert last == f"test.py: pip could not install what is needed; what it said is above, its whole log in {log}"
    assert "the stand-in project cannot be built" in log.read_text()
    (checkout / "broken").unlink()
    assert run(checkout).returncode == 3


def test_a_folder_of_someone_elses_is_left_alone(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "thesis.txt").write_text("the only copy")
    result = run(checkout)
    assert result.returncode == 2
    assert "move it away, or name another folder in PANNS_JAX_VENV" in result.stderr
    assert [entry.name for entry in (checkout / ".venv").iterdir()] == ["thesis.txt"]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="process groups are killed as POSIX does")
def test_an_installation_that_was_killed_is_not_taken_for_finished(checkout_with_environment: Path) -> None:
    checkout = checkout_with_environment
    (checkout / "hold").touch()
    process = start(checkout)
    wait_for(lambda: builds(checkout) == 1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (checkout / "hold").unlink()
    again = run(checkout)
    assert again.returncode == 3
    assert "Installing panns_jax" in again.stderr


@pytest.mark.slow
def test_two_set_ups_at_once_install_once(checkout_with_environment: Path) -> None:
    checkout = checkout_with_environment
    (checkout / "hold").touch()
    first = start(checkout)
    wait_for(lambda: builds(checkout) == 1)
    second = start(checkout)
    time.sleep(1)
    (checkout / "hold").unlink()
    errors = [process.communicate(timeout=120)[1] for process in (first, second)]
    assert [first.returncode, second.returncode] == [3, 3]
    assert "Waiting for another set-up" in errors[1]
    assert builds(checkout) == 1
