"""Index files: reading the published layouts, and `panns-jax index`."""

import functools
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from panns_jax.data.index import Index, read_index
from panns_jax.data.targets import Targets
from panns_jax.errors import InputError

NAMES = ["Y-a.wav", None, "Yb.wav", "Yc.wav", None]


@pytest.fixture
def run_index(run_task) -> Callable[..., Any]:
    return functools.partial(run_task, "index")


def test_an_index_lists_the_clips_of_a_waveforms_file_without_empty_rows(
    tmp_path, write_waveforms, read_hdf5, run_index
):
    waveforms = write_waveforms(tmp_path / "waveforms" / "x.h5", NAMES)
    done = run_index(waveforms, "--out", tmp_path / "indexes" / "x.h5")
    assert (done.returncode, done.stdout) == (0, f"3 clips of 527 classes listed in {tmp_path}/indexes/x.h5\n")
    content = read_hdf5(tmp_path / "indexes" / "x.h5")
    assert {name: values.dtype.str for name, values in content.items()} == {
        "audio_name": "|S20",
        "target": "|b1",
        "hdf5_path": "|S200",
        "index_in_hdf5": "<i4",
    }
    assert content["audio_name"].tolist() == [b"Y-a.wav", b"Yb.wav", b"Yc.wav"]
    assert content["index_in_hdf5"].tolist() == [0, 2, 3]
    assert content["target"].nonzero()[1].tolist() == [0, 2, 3]
    assert set(content["hdf5_path"]) == {str(waveforms).encode()}


def test_indexes_are_combined_one_after_another(tmp_path, write_waveforms, run_index):
    waveforms = [write_waveforms(tmp_path / f"w{n}.h5", [f"Yc{n}{i}.wav" for i in range(4)], first=n) for n in range(3)]
    for number, path in enumerate(waveforms):
        assert run_index(path, "--out", tmp_path / f"i{number}.h5").returncode == 0
    done = run_index("--combine", *(tmp_path / f"i{n}.h5" for n in (1, 0, 2)), "--out", tmp_path / "full_train.h5")
    assert done.returncode == 0, done.stderr
    index = read_index(tmp_path / "full_train.h5")
    assert index.audio_name.tolist() == [f"Yc{n}{i}.wav".encode() for n in (1, 0, 2) for i in range(4)]
    assert [index.files[number] for number in index.file_number] == [waveforms[n] for n in (1, 0, 2) for _ in range(4)]
    assert index.index_in_hdf5.tolist() == [0, 1, 2, 3] * 3
    assert index.target.nonzero()[1].tolist() == [n + i for n in (1, 0, 2) for i in range(4)]


def test_the_published_layout_is_read_and_its_empty_rows_skipped(tmp_path, write_waveforms, write_published_index):
    waveforms = [write_waveforms(tmp_path / f"{n}.h5", NAMES, first=10 * n) for n in range(2)]
    index = read_index(write_published_index(tmp_path / "full_train.h5", waveforms))
    assert index.audio_name.tolist() == [b"Y-a.wav", b"Yb.wav", b"Yc.wav"] * 2
    assert index.files == tuple(waveforms) and index.file_number.tolist() == [0, 0, 0, 1, 1, 1]
    assert index.index_in_hdf5.tolist() == [0, 2, 3] * 2
    assert index.target.nonzero()[1].tolist() == [0, 2, 3, 10, 12, 13]
    assert len(index) == 6 and "6 clips in 2 files" in repr(index)


def test_the_layout_of_2019_is_read_and_its_bare_names_found(tmp_path, write_waveforms, write_published_index):
    folder = tmp_path / "hdf5s" / "waveforms"
    waveforms = [
        write_waveforms(folder / "balanced_train.h5", NAMES, dtype=np.float32),
        write_waveforms(folder / "unbalanced_train" / "unbalanced_train_part00.h5", NAMES, dtype=np.float32, first=9),
    ]
    index = read_index(write_published_index(tmp_path / "hdf5s" / "targets" / "full_train.h5", waveforms, old=True))
    assert index.files == tuple(waveforms)
    assert index.index_in_hdf5.tolist() == [0, 2, 3] * 2


def test_the_layout_of_2019_can_be_combined_into_todays(tmp_path, write_waveforms, write_published_index, run_index):
    waveforms = write_waveforms(tmp_path / "hdf5s" / "waveforms" / "eval.h5", NAMES)
    old = write_published_index(tmp_path / "hdf5s" / "targets" / "eval.h5", [waveforms], old=True)
    assert run_index("--combine", old, "--out", tmp_path / "new.h5").returncode == 0
    assert read_index(tmp_path / "new.h5").files == (waveforms,)


