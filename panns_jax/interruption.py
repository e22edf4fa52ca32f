"""Ctrl-C that ends a command, whatever the command is in the middle of."""

import _thread
import atexit
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells give it."""

_AGAIN_AFTER = 0.02  # seconds
_BREAKS_OFF_WITHIN = 3.0  # seconds that a second Ctrl-C may take to break off what is done

_at_once = False


class Stopped(KeyboardInterrupt):
    """Ctrl-C was pressed, and the work has come to the end that it is to have then; another Ctrl-C raises no such."""


@contextlib.contextmanager
def interruptions_not_lost() -> Iterator[None]:
    """Raises a KeyboardInterrupt again that Python had to ignore.

    What is raised in a destructor or a garbage collector's callback is printed and forgotten. JAX has such a callback,
    written in Python, and it runs often while programs are traced: about one Ctrl-C in ten was lost there.
    """
    before = sys.unraisablehook

    def deliver_again(unraisable: "sys.UnraisableHookArgs") -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            before(unraisable)
            return
        _interrupt_again()

    sys.unraisablehook = deliver_again
    try:
        yield
    finally:
        if sys.unraisablehook is deliver_again:  # nobody has put another one over it, to stay
            sys.unraisablehook = before


@contextlib.contextmanager
def imports_not_interrupted() -> Iterator[None]:
    """Has Ctrl-C wait for the end of an import that is made inside.

    Extensions make an ImportError of the KeyboardInterrupt, NumPy after it has printed a traceback.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield  # somebody else takes care of it
        return
    caller = sys._getframe(2)

    def interrupt(number: int, frame: FrameType | None) -> None:
        if _is_import(frame, caller):
            _interrupt_again()
        else:
            signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def first_interruption_noted(name: str, note: str) -> Iterator[threading.Event]:
    """Inside, a first Ctrl-C sets the event, and is answered by the note; a second one breaks off.

    Python itself hears of Ctrl-C when what is computed or compiled is done. A thread hears of it at once; it ends the
    process where a second one has not broken off what is inside after a few seconds.

    Args:
      name: of the command, before what is told on standard error.
      note: tells what will happen.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # others get no signals
        yield interrupted
        return

    def take(number: int, frame: object) -> None:
        del number, frame
        interrupted.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, take)
    try:
        with _heard_at_once(name, note):
            yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _heard_at_once(name: str, note: str) -> Iterator[None]:
    left = threading.Event()
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def listen() -> None:
        first = True
        while numbers := reader.recv(64):
            for _ in range(numbers.count(signal.SIGINT)):
                if first:
                    first = False
                    _say(f"{name}: {note}")
                elif not left.wait(_BREAKS_OFF_WITHIN):
                    _say(f"{name}: interrupted")
                    leave_at_once(INTERRUPTED)

    thread = threading.Thread(target=listen, name="interruption", daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(before)
        writer.close()
        thread.join()
        reader.close()


def _say(sentence: str) -> None:
    begin = "\n" if sys.stderr.isatty() else ""  # after a ^C
    with contextlib.suppress(OSError):  # not by `print`, whose lock the main thread may hold
        os.write(2, f"{begin}{sentence}\n".encode())


def _is_import(frame: FrameType | None, caller: FrameType) -> bool:
    while frame is not None and frame is not caller:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def at_once_from_now_on() -> None:
    """Has this process, one of several of a run, end by `leave_at_once` in any case.

    JAX would wait for the others as the interpreter is torn down, and there may be none any more.
    """
    global _at_once
    _at_once = True


def leaves_at_once() -> bool:
    """Whether `at_once_from_now_on` was called."""
    return _at_once


def leave(code: int) -> NoReturn:
    """Ends this process, whose work is done, without tearing the interpreter down, which takes JAX 0.3 s."""
    atexit._run_exitfuncs()
    leave_at_once(code)


def leave_at_once(code: int) -> NoReturn:
    """Ends this process and its children without tearing the interpreter down.

    Torn down after an interruption amidst tracing or compilation, XLA ends in a segmentation fault now and then. Files
    that were being written are gone by now, as their `with` blocks have been left.
    """
    if multiprocessing := sys.modules.get("multiprocessing"):
        for child in multiprocessing.active_children():
            child.kill()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or its reader has gone
            stream.flush()
    os._exit(code)


def _interrupt_again() -> None:
    again = threading.Timer(_AGAIN_AFTER, _interrupt_main_thread)
    again.daemon = True
    again.start()


def _interrupt_main_thread() -> None:
    if hasattr(signal, "pthread_kill"):  # a real signal also ends a wait for the system
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()
