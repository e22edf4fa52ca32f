"""A list shared out among jobs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panns_jax.errors import InputError
from panns_jax.infer.bulk.shards import Shard


@given(length=st.integers(0, 300), of=st.integers(1, 40))
def test_shards_together_are_the_list_and_none_is_longer_by_more_than_one(length: int, of: int):
    items = list(range(length))
    parts = [Shard.parse(f"{number}/{of}").part(items) for number in range(1, of + 1)]
    assert [item for part in parts for item in part] == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_what_is_written_is_read_back(number: int, more: int):
    written = f"{number}/{number + more}"
    assert str(Shard.parse(written)) == written


@pytest.mark.parametrize("written", ["0/4", "5/4", "1", "1/0", "a/b", "-1/4", "1/4/2", "1.5/4", "", "1 /4"])
def test_what_is_no_shard_is_refused(written: str):
    with pytest.raises(InputError, match="--shard must be a part of all, such as 3/16"):
        Shard.parse(written)
