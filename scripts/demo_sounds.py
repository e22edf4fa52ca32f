"""Sounds of AudioSet classes that are made, not recorded: tones of test equipment, of telephones, noise, hum.

Every function draws one example: `sound(rng, samples, rate) -> float64 (samples,)`, of any level (the mix sets it).
Pitch, cadence and colour vary within what the class's name still fits.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

Waveform = Float[np.ndarray, " samples"]


def coloured_noise(rng: np.random.Generator, samples: int, rate: int, decibels_per_octave: float) -> Waveform:
    """Gaussian noise whose spectrum falls by `decibels_per_octave` (0 white, 3 pink, 6 brown), flat below 25 Hz."""
    size = -(-samples // 1000) * 1000  # a length that the Fourier transform is fast for
    spectrum = np.fft.rfft(rng.standard_normal(size))
    octaves = np.log2(np.maximum(np.fft.rfftfreq(size, 1 / rate), 25) / 25)
    return np.fft.irfft(spectrum * 10 ** (-decibels_per_octave * octaves / 20), size)[:samples]


def sine_wave(rng: np.random.Generator, samples: int, rate: int) -> Waveform:
    """One steady tone, 200 to 7500 Hz."""
    return _tone(rng, samples, rate, [_log_uniform(rng, 200, 7500)])


def chirp_tone(rng: np.random.Generator, samples: int, rate: int) -> Waveform:
    """Sweeps over 1.3 to 3.5 octaves, up or down, once or again and again, each 0.25 to 1.2 s long."""
    octaves = rng.uniform(1.3, 3.5)
    low = _log_uniform(rng, 150, 6500 / 2**octaves)
    place = (np.arange(samples) / rate / rng.uniform(0.25, 1.2) + rng.uniform()) % 1
    if rng.random() < 0.5:
        place = 1 - place
    exponential = low * 2 ** (octaves * place)
    linear = low * (1 + (2**octaves - 1) * place)
    frequency = exponential if rng.random() < 0.5 else linear
    return np.sin(2 * np.pi * np.cumsum(frequency) / rate)


def white_noise(rng: np.random.Generator, samples: int, rate: int) -> Waveform:
    """Noise of the same power at all frequencies."""
    return coloured_noise(rng, samples, rate, rng.uniform(-0.3, 0.3))


def pink_noise(rng: np.random.Generator, samples: int, rate: int) -> Waveform:
    """Noise of the same power in every octave."""
    return coloured_noise(rng, samples, rate, rng.uniform(2.7, 3.3))


def mains_hum(rng: np.random.Generator, samples: int, rate: int) -> Waveform:
    """50 or 60 Hz with harmonics, the even ones stronger, as transformers and loudspeakers near them give."""
    base = rng.choice([50.0, 60.0]) * rng.uniform(0.998, 1.002)
    numbers = np.arange(1, 25)
    strengths = numbers ** -rng.uniform(0.5, 1.2) * np.where(numbers % 2, rng.uniform(0.2, 0.8), 1.0)
    return _tone(rng, samples, rate, base * numbers, strengths * rng.uniform(0.5, 1, len(numbers)))


def dial_tone(rng: np.random.Generator, samples: int, rate: int) -> Waveform:
    """350 and 440 (or 450) Hz together, without a break."""
    pair = np.array([350.0, rng.choice([440.0, 450.0])]) * rng.uniform(0.985, 1.015)
    return _on_the_line(rng, _tone(rng, samples, rate, pair, [1, rng.uniform(0.7, 1.3)]))


def busy_signal(rng: np.random.Generator, samples: int, rate: int) -> Waveform:
    """480 and 620 Hz together, half of the time: 0.5 s on and off, or 0.25 s where the network is busy."""
    pair = np.array([480.0, 620.0]) * rng.uniform(0.985, 1.015)
    period = rng.choice([0.5, 1.0]) * rng.uniform(0.95, 1.05)
    gate = _gate(samples, rate, period, 0.5, rng.uniform())
    return _on_the_line(rng, _tone(rng, samples, rate, pair, [1, rng.uniform(0.7, 1.3)])) * gate


def dialing(rng: np.random.Generator, samples: int, rate: int) -> Waveform:
    """DTMF: every digit a pair of one low and one high frequency, 70 to 160 ms long."""
    low, high = np.array([697.0, 770.0, 852.0, 941.0]), np.array([1209.0, 1336.0, 1477.0, 1633.0])
    length, pause = (int(rng.uniform(*span) * rate) for span in ((0.07, 0.16), (0.04, 0.14)))
    sound = np.zeros(samples)
    for start in range(0, samples, length + pause):
        part = sound[start : start + length]
        part += _tone(rng, len(part), rate, [rng.choice(low), rng.choice(high)], [1, rng.uniform(0.8, 1.3)])
    return _on_the_line(rng, sound)


def beep(rng: np.random.Generator, samples: int, rate: int) -> Waveform:
    """A short tone of 700 to 4000 Hz, with a weak octave, again and again, 1.8 to 5 times a second."""
    pitch = _log_uniform(rng, 700, 3600)
    gate = _gate(samples, rate, 1 / rng.uniform(1.8, 5), rng.uniform(0.2, 0.45), rng.uniform())
    return _tone(rng, samples, rate, [pitch, 2 * pitch], [1, rng.uniform(0, 0.3)]) * gate


def pulse(rng: np.random.Generator, samples: int, rate: int) -> Waveform:
    """The same click in steady time, 3 to 16 times a second, dull or bright, of 2 to 40 ms."""
    period = rate / _log_uniform(rng, 3, 16)
    length = int(_log_uniform(rng, 0.002, 0.04) * rate)
    click = np.exp(-np.linspace(0, 5, length)) * coloured_noise(rng, length, rate, rng.uniform(0, 5))
    sound = np.zeros(samples + length)
    for start in np.arange(rng.uniform(0, min(period, samples / 2)), samples, period):
        sound[int(start) : int(start) + length] += click
    return sound[:samples]


def static(rng: np.random.Generator, samples: int, rate: int) -> Waveform:
    """Crackle of a bad radio connection: clicks of any strength at random times, 50 to 1000 a second, over hiss."""
    sound = np.zeros(samples)
    places = rng.integers(0, samples, max(8, int(_log_uniform(rng, 50, 1000) * samples / rate)))
    np.add.at(sound, places, rng.laplace(size=len(places)))
    ring = rng.standard_normal(int(rate * rng.uniform(0.0008, 0.005)))
    crackle = np.convolve(sound, ring * np.exp(-np.linspace(0, 4, len(ring))))[:samples]
    hiss = coloured_noise(rng, samples, rate, rng.uniform(1, 2.5))
    return crackle / _rms(crackle) + hiss / _rms(hiss) * rng.uniform(0.05, 0.3)


SOUNDS: dict[str, Callable[[np.random.Generator, int, int], Waveform]] = {
    "Sine wave": sine_wave,
    "Chirp tone": chirp_tone,
    "White noise": white_noise,
    "Pink noise": pink_noise,
    "Mains hum": mains_hum,
    "Dial tone": dial_tone,
    "Busy signal": busy_signal,
    "Telephone dialing, DTMF": dialing,
    "Beep, bleep": beep,
    "Pulse": pulse,
    "Static": static,
}
"""The sounds by AudioSet's name of their class."""


