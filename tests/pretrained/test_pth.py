"""Reading sound `.pth` files of both formats."""

import collections
import pickle
from pathlib import Path

import numpy as np
import pytest
from pth_writer import (
    DTYPES,
    WRITERS,
    Name,
    Part,
    Storage,
    archive_bytes,
    parameter,
    pickled,
    state_dict,
    stream_bytes,
    tensor,
    view,
    zip_bytes,
)

from panns_jax.errors import InputError
from panns_jax.pretrained.pth import read_pth, read_state_dict

both_formats = pytest.mark.parametrize("kind", WRITERS)


@pytest.fixture
def saved(tmp_path: Path):
    def save(raw: bytes) -> Path:
        path = tmp_path / "checkpoint.pth"
        path.write_bytes(raw)
        return path

    return save


def numbers(dtype: np.dtype, *shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 2 if dtype.kind == "b" else 100, shape).astype(dtype)


@both_formats
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_read_as_it_is(saved, kind, dtype):
    array = numbers(DTYPES[dtype], 3, 4)
    read = read_pth(saved(WRITERS[kind]({"x": tensor(array)})))["x"]
    assert isinstance(read, np.ndarray)
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@both_formats
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_is_read(saved, kind, protocol):
    content = {"x": tensor(np.arange(6.0).reshape(2, 3)), "deep": [({"k": (1, 2.5, None, True)},)], "bytes": b"\xff\0"}
    read = read_pth(saved(WRITERS[kind](content, protocol=protocol)))
    assert read["deep"] == content["deep"]
    assert read["bytes"] == content["bytes"]
    np.testing.assert_array_equal(read["x"], np.arange(6.0).reshape(2, 3))


@both_formats
def test_views_of_one_storage_are_read_without_copying(saved, kind):
    storage = Storage(np.arange(24, dtype=np.float32))
    read = read_pth(
        saved(
            WRITERS[kind](
                {
                    "whole": view(storage, 0, (4, 6), (6, 1)),
                    "transposed": view(storage, 0, (6, 4), (1, 6)),
                    "part": view(storage, 7, (2, 3), (12, 2)),
                    "expanded": view(storage, 5, (3, 2), (0, 1)),
                    "scalar": view(storage, 23, (), ()),
                    "empty": view(storage, 0, (0, 3), (3, 1)),
                    "one": view(storage, 3, (1, 1), (10**9, 10**9)),
                }
            )
        )
    )
    grid = np.arange(24, dtype=np.float32).reshape(4, 6)
    np.testing.assert_array_equal(read["whole"], grid)
    np.testing.assert_array_equal(read["transposed"], grid.T)
    np.testing.assert_array_equal(read["part"], [[7, 9, 11], [19, 21, 23]])
    np.testing.assert_array_equal(read["expanded"], [[5, 6]] * 3)
    assert read["scalar"].shape == () and read["scalar"] == 23
    assert read["empty"].shape == (0, 3)
    assert read["one"] == 3
    assert np.shares_memory(read["whole"], read["transposed"])
    assert not read["whole"].flags.writeable


def test_views_with_keys_of_their_own_are_read_in_the_old_format(saved):
    root = Storage(np.arange(10, dtype=np.float32), view=("part", 2, 4), key="root")
    read = read_pth(saved(stream_bytes({"x": view(root, 1, (3,), (1,))})))
    np.testing.assert_array_equal(read["x"], [3, 4, 5])


@both_formats
def test_parameters_and_tensors_of_a_gpu_are_plain_arrays(saved, kind):
    weights = np.ones((2, 2), np.float32)
    read = read_pth(saved(WRITERS[kind]({"p": parameter(weights), "g": tensor(2 * weights, location="cuda:0")})))
    np.testing.assert_array_equal(read["p"], weights)
    np.testing.assert_array_equal(read["g"], 2 * weights)


def sampler() -> dict[str, object]:
    return {
        "indexes_per_class": [np.arange(3), np.zeros(0, np.int64), np.asfortranarray(np.eye(3, 2))],
        "names": np.array([b"abc", b"d"]),
        "titles": np.array(["é", "xyz"]),
        "big_endian": np.arange(3, dtype=">i4"),
        "objects": np.array([[np.arange(2), None], ["x", {"deep": np.zeros(1)}]], object).T,
        "counts": {np.int64(3): 1, 0.5: 2, np.str_("a"): 3, True: 4},
        "flags": np.array([True, False]),
        "scalar": np.float32(1.5),
        "state": np.random.RandomState(1).get_state(),
        "sets": ({1, 2}, frozenset("ab")),
        "huge": 2**70,
        "raw": bytearray(b"\x80"),
    }


