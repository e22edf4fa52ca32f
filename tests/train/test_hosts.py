"""A run of several processes is the run of one, and ends when one of them is gone."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from panns_jax.pretrained.load import load_model
from panns_jax.pretrained.training import checkpoint_steps
from panns_jax.train.log import read_log
from panns_jax.train.statistics import read_statistics

pytest.importorskip("grain")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to stop a process by")

RUN = "DemoCnn-hop80-balanced_train-balanced-mixup-batch8"
FOUR = ("--early-stop", "4", "--checkpoint-every", "2", "--evaluate-every", "2")
ENDLESS = ("--early-stop", "1000000", "--evaluate-every", "1000000")
LOST = 3


@pytest.fixture(scope="module")
def by_one(tmp_path_factory, make_workspace, run_training) -> Path:
    """Four steps of one process with one device."""
    workspace = make_workspace(tmp_path_factory.mktemp("one"))
    run_training(workspace, *FOUR)
    return workspace


def arrays(workspace: Path, iteration: int = 4) -> list[np.ndarray]:
    folder = workspace / "checkpoints" / RUN / str(iteration)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        trees = []
        for item in ("model", "optimizer"):
            there = checkpointer.metadata(folder / item).item_metadata.tree
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), there)
            trees.append(checkpointer.restore(folder / item, restore_args=as_numpy))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(trees)]


def log_of(workspace: Path) -> list[dict[str, Any]]:
    path = workspace / "logs" / RUN / "log.jsonl"
    return read_log(path) if path.exists() else []


def losses(workspace: Path) -> list[tuple[int, float]]:
    return [(line["iteration"], line["loss"]) for line in log_of(workspace) if line["kind"] == "step"]


def assert_same(workspace: Path, other: Path) -> None:
    got, want = losses(workspace), losses(other)
    assert [iteration for iteration, _ in got] == [1, 2, 3, 4]
    np.testing.assert_allclose(got, want, rtol=1e-5)
    # Adam makes a step of the learning rate's size of any gradient, also of one that is 0 but for rounding: there are
    # a few of these among a hundred thousand.
    pairs = zip(arrays(workspace), arrays(other), strict=True)
    apart = np.concatenate([np.abs(ours - theirs).ravel() for ours, theirs in pairs])
    assert np.mean(apart > 1e-5) < 1e-4
    assert apart.max() < 1e-3
    ours, theirs = (read_statistics(one / "statistics" / RUN / "statistics.npz") for one in (workspace, other))
    for part in ("bal", "test"):
        assert [entry["iteration"] for entry in ours[part]] == [0, 2, 4]
        for one, two in zip(ours[part], theirs[part], strict=True):
            np.testing.assert_allclose(one["average_precision"], two["average_precision"], atol=1e-5)
            np.testing.assert_allclose(one["auc"], two["auc"], atol=1e-5)


def await_step(processes: list[subprocess.Popen[str]], workspace: Path, iteration: int) -> None:
    while not any(done >= iteration for done, _ in losses(workspace)):
        for process in processes:
            assert process.poll() is None, process.communicate()
        time.sleep(0.1)


def await_checkpoint(processes: list[subprocess.Popen[str]], workspace: Path) -> None:
    while not checkpoint_steps(workspace / "checkpoints" / RUN):
        for process in processes:
            assert process.poll() is None, process.communicate()
        time.sleep(0.1)


def assert_ends(process: subprocess.Popen[str], code: int, sentence: str) -> None:
    """Ends within the 30 seconds that are promised (and some, on a machine that is busy), with one sentence."""
    _, err = process.communicate(timeout=60)
    others = ("iteration ", "training ", "scoring ", " ", "waiting ", "panns-jax train: ends when")
    last = [line for line in err.splitlines() if not line.startswith(others)]
    assert len(last) == 1, err
    assert re.fullmatch(sentence, last[0]), err
    assert process.returncode == code


@pytest.mark.slow
def test_two_processes_train_as_one_and_one_of_them_writes(tmp_path, make_workspace, run_hosts, by_one):
    workspace = make_workspace(tmp_path)
    first, second = run_hosts(workspace, *FOUR, count=2)
    assert_same(workspace, by_one)
    assert "begins" in first and "iteration 4: bal_mAP" in first
    assert second == ""
    assert len(list((workspace / "logs" / RUN).glob("events.*"))) == 1
    assert [line["kind"] for line in log_of(workspace)].count("start") == 1
    model = load_model(checkpoint=workspace / "checkpoints" / RUN)
    assert np.isfinite(model(np.zeros((1, 4000), np.float32)).clipwise).all()


@pytest.mark.slow
def test_a_killed_process_ends_the_run_which_goes_on_by_one_process(
    tmp_path, make_workspace, start_hosts, run_training
):
    workspace = make_workspace(tmp_path)
    first, second = start_hosts(workspace, *ENDLESS, "--checkpoint-every", "5", count=2)
    await_checkpoint([first, second], workspace)
    second.send_signal(signal.SIGKILL)
    gone = r"process 1 of 2 \(\S+\) has ended, or cannot be reached any more"
    assert_ends(first, LOST, rf"panns-jax train: {gone}: this run ends; started again, it goes on from iteration \d+")
    newest = checkpoint_steps(workspace / "checkpoints" / RUN)[-1]
    said = run_training(workspace, "--early-stop", str(newest + 1), "--evaluate-every", "1000000")
    assert f"goes on from iteration {newest}" in said


@pytest.mark.long
def test_four_processes_train_as_one(tmp_path, make_workspace, run_hosts, by_one):
    workspace = make_workspace(tmp_path)
    run_hosts(workspace, *FOUR, count=4)
    assert_same(workspace, by_one)


@pytest.mark.long
def test_a_run_goes_on_in_another_layout(tmp_path, make_workspace, run_hosts, run_training, by_one):
    workspace = make_workspace(tmp_path)
    for last, count, devices in ((1, 2, 1), (2, 1, 8), (3, 2, 2), (4, 1, 1)):
        options = (*FOUR, "--early-stop", str(last))
        if count == 1:
            run_training(workspace, *options, devices=devices)
        else:
            run_hosts(workspace, *options, count=count, devices=devices)
    assert_same(workspace, by_one)


@pytest.mark.long
@pytest.mark.parametrize("victim", [0, 3])
def test_a_killed_process_of_four_is_named_by_the_others(tmp_path, make_workspace, start_hosts, victim):
    workspace = make_workspace(tmp_path)
    processes = start_hosts(workspace, *ENDLESS, count=4)
    await_step(processes, workspace, 3)
    processes[victim].send_signal(signal.SIGKILL)
    for process in processes[:victim] + processes[victim + 1 :]:
        gone = rf"process {victim} of 4 \(\S+\) has ended, or cannot be reached any more"
        assert_ends(process, LOST, rf"panns-jax train: {gone}: this run ends; started again, it begins anew")


@pytest.mark.long
@pytest.mark.parametrize("victim", [0, 1])
def test_a_stopped_process_ends_the_run_and_ends_when_it_goes_on(tmp_path, make_workspace, start_hosts, victim):
    workspace = make_workspace(tmp_path)
    processes = start_hosts(workspace, *ENDLESS, count=2)
    await_step(processes, workspace, 3)
    processes[victim].send_signal(signal.SIGSTOP)
    silent = rf"panns-jax train: process {victim} of 2 \(\S+\) has not answered for 20 s: this run ends; .*"
    assert_ends(processes[1 - victim], LOST, silent)
    assert processes[victim].poll() is None
    processes[victim].send_signal(signal.SIGCONT)
    assert_ends(processes[victim], LOST, r"panns-jax train: process \d of 2 .*: this run ends; .*")


@pytest.mark.long
@pytest.mark.parametrize("pressed", [(0,), (1,), (0, 1)])
def test_ctrl_c_in_any_process_saves_first(tmp_path, make_workspace, start_hosts, run_hosts, by_one, pressed):
    workspace = make_workspace(tmp_path)
    processes = start_hosts(workspace, *ENDLESS, count=2)
    await_step(processes, workspace, 5)
    for number in pressed:
        processes[number].send_signal(signal.SIGINT)
    for process in processes:
        assert_ends(process, 130, r"python -m panns_jax\.train: interrupted")
    assert checkpoint_steps(workspace / "checkpoints" / RUN) == [losses(workspace)[-1][0]]
    np.testing.assert_allclose(losses(workspace)[:4], losses(by_one), rtol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("pressed", [0, 1])
def test_a_second_ctrl_c_ends_all_though_they_are_saving(tmp_path, make_workspace, start_hosts, pressed):
    workspace = make_workspace(tmp_path)
    processes = start_hosts(workspace, *ENDLESS, count=2)
    await_step(processes, workspace, 5)
    processes[pressed].send_signal(signal.SIGINT)
    while not list((workspace / "checkpoints" / RUN).glob("*[0-9]*")) and processes[pressed].poll() is None:
        time.sleep(0.001)
    processes[pressed].send_signal(signal.SIGINT)
    interrupted = r"python -m panns_jax\.train: interrupted"
    assert_ends(processes[pressed], 130, interrupted)
    # The other one hears of it, unless both were done in the meantime.
    assert_ends(
        processes[1 - pressed], 130, rf"{interrupted}|panns-jax train: process {pressed} of 2 .*: was interrupted"
    )


@pytest.mark.long
def test_what_one_process_cannot_read_ends_all_with_its_sentence(tmp_path, make_workspace, start_hosts):
    workspace = make_workspace(tmp_path)
    processes = start_hosts(workspace, *ENDLESS, count=2)
    await_step(processes, workspace, 3)
    os.truncate(workspace / "hdf5s" / "waveforms" / "balanced_train.h5", 10_000)
    for process in processes:
        prefix = r"(python -m panns_jax\.train|panns-jax train: process \d of 2 \(\S+\)): "
        assert_ends(process, 2, prefix + r".*balanced_train\.h5: has become shorter than it was")


@pytest.mark.long
def test_where_process_0_cannot_write_all_end_with_its_sentence(tmp_path, make_workspace, start_hosts):
    resource = pytest.importorskip("resource")
    workspace = make_workspace(tmp_path)
    first, second = start_hosts(workspace, *ENDLESS, "--checkpoint-every", "1000", count=2)
    await_step([first, second], workspace, 3)
    resource.prlimit(first.pid, resource.RLIMIT_FSIZE, (2000, 2000))
    assert_ends(first, 2, r"python -m panns_jax\.train: cannot write .*log\.jsonl: File too large")
    assert_ends(second, 2, r"panns-jax train: process 0 of 2 \(\S+\): cannot write .*log\.jsonl: File too large")


@pytest.mark.slow
def test_a_process_with_other_options_is_sent_away(tmp_path, make_workspace, start_training):
    workspace = make_workspace(tmp_path)
    common = ("--coordinator", "127.0.0.1:29871", "--processes", "2")
    one = start_training(workspace, *common, "--process", "1", "--seed", "4")
    zero = start_training(workspace, *common, "--process", "0", "--seed", "3")
    for process in (zero, one):
        differs = r"process 1 was started with --seed 4, process 0 with 3: start all with the same"
        assert_ends(process, 2, rf"python -m panns_jax\.train: {differs}")


BUSY = """
    import sys, time
    import jax
    from panns_jax.train.hosts import joined
    from panns_jax.train.placement import Placement

    place = Placement("127.0.0.1", int(sys.argv[1]), 2, int(sys.argv[2]))
    with joined(place, {}, in_flight=2) as hosts:
        assert jax.device_count() == 2
        if not hosts.first:
            # Ever longer programs, until one has taken longer to compile than a process may be silent.
            length, took = 100, 0
            while took < 22:
                def long(x):
                    for _ in range(length):
                        x = jax.numpy.sin(x) * jax.numpy.cumsum(x)
                    return x
                begin = time.monotonic()
                jax.jit(long).lower(jax.numpy.ones(64)).compile()
                length, took = 2 * length, time.monotonic() - begin
        print(hosts.share("done"))
"""


@pytest.mark.long
def test_a_process_that_compiles_for_long_counts_as_there(tmp_path):
    script = tmp_path / "busy.py"
    script.write_text(textwrap.dedent(BUSY))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, script, "29872", str(number)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    try:
        for process in processes:
            out, err = process.communicate(timeout=500)
            assert process.returncode == 0, err
            assert out == "done\n"
    finally:
        for process in processes:
            process.kill()
            process.communicate()
