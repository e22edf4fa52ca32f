"""One long recording through the command line, beside the same sound as clips of ten seconds: time and peak memory.

    python scripts/bench/bench_long.py [--hours 3] [--model Cnn14] [--tasks tag,detect,embed] [--memory fast,low]
        [--json FILE]

Each run is a process of its own, whose peak of resident memory the system tells. Programs are compiled by a part of
it beforehand. Whatever finds events or makes vectors does so as it is set by default.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path

import common
import machine

_CLIP_SECONDS = 10
# So many take the programs that many more take.
_FIRST_CLIPS = 90
_LONG, _FIRST, _CLIPS = "recording", "beginning", "clips"
_COMMANDS = {
    "tag": ("tag", "--format", "json"),
    "detect": ("detect",),
    "embed": ("embed", "--out", "{folder}/{name}.npz"),
}
_MEMORIES = ("fast", "low")


@dataclasses.dataclass(frozen=True)
class Taken:
    """Wall seconds, CPU seconds and peak of resident memory in bytes of a process."""

    wall: float
    cpu: float
    peak: int


def main() -> None:
    parser = common.parser(__doc__ or "", rounds=1)
    parser.add_argument("--hours", type=float, default=3.0, help="length of the recording (%(default)s)")
    parser.add_argument("--model", default="Cnn14", help="the model (%(default)s)")
    parser.add_argument("--tasks", type=_some_of(_COMMANDS), default=list(_COMMANDS), help="by default all")
    parser.add_argument("--memory", type=_some_of(_MEMORIES), default=list(_MEMORIES), help="by default both")
    parser.add_argument("--no-clips", action="store_true", help="leave the clips of ten seconds out")
    options = parser.parse_args()
    common.require("torch", "soundfile")
    described = {**machine.describe(tuned=False), "allocator": "each process's own"}
    machine.print_header(f"A recording of {options.hours:g} h with {options.model}", described)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = _checkpoint(options.model, folder)
        sounds = _sounds(folder, options.hours, clips=not options.no_clips)
        figures = [
            figure
            for task in options.tasks
            for memory in options.memory
            for figure in _measured(task, memory, checkpoint, sounds, options.rounds)
        ]
    if options.json:
        options.json.write_text(json.dumps({"machine": described, "figures": figures}, indent=1))


def _some_of(names: Collection[str]) -> Callable[[str], list[str]]:
    def parsed(text: str) -> list[str]:
        given = text.split(",")
        if unknown := set(given) - set(names):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not among {', '.join(names)}")
        return given

    return parsed


def _checkpoint(model: str, folder: Path) -> Path:
    published, converted = folder / f"{model}.pth", folder / f"{model}.safetensors"
    common.write_checkpoint(common.weights(model), published)
    _run("convert", str(published), str(converted), "--model", model)
    published.unlink()
    return converted


def _sounds(folder: Path, hours: float, *, clips: bool) -> dict[str, Path]:
    """The recording, its beginning to compile with, and its clips: tones and noise that change all the time."""
    import numpy as np
    import soundfile

    random = np.random.default_rng(1)
    rate = common.SAMPLE_RATE
    count = round(hours * 3600 / _CLIP_SECONDS)
    made = {_LONG: folder / "recording.wav", _FIRST: folder / "beginning.wav", _CLIPS: folder / _CLIPS}
    made[_CLIPS].mkdir()
    time_axis = np.arange(_CLIP_SECONDS * rate) / rate
    with (
        soundfile.SoundFile(made[_LONG], "w", rate, 1) as whole,
        soundfile.SoundFile(made[_FIRST], "w", rate, 1) as beginning,
    ):
        for number in range(count):
            tone = np.sin(2 * np.pi * random.uniform(80, 4000) * time_axis)
            sound = 0.2 * tone + random.uniform(0.01, 0.2) * random.standard_normal(len(time_axis))
            sound = np.clip(sound, -1, 1)
            whole.write(sound)
            if number < _FIRST_CLIPS:
                beginning.write(sound)
            if clips:
                soundfile.write(made[_CLIPS] / f"{number:06d}.wav", sound, rate)
    if not clips:
        del made[_CLIPS]
    return made


def _measured(
    task: str, memory: str, checkpoint: Path, sounds: dict[str, Path], rounds: int
) -> list[dict[str, float | str]]:
    folder = checkpoint.parent

    def taken(name: str, turn: int, *given: Path) -> Taken:
        arguments = [part.format(folder=folder, name=f"{task}-{memory}-{name}-{turn}") for part in _COMMANDS[task]]
        return _run(*arguments, *map(str, given), "--checkpoint", str(checkpoint), "--memory", memory)

    heard = {name: sound for name, sound in sounds.items() if name != _FIRST}
    taken(_FIRST, 0, sounds[_FIRST])
    if _CLIPS in heard:
        taken(_FIRST, 1, *sorted(heard[_CLIPS].iterdir())[:_FIRST_CLIPS])
    best = {
        name: min((taken(name, turn, sound) for turn in range(rounds)), key=lambda one: one.wall)
        for name, sound in heard.items()
    }
    for name, one in best.items():
        ratio = f", of which the recording takes {best[_LONG].wall / one.wall:.2f}" if name == _CLIPS else ""
        print(
            f"{task:<7}{memory:<5}{name:<10} {one.wall:7.1f} s, {one.cpu:7.1f} s of CPU,"
            f" peak {one.peak / 1e9:.2f} GB{ratio}",
            flush=True,
        )
    return [{"task": task, "memory": memory, "sound": name, **dataclasses.asdict(one)} for name, one in best.items()]


def _run(*arguments: str) -> Taken:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(common.ROOT), os.environ.get("PYTHONPATH", "")])}
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "panns_jax", *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=errors
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            sys.exit(errors.read().decode())
    return Taken(time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


if __name__ == "__main__":
    main()
