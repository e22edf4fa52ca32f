"""Many files through one function."""

import functools
import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from children import child

from panns_jax.errors import InputError
from panns_jax.execute import Outcome, for_each


def square(number: int) -> int:
    if number == 13:
        raise InputError("13 is no number to square")
    # Early items take longest, so that later ones overtake them.
    time.sleep(0.02 if number % 7 == 0 else 0)
    return number * number


def large(number: int) -> bytes:
    return bytes(1_000_000) + bytes([number])


def die_at_three(number: int) -> bytes:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return bytes(1_000_000)


def first_waits(number: int, *, folder: Path) -> int:
    """The first item ends when no other one has been begun for a while, and returns how many there were."""
    if number:
        (folder / str(number)).touch()
        return number
    begun, deadline = -1, time.monotonic() + 60
    while time.monotonic() < deadline:
        before, begun = begun, sum(1 for _ in folder.iterdir())
        if before == begun > 0:
            break
        time.sleep(0.5)
    return begun


def fail_by_mistake(number: int) -> int:
    raise ZeroDivisionError(number)


def all_outcomes(function, items, workers) -> list[Outcome]:
    with for_each(function, items, workers=workers, task="trying", unit="items") as outcomes:
        return list(outcomes)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_outcomes_come_in_order_and_a_bad_item_stops_nothing(workers):
    outcomes = all_outcomes(square, list(range(30)), workers)
    assert [outcome.item for outcome in outcomes] == list(range(30))
    assert [outcome.result for outcome in outcomes] == [None if n == 13 else n * n for n in range(30)]
    assert {outcome.item: outcome.failure for outcome in outcomes if outcome.failure} == {
        13: "13 is no number to square"
    }


def test_results_larger_than_a_pipe_arrive_whole():
    assert [outcome.result for outcome in all_outcomes(large, list(range(20)), 2)] == [large(n) for n in range(20)]


@pytest.mark.parametrize("workers", [0, 2])
def test_no_items_make_no_outcomes(workers):
    assert all_outcomes(square, [], workers) == []


def test_progress_goes_to_standard_error(capfd):
    all_outcomes(square, [12, 13], 0)
    captured = capfd.readouterr()
    assert captured.out == "" and "2/2" in captured.err and "1 failed" in captured.err


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_killed_worker_is_one_clear_error_that_names_its_item():
    with pytest.raises(InputError, match=r"worker process at work on 3 was ended by signal 9 \(SIGKILL\), as happens"):
        all_outcomes(die_at_three, list(range(20)), 2)


def test_a_mistake_in_the_function_is_no_bad_input_when_working_in_process():
    with pytest.raises(ZeroDivisionError):
        all_outcomes(fail_by_mistake, [1], 0)


def test_a_mistake_in_the_function_ends_the_work_and_shows_where_when_working_by_processes(capfd):
    with pytest.raises(InputError, match="worker process at work on 1 ended with exit code 1"):
        all_outcomes(fail_by_mistake, [1], 1)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_fewer_than_no_workers_is_refused():
    with pytest.raises(InputError, match="--workers must be 0"):
        all_outcomes(square, [1], -1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"workers": 0, "engine": "ray"}, "--workers 0 works in this process alone, which --engine ray cannot"),
        ({"workers": 1, "address": "head:6379"}, "--address head:6379 is that of a Ray cluster, for --engine ray"),
    ],
)
def test_what_an_engine_cannot_do_is_refused(options, sentence):
    with pytest.raises(InputError, match=sentence), for_each(square, [1], task="t", unit="i", **options):
        pass


def test_a_missing_ray_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with (
        pytest.raises(InputError, match=r'--engine ray needs ray: pip install "panns_jax\[ray\]"'),
        for_each(square, [1], workers=1, task="t", unit="i", engine="ray") as outcomes,
    ):
        list(outcomes)


def test_no_more_results_wait_for_an_earlier_item_than_are_let(tmp_path):
    with for_each(
        functools.partial(first_waits, folder=tmp_path), list(range(20)), workers=2, task="t", unit="i", ahead=3
    ) as outcomes:
        assert [outcome.result for outcome in outcomes] == [5, *range(1, 20)]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_worker_that_is_just_starting_does_not_answer_ctrl_c_by_a_traceback():
    printed = child(
        """
        import os, signal
        from panns_jax.engines.local import _Worker

        os.setsid()
        worker = _Worker(abs)
        try:
            os.killpg(0, signal.SIGINT)  # as a terminal does, to all
            signal.pause()
        except KeyboardInterrupt:
            worker.give(0, -3)
            print(worker.take(-3).result)
        worker.end()
        """
    )
    assert printed == "3\n"


def test_leaving_the_block_early_ends_the_workers():
    with for_each(large, list(range(1000)), workers=2, task="trying", unit="items") as outcomes:
        next(outcomes)
        children = _children(os.getpid())
        assert len(children) >= 2
    deadline = time.monotonic() + 10
    while any(_runs_python_worker(pid) for pid in children):
        assert time.monotonic() < deadline, "workers outlived the block"
        time.sleep(0.05)


SLOW_WORK = """
    import time
    from panns_jax.execute import for_each

    def slow(number):
        time.sleep(0.3)
        return number

    if __name__ == "__main__":
        with for_each(slow, range(10_000), workers=2, task="waiting", unit="items") as outcomes:
            for outcome in outcomes:
                print(outcome.item, flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
def test_workers_end_with_the_process_that_commands_them(tmp_path, how):
    script = tmp_path / "work.py"
    script.write_text(textwrap.dedent(SLOW_WORK))
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n"
    workers = [pid for pid in _children(process.pid) if _runs_python_worker(pid)]
    assert len(workers) == 2
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does: to the workers too
    else:
        process.send_signal(how)
    _, errors = process.communicate(timeout=10)
    deadline = time.monotonic() + 10
    while any(_runs_python_worker(pid) for pid in workers):
        assert time.monotonic() < deadline, "workers outlived their master"
        time.sleep(0.05)
    assert errors.count("Traceback") <= 1  # the script's own, none of a worker


def _children(pid: int) -> list[int]:
    listing = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(word) for word in listing.split()]


def _runs_python_worker(pid: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
