"""`.pth` files that are foreign, cut short, damaged or made to harm: one clear error, soon, with little memory."""

import pickle
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pth_writer import (
    AROUND,
    WRITERS,
    Name,
    Part,
    Storage,
    archive_bytes,
    pickled,
    state_dict,
    stream_bytes,
    tensor,
    view,
    zip_around,
    zip_bytes,
)

from panns_jax.errors import InputError
from panns_jax.pretrained.pth import read_pth

both_formats = pytest.mark.parametrize("kind", WRITERS)

MIB = 1 << 20


@pytest.fixture
def refusal(tmp_path: Path):
    """What is said of a file with the given bytes, which has to be refused within seconds."""

    def said(raw: bytes) -> str:
        path = tmp_path / "hostile.pth"
        path.write_bytes(raw)
        start = time.monotonic()
        with pytest.raises(InputError) as refused:
            read_pth(path)
        assert time.monotonic() - start < 10
        message = str(refused.value)
        assert message.startswith(f"{path}: ")
        assert message.isprintable() and len(message) < 600
        return message.removeprefix(f"{path}: ")

    return said


class TestNames:
    """Names that a file may not use."""

    @both_formats
    @pytest.mark.parametrize(
        ("module", "name"),
        [
            ("os", "system"),
            ("posix", "system"),
            ("nt", "system"),
            ("subprocess", "Popen"),
            ("builtins", "eval"),
            ("builtins", "exec"),
            ("builtins", "getattr"),
            ("builtins", "__import__"),
            ("__builtin__", "eval"),
            ("torch", "load"),
            ("torch.hub", "load"),
            ("torch._utils", "_import_dotted_name"),
            ("torch.serialization", "_load"),
            ("torch.FloatStorage", "__init__"),
            ("collections", "OrderedDict.__init__.__globals__"),
            ("numpy", "load"),
            ("numpy.core.multiarray", "fromfile"),
            ("codecs", "open"),
            ("_codecs", "lookup"),
            ("functools", "partial"),
            ("operator", "attrgetter"),
            ("pickle", "loads"),
            ("panns_jax.pretrained.pth", "read_pth"),
            ("", ""),
        ],
    )
    def test_are_refused_by_name_and_nothing_is_run(self, refusal, tmp_path, kind, module, name):
        proof = tmp_path / "run"
        call = Name(module, name)(f"touch {proof}")
        for content in ({"model": state_dict({"w": np.ones(2)}), "extra": call}, {"model": {"w": call}}):
            assert f"refers to {module}.{name}," in refusal(WRITERS[kind](content))
            assert not proof.exists()

    @both_formats
    def test_are_refused_when_real_pickles_use_them(self, refusal, tmp_path, kind):
        import os

        class Bomb:
            def __reduce__(self):
                return os.system, (f"touch {tmp_path / 'run'}",)

        for protocol in (2, 4):
            body = pickle.dumps({"model": {"w": Bomb()}}, protocol)
            assert f"refers to {os.name}.system" in refusal(AROUND[kind](body))
        assert not (tmp_path / "run").exists()

    @both_formats
    def test_are_refused_before_the_weights_and_in_the_headers(self, refusal, kind):
        call = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."
        assert "os.system" in refusal(call)
        assert "os.system" in refusal(AROUND[kind](call))
        head = stream_bytes({})
        assert "os.system" in refusal(head[: head.index(b".") + 1] + call)

    def test_that_chain_through_allowed_ones_are_refused(self, refusal):
        for name in (b"OrderedDict.fromkeys", b"OrderedDict.__reduce__", b"abc.Mapping"):
            body = b"\x80\x04\x8c\x0bcollections\x8c" + bytes([len(name)]) + name + b"\x93)R."
            assert "refers to collections." in refusal(zip_around(body))

    def test_in_strange_letters_are_shown_escaped(self, refusal):
        assert r"refers to os.\x1b[31m\u2028" in refusal(zip_bytes({"x": Name("os", "\x1b[31m\u2028")()}))

    def test_that_are_too_long_are_refused(self, refusal):
        refusal(zip_around(b"\x80\x02c" + b"a" * 5000 + b"\nb\n."))
        refusal(zip_around(b"\x80\x04\x8d" + struct.pack("<Q", MIB) + b"a" * MIB + b"2\x93."))

    @pytest.mark.parametrize(
        "call",
        [
            Name("_codecs", "encode")("touch x", "rot13"),
            Name("_codecs", "encode")("touch x", "zlib"),
            Name("_codecs", "encode")("\u2028", "latin1"),
            Name("_codecs", "encode")(b"x", "latin1"),
            Name("_codecs", "encode")("x", np.array(["latin1", "latin1"])),
            Name("_codecs", "encode")(),
            Name("collections", "OrderedDict")(3),
            Name("collections", "OrderedDict")([1, 2]),
            Name("collections", "OrderedDict")([[[], 2]]),
            Name("builtins", "set")([[]]),
            Name("builtins", "set")(3),
            Name("builtins", "bytes")(1 << 40),
            Name("builtins", "bytearray")(1 << 40),
            Name("numpy", "ndarray")((1 << 40,)),
            Name("numpy", "dtype")("O", False, True),
            Name("numpy", "dtype")("f8,f8", False, True),
            Name("numpy", "dtype")("S99999999999", False, True),
            Name("numpy", "dtype")([("a", "f8")], False, True),
            Name("numpy", "dtype")(),
            Name("numpy.core.multiarray", "_reconstruct")(Name("os", "system"), (0,), b"b"),
            Name("numpy.core.multiarray", "_reconstruct")(Name("numpy", "dtype"), (0,), b"b"),
            Name("numpy.core.multiarray", "scalar")(np.dtype("f8"), b"1"),
            Name("numpy.core.multiarray", "scalar")("f8", b"12345678"),
            Name("numpy.core.multiarray", "scalar")(np.dtype("O"), b"12345678"),
            Name("numpy.core.multiarray", "scalar")(np.dtype("<U1"), b"\xff\xff\xff\xff"),
            Name("numpy.core.multiarray", "scalar")(np.dtype(">U1"), b"a\0\0\0"),
            Name("numpy._core.numeric", "_frombuffer")(b"12345678", np.dtype("O"), (1,), "C"),
            Name("numpy._core.numeric", "_frombuffer")(b"12345678", np.dtype("i4"), (2,), np.array(["C", "F"])),
            Name("numpy._core.numeric", "_frombuffer")(b"12345678", np.dtype("i4"), (1, 2), "K", (0, 2)),
            Name("numpy._core.numeric", "_frombuffer")(b"12345678", np.dtype("i4"), (1, 2), "K", None),
            Name("numpy._core.numeric", "_frombuffer")(b"1234", np.dtype("f4"), (1 << 60,), "C"),
            Name("numpy._core.numeric", "_frombuffer")(b"", np.dtype("f4"), (0, 1 << 61), "C"),
            Name("torch", "FloatStorage")(1 << 40),
            Name("torch", "Size")(3),
            Name("torch._utils", "_rebuild_tensor_v2")(),
            Name("torch._utils", "_rebuild_tensor_v2")(1, 0, (2,), (1,), False, None),
            Name("torch._utils", "_rebuild_tensor_v2")(Storage(np.ones(2)), 0, (2,), (1,), False, None, {"neg": True}),
            Name("torch._utils", "_rebuild_tensor_v2")(Storage(np.ones(2)), 0, (2,), (1,), False, None, np.ones(2)),
            Name("torch._utils", "_rebuild_tensor_v3")(Storage(np.ones(3, np.uint8)), 0, (1,), (1,), 0, 0, 0),
            Name("torch._utils", "_rebuild_parameter")(Name("os", "system")("true"), True, None),
            Name("torch._utils", "_rebuild_parameter")(3, True, None),
        ],
    )
    @both_formats
    def test_that_are_allowed_take_no_other_arguments(self, refusal, kind, call):
        refusal(WRITERS[kind]({"x": call}))


