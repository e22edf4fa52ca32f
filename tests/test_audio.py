"""Sound files to waveforms, whole or by blocks."""

import contextlib
import os
import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from panns_jax.audio import PUBLISHED_RATE, Reading, converted, read_waveform, resample, waveform_blocks
from panns_jax.errors import InputError
from panns_jax.ffmpeg import find_ffmpeg

needs_ffmpeg = pytest.mark.skipif(find_ffmpeg() is None, reason="ffmpeg is missing: pip install imageio-ffmpeg")


def tone(rate: int, seconds: float, hertz: float = 440.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_a_wav_at_the_rate_asked_for_is_read_as_it_is(tmp_path, subtype):
    expected = tone(32000, 0.5)
    soundfile.write(tmp_path / "tone.wav", expected, 32000, subtype=subtype)
    waveform = read_waveform(tmp_path / "tone.wav", 32000)
    assert waveform.dtype == np.float32 and waveform.shape == expected.shape
    np.testing.assert_allclose(waveform, expected, atol=2.0**-15 if subtype == "PCM_16" else 2.0**-22)


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.flac", {}), ("a.ogg", {}), ("a.mp3", {}), ("a.aiff", {}), ("a.opus", {"format": "OGG", "subtype": "OPUS"})],
)
def test_other_formats_sound_the_same(tmp_path, name, options):
    soundfile.write(tmp_path / name, tone(48000, 1.0), 48000, **options)
    waveform = read_waveform(tmp_path / name, 32000)
    assert len(waveform) == 32000
    middle = slice(8000, 24000)  # lossy codecs blur the ends
    np.testing.assert_allclose(waveform[middle], tone(32000, 1.0)[middle], atol=0.03)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000, 192000])
def test_a_tone_keeps_its_pitch_and_level_at_any_rate(tmp_path, rate):
    soundfile.write(tmp_path / "tone.wav", tone(rate, 0.5), rate, subtype="FLOAT")
    waveform = read_waveform(tmp_path / "tone.wav", 32000)
    assert abs(len(waveform) - 16000) <= 1
    middle = slice(2000, 14000)
    np.testing.assert_allclose(waveform[middle], tone(32000, 0.5)[middle], atol=1e-4)


def test_channels_are_averaged(tmp_path):
    left, right = tone(32000, 0.1, 300), tone(32000, 0.1, 700)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], 1), 32000, subtype="FLOAT")
    np.testing.assert_allclose(read_waveform(tmp_path / "stereo.wav", 32000), (left + right) / 2, atol=1e-7)
    eight = np.stack([left] + [np.zeros_like(left)] * 7, 1)
    soundfile.write(tmp_path / "eight.wav", eight, 32000, subtype="FLOAT")
    np.testing.assert_allclose(read_waveform(tmp_path / "eight.wav", 32000), left / 8, atol=1e-7)


def test_files_longer_than_a_block_are_read_to_their_end(tmp_path):
    expected = np.linspace(-1, 1, 700_001, dtype=np.float32)
    soundfile.write(tmp_path / "long.wav", expected, 32000, subtype="FLOAT")
    np.testing.assert_array_equal(read_waveform(tmp_path / "long.wav", 32000), expected)


@pytest.mark.parametrize("rate", [32000, 44100, 8000])
def test_reading_the_beginning_gives_the_beginning(tmp_path, rate):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "noise.wav", rng.uniform(-1, 1, (rate * 4, 2)), rate, subtype="FLOAT")
    whole = read_waveform(tmp_path / "noise.wav", 32000)
    beginning = read_waveform(tmp_path / "noise.wav", 32000, seconds=1.5)
    assert len(beginning) == 48000
    np.testing.assert_allclose(beginning, whole[:48000], atol=1e-5)
    assert len(read_waveform(tmp_path / "noise.wav", 32000, seconds=10)) == len(whole)


@pytest.mark.parametrize("rate", [8000, 32000, 192000])
def test_one_sample_is_enough(tmp_path, rate):
    soundfile.write(tmp_path / "one.wav", np.array([0.25]), rate, subtype="FLOAT")
    waveform = read_waveform(tmp_path / "one.wav", 32000)
    assert 1 <= len(waveform) <= 4 and np.isfinite(waveform).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path, value):
    samples = tone(32000, 0.1)
    samples[77] = value
    soundfile.write(tmp_path / "bad.wav", np.stack([samples, np.zeros_like(samples)], 1), 32000, subtype="FLOAT")
    with pytest.raises(InputError, match=r"bad\.wav: holds samples that are no finite numbers"):
        read_waveform(tmp_path / "bad.wav", 44100)


