"""Measures on a GPU what the README tells of GPUs, and tells it in JSON and as Markdown tables.

    python scripts/bench/gpu.py [--parts parity,memory,…] [--seconds 600] [--json FILE]
                                [--markdown FILE] [--tiny]

parity     outputs against the published implementation's, in float32, TF32 and bfloat16, prepared and not
memory     the most memory that a training step of Cnn14 takes, batch 32 with mixup; and whether 12 GB are enough
step       the same step's time beside PyTorch's, eager and compiled, in turns in one process for each precision
inference  clips per second beside PyTorch's compiled model
data       what `panns-jax train` tells of its speed, and of the share of time that it waits for data

Each measurement is a process of its own, so that one that fails or takes too long stops nothing else. Those that time
nothing (parity, memory) run at the same time. What is not installed is told, and its part left out. `--tiny` is for
trying the program on a machine without a GPU; its figures mean nothing.
"""

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import common
import gpu_table

# Measurements of each part, in the order of their worth, with the seconds that they take on an H200. Most goes into
# XLA's search for the fastest kernels: half a minute for a training step alone on the GPU, two minutes beside others.
_PRECISIONS = ("bfloat16", "tf32", "float32")
_PARITY = ("Cnn14", "Wavegram_Logmel_Cnn14", "ResNet38", "MobileNetV2", "Cnn14_DecisionLevelMax")
# Precision, rematerialisation, accumulation, memory of the card in GB (0 for all of it).
_MEMORY = (
    *("float32:none:1:12", "float32:blocks:1:12", "float32:none:2:12", "bfloat16:none:1:12"),
    *("float32:activations:1:12", "float32:none:4:12", "bfloat16:blocks:1:12"),
)
PARTS: dict[str, dict[str, float]] = {
    "parity": {f"parity:{model}": 60 for model in _PARITY},
    "memory": {f"memory:{variant}": 70 for variant in _MEMORY},
    "step": {f"step:{precision}": 80 for precision in _PRECISIONS},
    "inference": {"inference:": 130},
    "data": {"data:0": 70, "data:8": 50},
}
_UNTIMED = ("parity", "memory")
_TINY = {
    "parity": {"parity:MobileNetV2": 60.0},
    "step": {"step:bfloat16": 120.0},
    "memory": {"memory:float32:none:1:0": 60.0, "memory:float32:blocks:2:12": 60.0},
    "data": {"data:0": 60.0, "data:2": 60.0},
}
_AT_ONCE = 6


@dataclasses.dataclass
class Child:
    """A measurement that runs.

    Attributes:
      name: part and what of it, such as "step:tf32".
      process: of it, the leader of its own group.
      folder: its files: figures, what it says on standard error.
      deadline: on the monotonic clock.
    """

    name: str
    process: "subprocess.Popen[bytes]"
    folder: Path
    deadline: float

    def over(self) -> bool:
        """Whether it has ended; ends it where its time is up."""
        if self.process.poll() is not None:
            return True
        if time.monotonic() < self.deadline:
            return False
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return True

    def figures(self) -> list[dict[str, Any]]:
        """What it has measured; and, where it failed, why."""
        path = self.folder / "figures"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines]
        if self.process.returncode:
            said = (self.folder / "errors").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            why = "its time was up" if self.process.returncode == -signal.SIGKILL else " | ".join(said[-3:])
            found.append({"part": self.name.partition(":")[0], "of": self.name, "failed": why[-600:]})
            say(f"{self.name} failed: {why[-600:]}")
        return found


