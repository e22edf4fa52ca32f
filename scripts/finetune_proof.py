"""Proof that fine-tuning learns, at real size: new voices and new sounds, every strategy, and shuffled labels.

Speech is synthesised by espeak-ng: who speaks is the class, and the words of the test are others than those that are
learnt from. Other sounds are drawn from formulas. No model has heard either before.

    python scripts/finetune_proof.py --checkpoint Cnn14.pth --clips 40
    python scripts/finetune_proof.py --model DemoCnn --checkpoint demo.safetensors --clips 12 --epochs 5
"""

import argparse
import csv
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

RATE = 32000
VOICES = ("en-us+m3", "en-us+f2", "en-gb+m7", "en-us+whisper", "en-gb+f5", "en-us+croak")
WORDS = (
    *("river", "stone", "window", "garden", "yellow", "seven", "market", "under"),
    *("silver", "people", "morning", "letter", "music", "winter", "open"),
)
TEST_WORDS = ("harbour", "candle", "purple", "eleven", "mountain", "forest", "paper", "basket", "thunder", "mirror")
SOUNDS = ("siren", "ticking", "wind", "bell")


def speak(path: Path, voice: str, words: list[str], rng: random.Random) -> None:
    """A few words by a voice, at a speed and a pitch that differ from clip to clip."""
    speed, pitch = rng.randint(130, 190), rng.randint(35, 65)
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "-w", str(path), " ".join(words)]
    subprocess.run(command, check=True, capture_output=True)


def sound(name: str, rng: np.random.Generator, seconds: float = 2.0) -> np.ndarray:
    """A sound of a kind, of which no two are alike."""
    t = np.arange(round(seconds * RATE)) / RATE
    if name == "siren":
        sweep = np.sin(2 * np.pi * rng.uniform(0.5, 2) * t)
        x = np.sin(2 * np.pi * np.cumsum(rng.uniform(600, 1200) * (1 + 0.4 * sweep)) / RATE)
    elif name == "ticking":
        x = np.zeros(len(t))
        x[:: round(RATE / rng.uniform(2, 7))] = 1
        x = np.convolve(x, np.exp(-np.arange(800) / 90) * np.sin(np.arange(800) * rng.uniform(0.3, 1)))[: len(t)]
    elif name == "wind":
        x = np.convolve(rng.normal(0, 1, len(t) + 400), np.hanning(400), "valid")[: len(t)] / 40
        x = x * (1 + np.sin(2 * np.pi * rng.uniform(0.2, 1) * t))
    else:
        pitch = rng.uniform(300, 900)
        partials = sum(np.sin(2 * np.pi * pitch * n * t) / n for n in (1, 2.76, 5.4))
        x = partials * np.exp(-t * rng.uniform(1, 4))
    x = x / np.abs(x).max()
    return (rng.uniform(0.1, 0.6) * x + rng.normal(0, 0.003, len(t))).astype(np.float32)


def make_data(folder: Path, clips: int, *, speech: bool) -> Path:
    """Writes sounds and a table of them, with a split whose test has other words; returns the table."""
    rng, numbers = random.Random(0), np.random.default_rng(0)
    rows: list[dict[str, str]] = []

    def add(label: str, number: int) -> tuple[Path, list[str]]:
        part = "test" if number % 4 == 0 else "validation" if number % 4 == 1 else "train"
        path = folder / f"{label.replace('+', '-')}-{number}.wav"
        rows.append({"path": path.name, "label": label, "split": part})
        return path, rng.sample(TEST_WORDS if part == "test" else WORDS, 4)

    for number in range(clips):
        for voice in VOICES if speech else ():
            path, words = add(voice, number)
            speak(path, voice, words, rng)
        for name in SOUNDS:
            path, _ = add(name, number)
            soundfile.write(path, sound(name, numbers), RATE)
    _write(folder / "data.csv", rows)
    labels = [row["label"] for row in rows if row["split"] != "test"]
    rng.shuffle(labels)
    shuffled = iter(labels)
    _write(
        folder / "shuffled.csv", [row if row["split"] == "test" else {**row, "label": next(shuffled)} for row in rows]
    )
    return folder / "data.csv"


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ["path", "label", "split"])
        table.writeheader()
        table.writerows(rows)


def reached(folder: Path, table: Path, strategy: str, given: list[str]) -> dict[str, float]:
    """Trains by the command, and scores the test clips by the command."""
    out = folder / f"{table.stem}-{strategy}.safetensors"
    command = [sys.executable, "-m", "panns_jax"]
    options = ["--data", str(table), "--strategy", strategy, "--out", str(out), "--seed", "0"]
    subprocess.run([*command, "finetune", *options, *given], check=True, stdout=subprocess.DEVNULL)
    with table.open(encoding="utf-8") as file:
        _write(folder / "test.csv", [row for row in csv.DictReader(file) if row["split"] == "test"])
    scored = [*command, "evaluate", "--data", str(folder / "test.csv"), "--checkpoint", str(out), "--format", "json"]
    return json.loads(subprocess.run(scored, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Prints a table of the strategies, with their margins over scratch and over chance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="name of the model; Cnn14 by default")
    parser.add_argument("--checkpoint", help="pretrained weights; the released ones by default")
    parser.add_argument("--clips", type=int, default=40, help="of each class")
    parser.add_argument("--epochs", type=int, help="of fine_tune and scratch; as the command by default")
    given = parser.parse_args()
    speech = shutil.which("espeak-ng") is not None
    if not speech:
        print("espeak-ng is not installed: the set has no speech", file=sys.stderr)
    model = ["--model", given.model] if given.model else []
    checkpoint = ["--checkpoint", given.checkpoint] if given.checkpoint else []
    epochs = ["--epochs", str(given.epochs)] if given.epochs else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = make_data(folder, given.clips, speech=speech)
        chance = 1 / (len(SOUNDS) + (len(VOICES) if speech else 0))
        runs = {
            "scratch": (table, "scratch", [*model, *epochs]),
            "freeze_L1": (table, "freeze_L1", [*model, *checkpoint]),
            "freeze_L3": (table, "freeze_L3", [*model, *checkpoint]),
            "fine_tune": (table, "fine_tune", [*model, *checkpoint, *epochs]),
            "freeze_L1, shuffled labels": (folder / "shuffled.csv", "freeze_L1", [*model, *checkpoint]),
        }
        scores = {run: reached(folder, *what) for run, what in runs.items()}
    print(f"{'':<28}{'accuracy':>9}{'mAP@3':>8}{'over scratch':>14}{'over chance':>13}")
    for run, score in scores.items():
        accuracy = score["accuracy"]
        over = accuracy - scores["scratch"]["accuracy"]
        print(f"{run:<28}{accuracy:>9.3f}{score['mAP@3']:>8.3f}{over:>+14.3f}{accuracy - chance:>+13.3f}")


if __name__ == "__main__":
    main()