@both_formats
@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (25,), (1,)),
        (24, (1,), (1,)),
        (0, (2,), (24,)),
        (0, (1 << 40,), (0,)),
        (0, (1 << 31, 1 << 31), (0, 0)),
        (0, (1 << 62, 0), (1, 1)),
        (0, (3,), (-1,)),
        (23, (3,), (-1,)),
        (-1, (3,), (1,)),
        (0, (-3,), (1,)),
        (0, (3,), ()),
        (0, (1,) * 100, (1,) * 100),
        (0, (2.0,), (1,)),
        (0, 3, 1),
        (True, (3,), (1,)),
        (1 << 70, (3,), (1,)),
        (0, (1 << 70,), (1,)),
        (None, None, None),
    ],
)
def test_a_tensor_beyond_its_storage_is_refused(refusal, kind, offset, shape, strides):
    storage = Storage(np.arange(24, dtype=np.float32))
    refusal(WRITERS[kind]({"x": view(storage, offset, shape, strides)}))


@both_formats
@pytest.mark.parametrize("size", [0, 23, 25, 1 << 40, 1 << 62, 1 << 70, -1, -24, 24.0, None])
def test_a_storage_of_another_size_than_its_content_is_refused(refusal, kind, size):
    storage = Storage(np.arange(24, dtype=np.float32), size="24" if size is None else size)  # pyright: ignore
    refusal(WRITERS[kind]({"x": view(storage, 0, (1,), (1,))}))


