"""Many items through one function, over a cluster of several nodes on this machine."""

import functools
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from panns_jax.errors import InputError
from panns_jax.execute import Outcome, for_each

pytestmark = [
    pytest.mark.long,
    # Sockets and log files of Ray's own are still open when it is left.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def square(number: int) -> int:
    if number == 13:
        raise InputError("13 is no number to square")
    time.sleep(0.1 if number % 7 == 0 else 0.02)  # early items take longest, so that later ones overtake them
    return number * number


def mark_and_square(number: int, *, marks: Path) -> tuple[int, np.ndarray]:
    """Takes a while, with a mark at either end, and returns more than Ray sends along with a message."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    (marks / f"{number}.{node}.begun").touch()
    time.sleep(0.4)
    (marks / f"{number}.{node}.ended").touch()
    return number * number, np.full(300_000, number, np.int16)


def fail_by_mistake(number: int) -> int:
    raise ZeroDivisionError(number)


def die_at_three(number: int) -> int:
    if number == 3:
        os._exit(1)
    return number


def all_outcomes(function, items, cluster, workers: int | None = None) -> list[Outcome]:
    with for_each(
        function, items, workers=workers, task="trying", unit="items", engine="ray", address=cluster.address
    ) as outcomes:
        return list(outcomes)


@pytest.mark.parametrize("workers", [None, 2])
def test_outcomes_come_in_order_from_every_node_and_a_bad_item_stops_nothing(cluster, workers):
    outcomes = all_outcomes(square, list(range(40)), cluster, workers)
    assert [outcome.item for outcome in outcomes] == list(range(40))
    assert [outcome.result for outcome in outcomes] == [None if n == 13 else n * n for n in range(40)]
    assert {outcome.item: outcome.failure for outcome in outcomes if outcome.failure} == {
        13: "13 is no number to square"
    }
    assert len(Counter(outcome.node for outcome in outcomes)) == 3


def test_what_a_killed_node_had_is_done_by_the_others(cluster, tmp_path):
    victim = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    cluster.wait_for_nodes()
    items = list(range(40))
    outcomes: list[Outcome] = []
    killed, lost = "", -1
    with for_each(
        functools.partial(mark_and_square, marks=tmp_path),
        items,
        workers=None,
        task="trying",
        unit="items",
        engine="ray",
        address=cluster.address,
    ) as running:
        for outcome in running:
            outcomes.append(outcome)
            if not killed and str(outcome.node).endswith(victim.node_id[:8]):  # it has done some
                lost = _at_work(victim.node_id, tmp_path)
                cluster.remove_node(victim, allow_graceful=False)
                killed = victim.node_id
    assert killed, "the node did nothing"
    assert [outcome.item for outcome in outcomes] == items
    for outcome in outcomes:
        assert outcome.result is not None
        number, row = outcome.result
        assert number == outcome.item**2 and (row == outcome.item).all()
    survivor = str(outcomes[lost].node).split("/")[1]
    assert not killed.startswith(survivor)
    assert list(tmp_path.glob(f"{lost}.{survivor}*.ended"))
    assert len({outcome.node for outcome in outcomes}) == 4


def _at_work(node: str, marks: Path) -> int:
    """An item that the node has just begun."""
    before = {path.name for path in marks.glob(f"*.{node}.begun")}
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for path in marks.glob(f"*.{node}.begun"):
            if path.name not in before:
                return int(path.name.split(".")[0])
        time.sleep(0.01)
    raise AssertionError("the node began no further item")


def test_a_mistake_in_the_function_ends_the_work_and_shows_where(cluster, capsys):
    with pytest.raises(InputError, match="the work on 1 ended with ZeroDivisionError, which is told above"):
        all_outcomes(fail_by_mistake, [1], cluster)
    assert "in fail_by_mistake" in capsys.readouterr().err


def test_a_process_that_dies_again_and_again_is_one_clear_error_that_names_its_item(cluster):
    with pytest.raises(InputError, match="the work on 3 was lost 6 times with its process or its machine"):
        all_outcomes(die_at_three, [1, 2, 3, 4], cluster)


def test_a_cluster_of_its_own_is_started_without_an_address_and_left_behind_by_nobody(monkeypatch):
    ray = pytest.importorskip("ray", reason="needs the package ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with for_each(square, [1, 2, 3], workers=1, task="trying", unit="items", engine="ray") as outcomes:
        assert next(outcomes).result == 1
        assert ray.cluster_resources()["CPU"] == 1
        assert [outcome.result for outcome in outcomes] == [4, 9]
    assert not ray.is_initialized()


def test_an_address_without_a_cluster_is_one_clear_error():
    pytest.importorskip("ray", reason="needs the package ray")
    with (
        pytest.raises(InputError, match=r"--address 127\.0\.0\.1:9: this Ray cluster cannot be joined"),
        for_each(square, [1], workers=1, task="t", unit="i", engine="ray", address="127.0.0.1:9") as outcomes,
    ):
        list(outcomes)
