"""Sound that takes ffmpeg: videos and other containers."""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from panns_jax.audio import read_waveform
from panns_jax.errors import InputError
from panns_jax.ffmpeg import find_ffmpeg

RATE = 44100
needs_ffmpeg = pytest.mark.skipif(find_ffmpeg() is None, reason="ffmpeg is missing: pip install imageio-ffmpeg")


def tone(seconds: float, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(RATE * seconds)) / RATE)).astype(np.float32)


def convert(source: Path, target: Path, *options: str) -> Path:
    program = find_ffmpeg()
    assert program is not None
    subprocess.run([program, "-nostdin", "-v", "error", "-i", source, *options, target], check=True)
    return target


@pytest.fixture
def wav(tmp_path) -> Path:
    soundfile.write(tmp_path / "tone.wav", np.stack([tone(2), np.zeros(2 * RATE, np.float32)], 1), RATE)
    return tmp_path / "tone.wav"


@needs_ffmpeg
@pytest.mark.parametrize("name", ["a.m4a", "a.mp4", "a.mov", "a.mkv", "a.aac", "a.wma", "a.flv", "a.avi", "a.ts"])
def test_containers_sound_the_same(wav, name):
    waveform = read_waveform(convert(wav, wav.with_name(name)), 32000, seconds=1.5)
    assert waveform.dtype == np.float32 and len(waveform) == 48000
    # Lossy codecs delay a little: pitch and level are what is compared.
    middle = waveform[8000:40000]
    assert np.abs(np.fft.rfft(middle * np.hanning(32000))).argmax() == 440
    assert np.sqrt((middle**2).mean()) == pytest.approx(0.25 / np.sqrt(2), rel=0.1)


@needs_ffmpeg
def test_lossless_sound_is_the_same_by_either_way_whatever_the_extension_says(wav):
    direct = read_waveform(wav, 32000)
    matroska = convert(wav, wav.with_name("b.mkv"), "-c:a", "pcm_s16le")
    by_ffmpeg = read_waveform(matroska.rename(wav.with_name("b.wav")), 32000)
    np.testing.assert_array_equal(by_ffmpeg, direct)


@needs_ffmpeg
def test_the_first_sound_track_of_a_video_is_read(wav):
    video = ("-f", "lavfi", "-i", "testsrc=duration=1:size=64x64:rate=5", "-c:v", "mpeg4", "-c:a", "pcm_s16le")
    heard = read_waveform(convert(wav, wav.with_name("v.mkv"), *video), 32000)
    np.testing.assert_array_equal(heard, read_waveform(wav, 32000))


@needs_ffmpeg
def test_a_video_without_sound_is_named(wav):
    picture = ("-f", "lavfi", "-i", "testsrc=duration=1:size=64x64", "-c:v", "mpeg4", "-map", "1:v")
    silent = convert(wav, wav.with_name("v.mkv"), *picture)
    message = r"v\.mkv: cannot be read as sound: Format not recognised; it has no sound track"
    with pytest.raises(InputError, match=message):
        read_waveform(silent, 32000)


@needs_ffmpeg
@pytest.mark.parametrize("name", ["-dash.m4a", "with:colon.m4a", "%d.m4a", "ü .m4a"])
def test_odd_names_are_files(wav, name, monkeypatch):
    convert(wav, wav.with_name("plain.m4a")).rename(wav.with_name(name))
    monkeypatch.chdir(wav.parent)
    assert len(read_waveform(name, 32000)) >= 64000


@needs_ffmpeg
def test_a_playlist_reaches_for_no_network(tmp_path):
    playlist = tmp_path / "list.m3u8"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(InputError, match=r"list\.m3u8: cannot be read as sound"):
        read_waveform(playlist, 32000)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_sound_whose_decoder_is_killed_amidst_it_is_not_taken_for_whole(tmp_path, monkeypatch):
    stand_in = tmp_path / "ffmpeg"
    head = ".snd" + "".join(f"\\{byte:03o}" for byte in struct.pack(">5I", 24, 0xFFFFFFFF, 6, 32000, 1))
    stand_in.write_text(f"#!/bin/sh\nprintf '{head}'\nhead -c 4000 /dev/zero\nkill -9 $$\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr("panns_jax.ffmpeg.find_ffmpeg", lambda: str(stand_in))
    (tmp_path / "a.mp4").write_bytes(bytes(100))
    with pytest.raises(InputError, match=r"a\.mp4: cannot be read as sound: .*; ffmpeg was ended by signal 9"):
        read_waveform(tmp_path / "a.mp4", 32000)
    stand_in.write_text(stand_in.read_text().replace("kill", "true"))
    assert len(read_waveform(tmp_path / "a.mp4", 32000)) == 1000


def test_without_ffmpeg_a_sentence_says_what_would_help(tmp_path, monkeypatch):
    monkeypatch.setattr("panns_jax.ffmpeg.find_ffmpeg", lambda: None)
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(100))
    with pytest.raises(InputError, match=r"a\.mp4: .*ffmpeg, which may read it, is not installed \(pip install"):
        read_waveform(tmp_path / "a.mp4", 32000)


def test_the_program_of_the_path_is_preferred_to_that_of_the_package(monkeypatch):
    monkeypatch.setattr("panns_jax.ffmpeg.shutil.which", lambda name: f"/somewhere/{name}")
    assert find_ffmpeg.__wrapped__() == "/somewhere/ffmpeg"
    monkeypatch.setattr("panns_jax.ffmpeg.shutil.which", lambda name: None)
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    assert find_ffmpeg.__wrapped__() == imageio_ffmpeg.get_ffmpeg_exe()
    monkeypatch.setattr("panns_jax.ffmpeg.importlib.util.find_spec", lambda name: None)
    assert find_ffmpeg.__wrapped__() is None


@needs_ffmpeg
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_container_is_read_or_refused_by_name(wav, data):
    whole = wav.with_name("whole.m4a")
    if not whole.exists():
        convert(wav, whole)
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(0, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = wav.with_name("damaged.m4a")
    path.write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    try:
        waveform = read_waveform(path, 32000, seconds=1)
    except InputError as error:
        assert str(path) in str(error) and len(str(error).splitlines()) == 1
    else:
        assert 1 <= len(waveform) <= 32000 and np.isfinite(waveform).all()
