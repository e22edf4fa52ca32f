"""Downloading and packing over a cluster of several nodes on this machine."""

import io
import subprocess
import sys

import http_server
import numpy as np
import pytest
import soundfile

from panns_jax.data.download import download
from panns_jax.data.journal import NAME
from panns_jax.data.obstacles import Reason
from panns_jax.data.pack import pack

pytestmark = [
    pytest.mark.long,
    # Sockets and log files of Ray's own are still open when it is left.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

RATE = 32000


def test_a_cluster_downloads_and_packs_what_one_process_does(cluster, tmp_path, monkeypatch):
    pytest.importorskip("yt_dlp", reason="needs the package yt-dlp")
    monkeypatch.chdir(tmp_path)
    clips = [f"-clip{number:02}" for number in range(24)]
    rows = "".join(f'{clip}, {number % 3}.000, {number % 3 + 1}.000, "/m/09x0r"\n' for number, clip in enumerate(clips))
    csv = tmp_path / "segments.csv"
    csv.write_text(f'# head\n{rows}gone, 0.000, 1.000, "/m/09x0r"\n')
    sound = np.random.default_rng(0).integers(-8000, 8000, 4 * RATE, dtype=np.int16)
    file = io.BytesIO()
    soundfile.write(file, sound, RATE, format="WAV")
    with http_server.running() as server:
        server.raw = file.getvalue()
        server.answers_of["/files/gone.wav"] = [http_server.status(404)]
        report = download(
            csv,
            "clips",  # beneath the working folder, which the nodes do not have
            url_template=f"{server.url}/{{id}}.wav",
            pause=0,
            workers=None,
            engine="ray",
            address=cluster.address,
        )
        asked = len(server.asked)
    assert (report.fetched, report.failed["gone"].reason) == (24, Reason.REMOVED)
    assert len(report.nodes) == 3 and sum(report.nodes.values()) == 25
    assert asked == 2 * 24 + 1
    for number, clip in enumerate(clips):
        waveform, _ = soundfile.read(tmp_path / "clips" / f"Y{clip}.wav", dtype="int16")
        np.testing.assert_array_equal(waveform, sound[number % 3 * RATE : (number % 3 + 1) * RATE])
    assert {path.name for path in (tmp_path / "clips").iterdir() if path.suffix != ".wav"} == {NAME, ".lock"}

    options = {"clip_seconds": 1.0, "sample_rate": RATE}
    by_ray = pack(csv, "clips", tmp_path / "ray.h5", workers=None, engine="ray", address=cluster.address, **options)
    alone = pack(csv, "clips", tmp_path / "alone.h5", **options)
    assert (by_ray.packed, by_ray.left_out) == (alone.packed, alone.left_out) == (24, alone.left_out)
    assert len(by_ray.nodes) == 3 and not alone.nodes
    assert (tmp_path / "ray.h5").read_bytes() == (tmp_path / "alone.h5").read_bytes()


def test_the_command_tells_which_nodes_worked(cluster, tmp_path):
    csv = tmp_path / "segments.csv"
    csv.write_text("".join(f'clip{number}, 0.000, 1.000, "/m/09x0r"\n' for number in range(12)))
    for number in range(12):
        soundfile.write(tmp_path / f"Yclip{number}.wav", np.full(RATE, 0.1), RATE)
    command = [
        sys.executable,
        "-m",
        "panns_jax",
        "pack",
        "--csv",
        csv,
        "--audios",
        tmp_path,
        "--out",
        tmp_path / "x.h5",
    ]
    command += ["--clip-seconds", "1", "--engine", "ray", "--address", cluster.address]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "packed 12 of 12 clips" in done.stdout and "work done by " in done.stdout
