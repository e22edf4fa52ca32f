"""Messages between the processes of a run: JSON, a line each, over TCP."""

import contextlib
import json
import socket
import threading
from typing import Any

_LONGEST = 1 << 20  # bytes of a line; a stranger that sends more is no process of ours

Message = dict[str, Any]


class Wire:
    """A connection to another process; any thread may send, one receives."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = connection.makefile("rb", buffering=0)  # takes nothing of what follows a line
        self._sending = threading.Lock()

    def send(self, kind: str, **more: Any) -> None:
        """Sends a message; one that the other process is not there any more for is lost, which `receive` notices."""
        line = json.dumps({"kind": kind, **more}).encode() + b"\n"
        with self._sending, contextlib.suppress(OSError):
            self.socket.sendall(line)

    def receive(self) -> Message | None:
        """The next message; None where the connection has ended or what came is no message."""
        try:
            message = json.loads(self._reader.readline(_LONGEST))
        except (OSError, ValueError):  # also the empty line at the end
            return None
        return message if isinstance(message, dict) and isinstance(message.get("kind"), str) else None

    def close(self) -> None:
        """Ends the connection; what was sent still arrives."""
        shut(self.socket)
        self._reader.close()


def shut(one: socket.socket) -> None:
    """Ends a connection, or the waiting for some, also for threads that are at it."""
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


def listen(port: int, *, host: str | None = None) -> socket.socket:
    """A socket that others can connect to, at any address of this machine unless `host` names one.

    Raises:
      OSError: the port is taken.
    """
    if host is None and socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):  # a machine whose IPv6 is switched off
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    return socket.create_server((host or "", port), backlog=1024)
