"""Sound of files that libsndfile does not read, such as videos, by the program ffmpeg where it is installed."""

import contextlib
import functools
import importlib.util
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Float

from panns_jax.errors import InputError

# Its own form of what is passed on: a head of 24 bytes that tells rate and channels, and then samples to the end.
_HEAD = struct.Struct(">4s5I")
_FLOAT32 = 6
_SAMPLE_BYTES = 4


class Decoding:
    """The sound of a file as ffmpeg hands it over.

    Attributes:
      sample_rate: of the file, samples per second.
      channels: of the file.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        head = stream.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise InputError("ffmpeg finds no sound in it")
        magic, offset, _, encoding, self.sample_rate, self.channels = _HEAD.unpack(head)
        if magic != b".snd" or encoding != _FLOAT32 or not (self.sample_rate and self.channels):
            raise InputError("ffmpeg gives something else than sound")
        stream.read(offset - _HEAD.size)  # what ffmpeg says of itself
        self._stream = stream
        self.ended = False
        """Whether `read` has come to the end."""

    def read(self, frames: int) -> Float[np.ndarray, "frames channels"]:
        """At most that many frames; none at the end."""
        frame_bytes = self.channels * _SAMPLE_BYTES
        content = self._stream.read(frames * frame_bytes)
        self.ended |= len(content) < frames * frame_bytes
        whole = content[: len(content) // frame_bytes * frame_bytes]
        return np.frombuffer(whole, ">f4").reshape(-1, self.channels).astype(np.float32)


@functools.cache
def find_ffmpeg() -> str | None:
    """The program: that of PATH, else that of the package imageio-ffmpeg; None where there is neither."""
    if found := shutil.which("ffmpeg"):
        return found
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        return None
    import imageio_ffmpeg

    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:  # it has none for this platform
        return None


def require_ffmpeg() -> str:
    """The program.

    Raises:
      InputError: there is none.
    """
    if (program := find_ffmpeg()) is None:
        raise InputError('ffmpeg is not installed (pip install "panns_jax[ffmpeg]" brings one)')
    return program


def opening(path: Path) -> list[str | bytes]:
    """The arguments by which ffmpeg opens a file.

    A playlist in a sound file's place must not make it reach for the network: files alone are opened.
    """
    return ["-protocol_whitelist", "file", "-i", _as_file(path)]


def complaint(said: bytes) -> str | None:
    """What ffmpeg said first on standard error, as a part of a sentence: the rest follows from it. None for nothing."""
    lines = said.decode(errors="replace").splitlines()
    first = next(filter(None, map(str.strip, lines)), "")
    # It begins with the part that speaks, as in "[mov,mp4 @ 0x55f] moov atom not found".
    first = first.rpartition("] ")[2] if first.startswith("[") else first.rpartition(": ")[2]
    if "matches no streams" in first:
        return "it has no sound track"
    return f"ffmpeg says: {first.rstrip('.')}" if first else None


@contextlib.contextmanager
def decoding(path: Path) -> Iterator[Decoding]:
    """Decodes the first sound track of a file, at its own rate and with its own channels, while it is read.

    Raises:
      InputError: there is no ffmpeg, or it finds no sound in the file; the message is a part of a sentence.
    """
    program = find_ffmpeg()
    if program is None:
        raise InputError('ffmpeg, which may read it, is not installed (pip install "panns_jax[ffmpeg]")')
    output = ["-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    command = [program, "-nostdin", "-v", "error", "-threads", "1", *opening(path), *output]
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints)
        assert process.stdout is not None
        try:
            try:
                decoded = Decoding(process.stdout)
            except InputError as error:
                process.wait()
                complaints.seek(0)
                raise InputError(complaint(complaints.read(4000)) or str(error)) from None
            yield decoded
            if decoded.ended and process.wait() < 0:  # as when memory runs out; what came is not all
                raise InputError(f"ffmpeg was ended by signal {-process.returncode}")
        finally:
            process.kill()
            process.stdout.close()
            process.wait()


def _as_file(path: Path) -> str | bytes:
    # Spelled out, so that neither "-" nor ":" in a name means anything; as bytes on POSIX, where it need not be text.
    return b"file:" + os.fsencode(path) if os.name == "posix" else f"file:{path}"
