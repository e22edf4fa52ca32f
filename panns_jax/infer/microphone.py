"""Microphones, by PortAudio (the package sounddevice, an extra)."""

import contextlib
import importlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from panns_jax.audio import mixer
from panns_jax.errors import InputError, require_extra
from panns_jax.infer.ring import Ring
from panns_jax.infer.stream import Resampler

# Seconds of sound that the system hands over at a time.
_BLOCK = 0.02

# Channels whose mean is heard where none is named: what a system mixes itself may tell of many that are empty.
_MIXED = 2


class Microphone:
    """An input of the sound card.

    Args:
      device: number of the device, or a part of its name, as `input_devices` tells them; None for the system's default.
      channel: the one to hear, counted from 1; None for the mean of the first two, where there are two.

    Raises:
      InputError: there is no such device, more than one of that name, no such channel, no PortAudio, or no
        sounddevice.
    """

    def __init__(self, device: str | None = None, channel: int | None = None) -> None:
        self._sounddevice = _sounddevice()
        self._device = int(device) if device is not None and device.isdecimal() else device
        self._info = self._find()
        available = int(self._info["max_input_channels"])
        self._channels = channel or min(_MIXED, available)
        self._mix = mixer(min(self._channels, available), channel, self.name)
        self.lost = 0

    @property
    def name(self) -> str:
        return str(self._info["name"])

    def _find(self) -> Any:
        if not _inputs(self._sounddevice):
            raise InputError(
                "there is no microphone on this machine; sound can come by standard input: panns-jax listen -"
            )
        try:
            return self._sounddevice.query_devices(self._device, "input")
        except (ValueError, self._sounddevice.PortAudioError) as error:
            reason = " ".join(str(error).split())
            if self._device is None:
                raise InputError(
                    f"there is no default microphone ({reason}): choose one of --devices by --device"
                ) from error
            raise InputError(f"--device {self._device}: {reason}; --devices lists them") from error

    @contextlib.contextmanager
    def into(self, ring: Ring) -> Iterator[None]:
        """Inside, the sound comes into the ring.

        Raises:
          InputError: the microphone cannot be opened.
        """
        rate = self._rate(ring.sample_rate)
        resampler = Resampler(rate, ring.sample_rate)

        def take(samples: np.ndarray, frames: int, times: Any, status: Any) -> None:
            self.lost += bool(status.input_overflow)
            now = time.monotonic()
            # Some systems do not tell when the samples were taken.
            age = times.currentTime - times.inputBufferAdcTime - frames / rate if times.inputBufferAdcTime else 0.0
            try:
                ring.put(resampler(np.array(self._mix(samples))), now - max(0.0, age) - resampler.behind)
            except BaseException as error:  # told by the thread that listens
                ring.finish(error)

        def end() -> None:
            ring.finish(InputError(f"{self.name}: the microphone has stopped, as where it was unplugged"))

        try:
            stream = self._sounddevice.InputStream(
                samplerate=rate,
                blocksize=max(1, round(_BLOCK * rate)),
                device=self._device,
                channels=self._channels,
                dtype="float32",
                latency="low",
                callback=take,
                finished_callback=end,
            )
            stream.start()
        except (ValueError, self._sounddevice.PortAudioError) as error:
            raise InputError(f"{self.name}: cannot be listened to: {' '.join(str(error).split())}") from error
        try:
            yield
        finally:
            ring.close()
            stream.close()

    def _rate(self, wanted: int) -> int:
        """The rate of the model where the system offers it, else that of the device."""
        try:
            self._sounddevice.check_input_settings(
                self._device, channels=self._channels, dtype="float32", samplerate=wanted
            )
        except (ValueError, self._sounddevice.PortAudioError):
            return round(self._info["default_samplerate"])
        return wanted


def input_devices() -> list[str]:
    """The inputs of this machine, one a line: number, name, system, channels and sample rate, and the default one.

    Raises:
      InputError: there is no PortAudio, or no sounddevice.
    """
    sounddevice = _sounddevice()
    systems = sounddevice.query_hostapis()
    default = sounddevice.default.device[0]
    lines = []
    for index, info in _inputs(sounddevice):
        channels = info["max_input_channels"]
        told = [systems[info["hostapi"]]["name"], f"{channels} channel{'s' * (channels != 1)}"]
        told.append(f"{info['default_samplerate']:g} Hz")
        lines.append(f"{index} {info['name']} ({', '.join(told)}){', default' * (index == default)}")
    return lines


def _inputs(sounddevice: Any) -> list[tuple[int, Any]]:
    return [(i, info) for i, info in enumerate(sounddevice.query_devices()) if info["max_input_channels"] > 0]


def _sounddevice() -> Any:
    require_extra("listening to a microphone", "live", "sounddevice")
    try:
        return importlib.import_module("sounddevice")
    except OSError as error:  # the package is there, the library that it calls is not
        raise InputError(
            "listening to a microphone needs the library PortAudio, which is not installed (on Debian and Ubuntu:"
            " apt install libportaudio2); sound can come by standard input: panns-jax listen -"
        ) from error
