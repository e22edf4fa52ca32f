"""Work in this process, or by processes of this machine."""

import contextlib
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing import connection, get_context, resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from panns_jax.engines.answer import Answer, answer
from panns_jax.errors import InputError


def in_this_process(function: Callable[[Any], Any], items: Sequence[Any]) -> Generator[Answer, None, None]:
    """Answers in the order of the items."""
    for item in items:
        yield answer(function, item)


def by_processes(
    function: Callable[[Any], Any], items: Sequence[Any], *, workers: int, ahead: int
) -> Generator[Answer, None, None]:
    """Answers in the order of the items; the processes end when the generator is closed.

    Args:
      function: picklable, as a function at the top of a module is.
      items: picklable likewise.
      workers: number of processes, at least 1.
      ahead: answers that may wait, per worker, for an earlier item.

    Raises:
      InputError: a process died.
    """
    processes: list[_Worker] = []
    answers: dict[int, Answer] = {}
    given = taken = 0
    try:
        processes.extend(_Worker(function) for _ in range(workers))
        while taken < len(items):
            for worker in processes:
                if worker.number is None and given < min(len(items), taken + ahead * workers):
                    worker.give(given, items[given])
                    given += 1
            at_work = {worker.pipe: worker for worker in processes if worker.number is not None}
            for pipe in connection.wait(at_work) if taken not in answers else ():
                worker = at_work[pipe]  # pyright: ignore[reportArgumentType]
                number = worker.number
                assert number is not None
                answers[number] = worker.take(items[number])
            if taken in answers:
                yield answers.pop(taken)
                taken += 1
    finally:
        for worker in processes:
            worker.end()


class _Worker:
    """A process with a pipe of its own: the pipe breaks when either side dies, even amidst a message."""

    def __init__(self, function: Callable[..., Any]) -> None:
        context = get_context("spawn")  # the only way that is safe with threads, and the same everywhere
        self.pipe, far_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(far_end, function), daemon=True)
        with _interruptions_held_back():
            self.process.start()
        far_end.close()  # held by the process alone, its end closes with it
        self.number: int | None = None
        """Place in the list of the item at work; None while idle."""

    def give(self, number: int, item: object) -> None:
        self.number = number
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # noticed when the answer is awaited
            self.pipe.send(item)

    def take(self, item: object) -> Answer:
        try:
            answered = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise InputError(_death(self.process.exitcode, item)) from None
        self.number = None
        return answered

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()
        self.pipe.close()


@contextlib.contextmanager
def _interruptions_held_back() -> Iterator[None]:
    """A process started here does not hear of Ctrl-C before it can ignore it; this one hears of it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # which, as it starts, lets signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, function: Callable[[Any], Any]) -> None:
    """The life of a worker process: answers items until the other end of its pipe is closed."""
    # Ctrl-C reaches every process of the terminal; the one that commands ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # what it starts itself is to hear of it
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            pipe.send(answer(function, pipe.recv()))


def _death(exit_code: int | None, item: object) -> str:
    if exit_code is not None and exit_code < 0:
        how = f"was ended by signal {-exit_code} ({signal.Signals(-exit_code).name})"
        if -exit_code == getattr(signal, "SIGKILL", None):
            how += ", as happens when memory runs out"
    else:
        how = f"ended with exit code {exit_code}"
    return f"the worker process at work on {item} {how}; try again, with fewer --workers if it repeats"
