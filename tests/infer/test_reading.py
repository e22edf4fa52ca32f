"""Sounds read by threads: in order, no further ahead than agreed, and whatever goes wrong where it belongs."""

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from panns_jax.errors import InputError
from panns_jax.infer import reading
from panns_jax.infer.reading import Reader

RATE = 100


class Tone:
    """A sound of so many blocks of a second, which counts those that were read."""

    def __init__(self, number: int, blocks: int, failing_after: int | None = None) -> None:
        self.name = f"tone {number}"
        self.number, self.count, self.failing_after = number, blocks, failing_after
        self.given = 0

    def blocks(self, sample_rate: int) -> Iterator[np.ndarray]:
        for block in range(self.count):
            if block == self.failing_after:
                raise InputError(f"{self.name}: is broken")
            self.given += 1
            time.sleep(0.0005 * (self.number % 3))
            yield np.full(sample_rate, self.number * 100 + block, np.float32)


def settled(tones: list[Tone]) -> list[int]:
    """How much of each sound has been read once nothing more is."""
    counts = [-1]
    while counts != [tone.given for tone in tones]:
        counts = [tone.given for tone in tones]
        time.sleep(0.1)
    return counts


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_sounds_and_their_blocks_come_in_order(threads: int):
    tones = [Tone(number, 1 + number % 4) for number in range(30)]
    with contextlib.closing(Reader(tones, RATE, threads=threads)) as reader:
        for (source, blocks), tone in zip(reader, tones, strict=True):
            assert source is tone
            assert [block[0] for block in blocks] == [tone.number * 100 + n for n in range(tone.count)]
    assert not any(thread.is_alive() for thread in reader._threads)


def test_a_sound_that_breaks_gives_what_came_before_and_the_others_are_read():
    tones = [Tone(0, 3), Tone(1, 3, failing_after=2), Tone(2, 3)]
    read = []
    with contextlib.closing(Reader(tones, RATE, threads=2)) as reader:
        for source, blocks in reader:
            got = []
            try:
                got.extend(block[0] for block in blocks)
            except InputError as error:
                got.append(str(error))
            read.append((source.name, got))
    assert read == [("tone 0", [0, 1, 2]), ("tone 1", [100, 101, "tone 1: is broken"]), ("tone 2", [200, 201, 202])]


def test_no_more_is_read_ahead_than_agreed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "_WAITING", 20.0)
    monkeypatch.setattr(reading, "_OF_ONE", 8.0)
    tones = [Tone(number, 50) for number in range(10)]
    with contextlib.closing(Reader(tones, RATE, threads=2)) as reader:
        sounds = iter(reader)
        assert settled(tones)[:2] == [9, 9]  # a block more has been read, and waits for room
        assert sum(settled(tones)) == 18
        _, blocks = next(sounds)
        assert len(list(itertools.islice(blocks, 10))) == 10
        assert settled(tones)[0] <= 10 + 9


def test_of_endless_sounds_no_more_are_asked_for_than_may_wait(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "_SOUNDS", 5)
    asked = []

    def tones() -> Iterator[Tone]:
        for number in itertools.count():
            asked.append(number)
            yield Tone(number, 0)

    with contextlib.closing(Reader(tones(), RATE, threads=3)) as reader:
        for number, (source, blocks) in enumerate(itertools.islice(reader, 50)):
            assert (source.name, list(blocks)) == (f"tone {number}", [])
    assert len(asked) <= 50 + 5 + 1


def test_a_sound_that_is_given_up_holds_up_nobody(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "_OF_ONE", 2.0)
    tones = [Tone(number, 20) for number in range(6)]
    seen = []
    with contextlib.closing(Reader(tones, RATE, threads=1)) as reader:
        for source, blocks in reader:
            seen.append((source.name, next(iter(blocks))[0]))
            blocks.close()  # type: ignore[attr-defined]
    assert seen == [(f"tone {number}", number * 100) for number in range(6)]


def test_what_goes_wrong_in_the_list_of_sounds_is_raised_where_they_are_taken():
    def tones() -> Iterator[Tone]:
        yield Tone(0, 1)
        raise KeyError("list")

    with contextlib.closing(Reader(tones(), RATE, threads=2)) as reader, pytest.raises(KeyError, match="list"):
        for _, blocks in reader:
            list(blocks)
    assert threading.active_count() < 20
