"""Work over a cluster of machines, by Ray."""

import contextlib
import functools
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from panns_jax.engines.answer import Answer, answer
from panns_jax.errors import InputError, require_extra

# How often an item is tried again whose machine was lost, before the work stops.
_RETRIES = 5
# Nodes join and leave: how long their number is taken for granted, seconds.
_COUNT_AGAIN_AFTER = 5.0
_ANSWERS_WITHIN = 10.0  # seconds


def by_ray(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    *,
    workers: int | None,
    ahead: int,
    address: str | None,
) -> Generator[Answer, None, None]:
    """Answers in the order of the items; each is one task of Ray's, spread over the nodes.

    What a node had when it was lost is done again by the others. A program that has joined a cluster already stays in
    it; else Ray is left when the generator is closed, and its processes end where they were started here.

    Args:
      function: picklable; its module must be installed on every node.
      items: picklable likewise.
      workers: items at work at a time; None for as many as the cluster has processor cores.
      ahead: answers that may wait, per worker, for an earlier item.
      address: of the cluster, "auto" or host:port; None starts one on this machine, unless `RAY_ADDRESS` names one.

    Raises:
      InputError: Ray is not installed, there is no cluster at the address, the function raised what is no InputError,
        or its process died again and again.
    """
    require_extra("--engine ray", "ray", "ray")
    import ray

    with _joined(address, workers):
        task = ray.remote(num_cpus=1, max_retries=_RETRIES, scheduling_strategy="SPREAD")(_answer_from_node)
        shared = ray.put(function)
        cores = _Cores()
        at_work: dict[Any, int] = {}
        done: dict[int, Any] = {}
        given = taken = 0
        try:
            while taken < len(items):
                # Twice as many as there are cores: a core that gets free finds its next item waiting.
                at_a_time = workers or 2 * cores.count()
                while len(at_work) < at_a_time and given < min(len(items), taken + ahead * at_a_time):
                    at_work[task.remote(shared, items[given])] = given
                    given += 1
                if taken not in done:
                    finished, _ = ray.wait(list(at_work), num_returns=1, timeout=_COUNT_AGAIN_AFTER)
                    done.update((at_work.pop(reference), reference) for reference in finished)
                if taken in done:
                    yield _result(done.pop(taken), items[taken])
                    taken += 1
        finally:
            for reference in at_work:
                ray.cancel(reference, force=True)


def _answer_from_node(function: Callable[[Any], Any], item: Any) -> Answer:
    return answer(function, item, _this_node())


@functools.cache
def _this_node() -> str:
    """Host name, and the beginning of Ray's id, as a machine may hold several nodes."""
    import ray

    return f"{socket.gethostname()}/{ray.get_runtime_context().get_node_id()[:8]}"


def _result(reference: Any, item: object) -> Answer:
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(reference)
    except RayTaskError as error:
        print(error, file=sys.stderr)  # the traceback on the node
        cause = type(error.cause).__name__
        raise InputError(f"the work on {item} ended with {cause}, which is told above") from None
    except RayError as error:
        told = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"the work on {item} was lost {_RETRIES + 1} times with its process or its machine ({told}); "
            "try again, with fewer --workers if it repeats"
        ) from None


class _Cores:
    """Processor cores of the cluster, counted now and then."""

    def __init__(self) -> None:
        self._count = 0
        self._at = -_COUNT_AGAIN_AFTER

    def count(self) -> int:
        import ray

        if time.monotonic() - self._at >= _COUNT_AGAIN_AFTER:
            # None at all while every node is away: one item waits for the next node then.
            self._count = max(1, int(ray.cluster_resources().get("CPU", 0)))
            self._at = time.monotonic()
        return self._count


@contextlib.contextmanager
def _joined(address: str | None, workers: int | None) -> Iterator[None]:
    import ray
    from ray.exceptions import RayError

    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray tells its makers of each start
    options: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False} if address == "local" else {}
    _require_answer(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        told = str(error).strip().splitlines()[0]
        raise InputError(f"--address {address}: this Ray cluster cannot be joined: {told}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Asks before Ray does, which waits for minutes for a machine that does not answer."""
    host, separator, port = address.rpartition(":")
    if not separator or "://" in address or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWERS_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--address {address}: this Ray cluster cannot be joined: {error}") from None
