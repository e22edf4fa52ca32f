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


def relay(connect: Callable[[], socket.socket]) -> socket.socket:
    """Leads what connects to a port of this machine on to elsewhere.

    Args:
      connect: makes a connection to where it is led.

    Returns:
      The socket that listens there, to be shut in the end.
    """
    server = socket.create_server(("127.0.0.1", 0))
    silent: list[socket.socket] = []  # what nobody holds is closed

    def accept() -> None:
        with contextlib.suppress(OSError):  # shut
            while True:
                near, _ = server.accept()
                try:
                    join(near, connect(), silent=True)
                except OSError:  # process 0 is gone
                    silent.append(near)

    threading.Thread(target=accept, name="relay", daemon=True).start()
    return server


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
    """Has what either side sends arrive at the other, by two threads, until `near` ends.

    Args:
      near: the one side.
      far: the other.
      silent: whether `near` is left open where `far` ends.
    """
    for one in (near, far):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def back() -> None:
        _pump(far, near)
        if not silent:
            with contextlib.suppress(OSError):
                near.shutdown(socket.SHUT_RDWR)

    def forth() -> None:
        returning = threading.Thread(target=back, name="relay", daemon=True)
        returning.start()
        _pump(near, far)
        with contextlib.suppress(OSError):
            far.shutdown(socket.SHUT_RDWR)
        returning.join()
        near.close()
        far.close()

    threading.Thread(target=forth, name="relay", daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_BYTES):
            with contextlib.suppress(OSError):  # what nobody takes any more is lost
                target.sendall(data)