def test_a_storage_under_a_name_that_no_file_can_have_is_refused(refusal):
    storage = Storage(np.ones(2, np.float32), key=np.str_("\ud800"))
    assert "is missing" in refusal(zip_around(pickled({"x": view(storage, 0, (1,), (1,))}, {})))


@pytest.mark.parametrize("part", [("v", 0, 25), ("v", -1, 2), ("v", 24, 1), ("v", 1 << 62, 1 << 62), ("v", 0), 3])
def test_a_part_beyond_its_storage_is_refused(refusal, part):
    storage = Storage(np.arange(24, dtype=np.float32), view=part)  # pyright: ignore[reportArgumentType]
    refusal(stream_bytes({"x": view(storage, 0, (1,), (1,))}))


def counted(opcode: bytes, size: int, length: int) -> bytes:
    return opcode + length.to_bytes(size, "little")


def object_array(item: bytes) -> bytes:
    """Opcodes that make an array of one object, which the opcodes `item` make."""
    dtype = b"cnumpy\ndtype\nX\x02\0\0\0O8\x85R(K\x03X\x01\0\0\0|NNNtb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R"
    return empty + b"(K\x01K\x01\x85" + dtype + b"\x89](" + item + b"etb"


BROKEN_PICKLES = {
    "empty": b"",
    "nothing": b"\x80\x02.",
    "other protocol": b"\x80\x7f}.",
    "text protocol": b"(dp0\n.",
    "no end": b"\x80\x02}",
    "pop of nothing": b"\x80\x020.",
    "pop to no mark": b"\x80\x021.",
    "tuple of no mark": b"\x80\x02t.",
    "tuple of nothing": b"\x80\x02\x87.",
    "duplicate of nothing": b"\x80\x022.",
    "put of nothing": b"\x80\x02q\x00.",
    "get of nothing": b"\x80\x02h\x00.",
    "append to a dict": b"\x80\x02}Na.",
    "item of a list": b"\x80\x02]NNs.",
    "odd items": b"\x80\x02}(Nu.",
    "call of a list": b"\x80\x02])R.",
    "call with a list": b"\x80\x02ccollections\nOrderedDict\n]R.",
    "build of a list": b"\x80\x02]}b.",
    "list as key": b"\x80\x02}]Ns.",
    "tuple as key": b"\x80\x02})Ns.",
    "long key": b"\x80\x02}" + counted(b"X", 4, 2000) + b"k" * 2000 + b"Ns.",
    "huge integer as key": b"\x80\x02}\x8a\x10" + b"\x01" * 16 + b"Ns.",
    "array as key": pickled({"x": 1}, {})[:-1] + pickled(np.ones(1), {}, protocol=4)[2:-1] + b"Ns.",
    "persistent number": b"\x80\x02K\x01Q.",
    "persistent tuple": b"\x80\x02)Q.",
    "persistent array": pickled(np.arange(2), {})[:-1] + b"\x85Q.",
    "new object": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "extension": b"\x80\x02\x82\x01.",
    "outside buffer": b"\x80\x05\x97.",
    "unknown opcode": b"\x80\x02\xff.",
    "no text": b"\x80\x02X\x02\x00\x00\x00\xff\xff.",
    "half a letter": b"\x80\x02X\x02\x00\x00\x00\xed\xa0.",
    "unended name": b"\x80\x02cos.",
    "unfilled array used": b"\x80\x02}X\x01\x00\x00\x00xcnumpy\ndtype\nX\x02\x00\x00\x00f8\x85Rq\x00h\x00b.",
    "array of objects in an array": b"\x80\x03" + object_array(object_array(b"N")) + b".",
    "array of too few objects": b"\x80\x03" + object_array(b"") + b".",
    "array of objects from bytes": b"\x80\x03" + object_array(b"").replace(b"](e", b"C\x08abcdefgh") + b".",
    "dtype with an array as byte order": b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00f8\x85R(K\x03"
    + pickled(np.array(["<", "<"]), {})[2:-1]
    + b"NNNtb.",
    "array filled with nothing": b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00f8\x85RNb.",
    **{
        f"{name} of {length} bytes": b"\x80\x05" + counted(opcode, size, length) + b"abc."
        for name, opcode, size in [
            ("text", b"X", 4),
            ("long text", b"\x8d", 8),
            ("bytes", b"B", 4),
            ("long bytes", b"\x8e", 8),
            ("byte array", b"\x96", 8),
            ("old string", b"T", 4),
            ("integer", b"\x8b", 4),
            ("frame", b"\x95", 8),
        ]
        for length in (100, (1 << 31) - 1, (1 << 32) - 1, (1 << 63) - 1, (1 << 64) - 1)
        if length < 1 << (8 * size)
    },
}


@both_formats
@pytest.mark.parametrize("body", BROKEN_PICKLES.values(), ids=BROKEN_PICKLES)
def test_a_broken_pickle_is_refused(refusal, kind, body):
    refusal(AROUND[kind](body))


def test_a_huge_memo_index_costs_nothing(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(zip_around(b"\x80\x02}r\xff\xff\xff\xff."))
    assert read_pth(path) == {}


@both_formats
@pytest.mark.parametrize("opcodes", [b"]" * 60_000 + b"a" * 59_999, b")" + b"\x85" * 60_000])
def test_deep_nesting_is_read_or_refused_and_overflows_nothing(tmp_path, kind, opcodes):
    path = tmp_path / "x.pth"
    path.write_bytes(AROUND[kind](b"\x80\x02}K\x00" + opcodes + b"s."))
    try:
        assert 0 in read_pth(path)
    except InputError as error:
        assert "memory" in str(error)


FOREIGN = {
    "empty": b"",
    "one byte": b"\x80",
    "magic of zip alone": b"PK\x03\x04",
    "text": b"hello",
    "web page": b"<!DOCTYPE html><html></html>",
    "sound": b"RIFF\x24\x00\x00\x00WAVEfmt ",
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "zeros": bytes(1000),
    "safetensors": struct.pack("<Q", 2) + b"{}",
    "other pickle": pickle.dumps({"model": {}}),
    "nested version": pickle.dumps(0x1950A86A20F9469CFC6C, 2) + b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".",
    "later version": pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1002, 2),
}


@pytest.mark.parametrize("raw", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_file_is_refused(refusal, raw):
    refusal(raw)


def test_other_zip_archives_are_refused(refusal, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr("a.npy", b"x")
    assert "is a zip archive, but no PyTorch checkpoint" in refusal((tmp_path / "x.zip").read_bytes())
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data.pkl", bytes(MIB))
    assert "compressed" in refusal((tmp_path / "x.zip").read_bytes())


def test_a_folder_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        read_pth(tmp_path)
    with pytest.raises(InputError, match="there is no such file"):
        read_pth(tmp_path / "absent.pth")


BODY = pickled({"x": tensor(np.arange(4, dtype=np.float32))}, {})
DATA = np.arange(4, dtype=np.float32).tobytes()
GOOD = [Part("a/data.pkl", BODY), Part("a/data/0", DATA)]
INSIDE = [Part(f"a/{i}", b"", size=800, packed=800, offset=0) for i in range(9)]
BROKEN_ARCHIVES = {
    "storage missing": archive_bytes([Part("a/data.pkl", BODY)]),
    "two folders": archive_bytes([*GOOD, Part("b/data.pkl", BODY)]),
    "part twice": archive_bytes([*GOOD, Part("a/data/0", DATA)]),
    "no folder": archive_bytes([Part("data.pkl", BODY), Part("data/0", DATA)]),
    "deflated": archive_bytes([GOOD[0], Part("a/data/0", DATA, method=8)]),
    "encrypted": archive_bytes([GOOD[0], Part("a/data/0", DATA, flags=1)]),
    "sizes differ": archive_bytes([GOOD[0], Part("a/data/0", DATA, size=1 << 31)]),
    "huge": archive_bytes([GOOD[0], Part("a/data/0", DATA, size=1 << 31, packed=1 << 31)]),
    "zip64 without its field": archive_bytes([GOOD[0], Part("a/data/0", DATA, size=0xFFFFFFFF, packed=0xFFFFFFFF)]),
    "offset beyond": archive_bytes([GOOD[0], Part("a/data/0", DATA, offset=1 << 31)]),
    "offset elsewhere": archive_bytes([GOOD[0], Part("a/data/0", DATA, offset=7)]),
    "directory beyond": archive_bytes(GOOD, start=1 << 31),
    "directory elsewhere": archive_bytes(GOOD, start=3),
    "too many entries": archive_bytes(GOOD, count=60_000),
    "more entries than are there": archive_bytes(GOOD, count=3),
    "wrong checksum": archive_bytes([GOOD[0], Part("a/data/0", DATA, checksum=1)]),
    "name no text": archive_bytes(GOOD).replace(b"a/data/0", b"a/dat\xff/0"),
    "overlapping": archive_bytes([Part("a/big", bytes(1000)), *GOOD, *INSIDE]),
}


@pytest.mark.parametrize("raw", BROKEN_ARCHIVES.values(), ids=BROKEN_ARCHIVES)
def test_a_broken_archive_is_refused(refusal, raw):
    refusal(raw)
