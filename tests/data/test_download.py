"""`panns-jax download`: clips from a real HTTP server that misbehaves, through yt-dlp and ffmpeg."""

import collections
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import http_server
import numpy as np
import pytest
import soundfile
from http_server import Content, Request, cut, serve, status

from panns_jax.data import download as module
from panns_jax.data.download import DownloadReport, download
from panns_jax.data.journal import NAME, read_failures
from panns_jax.data.obstacles import Reason
from panns_jax.data.youtube import Fetched
from panns_jax.errors import InputError
from panns_jax.ffmpeg import find_ffmpeg, require_ffmpeg

# yt-dlp leaves connections to the collector where a request fails within it.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:Exception ignored in. <socket\.socket:pytest.PytestUnraisableExceptionWarning"
)

pytest.importorskip("yt_dlp", reason="needs the package yt-dlp")

RATE = 32000
SECONDS = 12
IMPATIENT: dict[str, Any] = {"pause": 0.0, "back_off": 0.01}


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """Noise, so that a cut that is off by a sample is nothing like it: int16 (samples,)."""
    return np.random.default_rng(0).integers(-8000, 8000, SECONDS * RATE, dtype=np.int16)


def encoded(waveform: np.ndarray, kind: str, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format=kind)
    return file.getvalue()


@pytest.fixture
def server(sound: np.ndarray) -> Iterator[Content]:
    """Has the noise at every address."""
    with http_server.running() as content:
        content.raw = encoded(sound, "WAV")
        yield content


@pytest.fixture
def segments(tmp_path: Path) -> Callable[..., Path]:
    """Writes a segments csv of ids, or of ids with their seconds."""

    def write(*clips: str | tuple[str, float, float]) -> Path:
        rows = [(clip, 2.0, 5.0) if isinstance(clip, str) else clip for clip in clips]
        path = tmp_path / "segments.csv"
        lines = [f'{clip_id}, {start:.3f}, {end:.3f}, "/m/09x0r"\n' for clip_id, start, end in rows]
        path.write_text("# head\n" + "".join(lines))
        return path

    return write


def get(segments_csv: Path, out: Path, server: Content, **options: Any) -> DownloadReport:
    return download(
        segments_csv, out, **{"url_template": f"{server.url}/{{id}}.wav", "retries": 3, **IMPATIENT, **options}
    )


def asked(server: Content) -> collections.Counter[str]:
    return collections.Counter(path.removeprefix("/files/").removesuffix(".wav") for path, _ in server.asked)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def journal(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / NAME).read_text().splitlines()]


def test_clips_are_cut_to_the_sample_and_fetched_once(segments, server, tmp_path, sound):
    csv = segments(("-dashed-id", 0, 1), ("plain", 7.25, 9.5), ("fraction", 6.001, 6.002), ("late", 11, 21))
    out = tmp_path / "a" / "out"
    report = get(csv, out, server)
    assert report == DownloadReport(fetched=4, present=0, failed={}, passed_over=0, nodes={})
    for name, start, end in (("-dashed-id", 0, 1), ("plain", 7.25, 9.5), ("fraction", 6.001, 6.002), ("late", 11, 12)):
        info = soundfile.info(out / f"Y{name}.wav")
        assert (info.samplerate, info.channels, info.subtype, info.format) == (RATE, 1, "PCM_16", "WAV")
        waveform, _ = soundfile.read(out / f"Y{name}.wav", dtype="int16")
        np.testing.assert_array_equal(waveform, sound[round(start * RATE) : round(end * RATE)])
    assert names(out) == {f"Y{name}.wav" for name in ("-dashed-id", "plain", "fraction", "late")} | {NAME, ".lock"}
    assert [(entry["clip_id"], entry["status"], entry["reason"], entry["attempts"]) for entry in journal(out)] == [
        (name, "done", None, 1) for name in ("-dashed-id", "plain", "fraction", "late")
    ]
    # Once for the page, which is the file, and once for the sound.
    assert asked(server) == dict.fromkeys(("-dashed-id", "plain", "fraction", "late"), 2)
    assert get(csv, out, server) == DownloadReport(fetched=0, present=4, failed={}, passed_over=0, nodes={})
    assert len(server.asked) == 8


