"""`panns-jax pack`: sound files to a waveforms HDF5 file."""

import csv
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from panns_jax.data.index import list_clips
from panns_jax.data.pack import pack
from panns_jax.data.packed import LeftOut
from panns_jax.data.sounds import to_int16
from panns_jax.data.sources import ClipSource
from panns_jax.errors import InputError
from panns_jax.ffmpeg import find_ffmpeg
from panns_jax.labels import audioset

RATE = 32000
READABLE = ["-plain", "stereo", "eight", "odd", "vorbis", "mpeg", "short", "long", "loud"]


def tone(rate: int, seconds: float, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)


@pytest.fixture
def corpus(tmp_path) -> tuple[Path, Path]:
    """Clips of many kinds: a segments csv and the folder of its sounds, most of them readable."""
    audios = tmp_path / "audios"
    audios.mkdir()
    write = soundfile.write
    write(audios / "Y-plain.wav", tone(RATE, 1), RATE, subtype="FLOAT")
    write(audios / "Ystereo.wav", np.stack([tone(RATE, 1), tone(RATE, 1)], 1), RATE, subtype="FLOAT")
    write(audios / "Yeight.flac", np.stack([tone(RATE, 1)] * 8, 1), RATE)
    write(audios / "Yodd.wav", tone(11025, 1), 11025, subtype="FLOAT")
    write(audios / "Yvorbis.ogg", tone(48000, 1), 48000)
    write(audios / "Ympeg.mp3", tone(44100, 1), 44100)
    write(audios / "Yshort.wav", np.array([0.25]), RATE, subtype="FLOAT")
    write(audios / "Ylong.wav", tone(RATE, 5), RATE, subtype="FLOAT")
    write(audios / "Yloud.wav", tone(RATE, 1, level=3.0), RATE, subtype="FLOAT")
    write(audios / "Ybroken.wav", np.array([0.1, np.nan]), RATE, subtype="FLOAT")
    write(audios / "Yempty.wav", np.zeros(0), RATE)
    (audios / "Yzero.wav").touch()
    (audios / "Ytext.wav").write_text("no sound at all\n" * 99)
    (audios / "Yfolder.wav").mkdir()
    ids = [*READABLE, "broken", "empty", "zero", "text", "folder", "missing"]
    segments = tmp_path / "segments.csv"
    segments.write_text("# head\n" + "".join(f'{clip_id}, 0.000, 1.000, "/m/09x0r,/m/04rlf"\n' for clip_id in ids))
    return segments, audios


@pytest.mark.parametrize("workers", [0, 2])
def test_readable_clips_are_packed_in_the_published_layout(corpus, tmp_path, read_hdf5, workers):
    out = tmp_path / "W" / "hdf5s" / "waveforms" / "train.h5"
    report = pack(corpus[0], corpus[1], out, clip_seconds=1.0, workers=workers)
    assert (report.packed, report.clipped) == (9, 1)
    assert {clip.clip_id for clip in report.left_out} == {"broken", "empty", "zero", "text", "folder", "missing"}
    content = read_hdf5(out)
    names, waveform, target = content["audio_name"], content["waveform"], content["target"]
    assert (names.dtype, waveform.dtype, target.dtype) == ("S20", np.int16, bool)
    assert names.tolist() == [f"Y{clip_id}.wav".encode() for clip_id in READABLE]
    assert waveform.shape == (9, RATE) and target.shape == (9, 527)
    assert (target.nonzero()[1].reshape(9, 2) == [0, audioset().index("Music")]).all()
    assert content["sample_rate"] == RATE
    rows = dict(zip(READABLE, waveform, strict=True))
    expected = to_int16(tone(RATE, 1).astype(np.float32))
    for clip_id in ("-plain", "stereo", "long"):
        np.testing.assert_array_equal(rows[clip_id], expected)
    np.testing.assert_allclose(rows["eight"], expected, atol=2)
    for clip_id in ("odd", "vorbis", "mpeg"):
        np.testing.assert_allclose(rows[clip_id][4000:-4000], expected[4000:-4000], atol=1000)
    assert rows["short"][0] == int(0.25 * 32767) and not rows["short"][1:].any()
    assert (rows["loud"].min(), rows["loud"].max()) == (-32767, 32767)


