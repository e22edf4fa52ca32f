"""What reading a `.pth` file costs in memory, measured in processes of their own."""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pth_writer import (
    AROUND,
    WRITERS,
    Part,
    Storage,
    archive_bytes,
    state_dict,
    stream_around,
    stream_bytes,
    view,
    zip_bytes,
)

both_formats = pytest.mark.parametrize("kind", WRITERS)

MIB = 1 << 20

MEASURE = """
import resource, sys
from pathlib import Path
import numpy as np
from panns_jax.errors import InputError
from panns_jax.pretrained.pth import read_pth, read_state_dict

def peak():
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts the peak of the process that started this one as well in ru_maxrss.
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024

for path in sys.argv[1:]:
    before = peak()
    try:
        contents = read_pth(path)
        # Every page is looked at once.
        sums = [x.astype(np.float32).sum() for x in contents.get("model", {}).values() if isinstance(x, np.ndarray)]
    except InputError as error:
        print(error, file=sys.stderr)
    contents = sums = None
    print(peak() - before)
"""


def peaks(*paths: Path) -> list[int]:
    """How many bytes the peak memory of a child process grows by reading each file, one after the other."""
    if sys.platform not in ("linux", "darwin"):
        pytest.skip("peak memory is measured on Linux and macOS only")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, paths)], capture_output=True, text=True, check=True, timeout=300
    )
    return [int(line) for line in done.stdout.split()]


def test_the_measure_sees_memory(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(stream_bytes({"model": state_dict({"w": np.ones(8 * MIB, np.float32)})}))
    (peak,) = peaks(path)
    assert peak >= 30 * MIB


@both_formats
def test_reading_a_large_file_takes_at_most_four_times_its_size(tmp_path, kind):
    rng = np.random.default_rng(1)
    weights = {f"layer{i}.weight": rng.random((64, 64, 3, 3), np.float32) for i in range(150)}
    indexes = [rng.integers(0, 1 << 20, 50_000) for _ in range(20)]
    path = tmp_path / "x.pth"
    path.write_bytes(WRITERS[kind]({"model": state_dict(weights), "sampler": {"indexes_per_class": indexes}}))
    (peak,) = peaks(path)
    assert path.stat().st_size > 25 * MIB
    assert peak <= 4 * path.stat().st_size


def bombs() -> dict[str, bytes]:
    """Pickles of about 4 MiB that would take many times that."""
    count = 4 * MIB
    wide = b"X" + struct.pack("<I", 1 << 16) + "\U0001f600".encode() + b"a" * ((1 << 16) - 4)
    plain = b"X" + struct.pack("<I", 1 << 16) + b"a" * (1 << 16)
    encode = b"h\x01h\x00X\x06\x00\x00\x00latin1\x86R"
    dtype = b"cnumpy\ndtype\nX\x05\x00\x00\x00S9999\x85R(K\x03X\x01\x00\x00\x00|NNNK\x00K\x01K\x00tb"
    raw = b"B" + struct.pack("<I", 9999) + bytes(9999)
    keys = (b"\x8a\x09" + (i << 40).to_bytes(9, "little") + b"N" for i in range(count // 12))
    return {
        "lists": b"]" * count,
        "dicts": b"}" * count,
        "sets": b"\x8f" * count,
        "marks": b"(" * count,
        "duplicates": b"]" + b"2" * count,
        "memo": b"]" + b"\x94" * count,
        "nothings": b"N0" * (count // 2),
        "wide letters": wide * (count // len(wide)),
        "short wide texts": (b"X\x20\x00\x00\x00" + b"a" * 28 + "\U0001f600".encode()) * (count // 37),
        "short bytes": b"C\x02ab" * (count // 4),
        "numbers": b"M\xff\xff" * (count // 3),
        "a list many times": b"](" + b"h\x00" * (count // 2),
        "bytes of a text": plain + b"q\x000c_codecs\nencode\nq\x010" + encode * (count // len(encode)),
        "scalars of a text": (
            dtype + b"q\x000" + raw + b"q\x010cnumpy.core.multiarray\nscalar\nq\x02h\x00h\x01\x86q\x030"
        )
        + b"h\x02h\x03R" * (count // 5),
        "sets of a list": (b"](" + b"K\x01" * 60_000 + b"e\x85q\x000cbuiltins\nset\nq\x010")
        + b"h\x01h\x00R" * (count // 5),
        "keys of like hashes": b"}(" + b"".join(keys) + b"u",
    }


@both_formats
def test_a_bomb_takes_at_most_four_times_the_size_of_the_file(tmp_path, kind):
    paths = {}
    for name, body in bombs().items():
        paths[name] = tmp_path / f"{name}.pth"
        paths[name].write_bytes(AROUND[kind](b"\x80\x04" + body + b"."))
    for name, path in paths.items():
        (peak,) = peaks(path)
        assert peak <= 4 * path.stat().st_size, name


def test_long_names_in_a_directory_take_at_most_four_times_the_size_of_the_file(tmp_path):
    wide = "\U0001f600" + "a" * 60_000  # as texts these take four bytes per letter
    parts = [Part(f"a/{i}{wide}", b"", offset=0) for i in range(80)]
    path = tmp_path / "x.pth"
    path.write_bytes(archive_bytes([Part("a/data.pkl", b"\x80\x02}."), *parts]))
    (peak,) = peaks(path)
    assert path.stat().st_size > 4 * MIB
    assert peak <= 4 * path.stat().st_size


def test_declared_sizes_take_no_memory(tmp_path):
    lengths = [(b"X", 4), (b"\x8d", 8), (b"B", 4), (b"\x8e", 8), (b"\x96", 8), (b"T", 4), (b"\x8b", 4), (b"r", 4)]
    declared = [b"\x80\x05}" + opcode + ((1 << 31) - 1).to_bytes(size, "little") + b"." for opcode, size in lengths]
    paths = [tmp_path / f"{i}.pth" for i, _ in enumerate(declared)]
    for path, body in zip(paths, declared, strict=True):
        path.write_bytes(stream_around(body))
    storage = Storage(np.arange(24, dtype=np.float32), size=1 << 40)
    for i, raw in enumerate(
        (
            stream_bytes({"x": view(storage, 0, (1 << 40,), (1,))}),
            zip_bytes({"x": view(storage, 0, (1 << 40,), (1,))}),
            zip_bytes({"x": view(Storage(np.ones(1, np.float32)), 0, (1 << 20, 1 << 12), (0, 0))}),
            archive_bytes([Part("a/data.pkl", b"")], count=65535),
        )
    ):
        paths.append(tmp_path / f"size{i}.pth")
        paths[-1].write_bytes(raw)
    assert sum(peaks(*paths)) < 16 * MIB
