"""Sequences whose arrays worker processes share."""

import gc
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest

from panns_jax.data import shared
from panns_jax.data.shared import Shared

shares = pytest.mark.skipif(not shared.can_share(), reason="memory without a name is Linux's")


class Squares:
    """A sequence with large arrays and a small one."""

    def __init__(self, count: int = 100_000) -> None:
        self.numbers = np.arange(count) ** 2
        self.names = np.array([f"Y{number}.wav".encode() for number in range(count // 2)], "S20")
        self.few = np.arange(3)
        self.twice = self.numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index) -> int:
        return int(self.numbers[index])


def contents(squares) -> tuple[int, int, bytes, list[int], bool]:
    total, last = int(squares.numbers.sum()), bytes(squares.names[-1])
    return len(squares), total, last, squares.few.tolist(), squares.numbers.flags.writeable


@pytest.fixture
def expected() -> tuple[int, int, bytes, list[int]]:
    return contents(Squares())[:-1]


@shares
def test_another_process_sees_the_same_and_cannot_change_it(expected):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(contents, (Shared(Squares()),)) == (*expected, False)


@shares
def test_large_arrays_are_mapped_and_not_carried(expected):
    together = Shared(Squares())
    carried = pickle.dumps(together)
    assert len(carried) < 10_000
    again = pickle.loads(carried)
    assert isinstance(again, Squares)
    assert contents(again) == (*expected, False)
    assert again.twice is again.numbers
    assert pickle.dumps(together) == carried  # for a second process: the same memory


@shares
def test_the_memory_is_given_back_when_none_holds_it():
    def held() -> int:
        return sum(
            "memfd:panns_jax" in str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()
        )

    before = held()
    together = Shared(Squares())
    assert held() == before + 1
    again = pickle.loads(pickle.dumps(together))
    del together
    gc.collect()
    assert again[300] == 90_000
    del again
    gc.collect()
    assert held() == before


def test_where_memory_cannot_be_shared_a_copy_travels(monkeypatch, expected):
    monkeypatch.setattr(shared, "can_share", lambda: False)
    assert contents(pickle.loads(pickle.dumps(Shared(Squares()))))[:-1] == expected


def test_here_it_is_read_as_what_it_holds():
    together = Shared(Squares())
    assert (len(together), together[7]) == (100_000, 49)


def test_a_sequence_of_small_arrays_travels_whole():
    assert contents(pickle.loads(pickle.dumps(Shared(Squares(10))))) == (10, 285, b"Y4.wav", [0, 1, 2], True)
