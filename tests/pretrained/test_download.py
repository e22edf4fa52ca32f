"""Released files over HTTP, from a real server that misbehaves."""

import dataclasses
import socket
import threading
from pathlib import Path

import http_server
import numpy as np
import pytest
from http_server import cut, serve, status
from released_file import FILE, HALF, STEP, is_loaded, names, said

import panns_jax
from panns_jax.pretrained import download
from panns_jax.pretrained.cache import cached_file
from panns_jax.pretrained.native import read_provenance
from panns_jax.pretrained.rules import to_published


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
