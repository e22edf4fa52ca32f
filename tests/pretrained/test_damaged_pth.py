"""`.pth` files cut short or changed at random: read or refused, never another exception, never a hang."""

import itertools
import pickletools
import random
import time
from pathlib import Path

import numpy as np
import pytest
from pth_writer import WRITERS, Storage, parameter, pickled, state_dict, tensor, view, zip_around

from panns_jax.errors import InputError
from panns_jax.pretrained.pth import read_pth


def sound_files() -> list[bytes]:
    """Small files of both formats with everything that a reader has to understand."""
    rng = np.random.default_rng(1)
    storage = Storage(np.arange(12, dtype=np.float32))
    content = {
        "iteration": 1000,
        "model": {
            **state_dict({"conv.weight": rng.random((2, 1, 3, 3), np.float32), "n": np.array(3)}),
            "view": view(storage, 1, (2, 3), (1, 2)),
            "same": view(storage, 0, (12,), (1,)),
            "half": tensor(rng.random(4).astype(np.float16), location="cuda:0"),
            "parameter": parameter(np.ones(2, np.float32)),
        },
        "sampler": {
            "indexes": [np.arange(5), np.zeros(0)],
            "pointer": np.int64(3),
            "names": {"a", "b"},
            "f": (1.5, None),
        },
    }
    return [write(content, protocol=protocol) for write in WRITERS.values() for protocol in (2, 4)]


def assert_read_or_refused(path: Path, raw: bytes) -> bool:
    """Reads `raw`; whether it was read. Anything but a dict or an InputError fails the test."""
    path.write_bytes(raw)
    start = time.monotonic()
    try:
        result = read_pth(path)
    except InputError:
        result = None
    assert time.monotonic() - start < 5
    assert result is None or isinstance(result, dict)
    return result is not None


def test_a_file_cut_short_anywhere_is_refused(tmp_path):
    for raw in sound_files()[::2]:
        assert assert_read_or_refused(tmp_path / "x.pth", raw)
        for size in range(1, len(raw)):
            assert not assert_read_or_refused(tmp_path / "x.pth", raw[:size]), size


OPCODES = b"(0123NJKMXGUT)aest]}udlbcqrhjRQ.\x80\x81\x85\x86\x87\x88\x8a\x8b\x8e\x93\x95\x96"


def mutated(raw: bytes, rng: random.Random) -> bytes:
    """One to four changes: bits, bytes, runs removed, doubled, moved or overwritten, numbers made extreme."""
    result = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(result)) if result else 0
        run = rng.choice((1, 2, 4, 8, rng.randrange(1, 200)))
        match rng.randrange(8):
            case 0 if result:
                result[place] ^= 1 << rng.randrange(8)
            case 1:
                result[place : place + 1] = rng.randbytes(1)
            case 2:
                del result[place : place + run]
            case 3:
                result[place:place] = rng.randbytes(run)
            case 4:
                result[place:place] = result[place : place + run]
            case 5:
                other = rng.randrange(len(result) + 1)
                result[place : place + run] = result[other : other + run]
            case 6:
                size = rng.choice((1, 2, 4, 8))
                extreme = rng.choice((0, 1, (1 << 8 * size) - 1, 1 << (8 * size - 1), (1 << (8 * size - 1)) - 1))
                result[place : place + size] = extreme.to_bytes(size, rng.choice(("little", "big")))
            case 7:
                # An opcode or a structure's first letters where another was.
                opcode = bytes([rng.choice(OPCODES)])
                result[place : place + 1] = rng.choice((opcode, b"PK\x01\x02", b"PK\x05\x06"))
    return bytes(result)


def rearranged(raw: bytes, rng: random.Random) -> bytes:
    """A pickle with one to four of its steps removed, doubled, swapped or overwritten, each as a whole."""
    places = [place for _, _, place in pickletools.genops(raw)]
    steps = [raw[start:end] for start, end in itertools.pairwise([*places, len(raw)])]
    for _ in range(rng.choice((1, 1, 2, 4))):
        place, other = rng.randrange(len(steps)), rng.randrange(len(steps))
        match rng.randrange(5):
            case 0:
                steps[place] = b""
            case 1:
                steps[place] *= rng.choice((2, 100))
            case 2:
                steps[place], steps[other] = steps[other], steps[place]
            case 3:
                steps[place] = steps[other]
            case 4:
                run = rng.randrange(1, 30)
                steps[place : place + run] = steps[other : other + run] or [b""]
    return b"".join(steps)


def mutate_many(path: Path, seed: int, count: int) -> None:
    rng = random.Random(seed)
    originals = sound_files()
    read = sum(assert_read_or_refused(path, mutated(rng.choice(originals), rng)) for _ in range(count))
    # Some changes do no harm, as in a number of the sampler; if none were, or all, nothing would have been tested.
    assert 0 < read < count / 2


def test_a_file_changed_at_random_is_read_or_refused(tmp_path):
    mutate_many(tmp_path / "x.pth", seed=1, count=4000)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 12))
def test_a_file_changed_at_random_is_read_or_refused_at_length(tmp_path, seed):
    mutate_many(tmp_path / "x.pth", seed, count=40_000)


def test_a_pickle_changed_at_random_behind_a_sound_archive_is_read_or_refused(tmp_path):
    # Checksums and directories stop most changes before the pickle is looked at: here they are right.
    rng = random.Random(1)
    storages: dict[str, Storage] = {}
    content = {
        "w": tensor(np.ones((2, 3), np.float32)),
        "a": np.arange(3),
        "o": np.array([1, "x"], object),
        "t": np.array(["a", "b"]),
        "s": {1, 2},
    }
    body = pickled(content, storages)
    for mutate in (mutated, rearranged):
        read = sum(
            assert_read_or_refused(tmp_path / "x.pth", zip_around(mutate(body, rng), storages)) for _ in range(1200)
        )
        assert 0 < read < 600
