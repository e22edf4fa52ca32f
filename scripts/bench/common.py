"""What the benchmarks share: the peer, the machine, and a fair way to take turns.

Both sides run in turns in one process (or as processes in turns), so that a busy machine disturbs both alike: compare
the ratio, not the seconds of two different runs.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from panns_jax.labels import audioset  # noqa: E402

SAMPLE_RATE = 32000
SECONDS = 10

# The threads of either side spin for a while after their work, which the other side would have to wait for.
_REST = 0.05

PACKAGES = ("panns_jax", "jax", "jaxlib", "flax", "torch", "torchlibrosa", "panns-inference", "numpy")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One line of the table: medians in seconds, and the largest difference between the results."""

    what: str
    ours: float
    peer: float
    difference: float
    unit: str

    @property
    def ratio(self) -> float:
        """How many times as fast as the peer we are."""
        return self.peer / self.ours

    def __str__(self) -> str:
        return (
            f"{self.what:<34} {1000 * self.ours:9.1f} ms {1000 * self.peer:9.1f} ms {self.ratio:6.2f} x"
            f"   {self.difference:.1e} {self.unit}"
        )


def options(description: str, rounds: int | None = 7) -> argparse.Namespace:
    """Reads `--rounds`, of which `rounds` is the default, and `--json`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds, help="turns of each side, of which the median counts")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    chosen = parser.parse_args()
    if chosen.rounds is not None and chosen.rounds < 1:
        parser.error("--rounds must be at least 1")
    return chosen


def require_peers() -> None:
    """Ends with the line that installs the peers, where one is missing."""
    missing = [name for name in ("torch", "torchlibrosa", "panns_inference") if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"{', '.join(missing)} not installed: pip install torch torchlibrosa panns-inference librosa matplotlib"
        )


def peer_home(folder: Path) -> Path:
    """A home folder in which importing panns_inference finds the labels, which it would download otherwise."""
    data = folder / "panns_data"
    data.mkdir(parents=True, exist_ok=True)
    labels = audioset()
    lines = [f'{i},{labels.ids[i]},"{labels.names[i]}"' for i in range(len(labels))]
    (data / "class_labels_indices.csv").write_text("\n".join(["index,mid,display_name", *lines, ""]), encoding="utf-8")
    return folder


def peer_models(folder: Path) -> Any:
    """The module of panns_inference that holds the published models."""
    os.environ["HOME"] = os.environ["USERPROFILE"] = str(peer_home(folder))
    import panns_inference.models  # pyright: ignore[reportMissingImports]

    return panns_inference.models


def write_checkpoint(path: Path) -> None:
    """Writes a Cnn14 as its authors released it, with reproducible random weights."""
    import recipe  # pyright: ignore[reportMissingImports]
    import torch

    weights = {name: torch.from_numpy(np.asarray(array)) for name, array in recipe.checkpoint("Cnn14", 1).items()}
    torch.save({"iteration": 1, "model": weights}, path)


def clips(count: int) -> np.ndarray:
    """(count, 320000) float32: ten seconds each."""
    import recipe  # pyright: ignore[reportMissingImports]

    return recipe.waveform(count, SECONDS * SAMPLE_RATE, SAMPLE_RATE, 1)


def in_turns(sides: Mapping[str, Callable[[], object]], rounds: int, *, warm_up: int = 2) -> dict[str, float]:
    """Median seconds of each side; the sides take turns, and who begins changes every round."""
    for side in sides.values():
        for _ in range(warm_up):
            side()
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds):
        order = list(sides)[:: 1 if turn % 2 else -1]
        for name in order:
            time.sleep(_REST)
            begun = time.perf_counter()
            sides[name]()
            taken[name].append(time.perf_counter() - begun)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def print_header(title: str) -> None:
    """Prints the machine and the columns."""
    print(f"{title}\n{processor()}, {os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}")
    print(", ".join(f"{name} {number}" for name, number in versions().items()))
    print(f"{'':<34} {'panns_jax':>12} {'PyTorch':>12} {'ratio':>8}   largest difference", flush=True)


def write_json(path: Path | None, rows: list[Comparison]) -> None:
    """Writes the figures and what they were taken on, where a file is named."""
    if path is None:
        return
    machine = {"processor": processor(), "cores": os.cpu_count(), "platform": platform.platform()}
    figures = [{**dataclasses.asdict(row), "ratio": row.ratio} for row in rows]
    path.write_text(json.dumps({"machine": machine, "versions": versions(), "figures": figures}, indent=2) + "\n")


def processor() -> str:
    """The processor's name as it calls itself."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of the packages that matter."""
    return {name: version(name) for name in PACKAGES}
