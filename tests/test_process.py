"""What a process may be asked for: seen from processes of their own."""

import os
import platform
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import recipe
import soundfile

from panns_jax import process

on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is that of glibc")
on_posix = pytest.mark.skipif(os.name != "posix", reason="owners and limits of POSIX")


def _told(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""


with_huge_pages = pytest.mark.skipif(
    "[madvise]" not in _told("/sys/kernel/mm/transparent_hugepage/enabled")
    or _told("/proc/sys/vm/overcommit_memory").strip() == "2",
    reason="Linux gives huge pages to those who ask for them, and address space to all",
)

# What the tests give to JAX is a user's own setting here.
BARE = {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name}

FAULTS = """
import resource, threading
import numpy as np

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(25_000_000, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def faults_in_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(faults()))
    thread.start()
    thread.join()
    return found[0]

def kilobytes(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name + ":"))
"""


def child(program: str, *arguments: object, **environment: str) -> str:
    """What a program prints in a process of its own, in which warnings are errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**BARE, **environment},
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# The allocator


@on_glibc
def test_a_tuned_process_finds_its_freed_memory_again_in_every_thread():
    count = f"{FAULTS}\nfaults(), faults_in_a_thread()\nprint(faults(), faults_in_a_thread())"
    as_it_is = [int(n) for n in child(count).split()]
    tuned = [int(n) for n in child(f"import panns_jax\nassert panns_jax.tune_process()\n{count}").split()]
    assert max(tuned) < 100 < 300 < min(as_it_is)


@on_glibc
def test_tuning_takes_address_space_and_no_memory():
    child(
        f"""{FAULTS}
import panns_jax
resident = kilobytes("VmRSS")
assert panns_jax.tune_process()
blocks = [bytes(100_000) for _ in range(100)]
assert kilobytes("VmData") > 512 << 10
assert kilobytes("VmRSS") - resident < 20 << 10
"""
    )


HUGE_PAGES = f"""{FAULTS}
import ctypes, os, sys
import panns_jax

HALF = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2

def mapping_of_a_large_block():
    size = 128 << 20
    block = bytearray(size)  # unlike NumPy's arrays, which ask for huge pages themselves
    address = ctypes.addressof(ctypes.c_char.from_buffer(block)) + size // 2
    with open("/proc/self/smaps") as smaps:
        for line in smaps:
            name, *values = line.split()
            if "-" in name:
                first, end = (int(n, 16) for n in name.split("-"))
            elif first <= address < end:
                yield name, values
"""


@on_glibc
@with_huge_pages
def test_large_blocks_of_a_tuned_process_lie_on_huge_pages():
    child(
        f"""{HUGE_PAGES}
assert "hg" not in dict(mapping_of_a_large_block())["VmFlags:"]
assert panns_jax.tune_process()
assert kilobytes("VmData") << 10 > HALF
assert kilobytes("VmRSS") << 10 < HALF
found = dict(mapping_of_a_large_block())
assert "hg" in found["VmFlags:"]
assert int(found["AnonHugePages:"][0]) > 0
"""
    )


@on_glibc
@with_huge_pages
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_where_address_space_is_limited_none_is_reserved(limit: str):
    child(
        f"""{HUGE_PAGES}
_, hard = resource.getrlimit(resource.{limit})
resource.setrlimit(resource.{limit}, (2 * HALF, hard))  # there would be room
assert panns_jax.tune_process()
assert kilobytes("VmData") << 10 < HALF
assert "hg" not in dict(mapping_of_a_large_block())["VmFlags:"]
faults()
assert faults() < 100, "it is not tuned"
"""
    )


@on_glibc
def test_worker_processes_and_forks_of_a_tuned_process_work():
    child(
        """
        import os
        from pathlib import Path
        import panns_jax
        from panns_jax.execute import for_each

        if __name__ == "__main__":
            assert panns_jax.tune_process()
            with for_each(Path.read_text, [Path("/proc/self/status")], workers=1, task="t", unit="u") as outcomes:
                [outcome] = outcomes
            data = next(line for line in outcome.result.splitlines() if line.startswith("VmData"))
            assert int(data.split()[1]) < 400 << 10, "a worker is not tuned"
            if not (child := os.fork()):
                os._exit(len(bytes(100_000_000)) != 100_000_000)
            assert os.waitpid(child, 0)[1] == 0
        """
    )


@on_glibc
def test_a_process_that_is_tuned_stays_so_and_each_call_says_yes():
    child(
        """
        import panns_jax
        assert panns_jax.tune_process() and panns_jax.tune_process().reason == ""
        import jax
        jax.devices()
        assert panns_jax.tune_process()
        """
    )


REFUSED = f"""{FAULTS}
import sys, warnings
import panns_jax
if "late" in sys.argv:
    import jax
    jax.devices()
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    answer = panns_jax.tune_process()
assert not answer
faults()
assert faults() > 300, "something was changed"
[warning] = told
assert warning.category is RuntimeWarning
assert str(warning.message) == "tune_process changed nothing: " + answer.reason
print(answer.reason)
"""


@on_glibc
def test_tuning_after_jax_has_begun_comes_too_late_and_says_so():
    assert child(REFUSED, "late") == "JAX has begun and started its threads; call it before the first computation\n"


@on_glibc
@pytest.mark.parametrize(
    ("variable", "value"), [("MALLOC_ARENA_MAX", "4"), ("GLIBC_TUNABLES", "glibc.malloc.arena_max=4")]
)
def test_an_allocator_that_the_user_has_set_is_left_alone(variable: str, value: str):
    assert child(REFUSED, **{variable: value}) == f"the environment sets the allocator, by {variable}\n"


@on_glibc
def test_glibc_tunables_of_other_things_are_no_hindrance():
    child("import panns_jax; assert panns_jax.tune_process()", GLIBC_TUNABLES="glibc.pthread.rseq=1")


@on_glibc
def test_an_allocator_in_the_place_of_glibcs_is_left_alone(tmp_path: Path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler is here")
    source, library = tmp_path / "other.c", tmp_path / "other.so"
    source.write_text("void *__libc_malloc(unsigned long); void *malloc(unsigned long n) { return __libc_malloc(n); }")
    subprocess.run([compiler, "-shared", "-fPIC", "-w", str(source), "-o", str(library)], check=True)
    assert child(REFUSED, LD_PRELOAD=str(library)) == "another allocator was loaded in the place of glibc's\n"


@pytest.mark.parametrize("failure", [AttributeError, ValueError, OSError])
def test_on_other_c_libraries_nothing_is_changed_and_it_says_so(
    failure: type[Exception], monkeypatch: pytest.MonkeyPatch
):
    def confstr(name: str) -> str:
        raise failure(name)  # as on Windows, where there is no such function, on macOS and with musl

    monkeypatch.setattr(os, "confstr", confstr, raising=False)
    with pytest.warns(RuntimeWarning, match="tune_process changed nothing: it sets the allocator of glibc"):
        answer = process.tune_process()
    assert not answer


@on_glibc
@pytest.mark.parametrize("module", ["panns_jax", "panns_jax.train", "convert"])
def test_the_commands_tune_their_process_in_silence(module: str):
    show = f"""{FAULTS}
import runpy, sys
sys.argv[1:] = ["--help"]
try:
    runpy.run_module("{module}", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code
blocks = bytes(1_000_000)
print("ahead" if kilobytes("VmData") > 512 << 10 else "not ahead")
"""
    assert child(show).endswith("\nahead\n")
    assert child(show, MALLOC_ARENA_MAX="1").endswith("\nnot ahead\n")


@on_glibc
def test_a_program_that_runs_a_task_itself_is_not_tuned():
    child(
        f"""{FAULTS}
import panns_jax.cli
try:
    panns_jax.cli.main(["--help"])
except SystemExit as end:
    assert not end.code
assert faults() > 300
"""
    )


# Programs that are kept


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
    with full_disk(10_000):
        process = start(arguments, tmp_path)
    assert told(process) == kept[1]
    assert set(programs(tmp_path).values()) == {10_000}, "not cut short"
    assert told(start(arguments, tmp_path)) == kept[1]
    assert programs(tmp_path).keys() == programs(kept[0]).keys()
    assert min(programs(tmp_path).values()) > 10_000


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
