"""The allocator of a tuned process: seen from processes of their own."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from children import child

from panns_jax import process

on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is that of glibc")


def _told(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""


with_huge_pages = pytest.mark.skipif(
    "[madvise]" not in _told("/sys/kernel/mm/transparent_hugepage/enabled")
    or _told("/proc/sys/vm/overcommit_memory").strip() == "2",
    reason="Linux gives huge pages to those who ask for them, and address space to all",
)

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


GIVE_BACK = f"""{FAULTS}
import panns_jax
from panns_jax.process import give_back_memory

def given_back():
    blocks = [np.ones(25_000_000, np.float32) for _ in range(6)]
    blocks[::2] = [None] * 3  # 300 MB between others, and a block behind them
    before = kilobytes("VmRSS")
    give_back_memory()
    return before - kilobytes("VmRSS")
"""


@on_glibc
def test_what_is_free_between_blocks_can_be_given_back():
    child(f"{GIVE_BACK}\nassert panns_jax.tune_process()\nassert given_back() > 250_000")


@on_glibc
def test_the_memory_of_the_process_is_told_without_that_of_files():
    child(
        f"""{FAULTS}
import mmap
from panns_jax.process import memory_in_use

before = memory_in_use()
with open(np._core._multiarray_umath.__file__, "rb") as file:
    content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    read = sum(content[::4096])
    assert memory_in_use() - before < 1 << 20 < len(content)
block = np.ones(25_000_000, np.float32)
assert 90_000_000 < memory_in_use() - before < 110_000_000
"""
    )


@on_glibc
def test_nothing_is_given_back_where_the_process_is_not_tuned():
    child(
        f"""{GIVE_BACK}
import ctypes
ctypes.CDLL(None).mallopt(-4, 0)  # as when it is tuned
assert given_back() < 50_000
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
def test_blocks_lie_on_huge_pages_after_memory_was_given_back_too():
    child(
        f"""{HUGE_PAGES}
from panns_jax.process import give_back_memory

assert panns_jax.tune_process()
faults()
give_back_memory()
assert kilobytes("VmData") << 10 > HALF
assert "hg" in dict(mapping_of_a_large_block())["VmFlags:"]
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
import atexit, runpy, sys

@atexit.register  # the command ends the process
def show():
    blocks = bytes(1_000_000)
    print("ahead" if kilobytes("VmData") > 512 << 10 else "not ahead")

sys.argv[1:] = ["--help"]
runpy.run_module("{module}", run_name="__main__", alter_sys=True)
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
