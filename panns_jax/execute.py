"""Many items through one function: in order, with progress, and without stopping at a bad one.

Who does the work is an engine: local processes, or Ray over a cluster (`panns_jax/engines/`).
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Generic, Literal, TypeVar

from panns_jax.engines.answer import Answer
from panns_jax.engines.local import by_processes, in_this_process
from panns_jax.errors import InputError
from panns_jax.progress import progress_bar

Engine = Literal["local", "ray"]

Item = TypeVar("Item")
Result = TypeVar("Result")

# Results that may wait, per worker, for an earlier item that takes long: bounds the memory.
_AHEAD = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome(Generic[Item, Result]):
    """What became of one item.

    Attributes:
      item: what the function was given.
      result: what it returned; None where it failed.
      failure: why it failed, in a sentence; None where it did not.
      node: the machine of a cluster that worked on it; None where there is no cluster.
    """

    item: Item
    result: Result | None
    failure: str | None
    node: str | None = None


def available_workers() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def for_each(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None,
    task: str,
    unit: str,
    engine: Engine = "local",
    address: str | None = None,
    ahead: int = _AHEAD,
    failures_in: Callable[[Result | None], int] = lambda result: 0,
    size: Callable[[Item], int] = lambda item: 1,
    done: int = 0,
) -> Generator[Iterator[Outcome[Item, Result]]]:
    """Applies a function to every item, shows progress, and gives the outcomes in the order of the items.

    An InputError raised by the function is the failure of that item alone; every other exception stops the work. The
    processes end when the block is left, in whatever way, and when this process ends. Items that a machine of a
    cluster had when it was lost are done by the others.

    >>> with for_each(read, paths, workers=4, task="reading", unit="files") as outcomes:
    ...     for outcome in outcomes: ...

    Args:
      function: picklable where there are workers, as a function at the top of a module is.
      items: picklable likewise.
      workers: number of processes, or items at work at a time in a cluster; 0 works in this process; None takes as
        many as there are processor cores, here or in the cluster.
      task: what the progress bar is headed with.
      unit: what the items are, for the rate.
      engine: "local" processes, or "ray".
      address: of a cluster of Ray's, "auto" or host:port; without one, Ray is started on this machine.
      ahead: results that may wait, per worker, for an earlier item.
      failures_in: how many failures a result stands for; for the number of failures that is shown.
      size: how many `unit`s an item is, for the progress bar.
      done: how many of them were done before, likewise.

    Raises:
      InputError: `workers` or `address` does not fit, Ray is not installed or cannot be joined, or the function raised
        something else or its process died (when iterating).
    """
    answers = _answers(function, items, workers, engine, address, ahead)
    with contextlib.closing(answers), progress_bar(unit, shown=len(items) > 1) as bar:
        task_id = bar.add_task(task, total=done + sum(map(size, items)), completed=done, note="")

        def shown() -> Iterator[Outcome[Item, Result]]:
            failures = 0
            for item, answer in zip(items, answers, strict=True):
                failures += 1 if answer.failure is not None else failures_in(answer.result)
                bar.update(task_id, advance=size(item), note=f"{failures} failed" if failures else "")
                yield Outcome(item, *answer)

        yield shown()


def counted(outcomes: Iterator[Outcome[Item, Result]], nodes: dict[str, int]) -> Iterator[Outcome[Item, Result]]:
    """The outcomes as they come; adds up in `nodes` how many each machine of a cluster worked on."""
    for outcome in outcomes:
        if outcome.node is not None:
            nodes[outcome.node] = nodes.get(outcome.node, 0) + 1
        yield outcome


def tell_nodes(nodes: dict[str, int]) -> None:
    """Prints which machines of a cluster did how much; nothing without one."""
    if nodes:
        shares = ", ".join(f"{node} ({count})" for node, count in sorted(nodes.items()))
        print(f"work done by {len(nodes)} {'node' if len(nodes) == 1 else 'nodes'}: {shares}")


def _answers(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int | None,
    engine: Engine,
    address: str | None,
    ahead: int,
) -> Generator[Answer, None, None]:
    if workers is not None and workers < 0:
        raise InputError(f"--workers must be 0 (no processes) or more, not {workers}")
    if engine == "ray":
        if workers == 0:
            raise InputError("--workers 0 works in this process alone, which --engine ray cannot")
        if not items:
            return in_this_process(function, items)  # no cluster is started for nothing
        from panns_jax.engines.ray import by_ray

        return by_ray(function, items, workers=workers, ahead=ahead, address=address)
    if address is not None:
        raise InputError(f"--address {address} is that of a Ray cluster, for --engine ray")
    workers = min(available_workers() if workers is None else workers, len(items))
    return by_processes(function, items, workers=workers, ahead=ahead) if workers else in_this_process(function, items)
