"""What may come into the cache, and what is made of what lies there."""

import concurrent.futures
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from http_server import cut
from pth_writer import state_dict, stream_bytes, zip_bytes
from released_file import FILE, HALF, is_loaded, names, said

import panns_jax
from panns_jax.errors import InputError
from panns_jax.files import sha256
from panns_jax.models.registry import REGISTRY
from panns_jax.pretrained import catalogue
from panns_jax.pretrained.cache import cached_file, fetch
from panns_jax.pretrained.catalogue import Released


def test_content_of_another_size_or_hash_is_refused_and_not_kept(server, cache, released, raw):
    server.raw = raw + b"x"
    assert f"has {len(raw) + 1} bytes, where the released file has {len(raw)}; " in said()
    server.raw = raw[:-1] + bytes([raw[-1] ^ 1])
    assert "is not the released file: its sha256 is " in said()
    assert released.sha256 in said()
    assert names(cache) == {f".{FILE}.lock"}


def test_the_released_file_of_another_model_is_told_by_its_content(server, cache, released, monkeypatch):
    other = dataclasses.replace(released, model="Cnn6", file="Cnn6_mAP=0.5.pth")
    wanted = dataclasses.replace(released, sha256="0" * 64)
    monkeypatch.setattr(catalogue, "RELEASED", (wanted, other))
    assert "is Cnn6_mAP=0.5.pth, the released file of Cnn6, not of DemoCnn; " in said()


def test_where_no_hash_is_known_a_file_of_another_model_is_told_by_its_entries(server, cache, unknown, monkeypatch):
    monkeypatch.setitem(REGISTRY, "DemoTwin", dataclasses.replace(REGISTRY["DemoCnn"], name="DemoTwin"))
    monkeypatch.setattr(catalogue, "RELEASED", (Released("Cnn6", FILE),))
    with pytest.raises(InputError) as refused:
        panns_jax.load_model("Cnn6")
    message = str(refused.value)
    assert message.startswith(f"{server.url}/DemoCnn_mAP%3D0.123.pth does not fit Cnn6: ")
    assert "; its names and shapes are those of DemoCnn; " in message
    assert names(cache) == {f".{FILE}.lock"}


def test_where_no_hash_is_known_what_came_first_is_recorded_and_told(server, cache, unknown, raw, tmp_path, capsys):
    (tmp_path / "x").write_bytes(raw)
    digest = sha256(tmp_path / "x")
    assert is_loaded()
    record = cache / f"{FILE}.sha256"
    assert record.read_text() == f"{digest}  {FILE}\n"
    assert f"its sha256 {digest} is recorded in {record}" in capsys.readouterr().err
    cached_file(unknown).unlink()
    server.raw = raw[:-1] + bytes([raw[-1] ^ 1])
    assert f"but what first came under its name had {digest} (if the change is right, remove {record})" in said()
    assert not cached_file(unknown).exists()
    record.unlink()
    assert is_loaded()
    assert record.read_text().split()[0] != digest


def test_where_no_hash_is_known_a_damaged_file_is_refused(server, cache, unknown):
    server.raw = zip_bytes(state_dict({"x": np.ones(3)}))[:-10]
    assert said().startswith(f"{server.url}/DemoCnn_mAP%3D0.123.pth: is cut short or damaged")
    server.raw, server.mark = stream_bytes(state_dict({"x": np.ones(3, np.float32)})), {}
    assert "does not fit DemoCnn" in said()
    assert names(cache) == {f".{FILE}.lock"}


def test_a_file_that_lies_in_the_cache_is_taken_and_left_there(server, cache, released, raw):
    cache.mkdir()
    (cache / FILE).write_bytes(raw)
    assert is_loaded()
    assert server.asked == []
    assert (cache / FILE).read_bytes() == raw
    cached_file(released).unlink()
    (cache / FILE).write_bytes(raw[:-1])
    assert f"{cache / FILE}: has {len(raw) - 1} bytes" in said() and "; remove it, and" in said()
    assert (cache / FILE).exists()
    assert server.asked == []