def _tone(
    rng: np.random.Generator,
    samples: int,
    rate: int,
    frequencies: Sequence[float] | np.ndarray,
    strengths: Sequence[float] | np.ndarray = (1.0,),
) -> Waveform:
    time = np.arange(samples) / rate
    phases = rng.uniform(0, 2 * np.pi, len(frequencies))
    pairs = zip(frequencies, np.broadcast_to(strengths, len(frequencies)), phases, strict=True)
    waves = [strength * np.sin(2 * np.pi * frequency * time + phase) for frequency, strength, phase in pairs]
    return np.sum(waves, axis=0)


def _gate(samples: int, rate: int, period: float, open_part: float, phase: float) -> Waveform:
    """1 for `open_part` of each period (in seconds), else 0, with edges of 4 ms so that they do not click."""
    place = (np.arange(samples) / rate / period + phase) % 1
    edge = 0.004 / period
    return np.clip(np.minimum(place, open_part - place) / edge, 0, 1)


def _on_the_line(rng: np.random.Generator, sound: Waveform) -> Waveform:
    """Telephones distort a little; the harmonics differ from line to line."""
    drive = rng.uniform(0.05, 0.6)
    return np.tanh(drive * sound) / drive


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _rms(sound: Waveform) -> float:
    return float(np.sqrt(np.mean(sound**2)) + 1e-12)
