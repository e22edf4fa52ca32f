"""`panns-jax listen` on standard input, through the real command."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recipe
import soundfile

pty = pytest.importorskip("pty", reason="there are no pseudo-terminals on Windows")

SUMMARY = re.compile(
    r"heard [\d.]+ s in \d+ windows; latency [\d.]+ s on average, [\d.]+ s at most; real-time factor [\d.]+;"
    r" \d+ windows dropped(, [\d.]+ s unheard)?\n"
)


@pytest.fixture
def listen(main: Any, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `panns-jax listen -` in this process on some bytes."""

    def run(sound: bytes, *arguments: object) -> Any:
        given = tmp_path / "given"
        given.write_bytes(sound)
        with given.open("rb") as file:
            monkeypatch.setattr(sys, "stdin", file)
            return main("listen", "-", "--checkpoint", checkpoint, *arguments)

    return run


@pytest.fixture
def listening(checkpoint: Path) -> Any:
    """Starts the same in a process of its own; kills it if the test doesn't end it."""
    started = []

    def start(*arguments: object, **streams: Any) -> "subprocess.Popen[bytes]":
        program = [sys.executable, "-m", "panns_jax", "listen", "-", "--checkpoint", checkpoint, *arguments]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        started.append(subprocess.Popen([*map(str, program)], bufsize=0, **streams))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()


def wav(waveform: np.ndarray, rate: int, path: Path) -> bytes:
    soundfile.write(path, waveform, rate, subtype="FLOAT", format="WAV")
    return path.read_bytes()


def test_every_window_of_a_wav_is_heard_and_the_rest(listen: Any, by_hand: Any, tmp_path: Path):
    sound = recipe.waveform(1, 2 * 32000 + 800, 32000, 3)[0]
    done = listen(wav(sound, 32000, tmp_path / "x.wav"), "--jsonl", "--window", 1, "--hop", 0.5, "--top", 3)
    assert done.returncode == 0
    assert SUMMARY.fullmatch(done.stderr)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["time"] for row in rows] == [0.5, 1.0, 1.5, 2.0, 2.025]
    assert [row["start"] for row in rows] == [0.0, 0.0, 0.5, 1.0, 1.025]
    assert {row["dropped"] for row in rows} == {0}
    for row in rows:
        part = tmp_path / "part.wav"
        soundfile.write(part, sound[round(row["start"] * 32000) : round(row["time"] * 32000)], 32000, subtype="FLOAT")
        clipwise = by_hand(part).clipwise
        assert [tag["index"] for tag in row["tags"]] == list(np.argsort(-clipwise)[:3])
        for tag in row["tags"]:
            assert tag["probability"] == pytest.approx(clipwise[tag["index"]], abs=1e-5)
        assert row["latency"] > 0
        assert row["rtf"] > 0
        assert row["peak"] == pytest.approx(np.abs(sound[round(row["start"] * 32000) :][:32000]).max(), abs=1e-6)


def test_raw_samples_are_mixed_and_resampled_as_those_of_a_file(listen: Any, tmp_path: Path):
    sound = recipe.waveform(2, 44100, 44100, 3).T
    mixed = sound.mean(axis=1, dtype=np.float64).astype(np.float32)
    options = ("--jsonl", "--window", 0.5, "--hop", 0.25, "--top", 5)
    raw = listen(
        sound.astype("<f4").tobytes(), "--raw-rate", 44100, "--raw-format", "f32le", "--raw-channels", 2, *options
    )
    mono = listen(wav(mixed, 44100, tmp_path / "x.wav"), *options)
    assert raw.returncode == mono.returncode == 0
    told = [
        [json.loads(line)[key] for key in ("time", "tags")] for done in (raw, mono) for line in done.stdout.splitlines()
    ]
    assert told[:4] == told[4:]
    assert [time for time, _ in told[:4]] == [0.25, 0.5, 0.75, 1.0]


def test_the_channel_that_is_named_is_heard_alone(listen: Any, tmp_path: Path):
    sound = recipe.waveform(2, 44100, 44100, 3).T
    options = ("--jsonl", "--window", 0.5, "--hop", 0.5, "--top", 3)
    second = listen(wav(sound, 44100, tmp_path / "both.wav"), *options, "--channel", 2)
    alone = listen(wav(sound[:, 1], 44100, tmp_path / "one.wav"), *options)
    told = [[json.loads(line)["tags"] for line in done.stdout.splitlines()] for done in (second, alone)]
    assert told[0] == told[1] and len(told[0]) == 2
    third = listen(wav(sound, 44100, tmp_path / "both.wav"), "--channel", 3)
    assert third.returncode == 2
    assert "standard input: has 2 channels, and no channel 3" in third.stderr


def test_only_the_classes_asked_for_are_shown(listen: Any, tmp_path: Path):
    sound = wav(recipe.waveform(1, 16000, 32000, 3)[0], 32000, tmp_path / "x.wav")
    shown = ("--classes", "Dog", "speech", "/m/068hy", "--window", 0.5)
    done = listen(sound, *shown, "--jsonl")
    tags = json.loads(done.stdout)["tags"]
    assert {tag["label"] for tag in tags} == {"Dog", "Speech", "Domestic animals, pets"}
    probabilities = [tag["probability"] for tag in tags]
    assert probabilities == sorted(probabilities, reverse=True)
    least = probabilities[1]
    above = json.loads(listen(sound, *shown, "--jsonl", "--min-confidence", least).stdout)["tags"]
    assert above == tags[:2]
    line = listen(sound, *shown, "--top", 1).stdout
    assert line.startswith(f"0.50 s: {tags[0]['label']} {tags[0]['probability']:.3f} (latency")


