"""Sounds that no model has heard before, in memory and as files."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from jaxtyping import Float

from panns_jax.data.labelled.clips import LabelledClip, LabelledSet
from panns_jax.labels import LabelSet

RATE = 8000


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """A sound in memory."""

    name: str
    samples: Float[np.ndarray, " samples"]

    def waveform(self, sample_rate: int) -> Float[np.ndarray, " samples"]:
        assert sample_rate == RATE
        return self.samples


def drawn(kind: str, rng: np.random.Generator, *, seconds: float = 0.5, rate: int = RATE) -> np.ndarray:
    """A sound of a kind, of which no two are alike."""
    t = np.arange(round(seconds * rate)) / rate
    pitch = rng.uniform(300, 900)
    if kind == "rising":
        x = np.sin(2 * np.pi * (pitch * t + 1500 * t * t))
    elif kind == "falling":
        x = np.sin(2 * np.pi * ((pitch + 1500) * t - 1500 * t * t))
    elif kind == "steady":
        x = np.sin(2 * np.pi * pitch * t) + np.sin(4 * np.pi * pitch * t)
    elif kind == "noise":
        x = rng.normal(0, 0.5, len(t))
    elif kind == "beats":
        x = np.sin(2 * np.pi * pitch * t) * (np.sin(2 * np.pi * rng.uniform(7, 12) * t) > 0)
    elif kind == "hiss":
        x = np.diff(rng.normal(0, 0.5, len(t) + 1)) * (np.sin(2 * np.pi * rng.uniform(7, 12) * t) > 0)
    else:
        raise ValueError(kind)
    return (rng.uniform(0.1, 0.3) * x + rng.normal(0, 0.003, len(t))).astype(np.float32)


def synthesised(kinds: Sequence[str], each: int, *, seed: int = 0, seconds: float = 0.5) -> LabelledSet:
    """As many sounds of each kind."""
    rng = np.random.default_rng(seed)
    clips = [
        LabelledClip(Drawn(f"{kind} {number}", drawn(kind, rng, seconds=seconds)), (kind,))
        for kind in kinds
        for number in range(each)
    ]
    return LabelledSet("synthesised", LabelSet("kinds", tuple(kinds), tuple(kinds)), tuple(clips))


@pytest.fixture(scope="session")
def sound_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten sounds of each of three kinds, a folder per kind."""
    folder = tmp_path_factory.mktemp("sounds") / "kinds"
    rng = np.random.default_rng(1)
    for kind in ("noise", "rising", "steady"):
        (folder / kind).mkdir(parents=True)
        for number in range(10):
            samples = drawn(kind, rng, seconds=0.4 + 0.02 * number, rate=32000)
            soundfile.write(folder / kind / f"{number}.wav", samples, 32000)
    return folder


Sounds = Callable[..., LabelledSet]


@pytest.fixture(scope="session")
def sounds() -> Sounds:
    return synthesised
