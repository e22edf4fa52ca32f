"""Microphones, with a stand-in for PortAudio: a machine that tests run on has no sound card."""

import importlib.machinery
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import soxr

from panns_jax import InputError
from panns_jax.infer import microphone
from panns_jax.infer.microphone import Microphone, input_devices
from panns_jax.infer.ring import Ring
from panns_jax.infer.windows import Windows

RATE = 8000
SOUND = (0.5 * np.sin(np.arange(3 * 48000) / 40)).astype(np.float32)


class StandIn(types.ModuleType):
    """What we use of the module `sounddevice`, over a sound card that plays `SOUND` once and is then unplugged.

    Attributes:
      card: what the sound card is like; tests change it.
    """

    class PortAudioError(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("sounddevice")
        self.__spec__ = importlib.machinery.ModuleSpec("sounddevice", None)
        self.default = types.SimpleNamespace(device=[1, 0])
        self.devices = [
            {"name": "HDMI", "hostapi": 0, "max_input_channels": 0, "default_samplerate": 44100.0},
            {"name": "USB Microphone", "hostapi": 0, "max_input_channels": 1, "default_samplerate": 48000.0},
            {"name": "Line In", "hostapi": 0, "max_input_channels": 2, "default_samplerate": 44100.0},
        ]
        self.rates = {48000}
        self.overflows = False
        self.open: list[Any] = []

    def query_hostapis(self) -> Any:
        return ({"name": "ALSA"},)

    def query_devices(self, device: int | str | None = None, kind: str | None = None) -> Any:
        if kind is None:
            return self.devices
        if isinstance(device, str):
            found = [info for info in self.devices if device in info["name"]]
            if len(found) != 1:
                raise ValueError(f"No input device matching {device!r}")
            return found[0]
        index = self.default.device[0] if device is None else device
        if not 0 <= index < len(self.devices):
            raise self.PortAudioError(f"Error querying device {index}")
        return self.devices[index]

    def check_input_settings(self, device: Any, channels: int, dtype: str, samplerate: int) -> None:
        if samplerate not in self.rates:
            raise self.PortAudioError("Invalid sample rate")

    def InputStream(self, **settings: Any) -> Any:
        return _Stream(self, **settings)


class _Stream:
    def __init__(
        self,
        module: StandIn,
        samplerate: int,
        blocksize: int,
        callback: Any,
        finished_callback: Any,
        channels: int,
        **_: Any,
    ):
        if samplerate not in module.rates:
            raise module.PortAudioError("Device unavailable")
        self.module, self.rate, self.block = module, samplerate, blocksize
        self.callback, self.finished, self.channels = callback, finished_callback, channels
        self.thread = threading.Thread(target=self._play, daemon=True)

    def start(self) -> None:
        self.module.open.append(self)
        self.thread.start()

    def _play(self) -> None:
        times = types.SimpleNamespace(currentTime=100.5, inputBufferAdcTime=100.0)
        status = types.SimpleNamespace(input_overflow=self.module.overflows)
        # PortAudio uses its memory again for the next block.
        buffer = np.zeros((self.block, self.channels), np.float32)
        for at in range(0, len(SOUND) - self.block + 1, self.block):
            for channel in range(self.channels):
                buffer[:, channel] = SOUND[at : at + self.block] / 2**channel
            self.callback(buffer, self.block, times, status)
        self.finished()

    def close(self) -> None:
        self.thread.join(10)
        self.module.open.remove(self)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    module = StandIn()
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


def heard(source: Microphone, sample_rate: int) -> tuple[np.ndarray, str]:
    """All that a microphone brings until it stops, and why it stopped."""
    ring = Ring(Windows(0.5, 0.5), sample_rate, keeps_all=True)
    parts, end = [], 0
    with source.into(ring):
        try:
            while (window := ring.next()) is not None:
                parts.append(window.samples[end - window.first :])  # the last one overlaps the one before
                end = window.end
        except InputError as error:
            return np.concatenate(parts), str(error)
    raise AssertionError("the microphone ended without a word")


def test_a_microphone_is_heard_sample_for_sample_at_the_rate_of_the_model(stand_in: StandIn):
    sound, reason = heard(Microphone(), 48000)
    np.testing.assert_array_equal(sound, SOUND)
    assert reason == "USB Microphone: the microphone has stopped, as where it was unplugged"
    assert stand_in.open == []


def test_where_the_system_does_not_offer_that_rate_the_sound_is_resampled(stand_in: StandIn):
    sound, _ = heard(Microphone(), RATE)
    whole = soxr.resample(SOUND, 48000, RATE, quality="VHQ")
    # The resampler still holds the end of the sound.
    assert len(whole) * 0.95 < len(sound) <= len(whole)
    np.testing.assert_allclose(sound, whole[: len(sound)], atol=1e-6)


@pytest.mark.parametrize(("channels", "channel", "factor"), [(2, None, 0.75), (8, None, 0.75), (2, 1, 1), (8, 3, 0.25)])
def test_the_mean_of_two_channels_is_heard_or_the_one_that_is_named(
    stand_in: StandIn, channels: int, channel: int | None, factor: float
):
    stand_in.devices[2] |= {"max_input_channels": channels, "default_samplerate": 48000.0}
    sound, _ = heard(Microphone("2", channel), 48000)
    np.testing.assert_array_equal(sound, (factor * SOUND).astype(np.float32))


def test_a_channel_that_a_microphone_does_not_have_is_told(stand_in: StandIn, main: Any):
    with pytest.raises(InputError, match=r"^Line In: has 2 channels, and no channel 3$"):
        Microphone("2", 3)
    done = main("listen", "--channel", "0")
    assert (done.returncode, "channels are counted from 1, and there is no channel 0" in done.stderr) == (2, True)


def test_the_age_of_the_samples_counts_as_latency(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(microphone.time, "monotonic", lambda: 1000.0)
    ring = Ring(Windows(1, 1), 48000, keeps_all=False)
    with Microphone().into(ring):
        window = ring.next()
    assert window is not None
    assert window.captured == pytest.approx(1000 - 0.5 + 0.02)


def test_sound_that_the_system_lost_is_counted(stand_in: StandIn):
    stand_in.overflows = True
    source = Microphone()
    heard(source, 48000)
    assert source.lost == 150


def test_late_sound_is_dropped_and_never_queued(stand_in: StandIn):
    ring = Ring(Windows(0.5, 0.25), 48000, keeps_all=False)
    with Microphone().into(ring):
        stand_in.open[0].thread.join(10)
        windows = [ring.next()]
        with pytest.raises(InputError, match="has stopped"):
            ring.next()
    (window,) = windows
    assert window is not None
    assert (window.dropped, window.unheard) == (11, len(SOUND) - 24000)
    np.testing.assert_array_equal(window.samples, SOUND[-24000:])


@pytest.mark.parametrize(("device", "name"), [("2", "Line In"), ("USB", "USB Microphone"), (None, "USB Microphone")])
def test_a_microphone_is_chosen_by_number_or_name(stand_in: StandIn, device: str | None, name: str):
    assert Microphone(device).name == name


def _no_inputs(module: StandIn) -> None:
    module.devices = module.devices[:1]


def _no_default(module: StandIn) -> None:
    module.default.device = [-1, -1]


@pytest.mark.parametrize(
    ("device", "change", "words"),
    [
        ("9", None, "--device 9: Error querying device 9; --devices lists them"),
        ("Foo", None, "--device Foo: No input device matching 'Foo'; --devices lists them"),
        (None, _no_inputs, "there is no microphone on this machine; sound can come by standard input"),
        (None, _no_default, "there is no default microphone .*: choose one of --devices by --device"),
    ],
)
def test_a_microphone_that_there_is_not_is_told_in_a_sentence(
    stand_in: StandIn, device: str | None, change: Callable[[StandIn], None] | None, words: str
):
    if change:
        change(stand_in)
    with pytest.raises(InputError, match=words):
        Microphone(device)


def test_a_microphone_that_another_program_holds_is_told(stand_in: StandIn):
    source = Microphone()
    stand_in.rates = set()
    with (
        pytest.raises(InputError, match="USB Microphone: cannot be listened to: Device unavailable"),
        source.into(Ring(Windows(1, 1), RATE, keeps_all=False)),
    ):
        raise AssertionError("it was opened")


def test_the_list_of_microphones_tells_number_name_and_rate(stand_in: StandIn, main: Any):
    lines = ["1 USB Microphone (ALSA, 1 channel, 48000 Hz), default", "2 Line In (ALSA, 2 channels, 44100 Hz)"]
    assert input_devices() == lines
    done = main("listen", "--devices")
    assert (done.returncode, done.stdout.splitlines()) == (0, lines)
    _no_inputs(stand_in)
    assert main("listen", "--devices").stdout == "there is no microphone on this machine\n"


@pytest.fixture
def without_portaudio(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    spec = importlib.machinery.ModuleSpec("sounddevice", None)
    monkeypatch.setitem(sys.modules, "sounddevice", types.SimpleNamespace(__spec__=spec))

    def fails(name: str) -> Any:
        raise OSError("PortAudio library not found")

    monkeypatch.setattr(microphone.importlib, "import_module", fails)
    yield


def test_without_portaudio_a_sentence_tells_what_to_install(without_portaudio: None):
    with pytest.raises(InputError, match=r"needs the library PortAudio.*apt install libportaudio2"):
        Microphone()


def test_without_sounddevice_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, main: Any):
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr("panns_jax.errors.importlib.util.find_spec", lambda name: None)
    done = main("listen")
    assert done.returncode == 2
    assert 'listening to a microphone needs sounddevice: pip install "panns_jax[live]"' in done.stderr
