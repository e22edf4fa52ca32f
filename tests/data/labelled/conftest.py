"""Small labelled sets of real files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE = 8000


def noise(number: int, seconds: float = 0.1) -> np.ndarray:
    """Samples that are no other number's."""
    return np.random.default_rng(number).uniform(-0.5, 0.5, round(seconds * RATE)).astype(np.float32)


@pytest.fixture
def write_sounds(tmp_path) -> Callable[..., list[Path]]:
    """Writes a different short sound to each of some paths below the test's folder."""

    def write(*names: str) -> list[Path]:
        paths = [tmp_path / name for name in names]
        for number, path in enumerate(paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, noise(number), RATE)
        return paths

    return write
