"""Deterministic weights and waveforms: those behind the published figures that this package carries.

The random entries of a checkpoint follow from (seed, key, shape) alone.
"""

import zlib

import numpy as np

from panns_jax.models.config import ModelConfig
from panns_jax.pretrained.rules import LAST_LAYERS, entries


def generator(seed: int, key: str) -> np.random.Generator:
    """Random numbers of their own for each seed and key."""
    return np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(key.encode())]))


def entry(key: str, shape: tuple[int, ...], seed: int, *, logmel_bn0: bool, last_scale: float = 1.0) -> np.ndarray:
    """One state-dict entry.

    Args:
      key: name in the PyTorch state dict.
      shape: its shape in the PyTorch layout (convolutions (out, in/groups, *kernel), linear (out, in)).
      seed: which set of weights.
      logmel_bn0: True where `bn0` normalises decibels, so that its statistics lie where decibels lie.
      last_scale: factor on the weights of the last layer, so that the probabilities spread over (0, 1).

    Returns:
      float32 array of `shape`; an int64 scalar for `num_batches_tracked`.
    """
    rng = generator(seed, key)
    field = key.rsplit(".", 1)[-1]
    if field == "num_batches_tracked":
        return np.asarray(1000 + seed, np.int64)
    if field == "running_mean":
        if logmel_bn0 and key == "bn0.running_mean":
            return rng.uniform(-40, -10, shape).astype(np.float32)
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    if field == "running_var":
        if logmel_bn0 and key == "bn0.running_var":
            return rng.uniform(100, 300, shape).astype(np.float32)
        return rng.uniform(0.6, 1.6, shape).astype(np.float32)
    if field == "bias":
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    if len(shape) == 1:  # weight of a batch normalisation
        return rng.uniform(0.5, 1.2, shape).astype(np.float32)
    fan_in = int(np.prod(shape[1:]))
    scale = np.sqrt(2.0 / fan_in)
    if key.startswith(LAST_LAYERS):
        scale *= last_scale
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def state_dict(config: ModelConfig, seed: int, *, last_scale: float = 1.0) -> dict[str, np.ndarray]:
    """The entries of a model that it learns, under the published names in PyTorch's layouts."""
    logmel = config.body.reads_logmel
    shapes = {part.published: part.shape for part in entries(config)}
    return {key: entry(key, shape, seed, logmel_bn0=logmel, last_scale=last_scale) for key, shape in shapes.items()}


def waveform(batch: int, samples: int, sample_rate: int, seed: int) -> np.ndarray:
    """(batch, samples) float32 in [-1, 1]: two sweeping partials, bursts and a noise floor, each row different."""
    rng = generator(seed, "waveform")
    t = np.arange(samples) / sample_rate
    rows = []
    for _ in range(batch):
        f0, f1 = rng.uniform(80, 900), rng.uniform(900, sample_rate / 2.5)
        sweep = np.sin(2 * np.pi * (f0 * t + (f1 - f0) * t**2 / (2 * t[-1])))
        bursts = np.sin(2 * np.pi * 3.1 * f0 * t) * (np.sin(2 * np.pi * rng.uniform(1, 4) * t) > 0.3)
        rows.append(0.3 * sweep + 0.2 * bursts + 0.02 * rng.standard_normal(samples))
    return np.asarray(rows).astype(np.float32)
