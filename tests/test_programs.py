"""Compiled programs that are kept on disk: seen from processes of their own."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import recipe
import soundfile
from children import BARE, child

from panns_jax import process

on_posix = pytest.mark.skipif(os.name != "posix", reason="owners and limits of POSIX")


@pytest.fixture(scope="module")
def arguments(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A command that runs a model."""
    sound = tmp_path_factory.mktemp("sound") / "sound.wav"
    soundfile.write(sound, recipe.waveform(1, 16000, 32000, 3)[0], 32000)
    return ["tag", str(sound), "--checkpoint", str(demo_checkpoint), "--format", "json"]


def start(arguments: list[str], cache: Path, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "panns_jax", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**BARE, "PANNS_JAX_CACHE": str(cache), **environment},
    )


def told(process: "subprocess.Popen[str]") -> str:
    """What a command printed that ended well and had nothing to complain of."""
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    return out


@pytest.fixture(scope="module")
def kept(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A cache folder after a first start of the command, and what that printed."""
    cache = tmp_path_factory.mktemp("kept")
    return cache, told(start(arguments, cache))


def programs(cache: Path) -> dict[str, int]:
    """The programs in a cache folder, and their sizes."""
    return {path.name: path.stat().st_size for path in (cache / "programs").glob("*-cache")}


def test_a_second_start_does_not_compile_and_says_the_same(arguments: list[str], kept: tuple[Path, str]):
    cache, first = kept
    before = programs(cache)
    assert before
    assert told(start(arguments, cache)) == first
    process = start(arguments, cache, JAX_LOGGING_LEVEL="DEBUG")
    out, account = process.communicate(timeout=120)
    assert out == first
    assert account.count("Persistent compilation cache hit") == len(before)
    assert "PERSISTENT COMPILATION CACHE MISS" not in account
    assert programs(cache) == before
    assert {path.name for path in cache.iterdir()} == {"programs"}


@on_posix
def test_a_full_disk_stops_nothing_and_spoils_nothing(
    arguments: list[str], kept: tuple[Path, str], tmp_path: Path, full_disk
):
    with full_disk(5_000):
        process = start(arguments, tmp_path)
    assert told(process) == kept[1]
    assert set(programs(tmp_path).values()) == {5_000}, "not cut short"
    assert told(start(arguments, tmp_path)) == kept[1]
    assert programs(tmp_path).keys() == programs(kept[0]).keys()
    assert min(programs(tmp_path).values()) > 5_000


def test_a_damaged_program_is_compiled_without_a_word(arguments: list[str], kept: tuple[Path, str], tmp_path: Path):
    shutil.copytree(kept[0], tmp_path, dirs_exist_ok=True)
    for path in (tmp_path / "programs").glob("*-cache"):
        path.write_bytes(path.read_bytes()[:1000])
    assert told(start(arguments, tmp_path)) == kept[1]
    assert programs(tmp_path).keys() == programs(kept[0]).keys(), "it was not looked for"


def test_a_cache_folder_that_cannot_be_made_stops_nothing(arguments: list[str], kept: tuple[Path, str], tmp_path: Path):
    (tmp_path / "file").touch()
    assert told(start(arguments, tmp_path / "file" / "cache")) == kept[1]


def test_processes_that_start_at_once_share_the_programs(arguments: list[str], kept: tuple[Path, str], tmp_path: Path):
    processes = [start(arguments, tmp_path) for _ in range(2)]
    assert [told(process) for process in processes] == [kept[1]] * 2
    assert programs(tmp_path).keys() == programs(kept[0]).keys()


def test_a_folder_that_the_user_gave_to_jax_is_used_instead(
    arguments: list[str], kept: tuple[Path, str], tmp_path: Path
):
    own = tmp_path / "own"
    assert told(start(arguments, tmp_path / "ours", JAX_COMPILATION_CACHE_DIR=str(own))) == kept[1]
    assert own.is_dir() and not (tmp_path / "ours").exists()


@pytest.mark.parametrize("arguments", [["--help"], ["tag", "--help"], ["models"]])
def test_commands_that_compile_nothing_make_no_folder(arguments: list[str], tmp_path: Path):
    told(start(arguments, tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def without_jax(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a process in which JAX is not imported, and which may be changed."""
    environment = dict(BARE)
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.delitem(sys.modules, "jax")
    return environment


def test_a_program_that_runs_a_task_itself_keeps_its_settings(without_jax: dict[str, str], tmp_path: Path):
    without_jax["PANNS_JAX_CACHE"] = str(tmp_path / "cache")
    before = dict(without_jax)
    process.begin_compiling()
    assert without_jax == before
    assert not (tmp_path / "cache").exists()


def test_settings_that_the_user_has_made_are_kept(without_jax: dict[str, str], tmp_path: Path):
    without_jax["JAX_COMPILATION_CACHE_MAX_SIZE"] = "1000"
    assert process.cache_programs(tmp_path / "programs")
    assert without_jax["JAX_COMPILATION_CACHE_MAX_SIZE"] == "1000"
    assert without_jax["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "programs")
    assert process.cache_programs(tmp_path / "programs"), "as it is already"
    answer = process.cache_programs(tmp_path / "others")
    assert not answer
    assert answer.reason == f"the folder of JAX's cache is set already, to '{tmp_path / 'programs'}'"
    assert not (tmp_path / "others").exists()


def test_a_folder_that_cannot_be_used_is_named(without_jax: dict[str, str], tmp_path: Path):
    before = dict(without_jax)
    (tmp_path / "file").touch()
    answer = process.cache_programs(tmp_path / "file")
    assert not answer
    assert answer.reason == f"{tmp_path / 'file'}: cannot be made: File exists"
    assert without_jax == before


@on_posix
def test_programs_lie_where_nobody_else_can_put_any(without_jax: dict[str, str], tmp_path: Path):
    assert process.cache_programs(tmp_path / "made")
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700
    del without_jax["JAX_COMPILATION_CACHE_DIR"]
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o770)
    answer = process.cache_programs(tmp_path / "open")
    assert not answer
    assert answer.reason.endswith("others may write to it, and could put programs of theirs there")


COMPILE = """
import sys
import panns_jax

if "late" in sys.argv:
    import jax
    jax.jit(lambda x: x + 1)(1.0)  # JAX has compiled before
assert panns_jax.cache_programs(sys.argv[1])
import jax
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
jax.jit(lambda x: x * 2 + 3)(1.0)
assert jax.config.jax_compilation_cache_max_size == 1 << 30
print(events.count("/jax/compilation_cache/cache_hits"), events.count("/jax/compilation_cache/cache_misses"))
"""


def test_programs_are_kept_whether_jax_is_imported_before_or_after(tmp_path: Path):
    assert child(COMPILE, tmp_path / "programs") == "0 1\n"
    assert child(COMPILE, tmp_path / "programs", "late") == "1 0\n"


def test_a_setting_of_jax_that_the_program_has_made_is_kept(tmp_path: Path):
    child(
        """
        import sys
        import jax, panns_jax
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 5)
        assert panns_jax.cache_programs(sys.argv[1])
        assert jax.config.jax_persistent_cache_min_compile_time_secs == 5
        jax.config.update("jax_compilation_cache_dir", "elsewhere")
        assert not panns_jax.cache_programs(sys.argv[1])
        assert jax.config.jax_compilation_cache_dir == "elsewhere"
        """,
        tmp_path / "programs",
    )


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="instruction sets of x86")
def test_jax_tells_programs_of_processors_with_other_instructions_apart():
    # The key of a program holds this fingerprint; else one folder could not serve several machines.
    show = """
import jax
from jax._src.lib import xla_client
print(xla_client.get_topology_for_devices(jax.devices()).fingerprint())
"""
    assert child(show) != child(show, XLA_FLAGS="--xla_cpu_max_isa=SSE4_2")
