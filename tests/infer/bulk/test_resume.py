"""`panns-jax embed` in processes that are killed and interrupted, on lists that change, and in shards."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recipe
import soundfile

from panns_jax.infer.vectors import Vectors, read_vectors

COUNT = 150
RATE = 32000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many short sounds, all different, and two files that are none."""
    made = tmp_path_factory.mktemp("sounds")
    for number in range(COUNT):
        soundfile.write(made / f"{number:03}.wav", recipe.waveform(1, RATE // 2, RATE, number)[0], RATE)
    for number in (40, 90):
        (made / f"{number:03}.wav").write_bytes(b"no sound")
    return made


def files_in(folder: Path, count: int = COUNT) -> list[str]:
    return [str(folder / f"{number:03}.wav") for number in range(count)]


@pytest.fixture(scope="module")
def unbroken(folder: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Vectors:
    """What a run without interruption makes of all."""
    out = tmp_path_factory.mktemp("unbroken") / "v.h5"
    done = subprocess.run(embed(files_in(folder), out, checkpoint), capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    return read_vectors(out)


def embed(files: list[str], out: Path, checkpoint: Path, *options: str) -> list[str]:
    command = [sys.executable, "-m", "panns_jax", "embed", *files, "--out", str(out), "--checkpoint", str(checkpoint)]
    return [*command, *options]


def entries(out: Path) -> list[dict[str, Any]]:
    """What the journal of work under way tells of files, as far as whole lines go."""
    try:
        lines = (out.with_name(f"{out.name}.part") / "journal.jsonl").read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    return [entry for line in lines if "file" in (entry := json.loads(line))]


def run_until(more: int, command: list[str], out: Path, how: signal.Signals) -> "subprocess.CompletedProcess[str]":
    """Runs a command, and ends it once it has done some more files, unless it ends by itself."""
    before = len(entries(out))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None and len(entries(out)) < before + more:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(how)
        output, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def assert_same(found: Vectors, expected: Vectors) -> None:
    assert found.names == expected.names
    assert set(found.arrays) == set(expected.arrays)
    for tap, array in expected.arrays.items():
        np.testing.assert_allclose(found.arrays[tap], array, atol=1e-5)
    assert found.attributes == expected.attributes


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_killed_run_is_gone_on_with_and_ends_as_an_unbroken_one(
    folder: Path, checkpoint: Path, unbroken: Vectors, tmp_path: Path
):
    out = tmp_path / "v.h5"
    command = embed(files_in(folder), out, checkpoint)
    killed = run_until(10, command, out, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert f"of {COUNT} files are done already" in done.stderr
    assert f"left out 2 of {COUNT} files:" in done.stderr and f"{folder / '040.wav'}: cannot be read" in done.stderr
    assert_same(read_vectors(out), unbroken)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v.h5", "v.h5.journal.jsonl"]
    journal = [json.loads(line) for line in (tmp_path / "v.h5.journal.jsonl").read_text().splitlines()]
    assert Counter(line["file"] for line in journal if "file" in line) == Counter(range(COUNT))  # none was heard twice


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("out", ["v.h5", "v.npz", "v"])
def test_a_run_that_is_killed_again_and_again_ends_as_an_unbroken_one(
    out: str, folder: Path, checkpoint: Path, tmp_path: Path
):
    options = ("--window", "0.3", "--hop", "0.2", "--tap", "embedding", "--tap", "frames")
    files = files_in(folder)
    subprocess.run(embed(files, tmp_path / f"whole-{out}", checkpoint, *options), capture_output=True, timeout=300)
    command = embed(files, tmp_path / out, checkpoint, *options)
    chance, kills, code = random.Random(out), 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        code = run_until(chance.randrange(1, 60), command, tmp_path / out, signal.SIGKILL).returncode
        kills += code == -signal.SIGKILL
    if code != 1:  # the signal came as the process was ending
        assert subprocess.run(command, capture_output=True, timeout=120).returncode == 1
    assert kills >= 2
    whole = read_vectors(tmp_path / f"whole-{out}")
    found = read_vectors(tmp_path / out)
    assert_same(found, whole)
    np.testing.assert_array_equal(found.start, whole.start)
    np.testing.assert_array_equal(found.offsets["frames"], whole.offsets["frames"])


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_tells_how_to_go_on(folder: Path, checkpoint: Path, unbroken: Vectors, tmp_path: Path):
    out = tmp_path / "v.npz"
    command = embed(files_in(folder), out, checkpoint)
    interrupted = run_until(5, command, out, signal.SIGINT)
    assert interrupted.returncode == 130
    assert f"of {COUNT} files are done; the same command goes on there" in interrupted.stderr
    assert "Traceback" not in interrupted.stderr
    subprocess.run(command, capture_output=True, timeout=120)
    assert_same(read_vectors(out), unbroken)


@pytest.mark.slow
def test_two_shards_at_once_join_to_the_whole_in_whatever_order_they_are_named(
    main: Any, folder: Path, checkpoint: Path, unbroken: Vectors, tmp_path: Path
):
    files = files_in(folder)
    outs = [tmp_path / "one.h5", tmp_path / "two.npz"]
    commands = [embed(files, out, checkpoint, "--shard", f"{n}/2") for n, out in enumerate(outs, start=1)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) for command in commands]
    for process in running:
        process.communicate(timeout=300)
        assert process.returncode == 1
    for out in ("all.h5", "all.npz", "all"):
        joined = main("merge", *reversed(outs), "--out", tmp_path / out)
        assert (joined.returncode, joined.stderr) == (0, "")
        assert f"joined 2 shards: {COUNT - 2} of {COUNT} files are in" in joined.stdout
        assert_same(read_vectors(tmp_path / out), unbroken)


def test_shards_that_are_missing_doubled_or_of_other_lists_are_told(
    main: Any, folder: Path, checkpoint: Path, tmp_path: Path
):
    files = files_in(folder, 5)

    def shard(name: str, number: int, *options: str, some: list[str] = files) -> Path:
        out = tmp_path / name
        done = main("embed", *some, "--out", out, "--checkpoint", checkpoint, "--shard", f"{number}/3", *options)
        assert done.returncode == 0
        return out

    one, two, three = (shard(f"{number}.h5", number) for number in (1, 2, 3))
    alone = tmp_path / "alone.h5"
    main("embed", *files, "--out", alone, "--checkpoint", checkpoint)
    other = shard("other.h5", 2, some=files_in(folder, 6))
    half = shard("half.npz", 2, "--dtype", "float16")
    refusals = {
        (one,): "of 3 shards, 2, 3 are missing",
        (three, one): "of 3 shards, 2 is missing",
        (one, two, three, two): f"{two} and {two} are both shard 2/3; name each shard once",
        (one, other, three): f"{other} was made with another list of files, unlike {one}",
        (one, half, three): f"{half} was made with dtype float16, not float32, unlike {one}",
        (alone, two): f"{alone} is no shard: it was made without --shard",
    }
    for shards, told in refusals.items():
        done = main("merge", *shards, "--out", tmp_path / "all.h5")
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"panns-jax: {told}\n")
        assert not (tmp_path / "all.h5").exists()
    assert main("merge", three, one, two, "--out", tmp_path / "all.h5").returncode == 0
    assert read_vectors(tmp_path / "all.h5").names == read_vectors(alone).names


def test_a_shard_of_bad_files_alone_can_be_joined(main: Any, folder: Path, checkpoint: Path, tmp_path: Path):
    files = [str(folder / name) for name in ("000.wav", "040.wav", "001.wav")]
    outs = [tmp_path / name for name in ("1.h5", "2.npz", "3")]
    codes = [
        main(
            "embed", *files, "--out", out, "--checkpoint", checkpoint, "--shard", f"{n}/3", "--window", "0.2"
        ).returncode
        for n, out in enumerate(outs, start=1)
    ]
    assert codes == [0, 1, 0]
    assert main("merge", *outs, "--out", tmp_path / "all.h5").returncode == 0
    joined = read_vectors(tmp_path / "all.h5")
    assert joined.names == [files[0]] * 3 + [files[2]] * 3
    assert (joined.attributes["files"], joined.attributes["failed"]) == (3, 1)


def test_a_complete_output_is_not_made_again_until_a_file_changes(
    main: Any, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from panns_jax.infer.bulk import hearing

    heard: list[str] = []
    inner = hearing.hear
    monkeypatch.setattr(
        hearing, "hear", lambda sources, *rest: heard.extend(s.name for s in sources) or inner(sources, *rest)
    )
    files = [tmp_path / f"{number}.wav" for number in range(4)]
    for number, file in enumerate(files):
        soundfile.write(file, recipe.waveform(1, RATE // 2, RATE, number)[0], RATE)
    files[2].write_bytes(b"no sound")
    out = tmp_path / "v.h5"

    def run(*options: str) -> Any:
        heard.clear()
        return main("embed", *files, "--out", out, "--checkpoint", checkpoint, *options)

    assert run().returncode == 1 and heard == [str(file) for file in files]
    first = read_vectors(out)

    again = run()
    assert again.returncode == 1 and not heard
    assert again.stdout == f"{out} is there already\n" and f"{files[2]}: cannot be read" in again.stderr

    soundfile.write(files[1], recipe.waveform(1, RATE // 2, RATE, 77)[0], RATE)
    os.utime(files[1], ns=(0, 12345))  # a change that a coarse clock does not tell
    assert run().returncode == 1 and heard == [str(files[1])]
    changed = read_vectors(out)
    assert changed.names == first.names
    same = (changed.arrays["embedding"] == first.arrays["embedding"]).all(axis=1)
    assert same.tolist() == [True, False, True]

    assert run("--retry-failed").returncode == 1 and heard == [str(files[2])]
    soundfile.write(files[2], recipe.waveform(1, RATE // 2, RATE, 2)[0], RATE)
    assert run().returncode == 0 and heard == [str(files[2])]
    assert read_vectors(out).names == [str(file) for file in files]

    assert run("--restart").returncode == 0 and len(heard) == 4
    assert run("--tap", "logits").returncode == 0 and len(heard) == 4  # other settings: the output is replaced
    assert set(read_vectors(out).arrays) == {"logits"}


def test_what_comes_by_standard_input_is_heard_each_time(folder: Path, checkpoint: Path, tmp_path: Path):
    out, vectors = tmp_path / "v.h5", []
    for name in ("000.wav", "001.wav"):
        command = embed(["-"], out, checkpoint)
        done = subprocess.run(command, input=(folder / name).read_bytes(), capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr
        vectors.append(read_vectors(out))
    assert vectors[0].names == vectors[1].names == ["standard input"]
    assert np.abs(vectors[0].arrays["embedding"] - vectors[1].arrays["embedding"]).max() > 1e-3


def test_a_list_that_moved_is_the_same_list(main: Any, folder: Path, checkpoint: Path, tmp_path: Path):
    out = tmp_path / "v.h5"
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("\n".join(files_in(folder, 3)))
        done = main("embed", "--list", tmp_path / name, "--out", out, "--checkpoint", checkpoint)
        assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out} is there already\n"


def test_other_settings_do_not_mix_with_what_is_under_way(main: Any, folder: Path, checkpoint: Path, tmp_path: Path):
    out = tmp_path / "v.h5"
    files = files_in(folder, 4)
    assert main("embed", *files, "--out", out, "--checkpoint", checkpoint).returncode == 0
    part = tmp_path / "v.h5.part"
    part.mkdir()
    shutil.copy(tmp_path / "v.h5.journal.jsonl", part / "journal.jsonl")
    done = main("embed", *files, "--out", out, "--checkpoint", checkpoint, "--dtype", "float16")
    assert done.returncode == 2
    assert f"{part} was begun with dtype float32, not float16: name the same to go on, or add --restart" in done.stderr
    assert done.stderr.count("\n") == 1
    assert (
        main("embed", *files, "--out", out, "--checkpoint", checkpoint, "--dtype", "float16", "--restart").returncode
        == 0
    )
    assert read_vectors(out).arrays["embedding"].dtype == np.float16
    assert not part.exists()