def test_a_cached_file_that_is_damaged_or_of_something_else_is_told(server, cache, released, raw):
    fetch(released)
    path = cached_file(released)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert said().startswith(f"{path}: is damaged") and said().endswith("; remove it, and it is made anew")
    path.write_bytes(whole.replace(str(released.sha256).encode(), b"0" * 64))
    assert said().startswith(f"{path}: was converted from a file with the sha256 {'0' * 64}, and that of {FILE} is ")


def test_a_full_disk_is_told_and_leaves_nothing(server, cache, released, full_disk, monkeypatch):
    with full_disk(HALF):
        assert said().startswith(f"cannot write {cache}/.{FILE}.part: File too large; ")
    assert names(cache) == {f".{FILE}.lock"}
    monkeypatch.setattr("shutil.disk_usage", lambda _: _Usage(3_000_000))
    assert said().startswith(f"{cache}: has 3 MB free, and {FILE} needs 3 MB while it is converted; PANNS_JAX_CACHE")


def test_a_disk_that_is_full_for_the_converted_file_costs_no_second_download(server, cache, released, raw, full_disk):
    with full_disk(len(raw) + 1000):
        assert said().startswith(f"cannot write {cached_file(released)}: File too large")
    assert names(cache) == {f".{FILE}{end}" for end in (".lock", ".part", ".part.json")}
    assert is_loaded()
    assert len(server.asked) == 1
    assert names(cache) == {"DemoCnn_mAP=0.123.safetensors", f".{FILE}.lock"}


@dataclasses.dataclass
class _Usage:
    free: int


def test_a_cache_folder_that_cannot_be_made_is_told(server, released, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PANNS_JAX_CACHE", str(tmp_path / "file" / "cache"))
    assert said().startswith(f"{tmp_path}/file/cache: cannot be used as the cache folder: Not a directory; ")


def test_what_is_cached_is_loaded_from_a_folder_that_cannot_be_written_to(server, cache, released):
    fetch(released)
    for path in cache.glob(".*"):
        path.unlink()
    cache.chmod(0o500)
    try:
        assert is_loaded()
        assert names(cache) == {"DemoCnn_mAP=0.123.safetensors"} or os.geteuid() == 0
    finally:
        cache.chmod(0o700)


PROGRAM = """
import json, sys
from panns_jax.pretrained import catalogue
catalogue.RELEASED += (catalogue.Released(**json.loads(sys.argv[1])),)
from panns_jax.cli import main
main(["fetch", "DemoCnn"])
"""


@pytest.fixture
def start(released: Released) -> Iterator[Callable[[], "subprocess.Popen[str]"]]:
    """Starts processes that fetch the small checkpoint."""
    entry = json.dumps({"model": "DemoCnn", "file": FILE, "size": released.size, "sha256": released.sha256})
    started: list[subprocess.Popen[str]] = []

    def start() -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", PROGRAM, entry]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_of_processes_at_the_same_time_one_downloads_and_where_it_is_killed_another_goes_on(
    server, cache, released, start
):
    killed = threading.Event()
    server.answers = [cut(HALF, pause=killed.wait)]
    processes = [start() for _ in range(2)]
    waiting: queue.Queue[subprocess.Popen[str]] = queue.Queue()

    def listen(process: Any) -> None:
        for line in process.stderr:
            if line == f"waiting for another process that fetches {FILE}\n":
                waiting.put(process)

    listeners = [threading.Thread(target=listen, args=(process,)) for process in processes]
    for listener in listeners:
        listener.start()
    other = waiting.get(timeout=60)
    (first,) = (process for process in processes if process is not other)
    part = cache / f".{FILE}.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size == HALF) and time.monotonic() < deadline:
        time.sleep(0.01)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        here = pool.submit(fetch, released)
        first.kill()
        assert first.wait() == -signal.SIGKILL
        killed.set()
        assert here.result(60) == cached_file(released)
    assert other.wait(60) == 0
    for listener in listeners:
        listener.join()
    assert server.ranges == [None, f"bytes={HALF}-"]
    assert names(cache) == {"DemoCnn_mAP=0.123.safetensors", f".{FILE}.lock"}
    assert is_loaded()
