"""The processes of a run watch each other: process 0 all the others, and each of them process 0.

Every process sends a beat each second, by a thread. Where a connection breaks, or nothing comes for 20 seconds, the run
cannot go on: whoever notices says so in a sentence, tells those that it is connected to, and ends its process.
"""

import contextlib
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from panns_jax.interruption import leave_at_once
from panns_jax.train.placement import Placement
from panns_jax.train.wire import Message, Wire, shut

LOST = 3
"""Exit code of a process whose run has ended because another process is gone."""

SILENCE = 20.0
"""Seconds without a beat after which a process counts as gone."""

_BEAT = 1.0  # seconds between beats
_LEAVES_WITHIN = 3.0  # seconds for the last words, where standard error or the disk is stuck
_PARTS_WITHIN = 10.0  # seconds that processes may take to part after their work is done


class Star:
    """The connections between process 0 and each of the others."""

    def __init__(
        self, place: Placement, wires: Mapping[int, Wire], names: Mapping[int, str], door: socket.socket
    ) -> None:
        """Begins to watch.

        Args:
          place: of this process.
          wires: to the others by number; process 0 has one to each, the others have one to process 0.
          names: of the machines that the processes run on.
          door: listens as long as the connections are needed.
        """
        self.place = place
        self.checkpoint: Callable[[], int | None] = lambda: None
        """Tells the iteration that the run goes on from when it is started again."""
        self._wires = dict(wires)
        self._names = dict(names)
        self._door = door
        self._silent = dict.fromkeys(wires, 0.0)
        self._shared: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._ends = threading.Lock()
        self._over = threading.Event()
        self._stop_wanted = threading.Event()
        self._stop_at: int | None = None
        self._stop_noted = threading.Semaphore(0)
        self._done = threading.Semaphore(0)
        self._left = threading.Semaphore(0)
        for number, wire in self._wires.items():
            threading.Thread(target=self._receive, args=(number, wire), name="hosts", daemon=True).start()
        threading.Thread(target=self._beat, name="hosts", daemon=True).start()

    def share(self, value: Any) -> Any:
        """Gives all processes the value of process 0, which is to be fit for JSON; the others wait for it."""
        if self.place.process:
            return self._shared.get()
        self._send("share", value=value)
        return value

    def agree(self, wanted: bool, iteration: int, *, ahead: int) -> bool:
        """Whether to stop at this iteration, once any process has wanted to: the same answer in all of them.

        Args:
          wanted: by this process.
          iteration: of this process; asked in each.
          ahead: how many iterations other processes may be ahead of this one, at most.
        """
        if self.place.process:
            if wanted and not self._stop_wanted.is_set():
                self._stop_wanted.set()
                self._send("stop wanted")
        elif (wanted or self._stop_wanted.is_set()) and self._stop_at is None:
            # None of the others can be further by the time it is told, as this process goes on after their answers.
            self._stop_at = iteration + ahead + 1
            self._send("stop at", iteration=self._stop_at)
            for _ in self._wires:
                self._stop_noted.acquire()
        return self._stop_at is not None and iteration >= self._stop_at

    def tell_end(self, sentence: str, code: int) -> bool:
        """Has the other processes end; False where they, or a watching thread of this one, did so before."""
        if not self._ends.acquire(blocking=False):
            return False
        self._send("end", sentence=f"{self._name(self.place.process)}: {sentence}", code=code)
        return True

    def wait_for_end(self) -> None:
        """Waits for a moment for this process to be ended by a watching thread, as when another process is gone."""
        time.sleep(_LEAVES_WITHIN)

    def await_all(self) -> None:
        """Waits until all processes are done with their work; from then on they may part."""
        if self.place.process:
            self._send("done")
            self._done.acquire()
        else:
            for _ in self._wires:
                self._done.acquire()
            self._over.set()
            self._send("done")
        self._over.set()

    def part(self) -> None:
        """Ends the connections, of process 0 after those of the others: with it, JAX's service ends."""
        if not self.place.process:
            until = time.monotonic() + _PARTS_WITHIN
            for _ in self._wires:
                self._left.acquire(timeout=max(0.0, until - time.monotonic()))
        for wire in self._wires.values():
            wire.close()
        shut(self._door)

    def _send(self, kind: str, **more: Any) -> None:
        for wire in self._wires.values():
            wire.send(kind, **more)

    def _name(self, number: int) -> str:
        return f"process {number} of {self.place.processes} ({self._names[number]})"

    def _beat(self) -> None:
        before = time.monotonic()
        while not self._over.is_set():
            time.sleep(_BEAT)
            self._send("beat")
            now = time.monotonic()
            # After this process itself was stopped for long, the others get the time to be heard.
            passed, before = min(now - before, 5 * _BEAT), now
            for number in self._wires:
                self._silent[number] += passed
                if self._silent[number] > SILENCE:
                    self._end(f"{self._name(number)} has not answered for {SILENCE:.0f} s")

    def _receive(self, number: int, wire: Wire) -> None:
        while (message := wire.receive()) is not None:
            self._silent[number] = 0.0
            self._take(message)
        self._left.release()
        if not self._over.is_set():
            self._end(f"{self._name(number)} has ended, or cannot be reached any more")

    def _take(self, message: Message) -> None:
        match message["kind"]:
            case "share":
                self._shared.put(message["value"])
            case "stop wanted":
                self._stop_wanted.set()
            case "stop at":
                self._stop_at = message["iteration"]
                self._send("stop noted")
            case "stop noted":
                self._stop_noted.release()
            case "done":
                # Process 0 sends nothing after this word but the end of the connection.
                if self.place.process:
                    self._over.set()
                self._done.release()
            case "end":
                self._leave(message["sentence"], message["code"])

    def _end(self, why: str) -> None:
        """Ends the run from a watching thread."""
        iteration = None
        with contextlib.suppress(Exception):  # a disk that is gone, too
            iteration = self.checkpoint()
        then = "begins anew" if iteration is None else f"goes on from iteration {iteration}"
        self._leave(f"{why}: this run ends; started again, it {then}", LOST)

    def _leave(self, sentence: str, code: int) -> None:
        if not self._ends.acquire(blocking=False):  # the main thread is at it, or another one
            return
        threading.Thread(target=_leave_soon, args=(code,), name="hosts", daemon=True).start()
        self._send("end", sentence=sentence, code=code)
        leave_with(sentence, code)


def leave_with(sentence: str, code: int) -> NoReturn:
    """Says a last sentence and ends this process at once, from whatever thread."""
    shown = "\x1b[?25h" if sys.stderr.isatty() else ""  # a progress bar hides the cursor
    with contextlib.suppress(OSError):
        os.write(2, f"{shown}panns-jax train: {sentence}\n".encode())
    leave_at_once(code)


def _leave_soon(code: int) -> None:
    time.sleep(_LEAVES_WITHIN)
    os._exit(code)
