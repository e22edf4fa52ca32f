"""JAX's own service between processes, led through our port.

JAX has process 0 serve the others, and ends each of them with a dump of its stack as soon as that service's connection
breaks. Led through a relay in each process, the connection does not break when process 0 is gone: it falls silent, and
we have the time to say in a sentence what has happened. Beside that, the service itself listens to its own machine
only, as it asks nobody for a password.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable

_BYTES = 1 << 16
_STARTS_WITHIN = 60.0  # seconds that the service may take to be there


def relay(connect: Callable[[], socket.socket]) -> int:
    """Leads what connects to a port of this machine on to elsewhere.

    Args:
      connect: makes a connection to where it is led.

    Returns:
      The port.
    """
    server = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []  # what nobody holds is closed

    def accept() -> None:
        while True:
            near, _ = server.accept()
            held.append(near)
            with contextlib.suppress(OSError):  # as where process 0 is gone: the near end is left open, and silent
                join(near, connect(), silent=True)

    threading.Thread(target=accept, name="relay", daemon=True).start()
    return server.getsockname()[1]


def lead_to_service(far: socket.socket, port: int) -> None:
    """Leads a connection that came from another process's relay to the service at a port of this machine."""
    until = time.monotonic() + _STARTS_WITHIN
    while True:
        try:
            join(far, socket.create_connection(("127.0.0.1", port)), silent=False)
            return
        except ConnectionRefusedError:  # it is just being started
            if time.monotonic() > until:
                far.close()
                return
            time.sleep(0.05)


def free_port() -> int:
    """A port of this machine that nothing listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def join(near: socket.socket, far: socket.socket, *, silent: bool) -> None:
    """Has what either side sends arrive at the other, by two threads.

    Args:
      near: the one side.
      far: the other.
      silent: whether `near` is left open where `far` ends.
    """

    def pump(source: socket.socket, target: socket.socket, ends: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_BYTES):
                target.sendall(data)
        if ends:
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)

    for one in (near, far):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=pump, args=(near, far, True), name="relay", daemon=True).start()
    threading.Thread(target=pump, args=(far, near, not silent), name="relay", daemon=True).start()