def test_files_that_are_no_sound_are_named(tmp_path):
    (tmp_path / "zero.wav").touch()
    (tmp_path / "text.wav").write_text("this is no sound\n" * 100)
    (tmp_path / "text.flac").write_text("this is no sound\n" * 100)
    (tmp_path / "samples.raw").write_bytes(bytes(1000))
    (tmp_path / "folder.wav").mkdir()
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 32000)
    for name, message in {
        "zero.wav": "cannot be read as sound",
        "text.wav": "cannot be read as sound",
        "text.flac": "cannot be read as sound",
        "samples.raw": "convert them to wav",
        "folder.wav": "is a folder, not a sound file",
        "empty.wav": "holds no samples",
        "missing.wav": "there is no such file",
    }.items():
        with pytest.raises(InputError, match=message) as error:
            read_waveform(tmp_path / name, 32000)
        assert str(error.value).startswith(str(tmp_path / name))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_named(tmp_path):
    soundfile.write(tmp_path / "secret.wav", tone(32000, 0.1), 32000)
    (tmp_path / "secret.wav").chmod(0)
    with pytest.raises(InputError, match=r"secret\.wav"):
        read_waveform(tmp_path / "secret.wav", 32000)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["wav", "flac", "ogg", "aiff"]), st.data())
def test_a_damaged_file_is_read_or_refused_by_name(tmp_path, kind, data):
    with pytest.MonkeyPatch.context() as patch:  # a process for each would take long
        patch.setattr("panns_jax.ffmpeg.find_ffmpeg", lambda: None)
        _read_damaged(tmp_path, kind, data)


