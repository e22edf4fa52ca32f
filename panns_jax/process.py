"""What a process may be asked for: an allocator that keeps its memory, and compiled programs that are kept on disk.

Both concern the whole process, so the library does neither by itself; our commands ask for both. Nothing heavy is
imported here, as the first must come before everything else.
"""

import contextlib
import dataclasses
import os
import stat
import sys
import warnings
from pathlib import Path

# Of glibc's malloc.h, and what each is set to.
_ALLOCATOR = {
    -4: 0,  # M_MMAP_MAX: no block gets a mapping of its own, which would go back to the system when it is freed
    -1: -1,  # M_TRIM_THRESHOLD: nor does the end of the heap, however much of it is free
    -8: 1,  # M_ARENA_MAX: all threads share the one heap that can hold blocks above 64 MB
    -2: 512 << 20,  # M_TOP_PAD: bytes by which it grows ahead; no memory until they are used
}

_HUGE_PAGE = 2 << 20
_MADV_HUGEPAGE = 14  # of Linux's mman.h

_FOLDER = "jax_compilation_cache_dir"
# JAX's settings beside it: their defaults, and ours. Small programs are kept too: there are few.
_CACHE = {
    "jax_compilation_cache_max_size": (-1, 1 << 30),  # bytes
    "jax_persistent_cache_min_compile_time_secs": (1.0, 0.0),
    # A second cache in the folder would grow without bound, and programs be lost where the folder is moved.
    "jax_persistent_cache_enable_xla_caches": ("xla_gpu_per_fusion_autotune_cache_dir", "none"),
}

