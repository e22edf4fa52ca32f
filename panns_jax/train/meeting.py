"""How the processes of a run find each other: process 0 listens at a port, the others come."""

import contextlib
import queue
import socket
import sys
import threading
import time
from typing import Any

from panns_jax.errors import InputError
from panns_jax.train.placement import Placement
from panns_jax.train.relay import free_port, lead_to_service, relay
from panns_jax.train.star import SILENCE, Star
from panns_jax.train.wire import Message, Wire, listen, shut

_GREETING = "panns_jax 1"
_ALL_WITHIN = 300.0  # seconds for all processes to come
_TELLS_AFTER = 5.0  # seconds of waiting after which this is told
_TRIES_EVERY = 0.3  # seconds between calls of process 0
_GREETS_WITHIN = 10.0  # seconds that who calls may take to say who that is

_Caller = tuple[Message, Wire]


def meet(place: Placement, told: dict[str, Any]) -> tuple[Star, int]:
    """Waits until all processes of a run are there.

    Args:
      place: of this process.
      told: the options that must be the same in all, fit for JSON.

    Returns:
      The connections between them, which watch from now on, and the port of this machine at which JAX's service is
      (process 0), or is reached (all others).

    Raises:
      InputError: some process does not come, or does not belong to the others.
    """
    return _receive_all(place, told) if place.process == 0 else _call(place, told)


def _receive_all(place: Placement, told: dict[str, Any]) -> tuple[Star, int]:
    try:
        server = listen(place.port)
    except OSError as error:
        raise InputError(
            f"--coordinator: process 0 cannot listen at port {place.port}: {error.strerror}; name another port"
        ) from error
    port = free_port()
    callers: queue.SimpleQueue[_Caller] = queue.SimpleQueue()
    begun = threading.Event()
    threading.Thread(target=_accept, args=(server, port, callers, begun), name="hosts", daemon=True).start()
    wires: dict[int, Wire] = {}
    names = {0: socket.gethostname()}
    try:
        waiting = _Waiting()
        while missing := [str(n) for n in range(1, place.processes) if n not in wires]:
            for wire in wires.values():
                wire.send("beat")
            caller = waiting.next(callers, f"process {', '.join(missing)} of {place.processes}")
            if caller is None:
                continue
            hello, wire = caller
            number = hello["process"]
            if number in wires:
                wire.send("end", sentence=f"--process {number}: there is such a process already", code=2)
                wire.close()
                continue
            wires[number], names[number] = wire, hello["name"]
            if differs := _differences(hello, place, told):
                raise InputError(differs)
    except InputError as error:
        for wire in wires.values():
            wire.send("end", sentence=str(error), code=2)
            wire.close()
        shut(server)
        raise
    begun.set()
    for wire in wires.values():
        wire.send("begin", names=names)
    return Star(place, wires, names, server), port


class _Waiting:
    """Waits for processes that are still to come, and tells so after a while."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._told = False

    def next(self, callers: "queue.SimpleQueue[_Caller]", whom: str) -> _Caller | None:
        try:
            return callers.get(timeout=_TRIES_EVERY)
        except queue.Empty:
            self.look(whom)
            return None

    def look(self, whom: str) -> None:
        waited = time.monotonic() - self._since
        if waited > _ALL_WITHIN:
            raise InputError(f"{whom} has not come within {_ALL_WITHIN:.0f} s; all must be started at about one time")
        if waited > _TELLS_AFTER and not self._told:
            print(f"waiting for {whom}", file=sys.stderr, flush=True)
            self._told = True


def _differences(hello: Message, place: Placement, told: dict[str, Any]) -> str:
    """What of the options of another process does not fit; empty where all does."""
    given = {"--processes": place.processes, **told}
    theirs = {"--processes": hello["processes"], **hello["told"]}
    for name in given | theirs:
        if given.get(name) != theirs.get(name):
            return (
                f"process {hello['process']} was started with {name} {theirs.get(name)}, process 0 with"
                f" {given.get(name)}: start all with the same"
            )
    return ""


def _accept(server: socket.socket, port: int, callers: "queue.SimpleQueue[_Caller]", begun: threading.Event) -> None:
    with contextlib.suppress(OSError):  # shut
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_greet, args=(connection, port, callers, begun), name="hosts", daemon=True).start()


def _greet(connection: socket.socket, port: int, callers: "queue.SimpleQueue[_Caller]", begun: threading.Event) -> None:
    connection.settimeout(_GREETS_WITHIN)
    wire = Wire(connection)
    hello = wire.receive()
    connection.settimeout(None)
    if hello is None or hello.get("greeting") != _GREETING:  # a stranger, such as a scan of ports
        wire.close()
    elif hello["kind"] == "relay":
        lead_to_service(connection, port)
    elif begun.is_set():
        wire.send("end", sentence="the run has begun without this process", code=2)
        wire.close()
    else:
        callers.put((hello, wire))


def _call(place: Placement, told: dict[str, Any]) -> tuple[Star, int]:
    zero = f"process 0 of {place.processes} at {place.host}:{place.port}"
    waiting = _Waiting()
    while (connection := _connect(place)) is None:
        waiting.look(zero)
        time.sleep(_TRIES_EVERY)
    wire = Wire(connection)
    own = {"process": place.process, "processes": place.processes, "name": socket.gethostname(), "told": told}
    wire.send("come", greeting=_GREETING, **own)
    connection.settimeout(SILENCE)
    while (answer := wire.receive()) is not None and answer["kind"] == "beat":
        pass
    connection.settimeout(None)
    if answer is None or answer["kind"] == "end":
        wire.close()
    if answer is None:
        raise InputError(f"{zero} has ended, or does not answer, before the run has begun")
    if answer["kind"] == "end":
        raise InputError(answer["sentence"])
    names = {int(number): name for number, name in answer["names"].items()}

    def connect() -> socket.socket:
        onward = socket.create_connection((place.host, place.port))
        Wire(onward).send("relay", greeting=_GREETING)
        return onward

    door = relay(connect)
    return Star(place, {0: wire}, names, door), door.getsockname()[1]


def _connect(place: Placement) -> socket.socket | None:
    try:
        return socket.create_connection((place.host, place.port), timeout=_GREETS_WITHIN)
    except socket.gaierror as error:
        raise InputError(f"--coordinator {place.host}:{place.port}: there is no such host: {error.strerror}") from error
    except OSError:  # it does not listen yet
        return None
