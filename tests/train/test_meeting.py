"""Processes find each other, agree, and part. Here they are threads of one."""

import concurrent.futures
import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from panns_jax.errors import InputError
from panns_jax.train import meeting
from panns_jax.train.meeting import meet
from panns_jax.train.placement import Placement
from panns_jax.train.relay import free_port, relay
from panns_jax.train.star import Star
from panns_jax.train.wire import shut

AHEAD = 3


def places(count: int) -> list[Placement]:
    port = free_port()
    return [Placement("127.0.0.1", port, count, process) for process in range(count)]


def meet_all(given: list[tuple[Placement, dict[str, Any]]]) -> list[Any]:
    """What `meet` returns or raises for each."""

    def one(place: Placement, told: dict[str, Any]) -> Any:
        try:
            return meet(place, told)[0]
        except InputError as error:
            return str(error)

    with concurrent.futures.ThreadPoolExecutor(len(given)) as pool:
        return list(pool.map(one, *zip(*given, strict=True)))


def all_at_once(stars: list[Star], do: Callable[[Star], Any]) -> list[Any]:
    with concurrent.futures.ThreadPoolExecutor(len(stars)) as pool:
        return list(pool.map(do, stars))


def part(stars: list[Star]) -> None:
    def leave(star: Star) -> None:
        star.await_all()
        star.part()

    all_at_once(stars, leave)


def test_all_get_what_process_0_gives_and_part():
    stars = meet_all([(place, {"--seed": "1"}) for place in places(3)])
    assert all_at_once(stars, lambda star: star.share({"from": star.place.process})) == [{"from": 0}] * 3
    part(stars)


@pytest.mark.parametrize("who", [0, 2])
def test_all_stop_at_the_same_iteration_however_far_each_has_come(who):
    stars = meet_all([(place, {}) for place in places(3)])
    met = threading.Barrier(3)

    def run(star: Star) -> int:
        own = star.place.process
        for iteration in range(1, 1000):
            if iteration == 20:
                met.wait()  # as in step with each other …
            if own == 0 and iteration == 20:
                time.sleep(0.2)  # … but for process 0, which is behind
            if star.agree(own == who and iteration >= 20, iteration, ahead=AHEAD):
                return iteration
            if own and iteration == 20 + AHEAD:
                time.sleep(1.0)  # as they wait for it
        raise AssertionError

    ends = all_at_once(stars, run)
    assert len(set(ends)) == 1
    assert ends[0] > 20
    part(stars)


def test_other_options_are_told_to_all():
    first, second = meet_all([(place, {"--seed": str(place.process)}) for place in places(2)])
    assert first == "process 1 was started with --seed 1, process 0 with 0: start all with the same"
    assert second == first


def test_another_number_of_processes_is_told_to_all():
    one, two = places(2)
    first, second = meet_all([(one, {}), (Placement(two.host, two.port, 3, 1), {})])
    assert first == "process 1 was started with --processes 3, process 0 with 2: start all with the same"
    assert second == first


def test_a_second_process_of_the_same_number_is_sent_away():
    zero, one, two = places(3)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(meet, zero, {}), pool.submit(meet, one, {})]
        concurrent.futures.wait(waiting, timeout=1)
        with pytest.raises(InputError, match=r"--process 1: there is such a process already"):
            meet(one, {})
        stars = [meet(two, {})[0], *(one.result()[0] for one in waiting)]
    part(stars)


def test_a_process_that_does_not_come_is_named(monkeypatch, capsys):
    monkeypatch.setattr(meeting, "_ALL_WITHIN", 1.0)
    monkeypatch.setattr(meeting, "_TELLS_AFTER", 0.1)
    with pytest.raises(InputError, match=r"process 1, 2 of 3 has not come within 1 s"):
        meet(places(3)[0], {})
    assert capsys.readouterr().err == "waiting for process 1, 2 of 3\n"
    with pytest.raises(InputError, match=r"process 0 of 3 at 127\.0\.0\.1:\d+ has not come within 1 s"):
        meet(places(3)[1], {})


def test_a_stranger_is_not_listened_to():
    zero, one = places(2)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(meet, zero, {})
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                stranger = socket.create_connection((zero.host, zero.port))
                break
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert stranger.recv(1) == b""
        stranger.close()
        stars = [meet(one, {})[0], waiting.result()[0]]
    part(stars)


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(InputError, match=rf"cannot listen at port {port}: .*; name another port"):
            meet(Placement("127.0.0.1", port, 2, 0), {})


def test_a_host_that_there_is_not_is_named():
    with pytest.raises(InputError, match=r"--coordinator no\.such\.host\.invalid:7: there is no such host"):
        meet(Placement("no.such.host.invalid", 7, 2, 1), {})


def test_behind_a_relay_a_service_that_is_gone_is_silent():
    with socket.create_server(("127.0.0.1", 0)) as service:
        door = relay(lambda: socket.create_connection(service.getsockname()))
        with socket.create_connection(door.getsockname()) as client:
            far, _ = service.accept()
            client.sendall(b"ask")
            assert far.recv(3) == b"ask"
            far.sendall(b"answer")
            assert client.recv(6) == b"answer"
            far.close()
            client.settimeout(0.5)
            with pytest.raises(TimeoutError):
                client.recv(1)
        shut(door)