def test_what_is_left_out_is_listed_with_its_reason(corpus, tmp_path):
    report = pack(corpus[0], corpus[1], tmp_path / "train.h5", clip_seconds=1.0)
    with (tmp_path / "train.h5.left_out.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["clip_id", "reason"]
    assert [LeftOut(*row) for row in rows[1:]] == list(report.left_out)
    reasons = dict(rows[1:])
    assert "there is no such file" in reasons["missing"] and "Ymissing.wav" in reasons["missing"]
    assert "no finite numbers" in reasons["broken"] and "is a folder" in reasons["folder"]


@pytest.mark.skipif(sys.platform != "linux", reason="file systems where names are text")
def test_sounds_may_lie_in_a_folder_whose_name_is_no_text(corpus, tmp_path, run_pack):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    corpus[1].rename(folder)
    command = ("--csv", corpus[0], "--audios", folder, "--out", folder / "x.h5", "--clip-seconds", 1, "--workers", 0)
    first, again = run_pack(*command), run_pack(*command)
    assert (first.returncode, again.returncode) == (1, 1)
    assert R"caf\udce9/Ymissing.wav: there is no such file" in first.stdout
    assert again.stdout.splitlines()[1:] == first.stdout.splitlines()[1:]
    assert os.fsencode(folder / "Ymissing.wav") in (folder / "x.h5.left_out.csv").read_bytes()


def test_a_list_of_an_earlier_packing_does_not_outlive_it(corpus, tmp_path):
    segments, audios = corpus
    pack(segments, audios, tmp_path / "train.h5", clip_seconds=1.0)
    segments.write_text('-plain, 0, 1, "/m/09x0r"\n')
    pack(segments, audios, tmp_path / "train.h5", clip_seconds=1.0, replace=True)
    assert not (tmp_path / "train.h5.left_out.csv").exists()


def test_int16_is_truncated_towards_zero_and_clipped():
    waveform = np.array([0, 1, -1, 1.5, -7, 0.99999, -0.99999, 1.9 / 32767, -1.9 / 32767], np.float32)
    assert to_int16(waveform).tolist() == [0, 32767, -32767, 32767, -32767, 32766, -32766, 1, -1]


def test_sound_that_takes_ffmpeg_is_packed(tmp_path, read_hdf5):
    if (ffmpeg := find_ffmpeg()) is None:
        pytest.skip("ffmpeg is missing: pip install imageio-ffmpeg")
    soundfile.write(tmp_path / "tone.wav", tone(RATE, 1), RATE)
    subprocess.run([ffmpeg, "-v", "error", "-i", tmp_path / "tone.wav", tmp_path / "Ya.m4a"], check=True)
    (tmp_path / "s.csv").write_text('a, 0, 1, "/m/09x0r"\n')
    assert pack(tmp_path / "s.csv", tmp_path, tmp_path / "x.h5", clip_seconds=1.0).packed == 1
    row = read_hdf5(tmp_path / "x.h5")["waveform"][0]
    assert 10_000 < np.abs(row[8000:-4000]).max() < 20_000


def test_a_long_name_widens_the_column_and_is_not_cut(tmp_path, read_hdf5):
    clip_id = "a-clip-of-another-corpus"
    soundfile.write(tmp_path / f"Y{clip_id}.wav", tone(RATE, 0.1), RATE)
    (tmp_path / "s.csv").write_text(f'{clip_id}, 0, 1, "/m/09x0r"\n')
    pack(tmp_path / "s.csv", tmp_path, tmp_path / "x.h5", clip_seconds=0.1)
    assert read_hdf5(tmp_path / "x.h5")["audio_name"][0] == f"Y{clip_id}.wav".encode()


def test_a_wav_is_preferred_to_other_formats_of_the_same_clip(tmp_path, read_hdf5):
    soundfile.write(tmp_path / "Ya.flac", tone(RATE, 0.1, level=0.1), RATE)
    soundfile.write(tmp_path / "Ya.WAV", tone(RATE, 0.1, level=0.9), RATE)
    (tmp_path / "s.csv").write_text('a, 0, 1, "/m/09x0r"\n')
    pack(tmp_path / "s.csv", tmp_path, tmp_path / "x.h5", clip_seconds=0.1)
    assert read_hdf5(tmp_path / "x.h5")["waveform"].max() > 25_000


@pytest.fixture
def run_pack(run_task) -> Callable[..., Any]:
    return functools.partial(run_task, "pack")


def test_the_command_packs_and_tells_what_it_left_out(corpus, tmp_path, read_hdf5, run_pack):
    segments, audios = corpus
    done = run_pack(
        "--csv", segments, "--audios", audios, "--out", tmp_path / "x.h5", "--clip_seconds", 1, "--workers", 1
    )
    assert done.returncode == 1
    assert "packed 9 of 15 clips of 1 s at 32000 Hz" in done.stdout and "6 left out" in done.stdout
    assert "1 of them went beyond full scale" in done.stdout
    assert "15/15" in done.stderr and "Traceback" not in done.stderr


def test_the_command_succeeds_where_nothing_is_left_out(corpus, tmp_path, read_hdf5, run_pack):
    segments, audios = corpus
    segments.write_text('-plain, 0, 1, "/m/09x0r"\n')
    done = run_pack("--csv", segments, "--audios", audios, "--out", tmp_path / "x.h5", "--workers", 0)
    assert done.returncode == 0 and "packed 1 of 1 clips of 10 s" in done.stdout
    assert read_hdf5(tmp_path / "x.h5")["waveform"].shape == (1, 320_000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip_seconds": 0}, "--clip-seconds"),
        ({"clip_seconds": -1}, "--clip-seconds"),
        ({"clip_seconds": float("nan")}, "--clip-seconds"),
        ({"clip_seconds": float("inf")}, "--clip-seconds"),
        ({"clip_seconds": 1e9}, "--clip-seconds"),
        ({"sample_rate": 0}, "--sample-rate"),
        ({"sample_rate": 3_000_000_000}, "--sample-rate must be from 1 to 384000"),  # soxr would crash
        ({"workers": -1}, "--workers"),
        ({"audios": "nowhere"}, "--audios nowhere: cannot be listed"),
        ({"segments_csv": "nowhere.csv"}, "nowhere.csv"),
        ({"out": "."}, "is a folder"),
    ],
)
def test_bad_options_are_refused_by_name(corpus, tmp_path, changes, message):
    options = {"segments_csv": corpus[0], "audios": corpus[1], "out": tmp_path / "new" / "x.h5"} | changes
    with pytest.raises(InputError, match=message):
        pack(options.pop("segments_csv"), options.pop("audios"), options.pop("out"), **options)
    assert not (tmp_path / "new").exists() or not list((tmp_path / "new").iterdir())


