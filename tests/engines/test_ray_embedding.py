"""`panns-jax embed` over a cluster of several nodes on this machine."""

import functools
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from panns_jax.errors import InputError
from panns_jax.execute import for_each
from panns_jax.infer.bulk.hearing import Group, Wanted, hear, hear_group, heard_by_cluster, loaded
from panns_jax.infer.embedding import Embed
from panns_jax.infer.recipes import RECIPES
from panns_jax.infer.sources import SoundFile, StandardInput
from panns_jax.infer.vectors import read_vectors

pytestmark = [
    pytest.mark.long,
    # Sockets and log files of Ray's own are still open when it is left.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

COUNT = 200
RATE = 32000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sounds")
    for number in range(COUNT):
        sound = np.random.default_rng(number).uniform(-0.5, 0.5, RATE // 2)
        soundfile.write(made / f"{number:03}.wav", sound, RATE)
    (made / "050.wav").write_bytes(b"no sound")
    return made


def embed(out: Path, checkpoint: Path, folder: Path, *options: str) -> list[str]:
    """The command, run in the folder of the sounds."""
    files = [path.name for path in sorted(folder.iterdir())]
    relative = os.path.relpath(checkpoint, folder)  # of the checkpoint, too: nodes have other working folders
    command = [sys.executable, "-m", "panns_jax", "embed", *files, "--out", str(out), "--checkpoint", relative]
    return [*command, "--window", "0.3", "--hop", "0.1", *options]


def test_a_cluster_whose_node_is_killed_makes_what_one_process_makes(
    cluster: Any, folder: Path, demo_checkpoint: Path, tmp_path: Path
):
    alone = subprocess.run(
        embed(tmp_path / "alone.h5", demo_checkpoint, folder), capture_output=True, text=True, timeout=300, cwd=folder
    )
    assert alone.returncode == 1, alone.stderr
    victim = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    cluster.wait_for_nodes()
    out = tmp_path / "ray.h5"
    command = embed(out, demo_checkpoint, folder, "--engine", "ray", "--address", cluster.address)
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder)
    try:
        journal = tmp_path / "ray.h5.part" / "journal.jsonl"
        deadline = time.monotonic() + 240
        while not any(node.endswith(victim.node_id[:8]) for node in nodes_in(journal)):
            assert running.poll() is None and time.monotonic() < deadline, "the node did nothing"
            time.sleep(0.005)
        cluster.remove_node(victim, allow_graceful=False)
        output, errors = running.communicate(timeout=300)
    finally:
        running.kill()
    assert running.returncode == 1, errors
    assert "work done by 4 nodes" in output
    assert "left out 1 of 200 files:\n  050.wav: cannot be read as sound" in errors
    found, expected = read_vectors(out), read_vectors(tmp_path / "alone.h5")
    assert found.names == expected.names
    assert found.attributes == expected.attributes
    np.testing.assert_array_equal(found.start, expected.start)
    np.testing.assert_allclose(found.arrays["embedding"], expected.arrays["embedding"], atol=1e-5)
    worked = nodes_in(tmp_path / "ray.h5.journal.jsonl")
    assert sum(worked.values()) == COUNT and len(worked) == 4


def nodes_in(journal: Path) -> Counter[str]:
    """How many files each node did."""
    if not journal.exists():
        return Counter()
    lines = journal.read_bytes().split(b"\n")[:-1]
    return Counter(entry["node"] for line in lines if "node" in (entry := json.loads(line)))


def loads(group: Group, *, model: Embed) -> tuple[str, int, int]:
    """Hears some sounds; the process, how often it loaded the model in its life, and how many it heard."""
    import socket

    heard = hear_group(group, model, Wanted(("embedding",)))
    time.sleep(0.2)  # so that every process gets its share
    return f"{socket.gethostname()}/{os.getpid()}", loaded.cache_info().misses, len(heard)


def test_each_process_loads_the_model_once(cluster: Any, folder: Path, demo_checkpoint: Path):
    groups = [Group((SoundFile(folder / f"{number:03}.wav"),)) for number in range(40)]
    model = Embed(files=(), checkpoint=demo_checkpoint, out=Path("not-written.h5"))
    function = functools.partial(loads, model=model)
    with for_each(
        function, groups, workers=None, task="t", unit="i", engine="ray", address=cluster.address
    ) as outcomes:
        told = [outcome.result for outcome in outcomes if outcome.result is not None]
    processes = Counter(process for process, _, _ in told)
    assert len(told) == 40 and len(processes) >= 3
    assert all((count, heard) == (1, 1) for _, count, heard in told)
    assert max(processes.values()) > 1  # a process that hears several groups


def test_a_model_that_a_node_cannot_load_ends_the_work_in_a_sentence(cluster: Any, folder: Path, tmp_path: Path):
    model = Embed(files=(), checkpoint=tmp_path / "nowhere.safetensors", out=Path("not-written.h5"))
    sources = [SoundFile(folder / "000.wav")]
    with (
        pytest.raises(InputError, match=r"/\w{8}: .*nowhere.safetensors: there is no such file"),
        heard_by_cluster(sources, model, Wanted(("embedding",)), workers=1, address=cluster.address, done=0) as results,
    ):
        list(results)


def test_a_recipe_over_a_cluster_makes_what_one_process_makes(
    cluster: Any, folder: Path, demo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(folder)
    listener = Embed(files=(), checkpoint=demo_checkpoint, out=Path("not-written.h5"))
    wanted = Wanted(("embedding", "logits"))
    sources = list(RECIPES["audioldm-eval"].of([SoundFile(Path(f"{number:03}.wav")) for number in (0, 1, 50)]))
    with heard_by_cluster(sources, listener, wanted, workers=1, address=cluster.address, done=0) as results:
        found = [result for result, _ in results]
    for one, other in zip(found, hear(sources, listener.listener(), wanted), strict=True):
        assert (one.stamp, one.failure) == (other.stamp, other.failure)
        if one.rows and other.rows:
            for tap in wanted.taps:
                np.testing.assert_allclose(one.rows.vectors[tap], other.rows.vectors[tap], atol=1e-5)
    assert [result.rows is None for result in found] == [False, False, True]


def test_standard_input_is_not_heard_by_a_cluster():
    model = Embed(files=(), out=Path("not-written.h5"))
    with (
        pytest.raises(InputError, match="standard input cannot be heard by --engine ray: name files"),
        heard_by_cluster([StandardInput()], model, Wanted(("embedding",)), workers=1, address=None, done=0),
    ):
        pass
