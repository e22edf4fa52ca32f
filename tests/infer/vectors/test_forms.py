"""What is written in each form is read back, whole and a part at a time."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from panns_jax.errors import InputError
from panns_jax.infer.vectors import open_vectors, read_vectors
from panns_jax.infer.vectors import table as table_module
from panns_jax.infer.vectors.table import Tap, form_of, offsets_of
from panns_jax.infer.vectors.writing import write_vectors

OUTS = ("vectors.h5", "vectors.npz", "vectors.parquet", "vectors")


@dataclasses.dataclass
class Held:
    """A table in memory."""

    names: list[str]
    start: Any
    end: Any
    taps: dict[str, Tap]
    attributes: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def read(self, tap: str, first: int, end: int) -> np.ndarray:
        steps = self.taps[tap].steps
        offsets = np.arange(len(self.names) + 1) if steps is None else offsets_of(steps)
        return self.arrays[tap][offsets[first] : offsets[end]]


def made(dtype: str = "float32", *, windows: bool = False, rows: int = 7) -> Held:
    random = np.random.default_rng(0)
    names = [f"/sounds/{row // 2}/ä {row}.wav" for row in range(rows)]
    start = end = None
    if windows:  # files of two windows, and one last of a single one
        names = [f"/sounds/{row // 2}.wav" for row in range(rows)]
        start = np.arange(rows) % 2 * 1.5
        end = start + 2.25
    steps = random.integers(0, 5, rows)
    arrays = {
        "embedding": random.normal(size=(rows, 3)).astype(dtype),
        "frames": random.normal(size=(int(steps.sum()), 4)).astype(dtype),
    }
    taps = {"embedding": Tap(np.dtype(dtype), 3), "frames": Tap(np.dtype(dtype), 4, steps)}
    return Held(names, start, end, taps, {"model": "Cnn14", "sample_rate": 32000, "step": 0.32}, arrays)


def skip_without_library(out: str) -> None:
    if out.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="needs the package pyarrow")


@pytest.mark.parametrize("windows", [False, True], ids=["clips", "windows"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("out", OUTS)
def test_what_is_written_is_read_back(out: str, dtype: str, windows: bool, tmp_path: Path, monkeypatch: Any):
    skip_without_library(out)
    monkeypatch.setattr(table_module, "_CHUNK", 20)  # bytes: each is written in many parts
    held = made(dtype, windows=windows)
    write_vectors(held, tmp_path / out)
    vectors = read_vectors(tmp_path / out)
    assert vectors.names == held.names
    assert vectors.attributes == held.attributes
    assert set(vectors.arrays) == {"embedding", "frames"}
    for tap, array in held.arrays.items():
        assert vectors.arrays[tap].dtype == dtype
        np.testing.assert_array_equal(vectors.arrays[tap], array)
    steps = held.taps["frames"].steps
    assert steps is not None
    np.testing.assert_array_equal(vectors.offsets["frames"], offsets_of(steps))
    if windows:
        np.testing.assert_array_equal(vectors.start, held.start)
        np.testing.assert_array_equal(vectors.end, held.end)
    else:
        assert vectors.start is vectors.end is None
    with open_vectors(tmp_path / out) as table:
        for first in range(8):
            for end in range(first, 8):
                for tap in held.taps:
                    np.testing.assert_array_equal(table.read(tap, first, end), held.read(tap, first, end))


@pytest.mark.parametrize("out", ["vectors.h5", "vectors.npz", "vectors.parquet"])
def test_the_same_vectors_give_the_same_bytes(out: str, tmp_path: Path):
    skip_without_library(out)
    written = []
    for _ in range(2):
        write_vectors(made(), tmp_path / out)
        written.append((tmp_path / out).read_bytes())
    assert written[0] == written[1]


def test_numpy_reads_npz_and_h5py_reads_hdf5(tmp_path: Path):
    held = made()
    write_vectors(held, tmp_path / "v.npz")
    with np.load(tmp_path / "v.npz") as arrays:
        assert set(arrays) == {"name", "attributes", "embedding", "frames", "frames_offset"}
        assert arrays["name"].tolist() == held.names
        assert json.loads(str(arrays["attributes"])) == held.attributes
        np.testing.assert_array_equal(arrays["embedding"], held.arrays["embedding"])
    write_vectors(held, tmp_path / "v.h5")
    with h5py.File(tmp_path / "v.h5") as file:
        opened: Any = file
        assert set(opened) == {"name", "embedding", "frames", "frames_offset"}
        assert dict(opened.attrs) == held.attributes
        assert opened["name"].asstr()[:].tolist() == held.names


def test_pyarrow_reads_parquet(tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the package pyarrow")
    held = made("float16", windows=True)
    write_vectors(held, tmp_path / "v.parquet")
    table = parquet.read_table(tmp_path / "v.parquet")
    assert table.column_names == ["name", "start", "end", "embedding", "frames", "frames_steps"]
    rows = table.to_pylist()
    assert [row["name"] for row in rows] == held.names
    np.testing.assert_array_equal([row["embedding"] for row in rows], held.arrays["embedding"])
    np.testing.assert_array_equal(np.array(rows[3]["frames"]).reshape(-1, 4), held.read("frames", 3, 4))


def test_a_folder_has_a_file_for_each_sound_where_it_lies_beneath_the_others(tmp_path: Path):
    names = ["/sounds/a/x.wav", "/sounds/b/x.wav", "/sounds/b/X.wav", "/sounds/b/" + "n" * 250, "/sounds/a/x.wav"]
    held = dataclasses.replace(made(rows=5), names=names)
    write_vectors(held, tmp_path / "v")
    files = sorted(
        path.relative_to(tmp_path / "v").as_posix() for path in (tmp_path / "v" / "embedding").rglob("*.npy")
    )
    assert files == [
        "embedding/a/x.wav.npy",
        "embedding/a/x.wav~4.npy",
        "embedding/b/X.wav~2.npy",
        f"embedding/b/{'n' * 25}~3.npy",
        "embedding/b/x.wav.npy",
    ]
    np.testing.assert_array_equal(np.load(tmp_path / "v/embedding/b/x.wav.npy"), held.arrays["embedding"][1])
    np.testing.assert_array_equal(np.load(tmp_path / "v/frames/b/x.wav.npy"), held.read("frames", 1, 2))
    assert read_vectors(tmp_path / "v").names == names


@pytest.mark.parametrize("out", OUTS)
def test_names_that_are_no_text_are_kept_or_shown(out: str, tmp_path: Path):
    skip_without_library(out)
    odd = '/sounds/\udcff\nb, "c".wav'  # as Python has the byte 255, which is no UTF-8
    held = dataclasses.replace(made(rows=1), names=[odd])
    write_vectors(held, tmp_path / out)
    shown = odd.replace("\udcff", "\\udcff") if out.endswith(".parquet") else odd
    assert read_vectors(tmp_path / out).names == [shown]


@pytest.mark.parametrize("out", OUTS)
def test_what_is_no_file_of_vectors_is_told(out: str, tmp_path: Path):
    skip_without_library(out)
    with pytest.raises(InputError, match=out):
        read_vectors(tmp_path / out)
    if out == "vectors":
        (tmp_path / out).mkdir()
    else:
        (tmp_path / out).write_bytes(b"something else")
    with pytest.raises(InputError, match=out):
        read_vectors(tmp_path / out)


@pytest.mark.parametrize("out", OUTS)
def test_a_damaged_file_is_told(out: str, tmp_path: Path):
    skip_without_library(out)
    write_vectors(made(), tmp_path / out)
    if out == "vectors":
        (tmp_path / out / "index.csv").write_text("name\nx\n")
    else:
        data = (tmp_path / out).read_bytes()
        (tmp_path / out).write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=out):
        read_vectors(tmp_path / out)


def test_a_tap_that_is_not_there_is_told_with_those_that_are(tmp_path: Path):
    write_vectors(made(), tmp_path / "v.h5")
    with pytest.raises(InputError, match="has no 'logits', only embedding, frames"):
        read_vectors(tmp_path / "v.h5", ["logits"])
    assert set(read_vectors(tmp_path / "v.h5", ["frames"]).arrays) == {"frames"}


def test_a_folder_of_other_files_is_not_replaced(tmp_path: Path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files than vectors"):
        write_vectors(made(), tmp_path / "v")
    assert [path.name for path in tmp_path.rglob("*")] == ["v", "mine.txt"]


def test_a_full_disk_leaves_nothing(tmp_path: Path, full_disk: Any):
    for out in OUTS:
        skip_without_library(out)
        held = made(rows=3)
        held.arrays["embedding"] = np.random.default_rng(0).random((3, 50_000), np.float32)
        held.taps["embedding"] = Tap(np.dtype("float32"), 50_000)
        with pytest.raises(InputError, match=f"cannot write .*{out}.*File too large"), full_disk(100_000):
            write_vectors(held, tmp_path / out)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("out", "form"), [("a.H5", "h5"), ("a.hdf5", "h5"), ("b.npz", "npz"), ("c", "folder")])
def test_the_name_tells_the_form(out: str, form: str):
    assert form_of(Path(out)) == form


def test_a_name_of_no_form_is_refused():
    with pytest.raises(InputError, match=r"must end in \.h5, \.hdf5, \.npz or \.parquet, or be a folder"):
        form_of(Path("vectors.npy"))
