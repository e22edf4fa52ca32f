"""Work that ends at any moment is gone on with as if it had not."""

import shutil
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panns_jax.errors import InputError
from panns_jax.infer.bulk.journal import NAME, Plan
from panns_jax.infer.bulk.rows import Result, Rows
from panns_jax.infer.bulk.store import opened, part_of
from panns_jax.infer.vectors.table import Table
from panns_jax.infer.vectors.writing import write_vectors

FILES = 9
NAMES = [f"ä {number}.wav" for number in range(FILES)]
PLAN = Plan.of({"tap": "embedding,frames"}, NAMES)


def result(number: int, version: int = 0) -> Result:
    """What becomes of a sound: the fifth fails, and others have one to three windows."""
    stamp = (100 + version, number)
    if number == 4:
        return Result(stamp, None, f"{NAMES[number]}: cannot be read as sound")
    random = np.random.default_rng([number, version])
    windows = 1 + number % 3
    steps = random.integers(0, 4, windows)
    vectors = {
        "embedding": random.normal(size=(windows, 3)).astype(np.float32),
        "frames": random.normal(size=(int(steps.sum()), 2)).astype(np.float32),
    }
    return Result(stamp, Rows(np.arange(windows) * 1.0, np.arange(windows) + 1.0, vectors, {"frames": steps}))


def work(out: Path, versions: list[int], *, upto: int = FILES) -> None:
    """Does what is not done yet, or has changed."""
    with opened(out, PLAN, restart=False) as store:
        for number in range(upto):
            entry = store.journal.entries.get(number)
            now = result(number, versions[number])
            if entry is None or entry.stamp != now.stamp:
                store.enter(number, NAMES[number], now)


def table_of(out: Path) -> Table:
    with opened(out, PLAN, restart=False) as store:
        return store.table(NAMES, {}, windows=True)


def assert_whole(out: Path, versions: list[int]) -> None:
    table = table_of(out)
    done = [(n, rows) for n in range(FILES) if (rows := result(n, versions[n]).rows) is not None]
    assert list(table.names) == [NAMES[n] for n, rows in done for _ in rows.start]
    np.testing.assert_array_equal(table.start, np.concatenate([rows.start for _, rows in done]))
    np.testing.assert_array_equal(table.end, np.concatenate([rows.end for _, rows in done]))
    np.testing.assert_array_equal(
        table.taps["frames"].steps, np.concatenate([rows.steps["frames"] for _, rows in done])
    )
    for tap in ("embedding", "frames"):
        whole = np.concatenate([rows.vectors[tap] for _, rows in done])
        np.testing.assert_array_equal(table.read(tap, 0, len(table.names)), whole)


@settings(max_examples=60)
@given(st.data())
def test_wherever_the_journal_and_the_numbers_end_the_work_ends_alike(data: st.DataObject):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "v.h5"
        versions = [0] * FILES
        work(out, versions, upto=data.draw(st.integers(1, FILES)))
        # Killed amidst a line; the numbers of the next sound may be there, as a whole or not.
        journal = part_of(out) / NAME
        content = journal.read_bytes()
        journal.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        for file in sorted(part_of(out).glob("*.raw")):
            with file.open("ab") as opened_file:
                opened_file.write(bytes(data.draw(st.integers(0, 30))))
        changed = data.draw(st.sets(st.integers(0, FILES - 1)))
        for number in changed:
            versions[number] = 1
        work(out, versions)
        assert_whole(out, versions)


@settings(max_examples=30)
@given(st.data())
def test_numbers_that_were_lost_are_made_again(data: st.DataObject):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "v.h5"
        work(out, [0] * FILES)
        file = data.draw(st.sampled_from(sorted(part_of(out).glob("*.raw"))))
        content = file.read_bytes()
        file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        work(out, [0] * FILES)
        assert_whole(out, [0] * FILES)


def test_what_is_done_is_not_done_again(tmp_path: Path):
    out = tmp_path / "v.h5"
    work(out, [0] * FILES, upto=6)
    before = (part_of(out) / NAME).read_bytes()
    work(out, [0] * FILES)
    after = (part_of(out) / NAME).read_bytes()
    assert after.startswith(before)
    assert after.count(b'"file"') == FILES


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (Plan.of({"tap": "logits"}, NAMES), "was begun with tap embedding,frames, not logits: name the same"),
        (Plan.of({"tap": "embedding,frames", "window": 2.0}, NAMES), "was begun with window not set, not 2.0"),
        (Plan.of(PLAN.settings, NAMES[1:]), "was begun on a list of 9 files, not 8"),
        (Plan.of(PLAN.settings, NAMES[::-1]), "was begun on another list of 9 files"),
    ],
)
def test_other_settings_or_files_are_refused_until_it_is_begun_anew(plan: Plan, told: str, tmp_path: Path):
    out = tmp_path / "v.h5"
    work(out, [0] * FILES, upto=3)
    with pytest.raises(InputError, match=told), opened(out, plan, restart=False):
        pass
    with opened(out, plan, restart=True) as store:
        assert not store.journal.entries and store.journal.plan == plan


def test_two_processes_are_not_at_one_output(tmp_path: Path):
    pytest.importorskip("fcntl", reason="needs locks of POSIX")
    with (
        opened(tmp_path / "v.h5", PLAN, restart=False),
        pytest.raises(InputError, match="another process is at work on"),
        opened(tmp_path / "v.h5", PLAN, restart=False),
    ):
        pass


def test_a_full_disk_is_told_and_the_work_gone_on_with_once_there_is_room(tmp_path: Path, full_disk: Any):
    out = tmp_path / "v.h5"
    with pytest.raises(InputError, match=r"cannot write .*: File too large; once that is mended"), full_disk(1000):
        work(out, [0] * FILES)
    assert 0 < (part_of(out) / NAME).stat().st_size <= 1000
    work(out, [0] * FILES)
    assert_whole(out, [0] * FILES)


@pytest.mark.parametrize("name", ["v.h5", "v.npz", "v"])
def test_vectors_do_not_gather_in_memory(name: str, tmp_path: Path):
    out, width, count = tmp_path / name, 65_536, 400
    names = [f"{number}.wav" for number in range(count)]
    plan = Plan.of({}, names)
    tracemalloc.start()
    try:
        with opened(out, plan, restart=False) as store:
            for number in range(count):
                vectors = {"embedding": np.full((1, width), number, np.float32)}
                store.enter(number, names[number], Result((1, 1), Rows(np.zeros(1), np.ones(1), vectors, {})))
            _, written = tracemalloc.get_traced_memory()
            write_vectors(store.table(names, {}, windows=False), out)
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    total = count * width * 4
    assert written < total / 50 and peak < total / 2
    shutil.rmtree(part_of(out))
