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

import numpy as np

from convert.recipe import entry, waveform
from convert.recipe import generator as _rng

__all__ = ["_rng", "checkpoint", "entry", "frontend_buffers", "golden", "manifest", "waveform"]

GOLDEN = pathlib.Path(__file__).parent / "golden"


def golden(file: str) -> dict[str, np.ndarray]:
    """The arrays of a file in `golden/`, such as "published/Cnn6.npz"."""
    with np.load(GOLDEN / file) as arrays:
        return dict(arrays)


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