def _read_damaged(tmp_path, kind, data):
    path = tmp_path / f"damaged.{kind}"
    soundfile.write(path, tone(32000, 0.05), 32000)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 5))):
        content[data.draw(st.integers(0, min(len(content), 200) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        waveform = read_waveform(path, 32000, seconds=1)
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert 1 <= len(waveform) <= 32000 and np.isfinite(waveform).all()


def test_resampling_to_the_same_rate_changes_nothing():
    waveform = tone(32000, 0.1)
    assert resample(waveform, 32000, 32000) is waveform


class Given:
    """Sound from memory."""

    def __init__(self, samples: np.ndarray, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.channels = samples.shape[1]
        self._samples = samples

    def read(self, frames: int) -> np.ndarray:
        given, self._samples = self._samples[:frames], self._samples[frames:]
        return given


def noise(samples: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(samples).uniform(-1, 1, (samples, channels)).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000])
@pytest.mark.parametrize("sample_rate", [8000, 16000, 32000])
def test_blocks_of_any_size_are_together_the_whole_resampled_at_once(rate, sample_rate):
    sound = noise(rate * 2 + 13, 2)
    whole = resample(sound.mean(axis=1, dtype=np.float64).astype(np.float32), rate, sample_rate)
    for block_seconds in (0.003, 0.1, 1.7, 60.0):
        blocks = list(converted(Given(sound, rate), sample_rate, Reading(), name="noise", block_seconds=block_seconds))
        assert min(map(len, blocks)) > 0
        joined = np.concatenate(blocks)
        assert joined.dtype == np.float32 and joined.shape == whole.shape
        np.testing.assert_allclose(joined, whole, atol=1e-6)


@settings(max_examples=100)
@given(
    rate=st.integers(1, 200_000),
    sample_rate=st.sampled_from([8000, 16000, 32000]),
    samples=st.integers(1, 300),
    block_seconds=st.floats(1e-5, 1),
)
def test_blocks_of_the_shortest_sounds_are_the_whole_too(rate, sample_rate, samples, block_seconds):
    sound = noise(samples)
    rate = max(rate, samples)  # a second at most
    whole = resample(sound[:, 0], rate, sample_rate)
    blocks = converted(Given(sound, rate), sample_rate, Reading(), name="noise", block_seconds=block_seconds)
    joined = np.concatenate(list(blocks))
    assert joined.shape == whole.shape
    np.testing.assert_allclose(joined, whole, atol=1e-6)


@pytest.mark.parametrize(("name", "rate"), [("a.wav", 44100), ("a.flac", 32000), ("a.ogg", 22050), ("a.mp3", 48000)])
def test_a_file_comes_in_blocks_of_some_seconds_that_are_together_what_read_waveform_gives(tmp_path, name, rate):
    soundfile.write(tmp_path / name, noise(rate * 15, 2), rate)
    blocks = list(waveform_blocks(tmp_path / name, 32000))
    assert len(blocks) > 2 and max(map(len, blocks)) <= 32000 * 5
    np.testing.assert_array_equal(np.concatenate(blocks), read_waveform(tmp_path / name, 32000))
    samples, _ = soundfile.read(tmp_path / name, dtype="float32")
    whole = resample(samples.mean(axis=1, dtype=np.float64).astype(np.float32), rate, 32000)
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-6)


def test_memory_does_not_grow_with_the_length_of_a_file(tmp_path):
    with soundfile.SoundFile(tmp_path / "long.flac", "w", 16000, 2) as file:
        for _ in range(12):
            file.write(np.zeros((16000 * 60, 2), np.int16))
    tracemalloc.start()
    try:
        samples = sum(map(len, waveform_blocks(tmp_path / "long.flac", 32000)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert samples == 12 * 60 * 32000  # 92 MB
    assert peak < 8e6


def test_a_channel_is_heard_alone(tmp_path):
    left, right = tone(32000, 0.1, 300), tone(32000, 0.1, 700)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), 32000, subtype="FLOAT")
    for channel, expected in ((1, left), (2, right)):
        heard = read_waveform(tmp_path / "a.wav", 32000, reading=Reading(channel=channel))
        np.testing.assert_array_equal(heard, expected)
    with pytest.raises(InputError, match=r"a\.wav: has 2 channels, and no channel 3$"):
        read_waveform(tmp_path / "a.wav", 32000, reading=Reading(channel=3))
    soundfile.write(tmp_path / "mono.wav", left, 32000)
    with pytest.raises(InputError, match=r"mono\.wav: has 1 channel, and no channel 2$"):
        read_waveform(tmp_path / "mono.wav", 32000, reading=Reading(channel=2))


def test_numbers_that_are_none_in_a_channel_that_is_not_heard_do_no_harm(tmp_path):
    sound = noise(1000, 2)
    sound[5, 1] = np.nan
    soundfile.write(tmp_path / "a.wav", sound, 32000, subtype="FLOAT")
    np.testing.assert_array_equal(read_waveform(tmp_path / "a.wav", 32000, reading=Reading(channel=1)), sound[:, 0])


@pytest.mark.parametrize(("sample_rate", "factor"), [(32000, 1), (16000, 2), (8000, 4)])
@pytest.mark.parametrize("rate", [32000, 44100, 16000])
def test_decimation_takes_every_kth_sample_of_the_published_rate(tmp_path, rate, sample_rate, factor):
    soundfile.write(tmp_path / "a.wav", noise(rate * 9 + 7), rate, subtype="FLOAT")
    published = read_waveform(tmp_path / "a.wav", PUBLISHED_RATE)
    decimated = read_waveform(tmp_path / "a.wav", sample_rate, reading=Reading(resampling="decimate"))
    np.testing.assert_array_equal(decimated, published[::factor])


def test_decimation_by_no_whole_number_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(100), 44100)
    with pytest.raises(InputError, match="gives 16000 or 8000 Hz but not 22050 Hz: choose the resampling soxr"):
        read_waveform(tmp_path / "a.wav", 22050, reading=Reading(resampling="decimate"))


def test_ways_of_reading_that_there_are_not_are_refused():
    with pytest.raises(InputError, match="channels are counted from 1, and there is no channel 0"):
        Reading(channel=0)


def damaged(path: Path, *, at: float) -> Path:
    """Overwrites a part in the middle of a file with noise."""
    content = bytearray(path.read_bytes())
    place = round(len(content) * at)
    content[place : place + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["flac", "mp3"])
def test_a_file_that_breaks_off_in_the_middle_is_an_error_after_what_comes_before(tmp_path, kind):
    soundfile.write(tmp_path / f"a.{kind}", noise(44100 * 30), 44100)
    blocks = waveform_blocks(damaged(tmp_path / f"a.{kind}", at=0.5), 44100)
    samples = 0
    with pytest.raises(InputError, match=rf"a\.{kind}: breaks off after 1\d\.\d s: "):
        for block in blocks:
            samples += len(block)
    assert 10 * 44100 < samples < 16 * 44100


@pytest.mark.parametrize("kind", ["wav", "aiff", "au", "ogg", "mp3"])
def test_what_is_left_of_a_file_that_was_cut_off_is_read(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    soundfile.write(path, noise(32000 * 4), 32000)
    whole = read_waveform(path, 32000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    left = read_waveform(path, 32000)
    assert 32000 < len(left) <= 32000 * 2.2
    np.testing.assert_array_equal(left[:32000], whole[:32000])


@pytest.mark.parametrize("told", [pytest.param(0, marks=needs_ffmpeg), 100, 0x7FFFFF00, 0xFFFFFFFF])
def test_the_length_that_the_head_of_a_wav_tells_reserves_no_memory(tmp_path, told):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(32000), 32000, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    for place in (4, content.index(b"data") + 4):  # of the whole, and of the samples
        content[place : place + 4] = told.to_bytes(4, "little")
    path.write_bytes(content)
    assert len(read_waveform(path, 32000)) == (50 if told == 100 else 32000)


def test_mp3_files_of_varying_bit_rate_are_the_same_by_blocks(tmp_path):
    soundfile.write(tmp_path / "a.mp3", noise(44100 * 20, 2), 44100, bitrate_mode="VARIABLE", compression_level=0.5)
    whole, _ = soundfile.read(tmp_path / "a.mp3", dtype="float32")
    heard = np.concatenate(list(waveform_blocks(tmp_path / "a.mp3", 44100, Reading(channel=2))))
    np.testing.assert_array_equal(heard, whole[:, 1])


def test_what_was_begun_is_closed(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(32000 * 20), 32000)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else None  # noqa: PTH208
    with contextlib.closing(waveform_blocks(tmp_path / "a.wav", 32000)) as blocks:
        next(blocks)
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


FORMATS_WITH_PARTS = ("wav", "flac", "aiff", "ogg", "mp3", "m4a")


@pytest.fixture(params=FORMATS_WITH_PARTS)
def any_format(request, tmp_path) -> Path:
    """Two seconds of sound at 8 kHz, in the format."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 16000).astype(np.float32)
    wav = tmp_path / "sound.wav"
    soundfile.write(wav, samples, 8000)
    if request.param == "m4a":
        program = find_ffmpeg()
        if program is None:
            pytest.skip("no ffmpeg is installed")
        subprocess.run([program, "-v", "error", "-i", wav, tmp_path / "sound.m4a"], check=True)
    elif request.param != "wav":
        soundfile.write(tmp_path / f"sound.{request.param}", samples, 8000)
    return tmp_path / f"sound.{request.param}"


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.5), (0.25, 0.75), (0.5, None), (1.0, 9.0), (0.00012, 0.00013)])
def test_a_part_is_what_the_whole_has_there(any_format, start, end):
    whole = read_waveform(any_format, 8000)
    part = read_waveform(any_format, 8000, reading=Reading(start=start, end=end))
    begin = round(start * 8000)
    np.testing.assert_array_equal(part, whole[begin : None if end is None else max(round(end * 8000), begin + 1)])


def test_a_part_is_resampled_by_itself(any_format):
    part = read_waveform(any_format, 16000, reading=Reading(start=0.5, end=1.0))
    assert len(part) == 8000


def test_a_part_after_the_end_is_refused(any_format):
    with pytest.raises(InputError, match=r"has no samples from 3 to 4 s$"):
        read_waveform(any_format, 8000, reading=Reading(start=3, end=4))
    with pytest.raises(InputError, match=r"has no samples from 3 s on$"):
        read_waveform(any_format, 8000, reading=Reading(start=3))


@pytest.mark.parametrize(("start", "end"), [(1, 1), (2, 1), (-1, 1), (float("nan"), None), (0, float("nan"))])
def test_a_part_that_cannot_be_is_refused(start, end):
    with pytest.raises(InputError, match="a sound has no part from"):
        Reading(start=start, end=end)


def test_a_part_of_a_flac_stream_of_unknown_length_is_read(tmp_path):
    samples = np.random.default_rng(0).integers(-9000, 9000, 16000).astype(np.int16)
    soundfile.write(tmp_path / "known.flac", samples, 8000)
    content = bytearray((tmp_path / "known.flac").read_bytes())
    content[21] &= 0xF0  # the number of samples, 36 bits of the head
    content[22:26] = bytes(4)
    (tmp_path / "unknown.flac").write_bytes(content)
    part = read_waveform(tmp_path / "unknown.flac", 8000, reading=Reading(start=0.5, end=1))
    np.testing.assert_array_equal(part, samples[4000:8000] / np.float32(32768))


def test_what_follows_a_part_may_be_damaged(tmp_path):
    samples = np.random.default_rng(0).integers(-9000, 9000, 160000).astype(np.int16)
    soundfile.write(tmp_path / "x.flac", samples, 8000)
    content = (tmp_path / "x.flac").read_bytes()
    (tmp_path / "x.flac").write_bytes(content[: len(content) // 2])
    part = read_waveform(tmp_path / "x.flac", 8000, reading=Reading(start=1, end=2))
    np.testing.assert_array_equal(part, samples[8000:16000] / np.float32(32768))
