"""Sound files to waveforms."""

import os

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from panns_jax.audio import read_waveform, resample
from panns_jax.errors import InputError


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