@pytest.mark.parametrize(("kind", "rate"), [("MP3", 44100), ("OGG", 48000), ("FLAC", 16000), ("WAV", 11025)])
def test_other_formats_rates_and_stereo_are_cut_at_their_time(segments, server, tmp_path, kind, rate):
    seconds = np.arange(20 * rate) / rate
    chirp = 0.4 * np.sin(2 * np.pi * (100 + 50 * seconds) * seconds)
    server.raw = encoded(np.stack([chirp, 0.5 * chirp], 1), kind, rate)
    assert get(segments(("a", 9.5, 12.5)), tmp_path / "out", server, url_template=f"{server.url}/{{id}}").fetched == 1
    waveform, _ = soundfile.read(tmp_path / "out" / "Ya.wav")
    assert len(waveform) == 3 * RATE
    seconds = 9.5 + np.arange(3 * RATE) / RATE
    expected = 0.3 * np.sin(2 * np.pi * (100 + 50 * seconds) * seconds)
    np.testing.assert_allclose(waveform, expected, atol=0.02)


def test_what_is_gone_or_refused_is_told_and_not_asked_for_again(segments, server, tmp_path):
    for name, code in {"gone": 404, "refused": 403, "elsewhere": 451, "members": 401}.items():
        server.answers_of[f"/files/{name}.wav"] = [status(code)] * 9
    server.files["/files/video.wav"] = video_without_sound(tmp_path)
    server.files["/files/text.wav"] = b"no sound at all\n" * 99
    csv = segments("gone", "refused", "elsewhere", "good", "members", "video", "text", ("short", 20, 30))
    out = tmp_path / "out"
    reasons = {
        "gone": Reason.REMOVED,
        "refused": Reason.PRIVATE,
        "elsewhere": Reason.GEO_BLOCKED,
        "members": Reason.SIGN_IN,
        "video": Reason.NO_AUDIO,
        "text": Reason.NO_AUDIO,
        "short": Reason.NO_AUDIO,
    }
    report = get(csv, out, server)
    assert {name: fetched.reason for name, fetched in report.failed.items()} == reasons
    assert {fetched.attempts for fetched in report.failed.values()} == {1}
    assert "404" in str(report.failed["gone"].message) and report.failed["short"].message == (
        "there is no sound at 20 s: it ends earlier"
    )
    assert report.fetched == 1 and names(out) == {"Ygood.wav", NAME, ".lock"}
    assert read_failures(out) == report.failed
    before = asked(server)
    again = get(csv, out, server)
    assert (again.fetched, again.present, again.passed_over) == (0, 1, 7) and again.failed == report.failed
    assert asked(server) == before
    server.answers_of.clear()
    forced = get(csv, out, server, retry_failed=True)
    assert forced.fetched == 4 and set(forced.failed) == {"video", "text", "short"}
    assert read_failures(out) == forced.failed


def video_without_sound(folder: Path) -> bytes:
    path = folder / "video.avi"
    picture = ["-f", "lavfi", "-i", "color=size=64x64:duration=1", "-c:v", "mpeg4"]
    subprocess.run([require_ffmpeg(), "-loglevel", "error", *picture, path], check=True, stdin=subprocess.DEVNULL)
    return path.read_bytes()


def test_a_busy_server_is_asked_again_and_then_gives(segments, server, tmp_path):
    server.answers = [status(503), status(429), serve, status(500)]
    report = get(segments("a"), tmp_path / "out", server)
    assert report.fetched == 1 and not report.failed
    assert journal(tmp_path / "out")[0]["attempts"] == 4
    assert len(server.asked) == 6  # the third and fourth attempts came to the sound


def test_waiting_doubles_and_is_as_long_as_the_server_asks_for(segments, server, tmp_path, monkeypatch):
    waits: list[float] = []
    # the module's own clock alone: others sleep too, such as those who wait for ffmpeg
    monkeypatch.setattr("panns_jax.data.youtube.time", SimpleNamespace(sleep=waits.append))
    monkeypatch.setattr("panns_jax.data.youtube.random.uniform", lambda low, high: (low + high) / 2)
    server.answers = [status(503), status(503), status(503), status(429, **{"Retry-After": 77})]
    server.answers += [status(503, **{"Retry-After": 9999})]
    assert get(segments("a"), tmp_path / "out", server, back_off=2.0, pause=0.5, retries=5).fetched == 1
    assert [wait for wait in waits if wait] == [0.5, 2, 0.5, 4, 0.5, 8, 0.5, 77, 0.5, 300, 0.5]


def test_a_server_that_stays_busy_is_a_failure_that_is_tried_again_at_the_next_start(segments, server, tmp_path):
    server.answers = [status(503)] * 4
    report = get(segments("a", "b"), tmp_path / "out", server, retries=3)
    assert (report.fetched, report.failed["a"].reason, report.failed["a"].attempts) == (1, Reason.NETWORK, 4)
    again = get(segments("a", "b"), tmp_path / "out", server)
    assert (again.fetched, again.present, again.failed) == (1, 1, {})
    assert read_failures(tmp_path / "out") == {}


