"""Sounds at the limits of what there can be."""

import numpy as np


def extremes(samples: int, sample_rate: int) -> np.ndarray:
    """Silence, square waves at full scale (440 Hz and the highest there is), an impulse, and a constant."""
    square = np.sign(np.sin(2 * np.pi * 440 * np.arange(samples) / sample_rate) + 1e-6)
    fastest = 1 - 2.0 * (np.arange(samples) % 2)
    impulse = np.zeros(samples)
    impulse[samples // 2] = 1
    return np.stack([np.zeros(samples), square, fastest, impulse, np.ones(samples)]).astype(np.float32)
