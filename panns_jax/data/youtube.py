"""One clip of AudioSet: found and fetched by yt-dlp, cut by ffmpeg, kept as a wav file that is complete or absent."""

import dataclasses
import errno
import os
import random
import shutil
import tempfile
import time
import urllib.parse
import wave
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int16

from panns_jax.data.cutting import cut
from panns_jax.data.metadata import Segment
from panns_jax.data.obstacles import Obstacle, Reason, obstacle_of
from panns_jax.errors import InputError, require_extra
from panns_jax.ffmpeg import require_ffmpeg

SAMPLE_RATE = 32000
_LONGEST_WAIT = 300.0  # seconds
_SILENCE_OF_SERVER = 30.0  # seconds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manner:
    """How clips are asked for.

    Attributes:
      url_template: address of a clip, with {id} in the place of its id.
      rate_limit: bytes per second of one download; None for no limit.
      pause: seconds between requests, half as long to one and a half times as long.
      retries: how often a clip is asked for again after an error that may pass.
      back_off: seconds before the first of these; doubled for each further one.
    """

    url_template: str
    rate_limit: float | None
    pause: float
    retries: int
    back_off: float


@dataclasses.dataclass(frozen=True, slots=True)
class Fetched:
    """What became of a clip.

    Attributes:
      attempts: how often it was asked for.
      reason: why it could not be had; None where it was.
      message: the same in a sentence.
    """

    attempts: int
    reason: Reason | None = None
    message: str | None = None


def fetch_clip(segment: Segment, *, out: Path, parts: Path, manner: Manner) -> Fetched:
    """Writes the clip to `out`/Y<id>.wav: its exact seconds, mono, 32 kHz, 16 bits.

    Args:
      segment: which clip.
      out: folder of the clips.
      parts: a folder on the same disk, for what is unfinished.
      manner: how it is asked for.

    Raises:
      InputError: no clip could be had by trying further, as a program is missing or the disk is full.
    """
    require_extra("panns-jax download", "download", "yt_dlp")
    require_ffmpeg()
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"Y{segment.clip_id}.", dir=parts))
    except OSError as error:
        raise InputError(
            f"cannot write into {parts}: {error.strerror} (machines that work together must share --out)"
        ) from None
    try:
        return _fetch_patiently(segment, out / segment.audio_name, folder, manner)
    except OSError as error:
        raise InputError(f"cannot write into {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fetch_patiently(segment: Segment, path: Path, folder: Path, manner: Manner) -> Fetched:
    for attempt in range(1, manner.retries + 2):
        time.sleep(_jittered(manner.pause))
        try:
            source = _download(manner.url_template.replace("{id}", _quoted(segment.clip_id)), folder, manner)
            _write_wav(cut(source, segment.start, segment.end, SAMPLE_RATE), folder / "clip.wav", path)
        except Obstacle as obstacle:
            if obstacle.reason is not Reason.NETWORK or attempt > manner.retries:
                return Fetched(attempt, obstacle.reason, obstacle.message)
            backing_off = _jittered(manner.back_off * 2 ** (attempt - 1))
            time.sleep(min(max(backing_off, obstacle.wait or 0.0), _LONGEST_WAIT))
        else:
            return Fetched(attempt)
    raise AssertionError("the last attempt returns")


def _jittered(seconds: float) -> float:
    """Half as long to one and a half times as long, so that workers do not ask in step."""
    return seconds * random.uniform(0.5, 1.5)


def _quoted(clip_id: str) -> str:
    return urllib.parse.quote(clip_id, safe="")


class _Silent:
    """Takes what yt-dlp would print: its errors are raised, too."""

    def debug(self, message: str) -> None: ...
    def info(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def error(self, message: str) -> None: ...


def _download(url: str, folder: Path, manner: Manner) -> Path:
    """The best sound of what is at an address, as it is there; goes on with what an earlier attempt left."""
    import yt_dlp
    from yt_dlp.utils import YoutubeDLError

    options: dict[str, Any] = {
        "format": "bestaudio/best",
        # By format: an attempt that is offered another one must not go on with this one's part.
        "outtmpl": {"default": f"{str(folder).replace('%', '%%')}/source-%(format_id)s.%(ext)s"},
        "logger": _Silent(),
        "quiet": True,
        "noprogress": True,
        "color": "never",
        "noplaylist": True,
        "playlist_items": "1",
        "fixup": "never",  # ffmpeg reads it once, here
        "updatetime": False,
        "socket_timeout": _SILENCE_OF_SERVER,
        "ratelimit": manner.rate_limit,
        "sleep_interval_requests": _jittered(manner.pause),
        # Patience is ours. A hole in the sound is no success.
        **dict.fromkeys(("retries", "fragment_retries", "extractor_retries", "file_access_retries"), 0),
        "skip_unavailable_fragments": False,
        # YouTube's addresses take JavaScript to find; yt-dlp by itself looks for deno alone.
        "js_runtimes": {"deno": {}, "node": {}},
    }
    try:
        with yt_dlp.YoutubeDL(options) as downloader:  # pyright: ignore[reportArgumentType]
            told: Any = downloader.extract_info(url)
    except YoutubeDLError as error:
        _require_room(error)
        raise obstacle_of(error) from error
    except (ConnectionError, TimeoutError) as error:
        raise Obstacle(Reason.NETWORK, str(error)) from error
    if "entries" in told:
        told = next(iter(told["entries"]), None) or {}
    files = [Path(file["filepath"]) for file in told.get("requested_downloads", ())]
    if not files or not files[0].exists():
        raise Obstacle(Reason.OTHER, f"there is nothing to download at {url}")
    return files[0]


def _require_room(error: Exception) -> None:
    """What yt-dlp cannot write is no fault of the clip's: the next one could not be written either."""
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
        if f"[Errno {number}]" in str(error) and "unable to" in str(error):
            raise OSError(number, os.strerror(number)) from error


def _write_wav(waveform: Int16[np.ndarray, " samples"], part: Path, path: Path) -> None:
    with part.open("wb") as file:
        with wave.open(file, "wb") as wav:
            wav.setnchannels(1)
            wav.setsampwidth(2)
            wav.setframerate(SAMPLE_RATE)
            wav.writeframes(waveform.astype("<i2").tobytes())
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
