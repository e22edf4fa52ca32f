"""A small corpus in the shape of AudioSet, synthesised: wav files, and the metadata in the published form.

    audios/balanced_train_segments/Y<id>.wav    metadata/balanced_train_segments.csv
    audios/eval_segments/Y<id>.wav              metadata/eval_segments.csv

Clips carry one to three labels, mixed at overlapping levels over background noise. Every clip is drawn from
(seed, its number) alone, so that a corpus sounds the same whatever the number of processes that made it.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import soundfile
from demo_sounds import SOUNDS, Waveform, coloured_noise
from jaxtyping import Float

from panns_jax.execute import for_each
from panns_jax.files import written_aside
from panns_jax.labels import audioset

SILENCE = "Silence"
CLASSES = (*SOUNDS, SILENCE)
"""The classes of the corpus, by AudioSet's names."""

# AudioSet's classes are not equally frequent either, and balanced sampling is to have something to do.
_FREQUENCY = np.array([1.0, 0.8, 1.0, 0.9, 0.7, 0.6, 0.6, 0.6, 0.8, 0.7, 0.9, 0.8])

_SPLITS = {"balanced_train": "balanced_train_segments", "eval": "eval_segments"}
_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
    """One clip of the corpus.

    Attributes:
      waveform: (samples,) in [-1, 1].
      rate: samples per second.
      labels: names of the classes that are heard in it.
    """

    waveform: Waveform
    rate: int
    labels: tuple[str, ...]


def draw_clip(seed: int, split: str, number: int) -> Clip:
    """Clip `number` of a split ("balanced_train" or "eval"): a pure function of its arguments."""
    rng = np.random.default_rng([seed, list(_SPLITS).index(split), number])
    rate = int(rng.choice([32000, 44100, 22050, 16000], p=[0.55, 0.2, 0.125, 0.125]))
    samples = int(rng.uniform(2.0, 2.4) * rate)
    labels = _draw_labels(rng)
    mix = np.zeros(samples)
    for name in labels:
        if name != SILENCE:
            mix += _placed(rng, name, samples, rate) * _decibels(rng.uniform(-9, 0))
    mix += _background(rng, samples, rate)
    mix *= _decibels(rng.uniform(-40, -16)) / np.sqrt(np.mean(mix**2))
    mix *= min(1, 0.95 / np.abs(mix).max())
    if rng.random() < 0.3:  # encoders leave a gap at the start
        mix[: int(rng.uniform(0.02, 0.15) * rate)] *= _decibels(-60)
    if SILENCE in labels:
        mix = _silenced(rng, mix, rate, everywhere=len(labels) == 1)
    return Clip(waveform=mix, rate=rate, labels=labels)


def write_split(
    folder: Path, split: str, clips: int, seed: int, *, shuffle_labels: bool = False, workers: int = 0
) -> None:
    """Writes the wav files of a split, then its segments csv, which therefore tells that the split is complete.

    Args:
      folder: the corpus; `audios` and `metadata` are made in it.
      split: "balanced_train" or "eval".
      clips: how many.
      seed: of the corpus.
      shuffle_labels: hand the labels round among the clips, so that there is nothing to learn from them.
      workers: processes that draw clips; 0 draws them in this one. Does not change the clips.
    """
    audios, metadata = folder / "audios" / _SPLITS[split], folder / "metadata"
    audios.mkdir(parents=True, exist_ok=True)
    metadata.mkdir(exist_ok=True)
    write = functools.partial(_write_clip, audios, split, seed)
    rows = list(enumerate(clip_ids(seed, split, clips)))
    with for_each(write, rows, workers=workers, task=f"synthesising {split}", unit="clips") as outcomes:
        written = [outcome.result for outcome in outcomes if outcome.result]
    labels = [row.labels for row in written]
    if shuffle_labels:
        labels = [labels[i] for i in np.random.default_rng([seed, 3]).permutation(clips)]
    written = [dataclasses.replace(row, labels=other) for row, other in zip(written, labels, strict=True)]
    with written_aside(metadata / f"{_SPLITS[split]}.csv") as path:
        path.write_text(_segments_csv(written), encoding="utf-8")


def clip_ids(seed: int, split: str, clips: int) -> list[str]:
    """Ids as YouTube gives them: 11 letters, digits, - and _; every tenth begins with a -; no two the same."""
    rng = np.random.default_rng([seed, 4, list(_SPLITS).index(split)])
    letters = rng.choice(list(_ID_LETTERS), (clips, 10))
    # Splits differ in the first letter already.
    first = {"balanced_train": "aZ7_", "eval": "bX2k"}[split]
    ids = [("-" if i % 10 == 3 else first[i % 4]) + "".join(row) for i, row in enumerate(letters)]
    assert len(set(ids)) == clips
    return ids