def test_a_server_that_cannot_be_reached_is_the_network(segments, server, tmp_path):
    report = get(segments("a"), tmp_path / "out", server, url_template="http://127.0.0.1:9/{id}.wav", retries=1)
    assert (report.failed["a"].reason, report.failed["a"].attempts) == (Reason.NETWORK, 2)


def test_a_transfer_that_is_cut_off_is_gone_on_with(segments, server, tmp_path, sound):
    half = len(server.raw) // 2
    server.answers = [serve, cut(half), serve, cut(half + 1000)]
    assert get(segments("a"), tmp_path / "out", server).fetched == 1
    waveform, _ = soundfile.read(tmp_path / "out" / "Ya.wav", dtype="int16")
    np.testing.assert_array_equal(waveform, sound[2 * RATE : 5 * RATE])
    ranges = [asked_range for asked_range in server.ranges if asked_range]
    assert len(ranges) == 2 and all(1000 < int(r.removeprefix("bytes=").removesuffix("-")) <= half for r in ranges[:1])


def test_a_page_without_media_is_told(segments, server, tmp_path):
    server.raw = b"<!DOCTYPE html><html><title>Sorry</title><p>Nothing here</html>"
    report = get(segments("a"), tmp_path / "out", server)
    assert report.failed["a"].reason is Reason.OTHER and "Unsupported URL" in str(report.failed["a"].message)


def test_downloads_together_keep_to_the_rate_limit_and_the_pause(segments, server, tmp_path, monkeypatch):
    options: dict[str, Any] = {}

    def take(function: Any, items: Any, **_: Any) -> Any:
        options.update(function.keywords)
        raise InputError("enough")

    monkeypatch.setattr(module, "for_each", take)
    with pytest.raises(InputError, match="enough"):
        get(segments("a"), tmp_path / "out", server, rate_limit=1000.0, workers=4, pause=3.0)
    assert (options["manner"].rate_limit, options["manner"].pause) == (250, 3)


def test_yt_dlp_is_told_the_rate_limit_and_the_pause_and_to_leave_patience_to_us(
    segments, server, tmp_path, monkeypatch
):
    import yt_dlp

    told: list[dict[str, Any]] = []
    downloader = yt_dlp.YoutubeDL
    monkeypatch.setattr(yt_dlp, "YoutubeDL", lambda options: told.append(options) or downloader(options))
    monkeypatch.setattr("panns_jax.data.youtube.random.uniform", lambda low, high: (low + high) / 2)
    assert get(segments("a"), tmp_path / "out", server, rate_limit=5e6, pause=0.01).fetched == 1
    assert (told[0]["ratelimit"], told[0]["sleep_interval_requests"], told[0]["retries"]) == (5e6, 0.01, 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_stops_the_work_with_a_sentence(segments, server, tmp_path, full_disk, workers):
    with full_disk(100_000), pytest.raises(InputError, match=r"cannot write into .*out: (File too large|No space)"):
        get(segments("a", "b"), tmp_path / "out", server, workers=workers)
    assert names(tmp_path / "out") == {NAME, ".lock"}


def test_without_ffmpeg_one_sentence_tells_what_to_install(segments, server, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "imageio_ffmpeg" else object())
    find_ffmpeg.cache_clear()
    with pytest.raises(InputError, match=r'ffmpeg is not installed \(pip install "panns_jax\[ffmpeg\]"'):
        get(segments("a"), tmp_path / "out", server)
    find_ffmpeg.cache_clear()


def test_the_ffmpeg_of_the_package_is_used_where_none_is_installed(segments, server, tmp_path, monkeypatch):
    pytest.importorskip("imageio_ffmpeg", reason="needs the package imageio-ffmpeg")
    monkeypatch.setenv("PATH", "")
    find_ffmpeg.cache_clear()
    assert "imageio_ffmpeg" in require_ffmpeg()
    assert get(segments("a"), tmp_path / "out", server).fetched == 1
    find_ffmpeg.cache_clear()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"url_template": "http://x/fixed"}, r"--url-template must be an address with \{id\} in it"),
        ({"url_template": "{id}"}, "--url-template must be an address"),
        ({"url_template": "file:///tmp/{id}"}, "--url-template must be an address"),
        ({"rate_limit": 0.0}, "--rate-limit must be more than 0"),
        ({"pause": -1.0}, "--pause must be 0 seconds or more"),
        ({"back_off": float("nan")}, "--back-off must be 0 seconds or more"),
        ({"retries": -1}, "--retries must be 0 or more"),
        ({"workers": -1}, "--workers must be 0"),
        ({"rate_limit": 9.0, "engine": "ray", "workers": None}, "--rate-limit in a cluster is shared among"),
    ],
)
def test_a_wrong_option_is_refused(segments, server, tmp_path, options, sentence):
    with pytest.raises(InputError, match=sentence):
        get(segments("a"), tmp_path / "out", server, **options)
    assert not server.asked