def assert_same(read: object, written: object) -> None:
    if isinstance(written, np.ndarray):
        assert isinstance(read, np.ndarray) and read.dtype == written.dtype and read.shape == written.shape
        if written.dtype == object:
            assert_same(read.tolist(), written.tolist())
        else:
            np.testing.assert_array_equal(read, written)
    elif isinstance(written, dict):
        assert isinstance(read, dict) and list(read) == list(written)
        for key in written:
            assert_same(read[key], written[key])
    elif isinstance(written, list | tuple):
        assert type(read) is type(written) and len(read) == len(written)
        for one, other in zip(read, written, strict=True):
            assert_same(one, other)
    else:
        assert read == written and (type(read) is type(written) or isinstance(written, bytearray))


@both_formats
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_entries_beside_the_weights_are_read_with_their_arrays(saved, kind, protocol):
    content = {"iteration": 600000, "model": state_dict({"w": np.ones(2, np.float32)}), "sampler": sampler()}
    read = read_pth(saved(WRITERS[kind](content, protocol=protocol)))
    assert read["iteration"] == 600000
    assert_same(read["sampler"], content["sampler"])


@both_formats
def test_arrays_in_another_order_of_axes_are_read(saved, kind):
    # As NumPy's C code writes them in protocol 5; the pickler of these tests is Python's, which cannot.
    array = np.arange(24.0).reshape(2, 3, 4)
    call = Name("numpy._core.numeric", "_frombuffer")(array.tobytes(), array.dtype, array.shape, "K", (2, 0, 1))
    read = read_pth(saved(WRITERS[kind]({"x": call})))["x"]
    np.testing.assert_array_equal(read, array.transpose(2, 0, 1))


@both_formats
def test_arrays_pickled_by_numpy_1_are_read(saved, kind):
    raw = WRITERS[kind]({"a": np.arange(3), "s": np.float64(2.5)})
    assert b"numpy._core" in raw
    if kind == "zip":
        body = pickled({"a": np.arange(3), "s": np.float64(2.5)}, {}).replace(b"numpy._core", b"numpy.core")
        raw = archive_bytes([Part("a/data.pkl", body)])
    else:
        raw = raw.replace(b"numpy._core", b"numpy.core")
    read = read_pth(saved(raw))
    np.testing.assert_array_equal(read["a"], [0, 1, 2])
    assert read["s"] == 2.5


def test_strings_of_python_2_are_read(saved):
    body = b"\x80\x02}(U\x01aU\x02\xff\xfeT\x03\x00\x00\x00xyzK\x01u."
    assert read_pth(saved(archive_bytes([Part("a/data.pkl", body)]))) == {"a": b"\xff\xfe", "xyz": 1}


def test_a_big_endian_archive_is_read(saved):
    array = np.arange(5, dtype=np.float32)
    half = numbers(DTYPES["bfloat16"], 4)
    read = read_pth(saved(zip_bytes({"x": tensor(array), "h": tensor(half)}, big_endian=True)))
    np.testing.assert_array_equal(read["x"], array)
    np.testing.assert_array_equal(read["h"], half)


def test_an_archive_without_checksums_is_read(saved):
    body = pickled({"x": 1}, {})
    assert read_pth(saved(archive_bytes([Part("a/data.pkl", body, checksum=0)]))) == {"x": 1}


def test_a_damaged_storage_is_told_by_its_checksum(saved):
    raw = bytearray(zip_bytes({"x": tensor(np.ones(100, np.float32))}))
    raw[raw.index(np.ones(100, np.float32).tobytes()) + 37] ^= 1
    with pytest.raises(InputError, match="data/0 does not have the checksum"):
        read_pth(saved(bytes(raw)))


@both_formats
def test_a_container_may_contain_itself(saved, kind):
    loop: list[object] = []
    loop.append(loop)
    read = read_pth(saved(WRITERS[kind]({"loop": loop})))["loop"]
    assert isinstance(read, list) and read[0] is read


