"""Files that are complete or absent."""

import os
import stat

import pytest

from panns_jax.errors import InputError
from panns_jax.files import alone, require_parent, written_aside


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with written_aside(path) as aside:
        aside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_file_without_room_is_named_and_the_old_one_stays(tmp_path, full_disk):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(InputError, match=r"cannot write .*x\.txt: File too large"), full_disk(1000):  # noqa: SIM117
        with written_aside(path) as aside:
            aside.write_text("new" * 1000)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_what_else_fails_while_a_file_is_written_is_told_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="other"), written_aside(tmp_path / "x.txt"):
        (tmp_path / "other").read_text()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_pipe_or_device_is_never_replaced(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(InputError, match="pipe is a pipe or device, which cannot be replaced"), written_aside(path):
        pass
    with pytest.raises(InputError, match="pipe is a pipe or device"):
        require_parent(path)
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.skipif(os.name == "nt", reason="locks of POSIX")
def test_a_block_is_entered_by_one_at_a_time(tmp_path):
    with alone(tmp_path / "lock", "busy"):
        with pytest.raises(InputError, match="busy"), alone(tmp_path / "lock", "busy"):
            pass
        with alone(tmp_path / "another", "busy"):
            pass
    with alone(tmp_path / "lock", "busy"):
        pass
    with pytest.raises(InputError, match=r"cannot write .*lock: No such file"), alone(tmp_path / "no" / "lock", "busy"):
        pass