def test_nothing_is_written_where_no_clip_can_be_read(corpus, tmp_path, run_pack):
    segments, audios = corpus
    segments.write_text('zero, 0, 1, "/m/09x0r"\nmissing, 0, 1, "/m/09x0r"\n')
    (tmp_path / "out").mkdir()
    done = run_pack("--csv", segments, "--audios", audios, "--out", tmp_path / "out" / "x.h5", "--workers", 0)
    assert done.returncode == 2 and "none of its 2 clips can be read" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_a_csv_without_segments_is_refused(corpus, tmp_path, run_pack):
    corpus[0].write_text("# only a head\n")
    done = run_pack("--csv", corpus[0], "--audios", corpus[1], "--out", tmp_path / "x.h5")
    assert done.returncode == 2 and "holds no segments" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_place_that_cannot_be_written_to_is_refused(corpus, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write .*x\.h5"):
        pack(corpus[0], corpus[1], tmp_path / "file" / "x.h5", clip_seconds=1.0)


@pytest.fixture(scope="module")
def many_clips(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("many")
    audios = folder / "audios"
    audios.mkdir()
    noise = np.random.default_rng(0).uniform(-1, 1, RATE * 4)
    for number in range(60):
        soundfile.write(audios / f"Yn{number}.wav", noise, RATE)
    segments = folder / "segments.csv"
    segments.write_text("".join(f'n{number}, 0, 10, "/m/09x0r"\n' for number in range(60)))
    return segments, audios


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
@pytest.mark.parametrize("megabytes", [2, 38.41])  # at the first rows, and near the very end
def test_a_full_disk_is_one_sentence_and_leaves_nothing(many_clips, tmp_path, megabytes):
    limit = round(megabytes * 1e6)
    # Set by a process on its way, and not between fork and exec, where JAX's threads may hold locks.
    limited = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
    limited += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    (tmp_path / "out").mkdir()
    options = ["--csv", many_clips[0], "--audios", many_clips[1], "--out", tmp_path / "out" / "x.h5", "--workers", "0"]
    # In a process of its own: HDF5 may also crash at the end of one in which a file could not be closed.
    command = [sys.executable, "-c", limited, "-m", "panns_jax", "pack", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, last.endswith("x.h5: File too large")) == (2, True), done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(
    ("how", "encoding"),
    [(signal.SIGKILL, "int16"), (signal.SIGKILL, "flac"), (signal.SIGINT, "int16")],
    ids=["SIGKILL", "SIGKILL-flac", "SIGINT"],
)
def test_a_packer_that_is_ended_leaves_no_half_written_output(many_clips, tmp_path, how, encoding):
    out = tmp_path / "out" / "x.h5"
    out.parent.mkdir()
    command = [sys.executable, "-m", "panns_jax", "pack", "--csv", many_clips[0], "--audios", many_clips[1]]
    command += ["--out", out, "--encoding", encoding]
    process = subprocess.Popen([*command, "--workers", "1"], stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 30
    while not any(part.stat().st_size > 3_000_000 for part in out.parent.iterdir()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, how)
    _, errors = process.communicate(timeout=30)
    assert not out.exists()
    if how == signal.SIGINT:
        assert process.returncode == 130 and errors.splitlines()[-1].endswith("interrupted")
        assert list(out.parent.iterdir()) == []
    report = pack(many_clips[0], many_clips[1], out, encoding=encoding, workers=0)
    assert report.packed == 60
    assert list(out.parent.iterdir()) == [out]  # what a killed one left beside is gone
    pack(many_clips[0], many_clips[1], tmp_path / "unbroken.h5", encoding=encoding, workers=1)
    assert out.read_bytes() == (tmp_path / "unbroken.h5").read_bytes()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_clips(many_clips, tmp_path):
    def peak(count: int) -> int:
        segments = Path(tmp_path / f"{count}.csv")
        segments.write_text("".join(many_clips[0].read_text().splitlines(keepends=True)[:count]))
        program = (
            "import resource, sys; from panns_jax.data.pack import pack; pack(*sys.argv[1:4], workers=0);"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        arguments = [segments, many_clips[1], tmp_path / f"{count}.h5"]
        done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
        return int(done.stdout)

    pytest.importorskip("resource")
    assert (
        peak(60) - peak(20) < 12_000
    )  # 25 MB of rows more, in units of 1 kB (1 B on macOS, where it holds all the more)


def test_an_earlier_packing_is_replaced_only_where_that_is_asked_for(corpus, tmp_path, run_pack):
    out = tmp_path / "x.h5"
    command = ("--csv", corpus[0], "--audios", corpus[1], "--out", out, "--clip-seconds", 1, "--workers", 0)
    assert run_pack(*command).returncode == 1  # some clips are left out
    before = out.read_bytes()
    done = run_pack(*command, "--encoding", "flac")
    assert done.returncode == 2
    assert done.stderr.endswith("x.h5 exists already, packed as int16; --force replaces it\n")
    assert out.read_bytes() == before
    assert run_pack(*command, "--encoding", "flac", "--force").returncode == 1
    assert out.read_bytes() != before


def test_a_second_start_leaves_what_is_packed_and_tells_the_same(corpus, tmp_path, run_pack, monkeypatch):
    command = ("--csv", corpus[0], "--audios", corpus[1], "--out", tmp_path / "x.h5", "--clip-seconds", 1)
    first = run_pack(*command, "--workers", 0)
    before = (tmp_path / "x.h5").stat().st_ctime_ns
    monkeypatch.setattr("panns_jax.data.pack.read_row", None)  # nothing is read
    again = run_pack(*command, "--workers", 0)
    assert again.returncode == first.returncode == 1
    assert "x.h5 is there already, with 9 of 15 clips of 1 s" in again.stdout
    assert again.stdout.splitlines()[1:] == first.stdout.splitlines()[1:]
    assert (tmp_path / "x.h5").stat().st_ctime_ns == before  # neither written nor replaced
    (tmp_path / "x.h5.left_out.csv").unlink()
    without = run_pack(*command, "--workers", 0)
    assert (without.returncode, without.stdout.splitlines()[0]) == (1, again.stdout.splitlines()[0])
    assert "  broken: it was left out earlier, and the list that told why is gone" in without.stdout


def test_a_second_start_tells_of_sounds_that_have_come_since(corpus, tmp_path, run_pack):
    command = ("--csv", corpus[0], "--audios", corpus[1], "--out", tmp_path / "x.h5", "--clip-seconds", 1)
    run_pack(*command, "--workers", 0)
    time.sleep(0.05)  # file systems count time in steps
    soundfile.write(corpus[1] / "Ymissing.flac", tone(RATE, 1), RATE)
    assert "1 of them have a new sound file now; --force packs all anew" in run_pack(*command, "--workers", 0).stdout


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"sample_rate": 16000, "clip_seconds": 2.0}, "packed at 32000 Hz"),
        ({"clip_seconds": 0.5}, "packed as clips of 32000 samples"),
        ({}, "packed from another csv"),
    ],
)
def test_a_file_that_was_packed_otherwise_is_not_taken_for_done(corpus, tmp_path, option, message):
    segments, audios = corpus
    pack(segments, audios, tmp_path / "x.h5", clip_seconds=1.0)
    if not option:
        segments.write_text('eight, 0, 1, "/m/09x0r"\n')
    options: dict[str, Any] = {"clip_seconds": 1.0} | option
    with pytest.raises(InputError, match=rf"x\.h5 exists already, {message}; --force replaces it"):
        pack(segments, audios, tmp_path / "x.h5", **options)