@both_formats
def test_weights_are_found_under_model_or_bare_and_without_data_parallel_prefix(saved, kind):
    weights = {"a.weight": np.ones((2, 3), np.float32), "b": np.arange(3.0)}
    wrapped = {f"module.{name}": array for name, array in weights.items()}
    for content in (
        state_dict(weights),
        {"model": state_dict(weights), "iteration": 3},
        {"model": state_dict(wrapped)},
    ):
        read = read_state_dict(saved(WRITERS[kind](content)))
        assert list(read) == list(weights)
        for name, array in weights.items():
            np.testing.assert_array_equal(read[name], array)


@both_formats
def test_a_state_dict_with_metadata_is_read(saved, kind):
    class Dict(collections.OrderedDict):
        def __reduce__(self):
            attributes = {"_metadata": collections.OrderedDict({"": {"version": 1}})}
            return collections.OrderedDict, (), attributes, None, iter(self.items())

    content = Dict(state_dict({"w": np.ones(2, np.float32)}))
    assert list(read_state_dict(saved(WRITERS[kind](content)))) == ["w"]


@both_formats
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"epoch": 3, "state_dict": {}}, "has no entry \"model\", and is no state dict: it holds 'epoch' (int)"),
        ({"model": 3}, 'its entry "model" holds no weights'),
        ({"model": {}}, 'its entry "model" holds no weights'),
        ({"model": {"w": [1.0]}}, "its entry \"model\" holds 'w' (list)"),
        ({}, "holds no weights"),
        ([1, 2], "holds a list, not a table of weights"),
    ],
)
def test_a_file_without_weights_is_refused_with_what_it_holds(saved, kind, content, said):
    with pytest.raises(InputError) as refused:
        read_state_dict(saved(WRITERS[kind](content)))
    assert said in str(refused.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_are_read_as_torch_reads_them(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    storage = torch.arange(24.0)
    later = ("uint16", "uint32", "uint64") if zipped else ()  # torch does not read its own old format with these
    # NumPy turns big-endian arrays into those of the machine when it reads them; here they stay as they are.
    extra = {name: value for name, value in sampler().items() if name != "big_endian"}
    content = {
        "iteration": 7,
        "model": torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).state_dict(),
        "views": [storage.reshape(4, 6).T, storage[5:9], storage.expand(3, 24), torch.zeros(0, 3), torch.tensor(4)],
        "dtypes": [torch.arange(3).to(getattr(torch, name)) for name in (*DTYPES, *later)],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "size": torch.Size([1, 2]),
        "sampler": extra,
    }
    path = tmp_path / "torch.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)

    def as_numpy(x):
        if isinstance(x, torch.Tensor):
            x = x.detach()
            return x.view(torch.int16).numpy().view(DTYPES["bfloat16"]) if x.dtype == torch.bfloat16 else x.numpy()
        if isinstance(x, dict):
            return {key: as_numpy(value) for key, value in x.items()}
        if isinstance(x, list | tuple):
            return (tuple if isinstance(x, tuple) else list)(as_numpy(value) for value in x)
        return x

    assert_same(read_pth(path), as_numpy(torch.load(path, weights_only=False)))


@both_formats
def test_the_writer_of_these_tests_writes_what_torch_reads(tmp_path, kind):
    torch = pytest.importorskip("torch")
    path = tmp_path / "ours.pth"
    storage = Storage(np.arange(24, dtype=np.float32))
    arrays = {name: numbers(dtype, 2, 3) for name, dtype in DTYPES.items() if name != "bfloat16"}
    content = {"model": state_dict(arrays), "view": view(storage, 1, (6, 3), (1, 7)), "sampler": sampler()}
    path.write_bytes(WRITERS[kind](content))
    read = torch.load(path, weights_only=False)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read["model"][name].numpy(), array)
    np.testing.assert_array_equal(read["view"].numpy(), read_pth(path)["view"])


def test_torch_without_checksums_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "torch.pth"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"x": torch.ones(3)}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    np.testing.assert_array_equal(read_pth(path)["x"], [1, 1, 1])


@both_formats
def test_a_pickled_module_is_refused_by_the_name_of_its_class(saved, kind):
    raw = WRITERS[kind]({"model": Name("pytorch.models", "Cnn14")()})
    with pytest.raises(InputError, match=r"refers to pytorch\.models\.Cnn14"):
        read_pth(saved(raw))


def test_a_plain_pickle_is_no_checkpoint(saved):
    with pytest.raises(InputError, match="is no PyTorch checkpoint"):
        read_pth(saved(pickle.dumps({"x": 1})))