def test_the_command_tells_what_became_of_the_clips(segments, server, tmp_path, run_task):
    missing = [f"gone{number}" for number in range(12)]
    server.answers_of = {f"/files/{name}.wav": [status(404)] for name in missing}
    arguments = ["--csv", segments("good", *missing), "--out", tmp_path / "out", "--pause", 0, "--workers", 0]
    arguments += ["--url-template", f"{server.url}/{{id}}.wav", "--back-off", 0]
    done = run_task("download", *arguments)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == f"downloaded 1 of 13 clips into {tmp_path / 'out'}"
    assert lines[1] == f"12 are missing (12 removed); {tmp_path / 'out' / NAME} tells why:"
    assert lines[2].startswith("  gone0: removed: ") and "404" in lines[2]
    assert len(lines) == 13 and lines[-1] == "  and 2 more"
    done = run_task("download", *arguments)
    assert "1 were there already" in done.stdout and "12 of them failed for good before" in done.stdout
    assert run_task("download", *arguments, "--retry-failed").returncode == 0
    wrong = run_task("download", "--csv", tmp_path / "none.csv", "--out", tmp_path / "out")
    assert wrong.returncode == 2 and "none.csv" in wrong.stderr


def start(segments_csv: Path, out: Path, server: Content) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "panns_jax", "download", "--csv", segments_csv, "--out", out]
    command += ["--url-template", f"{server.url}/{{id}}.wav", "--pause", "0", "--workers", "2"]
    return subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
def test_an_interrupted_download_is_gone_on_with(segments, server, tmp_path, sound, how):
    clips = [f"clip{number}" for number in range(8)]
    csv, out = segments(*clips), tmp_path / "out"
    stopped = []

    def stop(request: Request) -> None:
        """Sends half of the sound and has the command stopped before the rest."""

        def interrupt() -> None:
            if not stopped:
                stopped.append(request.path)
                os.killpg(process.pid, how)
                process.wait(60)

        serve(request, until=len(server.raw) // 2, pause=interrupt)

    server.answers_of = {f"/files/{name}.wav": [serve, stop] for name in clips[4:6]}
    process = start(csv, out, server)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -how), errors
    assert "Traceback" not in errors
    complete = {name for name in clips if (out / f"Y{name}.wav").exists()}
    assert len(complete) >= 2 and complete < set(clips)
    for name in complete:
        waveform, _ = soundfile.read(out / f"Y{name}.wav", dtype="int16")
        np.testing.assert_array_equal(waveform, sound[2 * RATE : 5 * RATE])
    if how == signal.SIGINT:
        assert names(out) == {f"Y{name}.wav" for name in complete} | {NAME, ".lock"}
    server.asked.clear()
    server.answers_of.clear()
    process = start(csv, out, server)
    shown, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert shown.startswith(f"downloaded {8 - len(complete)} of 8 clips into {out}; {len(complete)} were there already")
    assert asked(server) == {name: 2 for name in clips if name not in complete}
    assert names(out) == {f"Y{name}.wav" for name in clips} | {NAME, ".lock"}
    assert {entry["status"] for entry in journal(out)} == {"done"}


def test_a_second_command_on_the_same_folder_is_refused(segments, server, tmp_path):
    second = []

    def meanwhile(request: Request) -> None:
        with pytest.raises(InputError, match="another process downloads into") as refused:
            get(segments("a"), tmp_path / "out", server)
        second.append(refused.value)
        serve(request)

    server.answers = [meanwhile]
    assert get(segments("a"), tmp_path / "out", server).fetched == 1
    assert len(second) == 1


def test_a_line_of_the_journal_that_was_cut_off_is_passed_over(tmp_path):
    from panns_jax.data.journal import Journal

    (tmp_path / NAME).write_text('{"clip_id": "a", "status": "failed", "reas')
    with Journal(tmp_path) as journal_:
        journal_.enter("b", Fetched(1, Reason.REMOVED, "gone"))
        journal_.enter("c", Fetched(2))
    assert read_failures(tmp_path) == {"b": Fetched(1, Reason.REMOVED, "gone")}