def test_waveforms_are_found_where_the_index_says_first(tmp_path, write_waveforms, write_published_index):
    here = write_waveforms(tmp_path / "elsewhere" / "hdf5s" / "waveforms" / "x.h5", NAMES)
    write_waveforms(tmp_path / "hdf5s" / "waveforms" / "x.h5", NAMES)
    index = write_published_index(tmp_path / "hdf5s" / "indexes" / "x.h5", [here])
    assert read_index(index).files == (here,)


@pytest.mark.parametrize(
    "stored",
    [
        "/home/them/workspaces/audioset/hdf5s/waveforms/unbalanced_train/x.h5",
        "C:\\them\\audioset\\hdf5s\\waveforms\\unbalanced_train\\x.h5",
        "workspaces/audioset/hdf5s/waveforms/unbalanced_train/x.h5",
        "hdf5s/waveforms/unbalanced_train/x.h5",
    ],
)
def test_a_moved_workspace_finds_its_own_waveforms(tmp_path, write_waveforms, write_published_index, stored):
    waveforms = write_waveforms(tmp_path / "W" / "hdf5s" / "waveforms" / "unbalanced_train" / "x.h5", NAMES)
    path = tmp_path / "W" / "hdf5s" / "indexes" / "unbalanced_train" / "x.h5"
    index = read_index(write_published_index(path, [waveforms], stored=[stored]))
    assert index.files == (waveforms,)


def test_an_index_made_with_relative_paths_works_from_any_folder(tmp_path, write_waveforms, monkeypatch, run_index):
    waveforms = write_waveforms(tmp_path / "data" / "x.h5", NAMES)
    monkeypatch.chdir(tmp_path)
    assert run_index("data/x.h5", "--out", "lists/x.h5").returncode == 0
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert read_index("../lists/x.h5").files[0].samefile(waveforms)


def test_long_names_and_paths_widen_their_columns(tmp_path, write_waveforms, read_hdf5, run_index):
    folder = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 8)
    waveforms = write_waveforms(folder / "x.h5", NAMES)
    with h5py.File(waveforms, "r+") as file:
        del file["audio_name"]
        file["audio_name"] = np.array([b"Y" + b"x" * 40, b"", b"b", b"c", b""])
    assert run_index(waveforms, "--out", tmp_path / "i.h5").returncode == 0
    content = read_hdf5(tmp_path / "i.h5")
    assert len(content["hdf5_path"][0]) > 200
    index = read_index(tmp_path / "i.h5")
    assert index.files == (waveforms,) and index.audio_name[0] == b"Y" + b"x" * 40


def test_listed_finds_the_clips_of_a_black_list(tmp_path, write_waveforms, write_published_index):
    index = read_index(write_published_index(tmp_path / "i.h5", [write_waveforms(tmp_path / "x.h5", NAMES)]))
    assert index.listed(["c", "-a", "of-another-set"]).tolist() == [True, False, True]
    assert not index.listed([]).any()


def _truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _text(path: Path) -> None:
    path.write_text("no HDF5 at all\n" * 100)


def _foreign(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["something"] = np.zeros(3)


def _garbled(path: Path) -> None:
    path.write_bytes(
        path.read_bytes().replace(b"audio_name\0", b"audio_nam\xff\0").replace(b"target\0", b"targe\xfe\0")
    )


def _uneven(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["index_in_hdf5"]
        file["index_in_hdf5"] = np.zeros(2, np.int32)


def _wrong_type(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["target"]
        file["target"] = np.zeros(5)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncated, "cannot be read as HDF5: .*truncated"),
        (_text, "cannot be read as HDF5: file signature not found"),
        (_foreign, "has no data set 'audio_name'; it holds something"),
        (_garbled, "has no data set 'audio_name'; it holds audio_nam"),  # names of one set and another that are no text
        (_uneven, "columns are of different lengths"),
        (_wrong_type, "'target' is float64"),
        (Path.unlink, "there is no such file"),
        (lambda path: (path.unlink(), path.mkdir()), "is a folder, not an HDF5 file"),
    ],
)
def test_a_file_that_is_no_index_is_named(tmp_path, write_waveforms, write_published_index, damage, message):
    path = write_published_index(tmp_path / "i.h5", [write_waveforms(tmp_path / "x.h5", NAMES)])
    damage(path)
    with pytest.raises(InputError, match=message) as error:
        read_index(path)
    assert str(error.value).startswith(f"{path}: ")


def test_the_command_refuses_what_it_cannot_list(tmp_path, write_waveforms, write_published_index, run_index):
    waveforms = write_waveforms(tmp_path / "x.h5", NAMES)
    index = write_published_index(tmp_path / "i.h5", [waveforms])
    empty = write_waveforms(tmp_path / "empty.h5", [None, None])
    before = sorted(tmp_path.iterdir())
    for arguments, message in [
        ([index], "is an index file; --combine lists the clips of index files"),
        (["--combine", waveforms], "is a waveforms file; panns-jax index makes an index file of it"),
        ([empty], "no clips, only empty rows"),
        ([tmp_path / "missing.h5"], "there is no such file"),
        ([], "name the waveforms files"),
    ]:
        done = run_index(*arguments, "--out", tmp_path / "new.h5")
        assert done.returncode == 2 and message in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