_tuned = False
_in_command = False


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came of a request to the process: true where it is met, and false where nothing was changed.

    Attributes:
      reason: why nothing was changed; empty where the request is met.
    """

    reason: str = ""

    def __bool__(self) -> bool:
        return not self.reason


def tune_process() -> Answer:
    """Has the C library keep the memory that is freed, so that each call of a model finds that of the call before.

    glibc gives large blocks back to the system, which has to clear every page of them again for the next call. After
    this the process keeps what it needed most, until it ends. Where the system has pages of 2 MiB for those who ask
    (Linux's "madvise"), the heap is made of them; for this, address space as large as half the machine's memory is
    reserved, which takes no memory. All this holds for everything in the process, not for JAX alone. To be called
    before JAX's first computation, best before anything is imported.

    Where the C library is another one (macOS, Windows, musl), where an allocator was preloaded, where the environment
    sets glibc's (MALLOC_…, GLIBC_TUNABLES), or where JAX has begun, nothing is changed, and a RuntimeWarning says so.

    >>> panns_jax.tune_process()
    Answer(reason='')

    Returns:
      True where the process is tuned, now or since an earlier call; else false, with the reason.
    """
    answer = _tune()
    if not answer:
        warnings.warn(f"tune_process changed nothing: {answer.reason}", RuntimeWarning, stacklevel=2)
    return answer


def cache_programs(folder: str | os.PathLike[str] | None = None) -> Answer:
    """Has JAX keep the programs that it compiles in a folder, so that the next process need not compile them.

    The folder holds 1 GiB at most, of which the programs longest unused make room for new ones; several processes may
    share it. A program is found again by the same JAX on the same kind of processor. As programs are run, the folder is
    made for its owner alone, and one that others may write to is not used. Where JAX's cache has a folder already
    (JAX_COMPILATION_CACHE_DIR, or jax.config), that stays, as do its other settings that are no longer JAX's defaults.

    Before JAX is imported, its settings are given by environment variables, which processes started from then on
    inherit; afterwards, by jax.config.

    Args:
      folder: made where it is not there; by default `programs` in `PANNS_JAX_CACHE`, else in the platform's folder for
        such files, such as `~/.cache/panns_jax`.

    Returns:
      True where programs are kept there; else false, with the reason.
    """
    folder = (_default_folder() if folder is None else Path(folder).expanduser()).absolute()
    jax = sys.modules.get("jax")
    named = os.environ.get(_FOLDER.upper()) if jax is None else getattr(jax.config, _FOLDER)
    if named is not None:
        return Answer() if named == str(folder) else Answer(f"the folder of JAX's cache is set already, to {named!r}")
    if reason := _unfit(folder):
        return Answer(reason)
    _remove_cut_short(folder)
    if jax is None:
        os.environ[_FOLDER.upper()] = str(folder)
        for name, (_, value) in _CACHE.items():
            os.environ.setdefault(name.upper(), str(value))
        return Answer()
    jax.config.update(_FOLDER, str(folder))
    for name, (default, value) in _CACHE.items():
        if getattr(jax.config, name) == default:
            jax.config.update(name, value)
    return Answer()


def begin_command() -> None:
    """Tells that this process is one of our commands, and tunes it; to be called first thing.

    Where that cannot be done, nothing is said: the results are the same.
    """
    global _in_command
    _in_command = True
    _tune()


def begin_compiling() -> None:
    """What a command does before it compiles programs: it has them kept, and goes on without where that fails.

    In the process of a program that runs our tasks itself, nothing is done.
    """
    if _in_command:
        message = "Error (reading|writing) persistent compilation cache entry"
        warnings.filterwarnings("ignore", message, UserWarning)
        cache_programs()


def give_back_memory() -> None:
    """Gives back to the system what is free between blocks that are in use, where `tune_process` has it kept.

    For after what needs much memory once. The free end of the heap stays, and so do its huge pages.
    """
    if _tuned:
        import ctypes

        library = ctypes.CDLL(None)
        library.malloc_trim.argtypes = [ctypes.c_size_t]
        library.malloc_trim(sys.maxsize)


def memory_in_use() -> int:
    """Bytes of memory that this process has for itself alone: not those of files, which the system can take away.

    0 where the system does not tell.
    """
    fields = _read("/proc/self/statm").split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE") if fields else 0


def _tune() -> Answer:
    global _tuned
    if _tuned:
        return Answer()
    if reason := _hindrance():
        return Answer(reason)
    import ctypes

    library = ctypes.CDLL(None)
    for parameter, value in _ALLOCATOR.items():
        library.mallopt(parameter, value)
    if _huge_pages_are_for_who_asks() and _address_space_is_free():
        _ask_for_huge_pages(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    _tuned = True
    return Answer()


def _huge_pages_are_for_who_asks() -> bool:
    return "[madvise]" in _read("/sys/kernel/mm/transparent_hugepage/enabled")


def _address_space_is_free() -> bool:
    """Whether address space that is reserved is neither limited nor counted as memory."""
    import resource

    limits = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    return _read("/proc/sys/vm/overcommit_memory").strip() != "2" and all(n == resource.RLIM_INFINITY for n in limits)


def _ask_for_huge_pages(size: int) -> None:
    """Has the heap grow by `size` bytes ahead, and be of huge pages there. A heap that is never trimmed stays so.

    With small pages matrix products wait for the processor to look up where the pages are.
    """
    import ctypes

    library = ctypes.CDLL(None)
    library.malloc.argtypes, library.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    library.free.argtypes, library.free.restype = [ctypes.c_void_p], None
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    block = library.malloc(size)
    if block is None:
        return
    first = -(-block // _HUGE_PAGE) * _HUGE_PAGE
    library.madvise(first, (block + size - first) // _HUGE_PAGE * _HUGE_PAGE, _MADV_HUGEPAGE)
    library.free(block)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:  # a system without it
        return ""


def _hindrance() -> str:
    """Why the allocator is not to be set; empty where it is."""
    if not _has_glibc():
        return f"it sets the allocator of glibc, on which this Python ({sys.platform}) does not run"
    if _allocator_is_preloaded():
        return "another allocator was loaded in the place of glibc's"
    names = [name for name in os.environ if name.startswith("MALLOC_")]
    if "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", ""):
        names.append("GLIBC_TUNABLES")
    if names:
        return f"the environment sets the allocator, by {', '.join(sorted(names))}"
    # JAX has no public name for this.
    begun = getattr(sys.modules.get("jax._src.xla_bridge"), "backends_are_initialized", None)
    if begun is not None and begun():
        return "JAX has begun and started its threads; call it before the first computation"
    return ""


def _has_glibc() -> bool:
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (AttributeError, ValueError, OSError):  # Windows has no such function, macOS no such name, musl no answer
        return False


def _allocator_is_preloaded() -> bool:
    import ctypes

    used, own = (ctypes.cast(ctypes.CDLL(name).malloc, ctypes.c_void_p).value for name in (None, "libc.so.6"))
    return used != own


def _default_folder() -> Path:
    from panns_jax.files import cache_folder

    return cache_folder() / "programs"


def _unfit(folder: Path) -> str:
    """Makes a folder for programs where there is none; why it cannot be used, or empty where it can."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        return f"{folder}: cannot be made: {error.strerror}"
    if not os.access(folder, os.W_OK):
        return f"{folder}: cannot be written to"
    if os.name == "posix" and (found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        return f"{folder}: others may write to it, and could put programs of theirs there"
    return ""


def _remove_cut_short(folder: Path) -> None:
    """Removes programs that were not written to their end, as on a full disk: JAX neither replaces nor overlooks them.

    JAX writes a program, then a note of when it was used, while it holds a lock.
    """

    def cut_short() -> list[Path]:
        programs = folder.glob("*-cache")
        return [path for path in programs if not path.with_name(path.name.removesuffix("cache") + "atime").exists()]

    with contextlib.suppress(OSError):  # also a lock that is not to be had in time
        if not cut_short():
            return
        from filelock import FileLock

        with FileLock(folder / ".lockfile", timeout=10):
            for path in cut_short():
                path.unlink(missing_ok=True)