def test_a_published_or_damaged_file_in_the_place_is_not_taken_for_done(corpus, tmp_path, write_waveforms):
    write_waveforms(tmp_path / "x.h5", ["Ya.wav"])
    with pytest.raises(InputError, match="exists already, and does not tell what it was packed from; --force"):
        pack(corpus[0], corpus[1], tmp_path / "x.h5", clip_seconds=1.0)
    (tmp_path / "x.h5").write_bytes((tmp_path / "x.h5").read_bytes()[:1500])
    with pytest.raises(InputError, match=r"x\.h5: cannot be read as HDF5: .*; --force replaces it"):
        pack(corpus[0], corpus[1], tmp_path / "x.h5", clip_seconds=1.0)
    assert pack(corpus[0], corpus[1], tmp_path / "x.h5", clip_seconds=1.0, replace=True).packed == 9


@pytest.fixture
def parts(tmp_path) -> list[Path]:
    """Three csv with a folder of sounds each, of which the second has none that can be read."""
    lists = []
    for number in range(3):
        name = f"unbalanced_train_segments_part0{number}"
        (tmp_path / "audios" / name).mkdir(parents=True)
        lists.append(tmp_path / f"{name}.csv")
        lists[-1].write_text(f'c{number}, 0, 1, "/m/09x0r"\n')
        if number != 1:
            soundfile.write(tmp_path / "audios" / name / f"Yc{number}.wav", tone(RATE, 0.1, level=0.1 * number), RATE)
    return lists


