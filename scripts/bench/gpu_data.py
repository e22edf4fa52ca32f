"""A training run of the real command on generated rows: its speed, and its share of time that it waits for data."""

import importlib.metadata
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common

_NEEDS = ("grain", "sklearn", "tensorboardX", "tyro", "filelock")
_PROGRAM = "import sys; from panns_jax.cli import main; main(sys.argv[1:])"


def measure(of: str, *, tiny: bool, until: float, folder: Path) -> Iterator[dict[str, Any]]:
    """Medians of what the run's log tells every two seconds, once the first is left out.

    Args:
      of: worker processes that read; 0 for threads.
      tiny: a small model on fewer rows.
      until: when the run has to end, on the monotonic clock.
      folder: for the workspace.
    """
    workers = int(of)
    if missing := common.missing(_NEEDS):
        yield {"workers": workers, "failed": f"{', '.join(missing)} not installed"}
        return
    workspace = folder / "workspace"
    rows, samples = (16, 32000) if tiny else (512, 320000)
    for name, count in (("balanced_train", rows), ("eval", 8 if tiny else 32)):
        _write_rows(workspace, name, count, samples)
    options = ["train", "--workspace", workspace, "--data-type", "balanced_train", "--workers", workers]
    options += ["--augmentation", "mixup", "--balanced", "balanced", "--precision", "float32" if tiny else "bf16"]
    options += ["--model-type", "DemoCnn" if tiny else "Cnn14", "--batch-size", 4 if tiny else 32]
    options += ["--early-stop", 12 if tiny else 1_000_000]
    # The run is ended by Ctrl-C where time is up, upon which it saves; its log has what counts before.
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *map(str, options)], stdout=subprocess.DEVNULL, cwd=common.ROOT
    )
    speeds: list[dict[str, Any]] = []
    wanted = 1 if tiny else 6
    try:
        while process.poll() is None and len(speeds) < wanted and time.monotonic() < until - 2:
            time.sleep(0.5)
            speeds = _speeds(workspace)
    finally:
        process.kill()
        process.wait()
    speeds = _speeds(workspace)
    if not speeds:
        yield {"workers": workers, "failed": f"told no speed before its time was up (exit code {process.returncode})"}
        return
    kept = speeds[1:] or speeds  # the first has the filling of queues in it
    told = {name: [line[name] for line in kept] for name in ("clips_per_second", "data_wait")}
    yield {
        "workers": workers,
        "rows_in_file": rows,
        "looks": len(kept),
        **{name: statistics.median(values) for name, values in told.items()},
        "data_wait_most": max(told["data_wait"]),
        "grain": importlib.metadata.version("grain"),
    }


def _speeds(workspace: Path) -> list[dict[str, Any]]:
    lines = [line for log in workspace.glob("logs/*/log.jsonl") for line in log.read_text().splitlines(keepends=True)]
    told = [json.loads(line) for line in lines if line.endswith("\n")]
    return [line for line in told if "clips_per_second" in line]


def _write_rows(workspace: Path, name: str, count: int, samples: int) -> None:
    """Files of the published layout, with noise, a different piece of it in each row."""
    import h5py
    import numpy as np

    waveforms = workspace / "hdf5s" / "waveforms" / f"{name}.h5"
    index = workspace / "hdf5s" / "indexes" / f"{name}.h5"
    for path in (waveforms, index):
        path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(name))
    noise = (3000 * rng.standard_normal(samples, dtype=np.float32)).astype(np.int16)
    targets = np.zeros((count, 527), bool)
    targets[np.arange(count), np.arange(count) % 527] = True
    common_columns = {
        "audio_name": np.array([f"Y{name}{i}.wav".encode()[:20] for i in range(count)], "S20"),
        "target": targets,
    }
    with h5py.File(waveforms, "w") as file:
        file.attrs["sample_rate"] = 32000
        for column, values in common_columns.items():
            file[column] = values
        rows = file.create_dataset("waveform", (count, samples), np.int16)
        for i in range(count):
            rows[i] = np.roll(noise, i * 997)
    with h5py.File(index, "w") as file:
        for column, values in common_columns.items():
            file[column] = values
        file["hdf5_path"] = np.full(count, str(waveforms).encode(), "S200")
        file["index_in_hdf5"] = np.arange(count, dtype=np.int32)