def main() -> None:
    options = _parser().parse_args()
    if options.child:
        _measure(options)
        return
    begun = time.monotonic()
    parts = options.parts.split(",")
    folder = Path(tempfile.mkdtemp(prefix="panns_jax-gpu-"))
    table = {**PARTS, **(_TINY if options.tiny else {})}
    deadline = begun + options.seconds
    figures: list[dict[str, Any]] = []
    untimed = {name: s for part in _UNTIMED if part in parts for name, s in table[part].items()}
    timed = {name: s for part in table if part in parts and part not in _UNTIMED for name, s in table[part].items()}
    machine: dict[str, Any] = {}

    def write() -> None:
        machine["seconds"] = round(time.monotonic() - begun)
        told = gpu_table.markdown(machine, figures)
        contents = {"machine": machine, "figures": figures}
        if options.json:
            options.json.write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")
        if options.markdown:
            options.markdown.write_text(told, encoding="utf-8")

    for child in _children("machine:", {"machine:": 60}, deadline, folder, options):
        for figure in child.figures():
            machine.update(figure)
    say(json.dumps(machine))
    if untimed:
        # Side by side, they take as long as so many after one another.
        rounds = -(-len(untimed) // _AT_ONCE)
        share = max(untimed.values()) * rounds / (max(untimed.values()) * rounds + sum(timed.values()))
        until = time.monotonic() + share * (deadline - time.monotonic())
        for child in _at_once(untimed, until, folder, options):
            figures += child.figures()
            write()
    for name in timed:
        for child in _children(name, timed, deadline, folder, options):
            figures += child.figures()
            write()
        timed = {other: seconds for other, seconds in timed.items() if other != name}
    write()
    print(gpu_table.markdown(machine, figures), flush=True)


def say(line: str) -> None:
    print(line, flush=True)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--parts", default=",".join(PARTS), type=_known_parts, help="of %(default)s")
    made.add_argument("--seconds", type=float, default=600, help="for all together (%(default)s)")
    made.add_argument("--json", type=common.new_file, metavar="FILE", help="write the figures to this file")
    made.add_argument("--markdown", type=common.new_file, metavar="FILE", help="write the tables to this file")
    made.add_argument("--tiny", action="store_true", help="small sizes, to try the program")
    made.add_argument("--child", help=argparse.SUPPRESS)
    made.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return made


def _known_parts(text: str) -> str:
    unknown = [part for part in text.split(",") if part not in PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")
    return text


def _children(
    name: str, left: dict[str, float], deadline: float, folder: Path, options: argparse.Namespace
) -> Iterator[Child]:
    """Runs one measurement to its end, in its share of the time."""
    now = time.monotonic()
    share = left[name] / sum(left.values()) * max(0.0, deadline - now)
    child = _start(name, now + share, folder, options)
    while not child.over():
        time.sleep(0.1)
    yield child


def _at_once(names: Sequence[str] | dict[str, float], deadline: float, folder: Path, options: argparse.Namespace):
    """Runs measurements side by side; yields each when it has ended."""
    waiting, running = list(names), []
    while waiting or running:
        while waiting and len(running) < _AT_ONCE:
            running.append(_start(waiting.pop(0), deadline, folder, options))
        ended = [child for child in running if child.over()]
        running = [child for child in running if child not in ended]
        yield from ended
        time.sleep(0.1)


def _start(name: str, deadline: float, folder: Path, options: argparse.Namespace) -> Child:
    own = folder / name.replace(":", "-")
    own.mkdir()
    seconds = max(1.0, deadline - time.monotonic())
    command = [sys.executable, __file__, "--child", name, "--folder", str(own), "--seconds", str(seconds)]
    say(f"{name}: at most {seconds:.0f} s")
    with (own / "errors").open("wb") as errors:
        process = subprocess.Popen(
            [*command, *(["--tiny"] if options.tiny else [])],
            stderr=errors,
            start_new_session=True,
            env={**os.environ, **_variables(name)},
        )
    return Child(name, process, own, deadline)


def _variables(name: str) -> dict[str, str]:
    """Settings that have to be made before a process begins."""
    limit = float(name.rpartition(":")[2] or 0) if name.startswith("memory:") else 0
    if not limit:
        # XLA's search for kernels takes what it gets, also from those that run at the same time.
        share = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.12"} if name.partition(":")[0] in _UNTIMED else {}
        return {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **share}
    # The driver, and the libraries for convolutions and products, take up to a gigabyte of a card for themselves.
    return {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{(limit - 1) * 1e9 / _card_bytes():.4f}"}


def _card_bytes() -> float:
    """Memory of the first GPU, as JAX counts it; a plausible number where there is none."""
    try:
        told = subprocess.run(
            ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            check=True,
        )
        return float(told.stdout.split()[0]) * 2**20
    except (OSError, subprocess.CalledProcessError, IndexError, ValueError):
        return 80e9


def _measure(options: argparse.Namespace) -> None:
    """What a measurement's own process does."""
    import importlib

    part, _, of = options.child.partition(":")
    until = time.monotonic() + options.seconds
    measure = importlib.import_module(f"gpu_{part}").measure
    with (options.folder / "figures").open("a", encoding="utf-8") as file:
        for figure in measure(of, tiny=options.tiny, until=until, folder=options.folder):
            told = {"part": part, **figure}
            print(json.dumps(told), file=file, flush=True)
            if part != "machine":
                say(f"  {options.child} {json.dumps(figure)[:400]}")
    sys.stdout.flush()
    os._exit(0)  # taking the libraries apart takes seconds


if __name__ == "__main__":
    main()