def test_several_lists_are_packed_into_a_file_each_and_a_bad_one_stops_nothing(parts, tmp_path, read_hdf5, run_pack):
    command = ("--csv", *parts, "--audios", tmp_path / "audios", "--out", tmp_path / "W", "--workers", 0)
    done = run_pack(*command, "--clip-seconds", 0.1)
    assert done.returncode == 1
    assert "1 of 3 csv not packed:" in done.stderr and "part01.csv: none of its 1 clips can be read" in done.stderr
    assert sorted(path.name for path in (tmp_path / "W").iterdir()) == [
        "unbalanced_train_part00.h5",
        "unbalanced_train_part02.h5",
    ]
    assert read_hdf5(tmp_path / "W" / "unbalanced_train_part02.h5")["audio_name"].tolist() == [b"Yc2.wav"]
    soundfile.write(tmp_path / "audios" / parts[1].stem / "Yc1.wav", tone(RATE, 0.1), RATE)
    again = run_pack(*command, "--clip-seconds", 0.1)
    assert again.returncode == 0
    assert again.stdout.count("is there already") == 2 and again.stdout.count("packed 1 of 1") == 1


@pytest.mark.parametrize(
    ("csv", "out", "message"),
    [
        (["a_segments.csv", "b.csv"], "x.h5", "x.h5 is one file, for 2 csv; name a folder"),
        (["a_segments.csv", "a.csv"], "x", "would both be packed into"),
        ([], "x", "--csv"),
    ],
)
def test_lists_that_have_no_file_each_are_refused(tmp_path, run_pack, csv, out, message):
    files = [tmp_path / name for name in csv]
    done = run_pack("--csv", *files, "--audios", tmp_path, "--out", tmp_path / out, "--workers", 0)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1


