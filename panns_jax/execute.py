"""Many files through one function: in order, by local processes, with progress, and without stopping at a bad file."""

import contextlib
import dataclasses
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

from panns_jax.errors import InputError
from panns_jax.progress import progress_bar

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
    """

    item: Item
    result: Result | None
    failure: str | None


def available_workers() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def for_each(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, task: str, unit: str
) -> Generator[Iterator[Outcome[Item, Result]]]:
    """Applies a function to every item, shows progress, and gives the outcomes in the order of the items.

    An InputError raised by the function is the failure of that item alone; every other exception stops the work. The
    processes end when the block is left, in whatever way, and when this process ends.

    >>> with for_each(read, paths, workers=4, task="reading", unit="files") as outcomes:
    ...     for outcome in outcomes: ...

    Args:
      function: picklable where there are workers, as a function at the top of a module is.
      items: picklable likewise.
      workers: number of processes; 0 works in this one.
      task: what the progress bar is headed with.
      unit: what the items are, for the rate.

    Raises:
      InputError: `workers` is negative, or a worker process died (when iterating).
    """
    if workers < 0:
        raise InputError(f"--workers must be 0 (no processes) or more, not {workers}")
    workers = min(workers, len(items))
    outcomes = _by_processes(function, items, workers) if workers else _in_this_process(function, items)
    with contextlib.closing(outcomes), progress_bar(unit, shown=len(items) > 1) as bar:
        task_id = bar.add_task(task, total=len(items), note="")

        def shown() -> Iterator[Outcome[Item, Result]]:
            failures = 0
            for outcome in outcomes:
                failures += outcome.failure is not None
                bar.update(task_id, advance=1, note=f"{failures} failed" if failures else "")
                yield outcome

        yield shown()


def _in_this_process(
    function: Callable[[Item], Result], items: Sequence[Item]
) -> Generator[Outcome[Item, Result], None, None]:
    for item in items:
        yield Outcome(item, *_attempt(function, item))


def _attempt(function: Callable[[Item], Result], item: Item) -> tuple[Result | None, str | None]:
    try:
        return function(item), None
    except InputError as error:
        return None, str(error)


class _Worker:
    """A process with a pipe of its own: the pipe breaks when either side dies, even amidst a message."""

    def __init__(self, function: Callable[..., Any]) -> None:
        context = get_context("spawn")  # the only way that is safe with threads, and the same everywhere
        self.pipe, far_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(far_end, function), daemon=True)
        self.process.start()
        far_end.close()  # held by the process alone, its end closes with it
        self.number: int | None = None
        """Place in the list of the item at work; None while idle."""

    def give(self, number: int, item: object) -> None:
        self.number = number
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # noticed when the answer is awaited
            self.pipe.send(item)

    def take(self, item: object) -> tuple[Any, str | None]:
        try:
            answer = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise InputError(_death(self.process.exitcode, item)) from None
        self.number = None
        return answer

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()
        self.pipe.close()


def _by_processes(
    function: Callable[[Item], Result], items: Sequence[Item], count: int
) -> Generator[Outcome[Item, Result], None, None]:
    workers: list[_Worker] = []
    answers: dict[int, tuple[Any, str | None]] = {}
    given = taken = 0
    try:
        workers.extend(_Worker(function) for _ in range(count))
        while taken < len(items):
            for worker in workers:
                if worker.number is None and given < min(len(items), taken + _AHEAD * count):
                    worker.give(given, items[given])
                    given += 1
            at_work = {worker.pipe: worker for worker in workers if worker.number is not None}
            for pipe in connection.wait(at_work) if taken not in answers else ():
                worker = at_work[pipe]  # pyright: ignore[reportArgumentType]
                number = worker.number
                assert number is not None
                answers[number] = worker.take(items[number])
            if taken in answers:
                yield Outcome(items[taken], *answers.pop(taken))
                taken += 1
    finally:
        for worker in workers:
            worker.end()


def _serve(pipe: Connection, function: Callable[[Any], Any]) -> None:
    """The life of a worker process: answers items until the other end of its pipe is closed."""
    # Ctrl-C reaches every process of the terminal; the one that commands ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            pipe.send(_attempt(function, pipe.recv()))


def _death(exit_code: int | None, item: object) -> str:
    if exit_code is not None and exit_code < 0:
        how = f"was ended by signal {-exit_code} ({signal.Signals(-exit_code).name})"
        if -exit_code == getattr(signal, "SIGKILL", None):
            how += ", as happens when memory runs out"
    else:
        how = f"ended with exit code {exit_code}"
    return f"the worker process at work on {item} {how}; try again, with fewer --workers if it repeats"