def test_the_command_does_not_write_over_what_it_lists(tmp_path, write_waveforms, run_index):
    waveforms = write_waveforms(tmp_path / "x.h5", NAMES)
    before = waveforms.read_bytes()
    done = run_index(waveforms, "--out", tmp_path / "." / "x.h5")
    assert done.returncode == 2 and "is one of the files to list" in done.stderr
    assert waveforms.read_bytes() == before


def test_what_is_listed_does_not_replace_a_file_of_another_kind(tmp_path, write_waveforms, run_index):
    (tmp_path / "eval_segments.csv").write_text("a, 0, 10\n")
    done = run_index(write_waveforms(tmp_path / "x.h5", NAMES), "--out", tmp_path / "eval_segments.csv")
    assert done.returncode == 2 and "--out must end in .h5 or .hdf5, got 'eval_segments.csv'" in done.stderr
    assert (tmp_path / "eval_segments.csv").read_text() == "a, 0, 10\n"


def test_indexes_of_different_classes_are_not_combined(tmp_path, write_waveforms, write_published_index, run_index):
    first = write_published_index(tmp_path / "a.h5", [write_waveforms(tmp_path / "x.h5", NAMES)])
    second = tmp_path / "b.h5"
    second.write_bytes(first.read_bytes())
    with h5py.File(second, "r+") as file:
        del file["target"]
        file["target"] = np.zeros((5, 10), bool)
    done = run_index("--combine", first, second, "--out", tmp_path / "c.h5")
    assert done.returncode == 2 and "has 527 classes" in done.stderr and "has 10 classes" in done.stderr


def test_a_clip_is_never_listed_twice(tmp_path, write_waveforms, run_index):
    x, y = (write_waveforms(tmp_path / name, NAMES) for name in ("x.h5", "y.h5"))
    for name, files in {"x": [x], "y": [y], "both": [x, y]}.items():
        assert run_index(*files, "--out", tmp_path / f"{name}-index.h5").returncode == 0
    one, other, both = (tmp_path / f"{name}-index.h5" for name in ("x", "y", "both"))
    for arguments, told in [
        ([x, tmp_path / "." / "x.h5"], f"Y-a.wav is listed by {x} twice"),
        (["--combine", one, other, one], f"Y-a.wav is listed by {one} twice"),
        (["--combine", one, both], f"Y-a.wav is listed by both {one} and {both}"),
    ]:
        done = run_index(*arguments, "--out", tmp_path / "new.h5")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert f"{told}; name each file once" in done.stderr
    assert not (tmp_path / "new.h5").exists()


MATRICES = hnp.arrays(bool, st.tuples(st.integers(0, 12), st.integers(1, 7)))


@given(MATRICES, st.data())
def test_lists_of_targets_hold_what_the_matrix_held(dense, data):
    targets = Targets.from_slabs((dense[i : i + 5] for i in range(0, len(dense), 5)), dense.shape[1])
    np.testing.assert_array_equal(targets.dense(), dense)
    if len(dense):
        clips = np.array(data.draw(st.lists(st.integers(0, len(dense) - 1))), np.int64)
        np.testing.assert_array_equal(targets.take(clips).dense(), dense[clips])
        np.testing.assert_array_equal(targets.dense(clips), dense[clips])
        part = slice(*sorted(data.draw(st.tuples(st.integers(0, 14), st.integers(0, 14)))))
        np.testing.assert_array_equal(targets.dense(part), dense[part])
    np.testing.assert_array_equal(Targets.concatenate([targets, targets]).dense(), np.concatenate([dense, dense]))
    clips, starts = targets.by_class()
    assert [clips[a:b].tolist() for a, b in itertools.pairwise(starts)] == [
        np.flatnonzero(column).tolist() for column in dense.T
    ]


def test_an_index_never_replaces_a_waveforms_file(tmp_path):
    for name in ("one.h5", "other.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["waveform"] = np.zeros((1, 8), np.int16)
            file["audio_name"] = np.array([b"Ya.wav"], "S20")
            file["target"] = np.zeros((1, 3), bool)
    before = (tmp_path / "other.h5").read_bytes()
    with pytest.raises(InputError, match="is a waveforms file, which an index must not replace"):
        Index(files=(tmp_path / "one.h5",), out=tmp_path / "other.h5").run()
    assert (tmp_path / "other.h5").read_bytes() == before
