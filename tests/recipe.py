"""Deterministic weights and waveforms behind the golden outputs in `golden/`.

A golden file holds what the published PyTorch implementation of PANNs (torch 2.13, torchlibrosa 0.1.0,
librosa 0.11, CPU, float32) computes from the weights and waveforms that the functions here make. Nothing here
needs torch: `checkpoint(name)` returns numpy arrays under the PyTorch names, in the PyTorch layouts.

`manifest.json` lists, per model, every entry of the PyTorch state dict: [key, shape, dtype], in order.
The random entries follow from (seed, key, shape) alone. The four front-end buffers of the log-mel models
(`spectrogram_extractor.stft.conv_real.weight`, `...conv_imag.weight`, `logmel_extractor.melW`) are analytic:
`frontend_buffers` builds them, as the released checkpoints hold them too.
"""

import concurrent.futures
import functools
import json
import pathlib
import zlib

import numpy as np

GOLDEN = pathlib.Path(__file__).parent / "golden"

# Scale of the last layer per model, so that the sigmoid outputs spread over (0, 1) instead of saturating.
LOGIT_STD = 2.0


def golden(file: str) -> dict[str, np.ndarray]:
    """The arrays of a file in `golden/`, such as "published/Cnn6.npz"."""
    with np.load(GOLDEN / file) as arrays:
        return dict(arrays)


def _rng(seed: int, key: str) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(key.encode())]))


def entry(key: str, shape: tuple[int, ...], seed: int, *, logmel_bn0: bool, last_scale: float = 1.0) -> np.ndarray:
    """One state-dict entry.

    Args:
      key: name in the PyTorch state dict.
      shape: its shape in the PyTorch layout (convolutions (out, in/groups, *kernel), linear (out, in)).
      seed: which set of weights.
      logmel_bn0: True where `bn0` normalises decibels, so that its statistics lie where decibels lie.
      last_scale: factor on the weights of the last layer.

    Returns:
      float32 array of `shape`; an int64 scalar for `num_batches_tracked`.
    """
    rng = _rng(seed, key)
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
    if key.startswith(("fc_audioset", "att_block.cla", "fc_transfer")):
        scale *= last_scale
    return (scale * rng.standard_normal(shape)).astype(np.float32)


# The large blocks of Cnn14, which most models have, are made once.
_KEPT = ("conv_block4.", "conv_block5.", "conv_block6.")


@functools.lru_cache(maxsize=16)
def _kept_entry(key: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    return entry(key, shape, seed, logmel_bn0=False)


def manifest() -> dict:
    return json.loads((GOLDEN / "manifest.json").read_text())


def checkpoint(name: str, seed: int) -> dict[str, np.ndarray]:
    """All state-dict entries of model `name`, front-end buffers included, in PyTorch's order; not to be written to."""
    row = manifest()[name]
    logmel = "logmel_extractor.melW" in {key for key, _, _ in row["entries"]}
    buffers = frontend_buffers(**row["frontend"]) if logmel else {}

    def make(key: str, shape: list[int]) -> np.ndarray:
        if key in buffers:
            return buffers[key]
        if key.startswith(_KEPT) and np.prod(shape) > 1e6:
            return _kept_entry(key, tuple(shape), seed)
        return entry(key, tuple(shape), seed, logmel_bn0=logmel, last_scale=row["last_scale"])

    # Large draws release the interpreter's lock.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        arrays = pool.map(make, *zip(*((key, shape) for key, shape, _ in row["entries"]), strict=True))
        return {key: array for (key, _, _), array in zip(row["entries"], arrays, strict=True)}


def frontend_buffers(
    sample_rate: int, window_size: int, hop_size: int, mel_bins: int, fmin: float, fmax: float
) -> dict[str, np.ndarray]:
    """The constant STFT kernels and mel matrix that a log-mel checkpoint stores (float32)."""
    import librosa

    n = np.arange(window_size)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / window_size)  # periodic
    bins = np.arange(window_size // 2 + 1)
    angle = -2 * np.pi * np.outer(bins, n) / window_size
    del hop_size
    return {
        "spectrogram_extractor.stft.conv_real.weight": (np.cos(angle) * hann)[:, None, :].astype(np.float32),
        "spectrogram_extractor.stft.conv_imag.weight": (np.sin(angle) * hann)[:, None, :].astype(np.float32),
        "logmel_extractor.melW": librosa.filters.mel(
            sr=sample_rate, n_fft=window_size, n_mels=mel_bins, fmin=fmin, fmax=fmax
        ).T.astype(np.float32),
    }


def waveform(batch: int, samples: int, sample_rate: int, seed: int) -> np.ndarray:
    """(batch, samples) float32 in [-1, 1]: two sweeping partials, bursts and a noise floor, each row different."""
    rng = _rng(seed, "waveform")
    t = np.arange(samples) / sample_rate
    rows = []
    for _ in range(batch):
        f0, f1 = rng.uniform(80, 900), rng.uniform(900, sample_rate / 2.5)
        sweep = np.sin(2 * np.pi * (f0 * t + (f1 - f0) * t**2 / (2 * t[-1])))
        bursts = np.sin(2 * np.pi * 3.1 * f0 * t) * (np.sin(2 * np.pi * rng.uniform(1, 4) * t) > 0.3)
        rows.append(0.3 * sweep + 0.2 * bursts + 0.02 * rng.standard_normal(samples))
    return np.asarray(rows).astype(np.float32)
