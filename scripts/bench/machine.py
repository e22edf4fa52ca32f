"""What figures were taken on: processor, instruction sets, cores, allocator, versions."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

_CPUINFO = Path("/proc/cpuinfo")

# By the kernel's names for them, on x86 and on ARM; what decides how fast convolutions can be.
_INSTRUCTION_SETS = {
    "avx2": "AVX2",
    "fma": "FMA",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "avx512_fp16": "AVX-512 FP16",
    "amx_tile": "AMX",
    "amx_bf16": "AMX BF16",
    "amx_int8": "AMX INT8",
    "asimd": "NEON",
    "sve": "SVE",
    "sme": "SME",
    "bf16": "BF16",
    "i8mm": "I8MM",
}
_PACKAGES = ("panns_jax", "jax", "jaxlib", "flax", "torch", "torchlibrosa", "panns-inference", "onnx", "onnxruntime")
_PACKAGES += ("openvino", "numpy")


def cpuinfo() -> str:
    """What Linux tells of the processors; nothing elsewhere."""
    return _CPUINFO.read_text() if _CPUINFO.exists() else ""


def processor(told: str | None = None) -> str:
    """The processor's name as it calls itself, with the numbers that tell what is behind a vague one.

    Args:
      told: of `cpuinfo`, which is asked where it is None.
    """
    fields = _fields(cpuinfo() if told is None else told)
    name = fields.get("model name") or platform.processor() or platform.machine()
    numbers = [
        f"{key} {fields[full]}" for key, full in (("family", "cpu family"), ("model", "model")) if full in fields
    ]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def instruction_sets(told: str | None = None) -> tuple[str, ...]:
    """Those of the processor that matter here.

    Args:
      told: as for `processor`.
    """
    fields = _fields(cpuinfo() if told is None else told)
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return tuple(name for flag, name in _INSTRUCTION_SETS.items() if flag in flags)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def allocator(*, tuned: bool) -> str:
    """The setting of the memory allocator, which is one for all engines of the process.

    Args:
      tuned: whether `panns_jax.tune_process()` has been called.
    """
    library = " ".join(platform.libc_ver()).strip() or "of the platform"
    if tuned:
        return f"{library}, set by panns_jax.tune_process()"
    names = sorted(n for n in os.environ if n.startswith("MALLOC_") or n in ("GLIBC_TUNABLES", "LD_PRELOAD"))
    return ", ".join([library, *(f"{name}={os.environ[name]}" for name in names)] if names else [library, "as it is"])


def versions() -> dict[str, str]:
    """Of the packages that matter, those that are installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def describe(*, tuned: bool) -> dict[str, Any]:
    """All of it, as JSON holds it.

    Args:
      tuned: as for `allocator`.
    """
    return {
        "processor": processor(),
        "instruction_sets": instruction_sets(),
        "cores": cores(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "allocator": allocator(tuned=tuned),
        "versions": versions(),
    }


def print_header(title: str, described: dict[str, Any]) -> None:
    """Prints what `describe` found."""
    sets = ", ".join(described["instruction_sets"]) or "instruction sets unknown"
    print(title)
    print(f"{described['processor']}, {described['cores']} cores; {sets}")
    print(f"{described['platform']}, Python {described['python']}; allocator: {described['allocator']}")
    print(", ".join(f"{name} {number}" for name, number in described["versions"].items()), flush=True)


def _fields(told: str) -> dict[str, str]:
    """Those of the first processor."""
    lines = (line.partition(":") for line in told.partition("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}
