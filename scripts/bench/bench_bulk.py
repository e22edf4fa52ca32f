"""Many recordings of mixed formats, rates and lengths, beside the same sound in memory and the obvious loop.

    python scripts/bench/bench_bulk.py [--model Cnn14] [--files 500] [--peer-files 20] [--no-tune] [--json FILE]

Recordings last 1 to 30 s. Ours is what `tag` and `embed` do: threads read ahead, and sounds of all lengths are heard on
tapes. "in memory" is the same without reading, and "reading" without hearing, in one thread. The peer is librosa and
panns_inference, file by file, on the first files alone, told per second of sound; it has no other model than Cnn14. CPU
seconds are those of the whole process; the bound is what hearing and reading take of them together, over the number of
cores. Compiling is done beforehand.
"""

import contextlib
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import common
import machine

_FORMATS = (
    (".wav", 44100, 2),
    (".flac", 48000, 1),
    (".ogg", 44100, 2),
    (".mp3", 44100, 2),
    (".wav", 16000, 1),
    (".wav", 32000, 1),
)
_RATE = 32000
_PEERS_MODEL = "Cnn14"


@dataclasses.dataclass(frozen=True)
class Taken:
    """Wall and CPU seconds of the process."""

    wall: float
    cpu: float


def main() -> None:
    parser = common.parser(__doc__ or "", rounds=3)
    parser.add_argument("--model", default="Cnn14", help="the model (%(default)s)")
    parser.add_argument("--files", type=common.at_least_one, default=500, help="recordings (%(default)s)")
    parser.add_argument("--peer-files", type=int, default=20, help="of these, for the peer; 0 for none (%(default)s)")
    common.add_no_tune(parser)
    options = parser.parse_args()
    tuned = common.tune(options)
    described = machine.describe(tuned=tuned)
    machine.print_header(f"{options.files} recordings of 1 to 30 s, {options.model}", described)
    with tempfile.TemporaryDirectory() as folder:
        paths, seconds = _recordings(Path(folder), options.files)
        sides = _sides(options.model, paths, seconds)
        best: dict[str, Taken] = {}
        for _ in range(options.rounds):
            for name, side in sides.items():
                taken = _taken(side)
                best[name] = min(best.get(name, taken), taken, key=lambda one: one.wall)
        figures = {name: dataclasses.asdict(taken) for name, taken in best.items()}
        for name, taken in best.items():
            print(
                f"{name:<12} {taken.wall:8.1f} s, {taken.cpu:8.1f} s of CPU, {seconds / taken.wall:6.0f} s of sound/s"
            )
        ours, memory, reading = best["files"], best["in memory"], best["reading"]
        bound = (memory.cpu + reading.cpu) / (os.cpu_count() or 1)
        ratios = {"files / in memory": ours.wall / memory.wall, "files / bound": ours.wall / bound}
        if options.peer_files and options.model == _PEERS_MODEL:
            ratios["files / peer"] = ours.wall / seconds * _peer(paths[: options.peer_files])
        for name, ratio in ratios.items():
            print(f"{name:<18} {ratio:.2f}")
        if options.json:
            options.json.write_text(json.dumps({"machine": described, "figures": figures, "ratios": ratios}, indent=1))


def _recordings(folder: Path, count: int) -> tuple[list[Path], float]:
    """Noise of several levels with tones; and how long all of it is."""
    import numpy as np
    import soundfile

    random = np.random.default_rng(1)
    paths, total = [], 0.0
    for number in range(count):
        ending, rate, channels = _FORMATS[number % len(_FORMATS)]
        length = random.uniform(1, 30)
        frames = round(length * rate)
        tone = np.sin(2 * np.pi * random.uniform(80, 4000) * np.arange(frames) / rate)[:, None]
        sound = 0.2 * tone + random.uniform(0.01, 0.2) * random.standard_normal((frames, channels))
        paths.append(folder / f"{number:05d}{ending}")
        soundfile.write(paths[-1], np.clip(sound, -1, 1), rate)
        total += length
    return paths, total


def _sides(model: str, paths: list[Path], seconds: float) -> dict[str, Callable[[], object]]:
    from panns_jax.audio import read_waveform
    from panns_jax.infer.files import heard_sounds
    from panns_jax.infer.listener import Listener
    from panns_jax.infer.sources import SoundFile
    from panns_jax.pretrained.load import load_model

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "model.pth"
        common.require("torch")
        common.write_checkpoint(common.weights(model), checkpoint)
        listener = Listener(load_model(model, checkpoint))
    sounds = [read_waveform(path, _RATE) for path in paths]
    sources = [SoundFile(path) for path in paths]
    list(listener.hear(sounds[:30], expected=seconds))  # compiles
    list(listener.hear(sounds, expected=seconds))
    return {
        "files": lambda: list(heard_sounds(sources, listener, expected=seconds)),
        "in memory": lambda: list(listener.hear(iter(sounds), expected=seconds)),
        "reading": lambda: [read_waveform(path, _RATE) for path in paths],
    }


def _peer(paths: list[Path]) -> float:
    """Seconds of sound that librosa and panns_inference get through in a second."""
    common.require("torch", "torchlibrosa", "panns_inference", "librosa")
    import librosa
    from bench_tag_cold import write_labels

    with tempfile.TemporaryDirectory() as name, _home(Path(name)):
        write_labels(Path(name))
        checkpoint = Path(name) / "model.pth"
        common.write_checkpoint(common.weights(_PEERS_MODEL), checkpoint)
        from panns_inference import AudioTagging  # pyright: ignore[reportMissingImports]

        with contextlib.redirect_stdout(sys.stderr):
            tagging = AudioTagging(checkpoint_path=str(checkpoint), device="cpu")
        heard = 0.0
        begun = time.perf_counter()
        for path in paths:
            audio, _ = librosa.load(path, sr=_RATE, mono=True)
            tagging.inference(audio[None])
            heard += len(audio) / _RATE
        taken = time.perf_counter() - begun
    print(f"{'peer':<12} {taken:8.1f} s for {heard:.0f} s of sound, {heard / taken:6.0f} s of sound/s")
    return heard / taken


@contextlib.contextmanager
def _home(folder: Path) -> Iterator[None]:
    before = os.environ.get("HOME")
    os.environ["HOME"] = str(folder)
    try:
        yield
    finally:
        if before is not None:
            os.environ["HOME"] = before


def _taken(side: Callable[[], object]) -> Taken:
    wall, cpu = time.perf_counter(), time.process_time()
    side()
    return Taken(time.perf_counter() - wall, time.process_time() - cpu)


if __name__ == "__main__":
    main()
