"""Released files over HTTP, from a real server that misbehaves, into the cache."""

import concurrent.futures
import dataclasses
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import http_server
import numpy as np
import pytest
from http_server import Content, cut, serve, status
from pth_writer import state_dict, stream_bytes, zip_bytes

import panns_jax
from panns_jax.cli import main
from panns_jax.errors import InputError
from panns_jax.files import sha256
from panns_jax.models.registry import REGISTRY, model_config
from panns_jax.pretrained import catalogue, download
from panns_jax.pretrained.cache import cached_file, fetch
from panns_jax.pretrained.catalogue import Released
from panns_jax.pretrained.native import read_provenance
from panns_jax.pretrained.rules import to_published

FILE = "DemoCnn_mAP=0.123.pth"
STEP = download.CHUNK
HALF = 20 * STEP


@pytest.fixture(scope="module")
def raw() -> bytes:
    """A small checkpoint."""
    from weights import arbitrary

    from panns_jax.pretrained.rules import entries

    config = model_config("DemoCnn")
    arrays = arbitrary(config)
    published = {entry.published: entry.rule.to_published(arrays[entry.ours]) for entry in entries(config)}
    return stream_bytes({"iteration": 1, "model": state_dict(published)})


@pytest.fixture
def server(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Content]:
    """Has the checkpoint, and is the mirror."""
    with http_server.running() as content:
        content.raw = raw
        monkeypatch.setenv("PANNS_JAX_MIRROR", content.url)
        yield content


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, which is not there yet; waiting is short."""
    monkeypatch.setenv("PANNS_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "WAITS", (0.01, 0.01, 0.01))
    monkeypatch.setattr(download, "UNREACHABLE_WAITS", (0.01,))
    return tmp_path / "cache"


def enter(monkeypatch: pytest.MonkeyPatch, released: Released) -> Released:
    monkeypatch.setattr(catalogue, "RELEASED", (*catalogue.RELEASED, released))
    return released


@pytest.fixture
def released(raw: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Released:
    """The small checkpoint in the catalogue, with all that can be known of it."""
    path = tmp_path / "content"
    path.write_bytes(raw)
    digests = catalogue.digests_of(path)
    return enter(monkeypatch, Released("DemoCnn", FILE, len(raw), digests.md5, digests.sha256))


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> Released:
    """The small checkpoint in the catalogue, where neither size nor hash is known."""
    return enter(monkeypatch, Released("DemoCnn", FILE))


def said(**options: Any) -> str:
    """The sentence with which the model is refused."""
    with pytest.raises(InputError) as refused:
        panns_jax.load_model("DemoCnn", **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def is_loaded() -> bool:
    return panns_jax.load_model("DemoCnn").config == model_config("DemoCnn")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_model_is_downloaded_once_and_then_needs_no_network(server, cache, released, raw, tmp_path, capsys):
    model = panns_jax.load_model("DemoCnn")
    (tmp_path / "by hand.pth").write_bytes(raw)
    by_hand = to_published(panns_jax.load_model("DemoCnn", tmp_path / "by hand.pth"))
    for name, array in to_published(model).items():
        np.testing.assert_array_equal(array, by_hand[name])
    assert names(cache) == {"DemoCnn_mAP=0.123.safetensors", f".{FILE}.lock"}
    assert read_provenance(cached_file(released)) == dataclasses.replace(
        read_provenance(cached_file(released)), file=FILE, sha256=released.sha256, licence="CC BY 4.0"
    )
    assert server.asked == [("/files/DemoCnn_mAP%3D0.123.pth", None)]
    assert FILE in capsys.readouterr().err
    server.answers = [status(500)]
    assert is_loaded()
    assert len(server.asked) == 1
    assert capsys.readouterr().err == ""


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


@pytest.mark.parametrize("known", [True, False])
def test_a_download_that_is_cut_off_goes_on_where_it_was(server, cache, known, request):
    request.getfixturevalue("released" if known else "unknown")
    server.answers = [cut(HALF), status(503), cut(HALF + STEP), cut(HALF + 3 * STEP + 1)]
    assert is_loaded()
    assert server.ranges == [None, *[f"bytes={start}-" for start in (HALF, HALF, HALF + STEP, HALF + 3 * STEP)]]


def test_a_connection_that_is_always_cut_gets_there_as_long_as_it_brings_something(server, cache, released, raw):
    places = range(4 * STEP, len(raw), 4 * STEP)
    server.answers = [cut(place) for place in places]
    assert is_loaded()
    assert len(server.asked) == len(places) + 1 > len(download.WAITS) + 2


def test_a_cut_off_download_is_told_and_never_passes_for_whole(server, cache, released):
    server.answers = [cut(HALF)] * 20
    assert said().startswith(f"{server.url}/DemoCnn_mAP%3D0.123.pth: the connection is cut again and again; try again")
    assert not list(cache.glob("*.safetensors"))
    assert (cache / f".{FILE}.part").stat().st_size == HALF
    server.answers.clear()
    assert is_loaded()
    assert server.ranges[-1] == f"bytes={HALF}-"
    assert not list(cache.glob(".*.part*"))


def test_a_full_answer_where_a_range_was_asked_starts_over(server, cache, released):
    server.answers = [cut(HALF), cut(2 * STEP, ranges=False), lambda request: serve(request, ranges=False)]
    assert is_loaded()
    assert server.ranges == [None, f"bytes={HALF}-", f"bytes={2 * STEP}-"]


@pytest.mark.parametrize("honours_if_range", [True, False])
def test_content_that_changes_while_it_is_gone_on_with_is_noticed(server, cache, unknown, raw, honours_if_range):
    first = b"\x80" + bytes(len(raw) - 1)

    def changed(request: http_server.Request) -> None:
        server.raw, server.mark = raw, {"ETag": '"2"'}
        serve(request, honours_if_range=honours_if_range)

    server.raw = first
    server.answers = [cut(HALF), changed]
    assert is_loaded()
    assert sha256_recorded(cache) == read_provenance(cached_file(unknown)).sha256
    assert server.ranges == [None, f"bytes={HALF}-"] + ([] if honours_if_range else [None])


def sha256_recorded(cache: Path) -> str:
    return (cache / f"{FILE}.sha256").read_text().split()[0]


def test_two_halves_of_different_content_are_found_out_by_the_hash_where_the_server_has_no_marks(
    server, cache, released, raw
):
    server.mark = {}
    server.raw = b"\x80" + bytes(len(raw) - 1)

    def changed(request: http_server.Request) -> None:
        server.raw = raw
        serve(request)

    server.answers = [cut(HALF), changed]
    assert is_loaded()
    assert server.ranges == [None, f"bytes={HALF}-", None]


def test_where_neither_marks_nor_hashes_are_there_nothing_is_gone_on_with(server, cache, unknown):
    server.mark = {}
    server.answers = [cut(HALF)]
    assert is_loaded()
    assert server.ranges == [None, None]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (status(404), "answers 404 (Not Found); "),
        (status(403), "answers 403 (Forbidden); "),
        (status(200), "gives a web page instead of the file; "),
        (status(200, **{"Content-Type": "application/octet-stream"}), "has 35 bytes, where the released file has "),
        (status(202), "answers 202 (Accepted) instead of the file; "),
        (status(200, **{"Content-Length": "many"}), "answers with a Content-Length that is no number; "),
    ],
)
def test_an_answer_that_is_not_the_file_is_told_at_once(server, cache, released, answer, sentence):
    server.answers = [answer]
    message = said()
    assert message.startswith(f"{server.url}/DemoCnn_mAP%3D0.123.pth: {sentence}")
    assert message.endswith(f"download {released.url} in another way and name the file as the checkpoint")
    assert len(server.asked) == 1
    assert names(cache) == {f".{FILE}.lock"}


@pytest.mark.parametrize("content_type", ["text/html", "application/octet-stream"])
def test_a_web_page_is_refused_where_nothing_is_known_of_the_file(server, cache, unknown, content_type):
    server.answers = [status(200, **{"Content-Type": content_type})]
    assert "gives a web page instead of the file" in said()
    assert not list(cache.glob("*.pth.sha256")) and not list(cache.glob("*.safetensors"))


def test_a_server_in_trouble_is_asked_again_and_then_told(server, cache, released):
    server.answers = [status(500), status(503, **{"Retry-After": "0"}), status(429)]
    assert is_loaded()
    cached_file(released).unlink()
    server.answers = [status(500)] * 20
    assert "answers 500 (Internal Server Error); " in said()
    assert len(server.asked) == 4 + 1 + len(download.WAITS)


def test_a_server_that_stops_sending_is_asked_again_and_then_told(server, cache, released, monkeypatch):
    monkeypatch.setattr(download, "READ_TIMEOUT", 0.2)
    stopped = threading.Event()
    server.answers = [cut(HALF, pause=stopped.wait)]
    assert is_loaded()
    assert server.ranges[-1] == f"bytes={HALF}-"
    cached_file(released).unlink()
    server.answers = [lambda _: stopped.wait()] * 20
    assert "sends nothing for 0.2 seconds; " in said()
    stopped.set()


def test_no_server_at_all_is_told_soon(cache, released, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    message = said(mirror=f"http://127.0.0.1:{port}/files/")
    assert message.startswith(f"http://127.0.0.1:{port}/files/DemoCnn_mAP%3D0.123.pth: the server cannot be reached (")
    assert "Connection refused" in message
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("NO_PROXY", "")
    assert "its proxy cannot be reached (Connection refused)" in said(mirror="http://panns.invalid/")


@pytest.mark.parametrize("mirror", ["", "/srv/panns", "file:///srv/panns", "ftp://x/y", "http://", "http://x:y/"])
def test_a_mirror_that_is_no_url_is_told(cache, released, monkeypatch, mirror):
    assert said(mirror=mirror).startswith("the mirror must be the URL of a folder, http://… or https://…, not ")
    if mirror:
        monkeypatch.setenv("PANNS_JAX_MIRROR", mirror)
        assert said().startswith("PANNS_JAX_MIRROR must be the URL of a folder")
    assert not cache.exists()


def test_a_mirror_may_end_in_a_slash_and_carry_a_query(server, cache, released, monkeypatch):
    monkeypatch.delenv("PANNS_JAX_MIRROR")
    panns_jax.load_model("DemoCnn", mirror=f"{server.url}/?token=x#part")
    assert server.asked == [("/files/DemoCnn_mAP%3D0.123.pth?token=x", None)]


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


# Processes

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


# Commands


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert isinstance(end.value.code, int)
    return end.value.code, out, err


def test_fetch_tells_file_hash_licence_and_what_to_cite(server, cache, released, capsys):
    code, out, err = run(capsys, "fetch", "DemoCnn", "--mirror", server.url)
    path = cached_file(released)
    assert code == 0
    assert out.startswith(f"{path}: DemoCnn, converted from {FILE}\n")
    assert f"{released.sha256} (as the catalogue has it)" in out
    assert "licence CC BY 4.0 (https://zenodo.org/records/3987831); cite: Q. Kong" in out
    assert FILE in err
    assert run(capsys, "fetch", "DemoCnn") == (0, out, "")


def test_fetch_does_the_others_where_one_fails(server, cache, released, capsys):
    code, out, err = run(capsys, "fetch", "Cnn14_mel32", "DemoCnn")
    assert code == 1 and "DemoCnn, converted" in out and "left out: Cnn14_mel32 needs a checkpoint" in err
    code, out, err = run(capsys, "fetch", "Cnn41")
    assert (code, out) == (2, "") and "there is no model 'Cnn41'" in err
    assert run(capsys, "fetch")[0] == 2


def test_tag_and_embed_download_the_model_that_they_are_named(server, cache, released, tmp_path, capsys):
    import h5py
    import recipe
    import soundfile

    sound = tmp_path / "sound.wav"
    soundfile.write(sound, recipe.waveform(1, 64000, 32000, 3)[0], 32000)
    code, out, err = run(capsys, "tag", sound, "--model", "DemoCnn", "--mirror", server.url)
    assert (code, len(out.splitlines())) == (0, 11) and FILE in err
    assert run(capsys, "tag", sound, "--model", "DemoCnn") == (0, out, "")
    assert run(capsys, "tag", sound, "--checkpoint", cached_file(released)) == (0, out, "")
    assert run(capsys, "embed", sound, "--model", "DemoCnn", "--out", tmp_path / "x.h5")[0] == 0
    with h5py.File(tmp_path / "x.h5") as file:
        assert file.attrs["checkpoint"] == FILE
    code, _, err = run(capsys, "tag", sound, "--checkpoint", cached_file(released), "--mirror", server.url)
    assert code == 2 and "a mirror is for the released files" in err
    assert len(server.asked) == 1


def test_evaluate_downloads_the_model_that_it_is_named(server, cache, released, tmp_path, capsys):
    import h5py

    index = tmp_path / "index.h5"
    with h5py.File(index, "w") as file:
        file["audio_name"] = np.array([b"Yx.wav"])
        file["target"] = np.ones((1, 5), bool)
        file["hdf5_path"] = np.array([b"x.h5"], "S200")
        file["index_in_hdf5"] = np.zeros(1, np.int32)
    code, out, err = run(capsys, "evaluate", "--index", index, "--model", "DemoCnn", "--mirror", server.url)
    assert (code, out) == (2, "")
    assert f"{index} tells of 5 classes, the model of the released checkpoint of 527" in err
    assert cached_file(released).exists()