def test_flac_holds_the_very_samples_of_int16(corpus, tmp_path):
    sources = {}
    for encoding in ("int16", "flac"):
        out = tmp_path / f"{encoding}.h5"
        report = pack(corpus[0], corpus[1], out, clip_seconds=1.0, encoding=encoding)
        assert (report.packed, report.clipped, len(report.left_out)) == (9, 1, 6)
        sources[encoding] = ClipSource(list_clips(out), RATE)
    clips = np.arange(9)
    np.testing.assert_array_equal(sources["int16"].waveforms(clips), sources["flac"].waveforms(clips))
    assert (tmp_path / "flac.h5").stat().st_size < 2 * (tmp_path / "int16.h5").stat().st_size


def test_a_rate_that_flac_does_not_hold_is_refused(corpus, tmp_path):
    with pytest.raises(InputError, match="FLAC holds no 96001 Hz; choose another --sample-rate, or --encoding int16"):
        pack(corpus[0], corpus[1], tmp_path / "x.h5", clip_seconds=1.0, sample_rate=96001, encoding="flac")


def test_what_is_packed_does_not_replace_the_csv(corpus, run_pack):
    before = corpus[0].read_bytes()
    done = run_pack("--csv", corpus[0], "--audios", corpus[1], "--out", corpus[0])
    assert done.returncode == 2 and "--out must end in .h5 or .hdf5" in done.stderr
    assert corpus[0].read_bytes() == before
