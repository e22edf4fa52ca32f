"""`panns-jax embed` on real files, through the real command."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import recipe
import soundfile


def opened(path: Path) -> Any:
    return h5py.File(path)


@pytest.fixture
def sounds(tmp_path: Path) -> list[Path]:
    files = [tmp_path / name for name in ("b.wav", "ä 鳥.flac", "a.ogg")]
    for seed, (file, rate) in enumerate(zip(files, (32000, 8000, 44100), strict=True)):
        soundfile.write(file, recipe.waveform(1, rate, rate, seed)[0], rate)
    return files


def test_embeddings_are_the_models_in_the_order_of_the_files(
    main: Any, by_hand: Any, checkpoint: Path, sounds: list[Path], tmp_path: Path
):
    out = tmp_path / "vectors.h5"
    done = main("embed", *sounds, "--out", out, "--checkpoint", checkpoint)
    assert (done.returncode, done.stdout) == (0, f"3 of 3 files are in {out}\n")
    assert sorted(path.name for path in tmp_path.glob("vectors*")) == ["vectors.h5", "vectors.h5.journal.jsonl"]
    with opened(out) as file:
        assert set(file) == {"name", "embedding"}
        assert [name.decode() for name in file["name"][:]] == [str(path) for path in sounds]
        assert tuple(h5py.check_string_dtype(file["name"].dtype)) == ("utf-8", None)
        vectors = file["embedding"]
        assert (vectors.shape, vectors.dtype) == ((3, 128), np.float32)
        for path, vector in zip(sounds, vectors[:], strict=True):
            np.testing.assert_allclose(vector, by_hand(path).embedding, atol=1e-4)
        told = dict(file.attrs)
        assert {name: told.pop(name) for name in ("panns_jax", "jax", "list_sha256")}.keys()
        assert told == {
            "model": "DemoCnn",
            "checkpoint": checkpoint.name,
            "checkpoint_sha256": "0" * 64,
            "sample_rate": 32000,
            "tap": "embedding",
            "dtype": "float32",
            "precision": "float32",
            "files": 3,
            "failed": 0,
            "list_files": 3,
        }


def test_files_that_fail_have_no_row_and_are_named(main: Any, checkpoint: Path, sounds: list[Path], tmp_path: Path):
    out = tmp_path / "vectors.hdf5"
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no sound")
    done = main("embed", sounds[0], bad, sounds[1], "--out", out, "--checkpoint", checkpoint)
    assert done.returncode == 1
    assert "left out 1 of 3 files:" in done.stderr
    assert f"  {bad}: " in done.stderr
    with opened(out) as file:
        assert [name.decode() for name in file["name"][:]] == [str(sounds[0]), str(sounds[1])]
        assert file["embedding"].shape == (2, 128)
        assert np.abs(file["embedding"][:]).max(axis=1).min() > 0


def test_nothing_is_left_behind_where_every_file_fails(main: Any, checkpoint: Path, tmp_path: Path):
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    (tmp_path / "vectors.h5").write_bytes(b"of before")
    before = sorted(tmp_path.iterdir())
    for files in ([tmp_path / "bad.wav"], [tmp_path / "bad.wav", tmp_path / "missing.wav"]):
        done = main("embed", *files, "--out", tmp_path / "vectors.h5", "--checkpoint", checkpoint)
        assert done.returncode == 2
        assert "bad.wav: cannot be read as sound" in done.stderr
        assert "Traceback" not in done.stderr
        assert sorted(tmp_path.iterdir()) == before
        assert (tmp_path / "vectors.h5").read_bytes() == b"of before"


def test_what_was_there_is_replaced(main: Any, checkpoint: Path, sounds: list[Path], tmp_path: Path):
    out = tmp_path / "vectors.h5"
    out.write_bytes(b"of before")
    assert main("embed", sounds[0], "--out", out, "--checkpoint", checkpoint).returncode == 0
    with opened(out) as file:
        assert file["embedding"].shape == (1, 128)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("vectors.npy", "vectors.npy must end in .h5, .hdf5, .npz or .parquet, or be a folder"),
        ("folder", "folder holds other files than vectors"),
        ("nowhere/vectors", "the folder nowhere does not exist"),
        ("nowhere/vectors.h5", "the folder nowhere does not exist"),
        ("folder.h5", "folder.h5 is a folder"),
    ],
)
def test_an_output_that_cannot_be_written_is_named_before_anything_is_loaded(
    out: str, message: str, main: Any, sounds: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "folder.h5").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").touch()
    # There is no such checkpoint either, but that would be found out later.
    monkeypatch.chdir(tmp_path)
    done = main("embed", sounds[0], "--out", out, "--checkpoint", "nowhere.pth")
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
