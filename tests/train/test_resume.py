"""A run that was killed, or taken up elsewhere, ends as one that never stopped."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from panns_jax.pretrained.training import checkpoint_steps
from panns_jax.train.log import read_log
from panns_jax.train.statistics import read_statistics

pytest.importorskip("grain")
needs_signals = pytest.mark.skipif(os.name == "nt", reason="Windows has no kill -9")

RUN = "DemoCnn-hop80-balanced_train-balanced-mixup-batch8"
LAST = 60
SCHEDULE = ("--early-stop", str(LAST), "--checkpoint-every", "10", "--evaluate-every", "20")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, make_workspace, run_training) -> Path:
    workspace = make_workspace(tmp_path_factory.mktemp("unbroken"))
    run_training(workspace, *SCHEDULE)
    return workspace


def arrays(workspace: Path, run: str, iteration: int = LAST) -> list[np.ndarray]:
    folder = workspace / "checkpoints" / run / str(iteration)
    with ocp.StandardCheckpointer() as checkpointer:
        items = [item for item in ("model", "optimizer", "average") if (folder / item).is_dir()]
        trees = [checkpointer.restore(folder / item) for item in items]
    return [np.asarray(leaf) for leaf in jax.tree.leaves(trees)]


def losses(workspace: Path, run: str = RUN) -> list[tuple[int, float]]:
    lines = read_log(workspace / "logs" / run / "log.jsonl")
    return [(line["iteration"], line["loss"]) for line in lines if line["kind"] == "step"]


def logged(workspace: Path) -> list[dict[str, Any]]:
    """The lines that do not tell of times."""
    return [
        line
        for line in read_log(workspace / "logs" / RUN / "log.jsonl")
        if line["kind"] in ("step", "evaluation", "not_finite")
    ]


def evaluations(workspace: Path, run: str = RUN) -> dict[str, list[dict[str, Any]]]:
    return read_statistics(workspace / "statistics" / run / "statistics.npz")


def assert_ends_alike(workspace: Path, unbroken: Path, run: str = RUN) -> None:
    assert losses(workspace, run) == losses(unbroken)
    for ours, theirs in zip(arrays(workspace, run), arrays(unbroken, RUN), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    ours, theirs = evaluations(workspace, run), evaluations(unbroken)
    for part in ("bal", "test"):
        assert [entry["iteration"] for entry in ours[part]] == list(range(0, LAST + 1, 20))
        for one, other in zip(ours[part], theirs[part], strict=True):
            np.testing.assert_array_equal(one["average_precision"], other["average_precision"])
            np.testing.assert_array_equal(one["auc"], other["auc"])


def kill_when(process: subprocess.Popen[str], happened: Callable[[], bool]) -> bool:
    """Kills the process as soon as something happened; tells whether it was still at work."""
    while not happened() and process.poll() is None:
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def kill_amid_writing(process: subprocess.Popen[str], folder: Path, delay: float) -> None:
    """Kills the process while it writes a checkpoint, a while after it began to: it is halted to make sure of that."""

    def at_it() -> bool:
        return any(folder.glob("*.orbax-checkpoint-tmp"))

    while True:
        while not at_it():
            assert process.poll() is None, process.communicate()
            time.sleep(0.0005)
        time.sleep(delay)
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.02)  # until all its threads stand still
        if at_it():
            break
        process.send_signal(signal.SIGCONT)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert at_it()  # what was half-written is still there


@pytest.mark.slow
@needs_signals
def test_a_run_killed_while_it_saves_and_after_it_scored_ends_alike(
    tmp_path, make_workspace, start_training, run_training, unbroken
):
    workspace = make_workspace(tmp_path)
    folder = workspace / "checkpoints" / RUN

    def saving() -> bool:
        return any(folder.glob("20.*")) or (folder / "30").exists()

    def scored() -> bool:
        # Scored at 40, but no checkpoint of 40 yet: the entry is dropped and made again.
        path = workspace / "statistics" / RUN / "statistics.npz"
        return path.exists() and evaluations(workspace)["test"][-1]["iteration"] == 40

    assert kill_when(start_training(workspace, *SCHEDULE), saving)
    assert kill_when(start_training(workspace, *SCHEDULE), scored)
    said = run_training(workspace, *SCHEDULE)
    assert "goes on from iteration" in said
    assert not list(folder.glob("*tmp*"))
    assert_ends_alike(workspace, unbroken)


@pytest.mark.long
@needs_signals
def test_a_run_killed_twenty_times_ends_alike(tmp_path, make_workspace, start_training, run_training):
    schedule = ("--early-stop=1000", "--checkpoint-every=10", "--evaluate-every=50", "--ema-decay=0.99")
    steady, killed = make_workspace(tmp_path / "steady"), make_workspace(tmp_path / "killed")
    run_training(steady, *schedule)
    folder, log = killed / "checkpoints" / RUN, killed / "logs" / RUN / "log.jsonl"
    rng = np.random.default_rng(0)
    for number in range(20):
        before = log.stat().st_mtime_ns if log.exists() else 0
        process = start_training(killed, *schedule)
        if number % 4 == 1:  # five of them
            kill_amid_writing(process, folder, rng.uniform(0, 0.03))
            continue
        # Some kills come before the first step; most in the third of a second after it, some while it scores.
        early = number % 5 == 0
        while not early and not (log.exists() and log.stat().st_mtime_ns != before and losses(killed)):
            assert process.poll() is None, process.communicate()
            time.sleep(0.001)
        end = time.monotonic() + rng.uniform(0, 3 if early else 0.3)
        assert kill_when(process, lambda end=end: time.monotonic() > end)
    run_training(killed, *schedule)
    assert not list(folder.glob("*tmp*"))
    assert checkpoint_steps(folder) == checkpoint_steps(steady / "checkpoints" / RUN)
    for ours, theirs in zip(arrays(killed, RUN, 1000), arrays(steady, RUN, 1000), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert logged(killed) == logged(steady)
    one, other = (
        np.load(workspace / "statistics" / RUN / "statistics.npz", allow_pickle=False) for workspace in (killed, steady)
    )
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.slow
def test_going_back_branches_off_and_a_fresh_run_stands_beside_the_old(unbroken, run_training, train_here):
    before = {path: path.stat().st_mtime_ns for path in (unbroken / "checkpoints" / RUN).rglob("*")}
    said = run_training(unbroken, *SCHEDULE, "--resume-iteration", "20")
    assert f"{RUN}~2: goes on from iteration 20" in said
    assert_ends_alike(unbroken, unbroken, run=f"{RUN}~2")
    said = train_here(unbroken, *SCHEDULE, "--resume-iteration", "20")  # the branch is gone on with
    assert f"{RUN}~2: goes on from iteration" in said
    assert not (unbroken / "checkpoints" / f"{RUN}~3").exists()
    assert "nothing to do" in train_here(unbroken, "--early-stop", "4")
    run_training(unbroken, "--fresh", "--early-stop", "0")
    assert (unbroken / "checkpoints" / f"{RUN}~3" / "0").is_dir()
    assert before == {path: path.stat().st_mtime_ns for path in (unbroken / "checkpoints" / RUN).rglob("*")}


@pytest.mark.slow
def test_a_run_goes_on_with_more_devices_and_worker_processes(tmp_path, make_workspace, run_training, unbroken):
    workspace = make_workspace(tmp_path)
    run_training(workspace, "--early-stop", "2", "--checkpoint-every", "2", "--evaluate-every", "100")
    run_training(workspace, "--early-stop", "4", "--workers", "1", "--evaluate-every", "100", devices=8)
    got, want = losses(workspace), losses(unbroken)[:4]
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.slow
@needs_signals
def test_ctrl_c_saves_first(tmp_path, make_workspace, start_training, unbroken):
    workspace = make_workspace(tmp_path)
    process = start_training(workspace, "--early-stop", "1000000", "--evaluate-every", "1000000")
    log = workspace / "logs" / RUN / "log.jsonl"
    while not (log.exists() and losses(workspace)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    done = losses(workspace)
    saved = [int(path.name) for path in (workspace / "checkpoints" / RUN).iterdir() if path.name.isdecimal()]
    assert saved == [done[-1][0]]
    shared = min(len(done), LAST)
    assert done[:shared] == losses(unbroken)[:shared]
