"""`panns-jax check`: what is wrong with a workspace."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from panns_jax.data.check import Checked, _outcomes, check
from panns_jax.data.row_writer import RowFormat
from panns_jax.files import written_aside

NAMES = ["Ya.wav", None, "Yb.wav", "Yc.wav", "Yd.wav"]


@pytest.fixture
def workspace(tmp_path, write_waveforms, write_published_index) -> Path:
    """Two waveforms files in the published layout, and an index of both, with nothing wrong."""
    root = tmp_path / "W"
    waveforms = root / "hdf5s" / "waveforms"
    files = [
        write_waveforms(waveforms / "balanced_train.h5", NAMES),
        write_waveforms(waveforms / "unbalanced_train" / "unbalanced_train_part00.h5", ["Ye.wav", "Yf.wav"], first=9),
    ]
    write_published_index(root / "hdf5s" / "indexes" / "full_train.h5", files)
    return root


@pytest.fixture
def change(workspace) -> Callable[..., Path]:
    """Changes entries of a data set of a file of the workspace."""

    def changed(name: str, dataset: str, *entries: tuple[Any, Any]) -> Path:
        path = workspace / "hdf5s" / name
        with h5py.File(path, "r+") as file:
            found = file[dataset]
            assert isinstance(found, h5py.Dataset)
            for place, value in entries:
                found[place] = value
        return path

    return changed


def faults(checked: Checked) -> list[tuple[str, str, int]]:
    return [(finding.path.name, finding.kind, finding.count) for finding in checked.findings if not finding.is_note]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_published_workspace_is_clean_and_its_empty_rows_are_a_note(workspace, workers):
    checked = check(workspace, workers=workers)
    assert [(note.kind, note.is_note) for note in checked.findings] == [("empty rows", True)]
    assert [(file.rows, file.clips) for file in checked.waveforms] == [(5, 4), (2, 2)]
    assert [index.clips for index in checked.indexes] == [6]


def test_a_workspace_of_2019_is_clean(tmp_path, write_waveforms, write_published_index):
    root = tmp_path / "W" / "hdf5s"
    file = write_waveforms(root / "waveforms" / "eval.h5", NAMES, dtype=np.float32, rate=None)
    write_published_index(root / "targets" / "eval.h5", [file], old=True)
    checked = check(tmp_path / "W")
    assert faults(checked) == [] and checked.waveforms[0].encoding == "float32" and checked.indexes[0].clips == 4


def test_the_command_tells_each_finding_in_a_line_and_its_exit_code_whether_there_is_any(
    workspace, change, run_task, tmp_path
):
    done = run_task("check", workspace, "--workers", 0)
    assert done.returncode == 0 and done.stdout.splitlines()[-1].endswith("; no faults")
    change("waveforms/balanced_train.h5", "waveform", (2, 0))
    done = run_task("check", workspace, "--workers", 0, "--json", tmp_path / "found.json")
    assert done.returncode == 1
    first, *_, last = done.stdout.splitlines()
    assert first.partition("balanced_train.h5: ")[2].startswith("silent clips: 1 (Yb.wav); listen to their sound files")
    assert last == "2 waveforms files with 6 clips and 1 index files can be read, all waveforms read; 1 fault"
    written = json.loads((tmp_path / "found.json").read_text())
    assert [finding["kind"] for finding in written["findings"]] == ["silent", "empty rows"]
    assert written["findings"][0]["clips"] == ["Yb.wav"] and written["waveforms"][1]["sample_rate"] == 32000


def test_a_quick_check_reads_no_waveforms(workspace, change, run_task):
    change("waveforms/balanced_train.h5", "waveform", (2, 0))
    assert run_task("check", workspace, "--quick", "--workers", 0).returncode == 0


def test_folders_behind_links_are_checked_each_once(workspace, tmp_path):
    inside = workspace / "hdf5s" / "waveforms" / "unbalanced_train"
    moved = inside.rename(tmp_path / "large disk")
    inside.symlink_to(moved)
    (moved / "around").symlink_to(inside.parent)
    assert faults(check(workspace)) == []
    (moved / ".other.h5.abc.part").write_bytes(b"half")
    part = moved / "unbalanced_train_part00.h5"
    part.write_bytes(part.read_bytes()[:100])
    assert [kind for _, kind, _ in faults(check(workspace))] == ["unreadable", "unreadable file", "left over"]


def test_a_folder_that_may_not_be_looked_into_is_a_fault(workspace, monkeypatch):
    closed = workspace / "hdf5s" / "waveforms"

    def scandir(path, scandir=os.scandir):
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scandir)
    checked = check(workspace)
    assert ("waveforms", "unreadable", 0) in faults(checked)
    assert f"{closed}: cannot be looked into: Permission denied" in "\n".join(map(str, checked.findings))


@pytest.mark.skipif(sys.platform != "linux", reason="file systems where names are text")
def test_a_workspace_may_have_a_name_that_is_no_text(workspace, tmp_path, run_task):
    moved = workspace.rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    done = run_task("check", moved, "--workers", 0, "--json", tmp_path / "found.json")
    assert done.returncode == 0 and R"caf\udce9/hdf5s" in done.stdout
    written = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert written["waveforms"][0]["path"] == str(moved / "hdf5s" / "waveforms" / "balanced_train.h5")


@pytest.mark.parametrize("folder", ["nowhere", ".", "empty"])
def test_where_there_is_no_workspace_a_sentence_says_so(tmp_path, run_task, folder):
    (tmp_path / "empty" / "hdf5s" / "waveforms").mkdir(parents=True)
    done = run_task("check", tmp_path / folder)
    assert done.returncode == 2 and "is no workspace" in done.stderr and len(done.stderr.splitlines()) == 1


def test_clips_without_labels_and_names_twice_are_found(workspace, change):
    change("waveforms/balanced_train.h5", "target", (0, False))
    change("waveforms/balanced_train.h5", "audio_name", (3, b"Yd.wav"))
    assert faults(check(workspace, quick=True)) == [
        ("balanced_train.h5", "repeated", 1),
        ("balanced_train.h5", "no labels", 1),
        ("full_train.h5", "wrong row", 1),
        ("full_train.h5", "wrong labels", 1),
    ]


def test_rows_that_lost_their_name_are_found(workspace, change):
    change("waveforms/balanced_train.h5", "audio_name", (3, b""))
    assert faults(check(workspace)) == [
        ("balanced_train.h5", "no name", 1),  # labels
        ("balanced_train.h5", "no name", 1),  # sound
        ("full_train.h5", "wrong row", 1),
    ]


def test_no_numbers_among_floats_are_found(tmp_path, write_waveforms):
    path = write_waveforms(tmp_path / "W" / "hdf5s" / "waveforms" / "x.h5", NAMES, dtype=np.float32)
    with h5py.File(path, "r+") as file:
        waveform = file["waveform"]
        assert isinstance(waveform, h5py.Dataset)
        waveform[2, 5], waveform[3, 7] = np.nan, np.inf
    assert faults(check(tmp_path / "W")) == [("x.h5", "not finite", 2)]


@pytest.mark.parametrize("length", [0, 100, 2000, 4000, 6000])
def test_a_truncated_file_is_found_and_stops_nothing(workspace, length):
    path = workspace / "hdf5s" / "waveforms" / "balanced_train.h5"
    path.write_bytes(path.read_bytes()[:length])
    checked = check(workspace)
    assert faults(checked) == [("balanced_train.h5", "unreadable", 0), ("full_train.h5", "unreadable file", 4)]
    assert "copy it again" in str(checked.findings[0])
    assert [file.path.name for file in checked.waveforms] == ["unbalanced_train_part00.h5"]


def test_a_truncated_index_is_found(workspace):
    path = workspace / "hdf5s" / "indexes" / "full_train.h5"
    path.write_bytes(path.read_bytes()[:3000])
    assert faults(check(workspace)) == [("full_train.h5", "unreadable", 0)]


def test_an_index_that_points_nowhere_is_found(workspace, change):
    change("indexes/full_train.h5", "index_in_hdf5", (2, 77), (3, -1))
    (workspace / "hdf5s" / "waveforms" / "unbalanced_train" / "unbalanced_train_part00.h5").unlink()
    checked = check(workspace)
    assert faults(checked) == [("full_train.h5", "beyond the end", 2), ("full_train.h5", "missing file", 2)]
    assert "copy the file there, or make the index anew" in str(checked.findings[-1])


def test_other_labels_in_the_index_are_found(workspace, change):
    change("indexes/full_train.h5", "target", ((0, 500), True), ((6, 10), False))
    checked = check(workspace, quick=True)
    found = [(finding.kind, finding.clips) for finding in checked.findings if not finding.is_note]
    assert found == [("no labels", ("Yf.wav",)), ("wrong labels", ("Ya.wav",)), ("wrong labels", ("Yf.wav",))]


def test_a_clip_that_an_index_lists_twice_is_found(workspace, write_published_index):
    file = workspace / "hdf5s" / "waveforms" / "balanced_train.h5"
    write_published_index(workspace / "hdf5s" / "indexes" / "twice.h5", [file, file])
    assert faults(check(workspace)) == [("twice.h5", "repeated", 4)]


def test_files_unlike_the_others_are_found(workspace, write_waveforms):
    write_waveforms(workspace / "hdf5s" / "waveforms" / "slow.h5", ["Yg.wav"], rate=16000, samples=320, first=20)
    write_waveforms(workspace / "hdf5s" / "waveforms" / "short.h5", ["Yh.wav"], samples=320, first=21)
    checked = check(workspace)
    assert faults(checked) == [("short.h5", "length", 0), ("slow.h5", "sample rate", 0)]
    told = [str(finding) for finding in checked.findings if not finding.is_note]
    assert told[0].endswith("--clip-seconds 0.02") and told[1].endswith("--sample-rate 32000")


def test_a_rate_that_is_no_number_is_found(workspace):
    with h5py.File(workspace / "hdf5s" / "waveforms" / "balanced_train.h5", "r+") as file:
        file.attrs["sample_rate"] = -5
    assert faults(check(workspace, quick=True))[0] == ("balanced_train.h5", "unreadable", 0)


def test_files_in_each_others_place_are_found(workspace):
    folder = workspace / "hdf5s"
    shutil.copy(folder / "indexes" / "full_train.h5", folder / "waveforms" / "index.h5")
    shutil.copy(folder / "waveforms" / "balanced_train.h5", folder / "indexes" / "waveforms.h5")
    checked = check(workspace)
    assert faults(checked) == [("index.h5", "unreadable", 0), ("waveforms.h5", "unreadable", 0)]
    told = [str(finding) for finding in checked.findings if not finding.is_note]
    assert "is an index file" in told[0] and "is a waveforms file" in told[1]


def test_waveforms_that_no_index_lists_are_a_note(workspace, write_waveforms):
    write_waveforms(workspace / "hdf5s" / "waveforms" / "new.h5", ["Yn.wav"], first=30)
    notes = [(note.path.name, note.kind) for note in check(workspace).findings if note.is_note]
    assert ("new.h5", "unlisted") in notes and len(notes) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks of files")
def test_what_a_killed_writer_left_is_found_and_what_one_is_at_is_not(workspace):
    folder = workspace / "hdf5s" / "waveforms"
    (folder / ".other.h5.abc.part").write_bytes(b"half")
    with written_aside(folder / "eval.h5") as aside:
        assert aside.exists()
        assert faults(check(workspace)) == [(".other.h5.abc.part", "left over", 0)]


@pytest.fixture
def flac_workspace(tmp_path) -> Path:
    """Twelve clips in FLAC, of which two are damaged and one is silent."""
    folder = tmp_path / "W" / "hdf5s" / "waveforms"
    folder.mkdir(parents=True)
    rows_format = RowFormat(32000, 4000, "flac")
    with h5py.File(folder / "x.h5", "w") as file:
        writer = rows_format.writer(file)
        for number in range(12):
            row = np.random.default_rng(number).integers(-9, 9, 4000).astype(np.int16)
            encoded = rows_format.encode(row * np.int16(number != 4))
            assert isinstance(encoded, bytes)
            writer.append(encoded[:900] + bytes([encoded[900] ^ 255]) + encoded[901:] if number in (5, 7) else encoded)
        writer.finish()
        file["audio_name"] = np.array([f"Y{number}.wav".encode() for number in range(12)], "S20")
        file["target"] = np.eye(12, 527, dtype=bool)
    return tmp_path / "W"


def test_undecodable_rows_of_flac_are_found(flac_workspace):
    checked = check(flac_workspace)
    assert faults(checked) == [("x.h5", "silent", 1), ("x.h5", "undecodable", 2)]
    assert [finding.clips for finding in checked.findings if finding.kind == "undecodable"] == [("Y5.wav", "Y7.wav")]
    assert faults(check(flac_workspace, quick=True)) == []


def test_a_damaged_byte_anywhere_stops_no_check(workspace):
    path = workspace / "hdf5s" / "waveforms" / "balanced_train.h5"
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(25):
        content = bytearray(whole)
        for place in random.integers(0, 3000, 8):
            content[place] = random.integers(256)
        path.write_bytes(content)
        assert [file.path.name for file in check(workspace).waveforms][-1] == "unbalanced_train_part00.h5"


def _dies_at_three(number: int) -> int:
    if number == 3:
        os._exit(7)
    return number + 100


@pytest.mark.slow
def test_an_item_at_which_the_process_dies_fails_alone():
    outcomes = list(_outcomes(_dies_at_three, range(8), 2, "dying", "items"))
    assert [outcome.item for outcome in outcomes] == list(range(8))
    assert [outcome.result for outcome in outcomes] == [100, 101, 102, None, 104, 105, 106, 107]
    assert "ended with exit code 7" in (outcomes[3].failure or "")
