"""Sound that comes byte by byte."""

import contextlib
import io
import os
import shutil
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from panns_jax.audio import Reading, read_waveform
from panns_jax.errors import InputError
from panns_jax.ffmpeg import find_ffmpeg
from panns_jax.streams import RawEncoding, RawFormat, stream_blocks

needs_ffmpeg = pytest.mark.skipif(find_ffmpeg() is None, reason="ffmpeg is missing: pip install imageio-ffmpeg")
needs_pipes = pytest.mark.skipif(os.name != "posix", reason="on Windows all is copied first")


def noise(samples: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(samples).uniform(-1, 1, (samples, channels))


class Trickle:
    """A stream that gives few bytes at a time, as pipes do."""

    def __init__(self, content: bytes, most: int = 1000) -> None:
        self._content = io.BytesIO(content)
        self._most = most

    def read(self, size: int, /) -> bytes:
        return self._content.read(min(size, self._most))


def heard(content: bytes, sample_rate: int = 32000, **options) -> np.ndarray:
    stream = Trickle(content)
    return np.concatenate(list(stream_blocks(stream, sample_rate, name="standard input", **options)))


ENCODINGS: dict[RawEncoding, tuple[str, float]] = {
    "s16le": ("PCM_16", 2.0**-15),
    "s24le": ("PCM_24", 2.0**-23),
    "s32le": ("PCM_32", 2.0**-24),
    "f32le": ("FLOAT", 0.0),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_raw_samples_are_what_libsndfile_reads_in_them(encoding: RawEncoding, channels: int):
    subtype, _ = ENCODINGS[encoding]
    raw = io.BytesIO()
    soundfile.write(raw, noise(44100 * 2, channels), 44100, subtype=subtype, format="RAW", endian="LITTLE")
    raw.seek(0)
    whole, _ = soundfile.read(
        raw, dtype="float32", always_2d=True, samplerate=44100, channels=channels, subtype=subtype, format="RAW"
    )
    format = RawFormat(44100, encoding, channels)
    for channel in range(1, channels + 1):
        given = heard(raw.getvalue(), 44100, raw=format, reading=Reading(channel=channel))
        np.testing.assert_array_equal(given, whole[:, channel - 1])


@pytest.mark.parametrize(("encoding", "tolerance"), [(key, value[1]) for key, value in ENCODINGS.items()])
def test_full_scale_of_raw_samples_is_one(encoding: RawEncoding, tolerance: float):
    if encoding == "f32le":
        content = struct.pack("<2f", -1, 1)
    else:
        bits = int(encoding[1:3])
        values = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        content = b"".join(value.to_bytes(bits // 8, "little", signed=True) for value in values)
    np.testing.assert_allclose(heard(content, raw=RawFormat(32000, encoding)), [-1, 1], atol=tolerance, rtol=0)


def test_a_frame_that_the_end_cuts_off_is_left_out():
    assert len(heard(bytes(2 * 2 * 10 + 3), raw=RawFormat(32000, "s16le", 2))) == 10
    with pytest.raises(InputError, match="standard input: holds no samples"):
        heard(bytes(3), raw=RawFormat(32000, "s16le", 2))


def test_raw_samples_of_another_kind_than_told_may_be_no_numbers():
    content = np.array([1, np.nan], "<f4").tobytes()
    with pytest.raises(InputError, match="standard input: holds samples that are no finite numbers"):
        heard(content, raw=RawFormat(32000, "f32le"))


def test_raw_formats_that_there_are_not_are_refused():
    with pytest.raises(InputError, match="the sample rate of raw samples must be at least 1, not 0"):
        RawFormat(0)
    with pytest.raises(InputError, match="the number of channels of raw samples must be at least 1, not -1"):
        RawFormat(8000, "s16le", -1)


@pytest.mark.parametrize("kind", ["wav", "aiff", "au", "ogg", "flac", "mp3", "w64", "caf"])
@pytest.mark.parametrize("rate", [44100, 32000])
def test_a_stream_of_any_format_is_heard_as_the_file_is(tmp_path: Path, kind: str, rate: int):
    path = tmp_path / f"a.{kind}"
    soundfile.write(path, noise(rate * 6, 2), rate)
    np.testing.assert_array_equal(heard(path.read_bytes()), read_waveform(path, 32000))


@pytest.mark.parametrize("told", [pytest.param(0, marks=needs_ffmpeg), 0x7FFFF000, 0xFFFFFFFF])
def test_the_length_in_the_head_of_a_stream_does_not_matter(tmp_path: Path, told: int):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(32000 * 6), 32000, subtype="PCM_16")
    whole = read_waveform(path, 32000)
    content = bytearray(path.read_bytes())
    for place in (4, content.index(b"data") + 4):
        content[place : place + 4] = told.to_bytes(4, "little")
    np.testing.assert_array_equal(heard(bytes(content)), whole)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"RIFF\0\0\0\0WAVE", b"this is no sound", b"fLaC" + bytes(1000)])
def test_a_stream_that_is_no_sound_is_named(content: bytes):
    with pytest.raises(InputError, match=r"^standard input: (cannot be read as sound: |holds no samples)") as error:
        heard(content)
    assert "/panns_jax-" not in str(error.value)


@needs_pipes
def test_wav_is_heard_while_it_comes(tmp_path: Path):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(32000 * 20), 32000)
    content = path.read_bytes()
    outlet, inlet = os.pipe()
    with os.fdopen(outlet, "rb", buffering=0) as stream, os.fdopen(inlet, "wb", buffering=0) as pipe:
        may_end = threading.Event()

        def write() -> None:
            pipe.write(content[: len(content) // 2])
            if may_end.wait(timeout=60):
                pipe.write(content[len(content) // 2 :])
            pipe.close()

        writer = threading.Thread(target=write)
        writer.start()
        blocks = stream_blocks(stream, 32000, name="standard input")
        begun = [next(blocks) for _ in range(3)]
        may_end.set()
        joined = np.concatenate([*begun, *blocks])
        writer.join()
    np.testing.assert_array_equal(joined, read_waveform(path, 32000))


@needs_pipes
def test_a_stream_that_is_left_early_holds_nobody_up(tmp_path: Path):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(32000 * 30), 32000)
    program = (
        "import sys; from panns_jax.infer.sources import StandardInput\n"
        "blocks = StandardInput().blocks(32000); print(len(next(blocks)) > 0); blocks.close()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        content = path.read_bytes()
        with contextlib.suppress(BrokenPipeError):  # it may have left by then
            process.stdin.write(content[: len(content) // 2])  # and does not close it: more could come
        assert process.wait(timeout=60) == 0
        assert process.stdout.read() == b"True\n"
        assert process.stderr.read() == b""


PROGRAMS = {
    "ffmpeg wav": ("ffmpeg", "-v", "error", "-i", "IN", "-f", "wav", "-"),
    "ffmpeg flac": ("ffmpeg", "-v", "error", "-i", "IN", "-f", "flac", "-"),
    "sox wav": ("sox", "IN", "-t", "wav", "-"),
    "sox aiff": ("sox", "IN", "-t", "aiff", "-"),
    "sox au": ("sox", "IN", "-t", "au", "-"),
    "cat": ("cat", "IN"),
}


@pytest.mark.parametrize("what", PROGRAMS)
def test_what_programs_write_to_pipes_is_heard(tmp_path: Path, what: str):
    if shutil.which(PROGRAMS[what][0]) is None:
        pytest.skip(f"{PROGRAMS[what][0]} is not installed")
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.5 * noise(44100 * 8, 2), 44100)
    command = [str(path) if word == "IN" else word for word in PROGRAMS[what]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout
        joined = np.concatenate(list(stream_blocks(process.stdout, 32000, name="standard input")))
    np.testing.assert_allclose(joined, read_waveform(path, 32000), atol=2e-5)


@needs_ffmpeg
def test_a_video_that_is_piped_is_heard(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", 0.5 * noise(44100), 44100)
    program = find_ffmpeg()
    assert program
    subprocess.run([program, "-v", "error", "-i", tmp_path / "a.wav", tmp_path / "a.m4a"], check=True)
    content = (tmp_path / "a.m4a").read_bytes()  # its head is at its end
    np.testing.assert_array_equal(heard(content), read_waveform(tmp_path / "a.m4a", 32000))