def _draw_labels(rng: np.random.Generator) -> tuple[str, ...]:
    count = rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15])
    chosen = rng.choice(len(CLASSES), count, replace=False, p=_FREQUENCY / _FREQUENCY.sum())
    return tuple(CLASSES[i] for i in sorted(chosen))


def _background(rng: np.random.Generator, samples: int, rate: int) -> Waveform:
    """A room's rumble, the microphone's hiss and, in some clips, a knock; their levels overlap with the sounds'."""
    rumble = coloured_noise(rng, samples, rate, rng.uniform(4.5, 8))
    hiss = rng.standard_normal(samples)
    sound = rumble / np.std(rumble) * _decibels(rng.uniform(-36, -10)) + hiss * _decibels(rng.uniform(-45, -26))
    for _ in range(rng.choice([0, 1, 2], p=[0.5, 0.25, 0.25])):
        length = int(rng.uniform(0.01, 0.05) * rate)
        knock = coloured_noise(rng, length, rate, rng.uniform(1, 6)) * np.exp(-np.linspace(0, 6, length))
        start = rng.integers(0, samples - length)
        sound[start : start + length] += knock / np.abs(knock).max() * _decibels(rng.uniform(3, 24))
    return sound


def _placed(rng: np.random.Generator, name: str, samples: int, rate: int) -> Waveform:
    """A sound of the class, of RMS 1 while it lasts, over 50 to 100 % of the clip."""
    length = int(samples * min(1, rng.uniform(0.5, 1.25)))
    start = rng.integers(0, samples - length + 1)
    sound = SOUNDS[name](rng, length, rate)
    fade = np.clip(np.minimum(np.arange(length), np.arange(length)[::-1]) / (0.01 * rate), 0, 1)
    placed = np.zeros(samples)
    placed[start : start + length] = sound / np.sqrt(np.mean(sound**2)) * fade
    return placed


def _silenced(rng: np.random.Generator, mix: Waveform, rate: int, *, everywhere: bool) -> Waveform:
    """Leaves next to nothing of the clip: nothing at all but faint noise, or, with other labels, 45 to 65 % of it."""
    samples = len(mix)
    keep = np.zeros(samples)
    if not everywhere:
        length = int(samples * rng.uniform(0.35, 0.55))
        start = 0 if rng.random() < 0.5 else samples - length
        keep[start : start + length] = 1
        edge = int(0.01 * rate)
        keep = np.convolve(keep, np.ones(edge) / edge, mode="same")
    faint = coloured_noise(rng, samples, rate, rng.uniform(2, 8))
    return mix * keep + faint / np.std(faint) * _decibels(rng.uniform(-80, -60))


@dataclasses.dataclass(frozen=True)
class _Row:
    """A line of a segments csv."""

    clip_id: str
    seconds: float
    labels: tuple[str, ...]


def _write_clip(audios: Path, split: str, seed: int, numbered_id: tuple[int, str]) -> _Row:
    number, clip_id = numbered_id
    clip = draw_clip(seed, split, number)
    rng = np.random.default_rng([seed, 2, number])
    sound: Float[np.ndarray, "samples channels"] = clip.waveform[:, None]
    if rng.random() < 0.25:
        sound = sound * np.array([[1.0, rng.uniform(0.5, 1.0)]])
    subtype = str(rng.choice(["PCM_16", "PCM_24", "FLOAT"], p=[0.6, 0.2, 0.2]))
    soundfile.write(audios / f"Y{clip_id}.wav", sound, clip.rate, subtype=subtype)
    return _Row(clip_id, len(clip.waveform) / clip.rate, clip.labels)


def _segments_csv(rows: list[_Row]) -> str:
    names = audioset()
    labels = [name for row in rows for name in row.labels]
    head = [
        "# Segments csv synthesised by scripts/demo.py",
        f"# num_ytids={len(rows)}, num_segs={len(rows)}, num_unique_labels={len(set(labels))},"
        f" num_positive_labels={len(labels)}",
        "# YTID, start_seconds, end_seconds, positive_labels",
    ]
    body = [
        f'{row.clip_id}, 0.000, {row.seconds:.3f}, "{",".join(names.ids[names.index(name)] for name in row.labels)}"'
        for row in rows
    ]
    return "\n".join([*head, *body, ""])


def _decibels(level: float) -> float:
    return 10 ** (level / 20)
