"""What the figures of gpu.py were taken on."""

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import common
import machine


def measure(of: str, **settings: Any) -> Iterator[dict[str, Any]]:
    """The device's name, versions, and the settings that change float32 products."""
    del of, settings
    import jax

    device = jax.devices()[0]
    yield {
        "device": device.device_kind,
        "platform": device.platform,
        "memory_bytes": (device.memory_stats() or {}).get("bytes_limit"),
        "driver": _driver(),
        "cores": machine.cores(),
        "versions": machine.versions(),
        "variables": {name: value for name, value in os.environ.items() if name.startswith(("NVIDIA_TF32", "XLA_"))},
        "torch": _torch(),
    }


def _driver() -> str | None:
    try:
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _torch() -> dict[str, Any] | None:
    if common.missing(["torch"]):
        return None
    import torch

    return {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "sees_the_gpu": torch.cuda.is_available(),
        "tf32_by_default": {
            "convolutions": torch.backends.cudnn.allow_tf32,
            "products": torch.backends.cuda.matmul.allow_tf32,
        },
    }
