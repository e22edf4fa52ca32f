"""Memory of batches that is used again."""

import gc
import pickle
import threading

import jax
import numpy as np
import pytest

from panns_jax.data.buffers import Buffers, Filled, Places
from panns_jax.data.shared import can_share

SHORTS = np.dtype(np.int16)


def address(array: np.ndarray) -> int:
    return array.ctypes.data


def test_memory_is_used_again_once_the_array_is_gone():
    buffers = Buffers()
    first = buffers.empty((3, 4), SHORTS)
    place = address(first)
    second = buffers.empty((3, 4), SHORTS)
    assert address(second) != place
    del first
    assert address(buffers.empty((3, 4), SHORTS)) == place
    assert address(buffers.empty((2, 6), SHORTS)) == place


def test_memory_is_not_used_again_while_a_view_is_held():
    buffers = Buffers()
    array = buffers.empty((3, 4), SHORTS)
    place, view = address(array), array[1:].view(np.uint8)[:, 2:]
    del array
    view = view[:1]
    gc.collect()
    assert address(buffers.empty((3, 4), SHORTS)) != place
    del view
    assert address(buffers.empty((3, 4), SHORTS)) == place


def test_memory_is_not_used_again_while_a_device_reads_it():
    buffers = Buffers()
    array = buffers.empty((1000, 1000), SHORTS)
    array[:] = 7
    placed = jax.device_put(array)
    del array
    for _ in range(3):
        buffers.empty((1000, 1000), SHORTS)[:] = 8
    assert (np.asarray(placed) == 7).all()


@pytest.mark.parametrize("shape", [(0, 4), (1,), (2, 3, 4)])
def test_arrays_are_ordinary(shape):
    array = Buffers().empty(shape, np.dtype(np.float32))
    assert (array.shape, array.dtype, array.flags.c_contiguous, array.flags.writeable) == (
        shape,
        np.float32,
        True,
        True,
    )


@pytest.fixture
def places() -> Places:
    if not can_share():
        pytest.skip("memory without a name is Linux's")
    return Places(groups=2, in_each=2, size=24)


def test_a_place_is_claimed_once_until_its_reader_is_done(places):
    there = pickle.loads(pickle.dumps(places))  # as in a worker process
    first, second = there.claim(1, (3, 4), SHORTS), there.claim(1, (3, 4), SHORTS)
    there.array(first)[:] = 1
    there.array(second)[:] = 2
    assert there.claim(1, (3, 4), SHORTS) is None
    array = places.received(first)
    view = array[1:]
    assert (array == 1).all() and (places.received(second) == 2).all()
    again = there.claim(1, (2, 4), SHORTS)
    assert again == Filled(second.place, (2, 4), SHORTS)
    del array
    gc.collect()
    assert there.claim(1, (3, 4), SHORTS) is None
    assert (view == 1).all()
    del view
    assert there.claim(1, (3, 4), SHORTS) == first


def test_groups_have_places_of_their_own(places):
    claimed = [places.claim(group, (3, 4), SHORTS) for group in (0, 1, 0, 1)]
    assert sorted(filled.place for filled in claimed) == [0, 1, 2, 3]
    for number, filled in enumerate(claimed):
        places.array(filled)[:] = number
    assert [places.array(filled)[2, 3] for filled in claimed] == [0, 1, 2, 3]
    places.free(claimed[2])
    assert places.claim(0, (3, 4), SHORTS) == claimed[2]


def test_an_array_that_is_too_large_gets_no_place(places):
    assert places.claim(0, (3, 5000), SHORTS) is None
    assert places.claim(0, (3, 4), SHORTS) is not None


def test_threads_never_get_the_same_memory_at_once():
    buffers = Buffers()
    wrong: list[int] = []

    def use(number: int) -> None:
        for _ in range(2000):
            array = buffers.empty((64,), SHORTS)
            array[:] = number
            if (array != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
