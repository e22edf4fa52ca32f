"""Waveforms to log-mel features, and the augmentations that work on them.

Section III-A and IV of the paper; the published front end is reproduced within 0.02 dB. Everything here is float32,
whatever the precision of the layers behind it: the power of a full-scale tone overflows float16.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from panns_jax.errors import InputError

MIN_POWER = 1e-10
MIN_DECIBELS = -100.0

# On CPU a large batch is done in parts of about this many frames: its spectra would take tens of megabytes, for which
# the memory's pages are asked of the operating system at every call (35 of 55 ms for 64 clips of 2 s).
_FRAMES_AT_ONCE = 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrontendConfig:
    """Settings of the log-mel front end.

    Attributes:
      sample_rate: samples per second of the waveform.
      window_size: samples in a Hann window; also the length of the Fourier transform.
      hop_size: samples between frames.
      mel_bins: number of mel bands.
      fmin: lower edge of the lowest band in Hz.
      fmax: upper edge of the highest band in Hz.

    Raises:
      InputError: a setting is out of its range.
    """

    sample_rate: int = 32000
    window_size: int = 1024
    hop_size: int = 320
    mel_bins: int = 64
    fmin: float = 50.0
    fmax: float = 14000.0

    def __post_init__(self) -> None:
        for name in ("sample_rate", "window_size", "hop_size", "mel_bins"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.window_size % 2:
            raise InputError(f"window_size must be even, got {self.window_size}")
        if not 0 <= self.fmin < self.fmax <= self.sample_rate / 2:
            raise InputError(
                f"0 <= fmin < fmax <= sample_rate / 2 must hold, got fmin {self.fmin}, fmax {self.fmax}"
                f" at {self.sample_rate} Hz"
            )

    @property
    def min_samples(self) -> int:
        """Shortest waveform that can be padded by reflection."""
        return self.window_size // 2 + 1

    def frames(self, samples: int) -> int:
        """Number of frames of a waveform of `samples` samples."""
        return samples // self.hop_size + 1


@functools.partial(jax.jit, static_argnames="config")
def power_spectrogram(
    waveform: Float[Array | np.ndarray, "batch samples"],
    config: FrontendConfig,
    lengths: Int[Array, " batch"] | None = None,
) -> Float[Array, "batch frames bins"]:
    """|STFT|² with a periodic Hann window, centred frames and reflect padding.

    Args:
      waveform: at least `config.min_samples` samples in [-1, 1].
      config: window_size and hop_size are used.
      lengths: samples of each clip, at least `config.min_samples`, where they differ; each clip is reflected at its own
        end, and frames beyond its `config.frames(length)` mean nothing.

    Returns:
      (batch, samples // hop_size + 1, window_size // 2 + 1), not normalised: a full-scale tone reaches about 1e5.

    Raises:
      ValueError: the waveform is shorter than `config.min_samples`.
    """
    samples = waveform.shape[-1]
    if samples < config.min_samples:
        raise ValueError(f"the front end needs at least {config.min_samples} samples, got {samples}")
    padded = _reflected(jnp.asarray(waveform, jnp.float32), config.window_size // 2, lengths)
    starts = counted(config.frames(samples)) * config.hop_size
    # Indexed frames reach the real FFT faster than strided slices or a convolution with Fourier kernels do.
    frames = padded[:, starts[:, None] + np.arange(config.window_size)]
    spectrum = jnp.fft.rfft(frames * hann_window(config.window_size))
    return jnp.square(spectrum.real) + jnp.square(spectrum.imag)


def counted(count: Any) -> Int[np.ndarray | Array, " count"]:
    """0, 1, 2, …: an array of NumPy, but where `count` is a symbol, as in exported programs."""
    return np.arange(count) if isinstance(count, int) else jnp.arange(count)


def _reflected(
    waveform: Float[Array, "batch samples"], size: int, lengths: Int[Array, " batch"] | None
) -> Float[Array, "batch padded"]:
    """Each clip with `size` samples more at both ends, mirrored at its first and last sample."""
    samples = waveform.shape[1]
    if lengths is None:
        # What `jnp.pad` does, too, but not where the number of samples is a symbol, as in exported programs.
        before = lax.slice_in_dim(waveform, 1, size + 1, axis=1)
        after = lax.slice_in_dim(waveform, samples - size - 1, samples - 1, axis=1)
        return jnp.concatenate([lax.rev(before, (1,)), waveform, lax.rev(after, (1,))], axis=1)
    place, last = jnp.arange(-size, samples + size), lengths[:, None] - 1
    place = jnp.abs(place)
    return jnp.take_along_axis(waveform, jnp.where(place > last, jnp.maximum(2 * last - place, 0), place), axis=1)


@functools.partial(jax.jit, static_argnames="config")
def log_mel(
    waveform: Float[Array | np.ndarray, "batch samples"],
    config: FrontendConfig,
    lengths: Int[Array, " batch"] | None = None,
) -> Float[Array, "batch frames mels"]:
    """Log-mel spectrogram in dB (reference 1, floor -100 dB).

    Args:
      waveform: at least `config.min_samples` samples in [-1, 1].
      config: settings of the front end.
      lengths: as in `power_spectrogram`.

    Returns:
      (batch, samples // hop_size + 1, mel_bins); digital silence is exactly -100.

    Raises:
      ValueError: the waveform is shorter than `config.min_samples`.
    """
    whole = functools.partial(_log_mel, config=config)
    # Symbolic numbers, as exported programs have, are not split.
    if not all(isinstance(size, int) for size in waveform.shape):
        return whole(waveform, lengths)
    clips = max(1, _FRAMES_AT_ONCE // config.frames(waveform.shape[-1]))
    if waveform.shape[0] <= clips:
        return whole(waveform, lengths)

    def by_parts(waveform: Array, lengths: Array | None) -> Float[Array, "batch frames mels"]:
        def one(clip: tuple[Array, Array | None]) -> Float[Array, "frames mels"]:
            return whole(*jax.tree.map(lambda x: x[None], clip))[0]

        return lax.map(one, (waveform, lengths), batch_size=clips)

    return lax.platform_dependent(waveform, lengths, cpu=by_parts, default=whole)


def _log_mel(
    waveform: Float[Array | np.ndarray, "batch samples"],
    lengths: Int[Array, " batch"] | None,
    config: FrontendConfig,
) -> Float[Array, "batch frames mels"]:
    power = power_spectrogram(waveform, config, lengths)
    mel = jnp.matmul(power, mel_matrix(config), precision=lax.Precision.HIGHEST)
    decibels = 10 * jnp.log10(jnp.maximum(mel, MIN_POWER))
    return jnp.where(mel <= MIN_POWER, MIN_DECIBELS, decibels)


@functools.cache
def hann_window(window_size: int) -> Float[np.ndarray, " window"]:
    """Periodic Hann window, float32."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window_size) / window_size)).astype(np.float32)


@functools.cache
def mel_matrix(config: FrontendConfig) -> Float[np.ndarray, "bins mels"]:
    """Triangular bands, evenly spaced on Slaney's mel scale and of equal area (Slaney's normalisation), float32."""
    bins = np.linspace(0, config.sample_rate / 2, config.window_size // 2 + 1)
    edges = _mel_to_hz(np.linspace(_hz_to_mel(config.fmin), _hz_to_mel(config.fmax), config.mel_bins + 2))
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - low) / (centre - low)
    falling = (high - bins[:, None]) / (high - centre)
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * (2 / (high - low))).astype(np.float32)


# Slaney's Auditory Toolbox: linear below 1 kHz (3 mel per 200 Hz), above it 27 mel for each factor of 6.4.
_LINEAR_HZ = 200 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ
_LOG_STEP = np.log(6.4) / 27


def _hz_to_mel(hertz: float) -> float:
    if hertz < _BREAK_HZ:
        return hertz / _LINEAR_HZ
    return float(_BREAK_MEL + np.log(hertz / _BREAK_HZ) / _LOG_STEP)


def _mel_to_hz(mel: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
    above = _BREAK_HZ * np.exp(_LOG_STEP * (np.maximum(mel, _BREAK_MEL) - _BREAK_MEL))
    return np.where(mel < _BREAK_MEL, mel * _LINEAR_HZ, above)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stripes:
    """What SpecAugment masks of each clip; by default what the paper masks of 1001 frames and 64 mel bins.

    Attributes:
      time_width: exclusive upper bound of a time stripe's width in frames, which is drawn uniformly from 0 up.
      time_stripes: number of time stripes.
      mel_width: exclusive upper bound of a frequency stripe's width in mel bins.
      mel_stripes: number of frequency stripes.
    """

    time_width: int = 64
    time_stripes: int = 2
    mel_width: int = 8
    mel_stripes: int = 2


def spec_augment(
    features: Float[Array, "batch frames mels"], key: Key[Array, ""], stripes: Stripes
) -> Float[Array, "batch frames mels"]:
    """Sets stripes of each clip to 0 (SpecAugment, section III-D).

    Args:
      features: log-mel features after batch normalisation, where 0 is the mean.
      key: random key; each clip draws its own stripes.
      stripes: how many, and how wide.
    """
    batch, frames, mels = features.shape
    time_key, mel_key = jax.random.split(key)
    in_time = _stripes(time_key, batch, frames, stripes.time_width, stripes.time_stripes)
    in_mel = _stripes(mel_key, batch, mels, stripes.mel_width, stripes.mel_stripes)
    return jnp.where(in_time[:, :, None] | in_mel[:, None, :], 0, features)


def _stripes(key: Key[Array, ""], batch: int, size: int, width: int, count: int) -> Bool[Array, "batch size"]:
    width_key, start_key = jax.random.split(key)
    widths = jax.random.randint(width_key, (batch, count, 1), 0, min(width, size))
    starts = jax.random.randint(start_key, (batch, count, 1), 0, size - widths)  # uniform over what fits
    place = jnp.arange(size)
    return ((place >= starts) & (place < starts + widths)).any(axis=1)


def mixup(x: Float[Array, "rows *rest"], mixup_lambda: Float[Array, " pairs"]) -> Float[Array, "pairs *rest"]:
    """Blends rows 2k and 2k+1 as λ·x₂ₖ + (1-λ)·x₂ₖ₊₁ (section III-D; Zhang et al. 2018).

    Args:
      x: 2 × pairs rows of features, waveforms or targets.
      mixup_lambda: weight λ in [0, 1] of the first row of each pair.

    Raises:
      ValueError: `x` has not two rows for each λ.
    """
    pairs = mixup_lambda.shape[0]
    if x.shape[0] != 2 * pairs:
        raise ValueError(f"mixup of {pairs} pairs needs {2 * pairs} rows, got {x.shape[0]}")
    weight = mixup_lambda.reshape(pairs, *(1,) * (x.ndim - 1)).astype(x.dtype)
    return weight * x[0::2] + (1 - weight) * x[1::2]