def test_sound_that_comes_faster_than_a_microphone_is_kept_back_and_late_windows_are_counted(listen: Any):
    """The first two seconds come at once, what follows at the pace of the clock."""
    sound = (recipe.waveform(1, 3 * 8000, 8000, 3)[0] * 32767).astype("<i2").tobytes()
    done = listen(sound, "--raw-rate", 8000, "--realtime", "--jsonl", "--window", 0.5, "--hop", 0.1, "--top", 1)
    assert done.returncode == 0
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) + rows[-1]["dropped"] == 30
    assert rows[-1]["time"] == 3.0


@pytest.mark.parametrize(
    ("sound", "arguments", "words"),
    [
        (
            b"no sound at all" * 9,
            (),
            "standard input: cannot be read as sound: .*; it is to be a wav file, or --raw-rate",
        ),
        (b"", ("--raw-rate", 8000), "there is no sound: it ended before the first sample"),
        (b"", ("--raw-rate", 0), "--raw-rate and --raw-channels must be at least 1"),
        (np.full(9, np.nan, "<f4").tobytes(), ("--raw-rate", 8000, "--raw-format", "f32le"), "no finite numbers"),
        (b"", ("--window", 1, "--hop", 2), "the hop must be above 0, and at most the window"),
        (b"", ("--top", 0), "--top must be at least 1, not 0"),
        (b"", ("--min-confidence", 7), "--min-confidence must be from 0 to 1, not 7"),
        (b"", ("--classes", "Speach"), "'Speach' is no class of audioset; did you mean 'Speech'"),
        (b"", ("--device", "USB"), "--device names a microphone, and - asks for standard input"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(listen: Any, sound: bytes, arguments: tuple[object, ...], words: str):
    done = listen(sound, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(words, done.stderr)
    assert "Traceback" not in done.stderr


def test_options_of_standard_input_are_not_for_microphones_and_files_not_for_listening(main: Any):
    for option in (("--realtime",), ("--raw-rate", 8000)):
        done = main("listen", *option)
        assert done.returncode == 2
        assert "are for standard input: panns-jax listen -" in done.stderr
    done = main("listen", "my dog.wav")
    assert done.returncode == 2
    assert "panns-jax listen - < 'my dog.wav'" in done.stderr


@pytest.mark.slow
def test_each_window_is_answered_while_the_sound_goes_on_until_ctrl_c(listening: Any):
    process = listening("--raw-rate", 32000, "--jsonl", "--top", 1)
    second = np.zeros(32000, "<i2").tobytes()
    for k in range(1, 4):
        process.stdin.write(second)  # and then nothing comes until the answer is there
        rows = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert [row["time"] for row in rows] == [k - 0.5, k]
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert re.fullmatch(SUMMARY.pattern + r".*: interrupted\n", process.stderr.read().decode())


@pytest.mark.slow
def test_a_reader_that_has_gone_ends_it_quietly(listening: Any):
    process = listening("--raw-rate", 32000, "--top", 1)
    process.stdin.write(bytes(64000))
    assert process.stdout.readline()
    process.stdout.close()
    process.stdin.write(bytes(64000))
    assert process.wait(60) == 0
    assert process.stderr.read() == b""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_terminal_gets_its_cursor_back(listening: Any, number: int):
    ours, theirs = pty.openpty()
    process = listening("--raw-rate", 32000, "--top", 3, stdout=theirs)
    os.close(theirs)
    process.stdin.write(bytes(128000))
    shown = b""
    while b"latency" not in shown:
        shown += os.read(ours, 65536)
    process.send_signal(number)
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # Linux's way to tell of the end
        pass
    assert process.wait(60) == 128 + number
    os.close(ours)
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")
    assert b"standard input, heard by DemoCnn: 2 s every 0.5 s" in shown


@pytest.mark.long
def test_an_hour_from_a_pipe_takes_no_more_memory_than_its_beginning(listening: Any):
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not tell the memory of a process in /proc")
    process = listening("--raw-rate", 8000, "--jsonl", "--top", 3, stderr=subprocess.DEVNULL)
    second = (recipe.waveform(1, 8000, 8000, 3)[0] * 32767).astype("<i2").tobytes()

    def bring() -> None:
        for _ in range(3600):
            process.stdin.write(second)
        process.stdin.close()

    writer = threading.Thread(target=bring, daemon=True)
    writer.start()
    pages, count, last = [], 0, {}
    with os.fdopen(os.dup(process.stdout.fileno()), "rb") as lines:
        for line in lines:
            count, last = count + 1, json.loads(line)
            if count % 600 == 0:
                pages.append(int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]))
    assert process.wait(60) == 0
    writer.join()
    assert (count, last["time"], last["dropped"]) == (7200, 3600.0, 0)
    assert (pages[-1] - pages[0]) * os.sysconf("SC_PAGE_SIZE") < 16 << 20
