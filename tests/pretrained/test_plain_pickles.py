"""Pickles of plain data are read of each protocol, those of Python 2 among them, and nothing in them is run."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panns_jax.errors import InputError
from panns_jax.pretrained.arrays import NUMPY
from panns_jax.pretrained.containers import PLAIN
from panns_jax.pretrained.pickles import read_pickle
from panns_jax.pretrained.plain import read_plain_pickle
from panns_jax.pretrained.vocabulary import Budget, Malformed

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(max_size=40),
    st.binary(),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.text(max_size=9) | st.integers(-(2**63), 2**63), inner, max_size=5),
        st.tuples(inner, inner),
    ),
    max_leaves=12,
)


def read(raw: bytes) -> Any:
    return read_pickle(memoryview(raw), 0, {**PLAIN, **NUMPY}, Budget(1 << 24), lines=True)[0]


@given(VALUES, st.integers(0, 5))
def test_what_was_written_is_what_is_read(value: Any, protocol: int):
    assert read(pickle.dumps(value, protocol)) == value


def python_2(array: np.ndarray) -> bytes:
    """The pickle of a row that Python 2 and the NumPy of its time wrote by default, of protocol 0."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\np0\n(cnumpy\nndarray\np1\n(I0\ntp2\nS'b'\np3\ntp4\nRp5\n"
        b"(I1\n(L%dL\ntp6\ncnumpy\ndtype\np7\n(S'%s'\np8\nI0\nI1\ntp9\nRp10\n(I3\nS'<'\np11\nNNNI-1\nI-1\nI0\ntp12\n"
        b"bI00\nS%s\np13\ntp14\nb."
    ) % (len(array), array.dtype.str[1:].encode(), repr(array.tobytes())[1:].encode())


@pytest.mark.parametrize("dtype", ["<f8", "<f4", "<i8"])
def test_arrays_of_python_2_are_read(dtype: str):
    row = np.random.default_rng(0).uniform(0, 9, 527).astype(dtype)
    np.testing.assert_array_equal(read(python_2(row)), row)
    np.testing.assert_array_equal(read(python_2(np.zeros(4, dtype))), np.zeros(4, dtype))


def test_all_that_python_2_writes_of_texts_and_numbers_is_read():
    assert read(b"(lp0\nI01\naI00\naI-7\naL12345678901234567890L\naF1.5\naFnan\na.")[:5] == [
        True,
        False,
        -7,
        12345678901234567890,
        1.5,
    ]
    assert read(rb"""(lp0
S'it\'s \\ "here"\n'
aS"it's"
aS'\xff\x00'
aVgr\u00fcn
aF1e-07
ag0
a.""")[:5] == ['it\'s \\ "here"\n', "it's", b"\xff\x00", "grün", 1e-07]
    assert read(b"(dp0\nS'a'\np1\nI1\nsS'b'\ng1\ns.") == {"a": 1, "b": "a"}
    assert read(pickle.dumps(OrderedDict(a={1, 2}), 0)) == {"a": {1, 2}}


@pytest.mark.parametrize("protocol", range(6))
def test_names_of_anything_else_are_refused_and_not_run(protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, ("harm",)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"test": Harm()}, protocol))
    with pytest.raises(InputError, match="mkdir, which a file of arrays has no reason to name; nothing of it was run"):
        read_plain_pickle(tmp_path / "x.pkl", "a statistics file")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "raw",
    [
        b"(S'harm'\nios\nmkdir\n.",  # INST
        b"(cos\nmkdir\nS'harm'\no.",
        b"Pharm\n.",
        b"I\n.",
        b"I1_0\n.",
        b"I 1\n.",
        b"I" + b"1" * 5000 + b"\n.",
        b"L" + b"9" * 400 + b"L\n.",
        b"L1LL\n.",
        b"Fone\n.",
        b"F" + b"1" * 5000 + b"\n.",
        b"S'a\n.",
        b"S'a\"\n.",
        b"Sa\n.",
        b"S'\n.",
        b"S'\\'\n.",
        b"S'\\u1234'\n.",
        b"S'\\N{BULLET}'\n.",
        b"S'\\q'\n.",
        b"S'\\\\\\q'\n.",
        b"S'\\777'\n.",
        b"S'unended",
        b"V\\ud800\n.",
        b"V\\u12\n.",
        b"l.",
        b"d.",
        b"(I1\nd.",
        b"((lI1\nd.",
        b"p0\n.",
        b"g0\n.",
        b"I1\npx\n.",
        b"cnumpy\ndtype\n(S'f8'\ntRp0\ng0\n.",
        b"hello",
        b"",
    ],
)
def test_what_makes_no_sense_is_refused(raw: bytes):
    with pytest.raises(Malformed):
        read(raw)


@given(st.data())
def test_damage_is_told_or_does_not_matter(data: st.DataObject):
    content = {"test": [{"average_precision": np.linspace(0, 1, 5), "iteration": 2000}], "bal": None, "x": [1.5, "ü"]}
    raw = bytearray(
        data.draw(st.sampled_from([pickle.dumps(content, 0), pickle.dumps(content, 1), python_2(np.ones(3))]))
    )
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        read(bytes(raw))
    except Malformed as error:
        assert "\n" not in str(error)


def test_a_small_file_cannot_ask_for_much_memory():
    once = b"(lp0\n" + b"".join(b"g0\na" for _ in range(200_000)) + b"."
    with pytest.raises(Malformed, match="MiB of memory"):
        read_pickle(memoryview(once), 0, PLAIN, Budget(1 << 20), lines=True)
    text = b"V" + b"a" * (1 << 20) + b"\n."
    with pytest.raises(Malformed, match="MiB of memory"):
        read_pickle(memoryview(text), 0, PLAIN, Budget(1 << 20), lines=True)


def test_checkpoints_are_not_read_of_these_protocols():
    with pytest.raises(Malformed, match="pickles of protocol 2 to 5 are read"):
        read_pickle(memoryview(b"(lp0\n."), 0, PLAIN, Budget(1 << 20))
