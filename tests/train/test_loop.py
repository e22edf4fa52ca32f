"""What happens at which iteration, and what stops a run."""

import dataclasses
import functools
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from panns_jax.errors import InputError, require_extra
from panns_jax.progress import progress_bar
from panns_jax.train import loop
from panns_jax.train.divergence import MOST_IN_A_ROW, Clips, Divergence
from panns_jax.train.log import RunLog, read_log
from panns_jax.train.loop import Actions, Schedule, fit
from panns_jax.train.metrics import score
from panns_jax.train.runs import Run, branch_off, next_run, of_same_options, run_with_checkpoint, started_runs
from panns_jax.train.statistics import Statistics, read_statistics
from panns_jax.train.step import StepReport, TrainState, data_mesh, place

pytest.importorskip("tensorboardX")


def counted(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, StepReport]:
    """A step that does nothing; its loss is the iteration that it begins from."""
    del batch
    report = StepReport(state.iteration.astype(jnp.float32), jnp.float32(1), {"fc1": jnp.float32(1)})
    return dataclasses.replace(state, iteration=state.iteration + 1), report


def run(
    folder: Path,
    schedule: Schedule,
    *,
    start: int = 0,
    step: Callable = counted,
    good: Collection[int] = (),
    skip: bool = False,
    told: list[str] | None = None,
) -> tuple[list[tuple[str, int]], list[dict]]:
    """What was done, in order, and the log; `good` are the iterations whose scores are worth a checkpoint."""
    done: list[tuple[str, int]] = []

    def note(what: str, state: TrainState, iteration: int) -> bool:
        assert int(state.iteration) == iteration
        done.append((what, iteration))
        return iteration in good

    def clips(iteration: int) -> Clips:
        return Clips([f"Y{iteration}a.wav", f"Y{iteration}b.wav"], [f"Y{iteration}b.wav"])

    batch = {"waveform": np.zeros((2, 4), np.int16), "target": np.zeros((2, 1), np.float32)}
    with RunLog(folder, until=start or None) as log, progress_bar("steps") as bar:
        fit(
            TrainState(jnp.int32(start), {"fc1": {"bias": jnp.full(4, 2.0)}}, {}, ()),
            schedule,
            step=step,
            batches=itertools.repeat(batch),
            mesh=data_mesh(jax.devices()[:1]),
            actions=Actions(
                evaluate=functools.partial(note, "evaluate"),
                save=lambda state, iteration: done.append(("save", iteration)),
                learning_rate=lambda iteration: iteration / 1000,
            ),
            divergence=Divergence(log, clips, skip=skip, tell=[].append if told is None else told.append),
            log=log,
            bar=bar,
        )
    return done, read_log(folder / "log.jsonl")


def test_scores_come_before_the_checkpoint_of_the_same_iteration(tmp_path):
    done, log = run(tmp_path, Schedule(last=7, evaluate_every=2, checkpoint_every=4))
    assert done == [
        ("evaluate", 0),
        ("evaluate", 2),
        ("evaluate", 4),
        ("save", 4),
        ("evaluate", 6),
        ("save", 7),
    ]
    steps = [(line["iteration"], line["loss"]) for line in log if line["kind"] == "step"]
    assert steps == [(i + 1, float(i)) for i in range(7)]


def test_a_score_that_is_worth_it_is_saved_between_the_checkpoints(tmp_path):
    done, _ = run(tmp_path, Schedule(last=5, evaluate_every=2, checkpoint_every=4), good=(2, 4))
    assert [iteration for what, iteration in done if what == "save"] == [2, 4, 5]


def test_a_run_of_no_iterations_is_scored_and_saved(tmp_path):
    done, _ = run(tmp_path, Schedule(last=0, evaluate_every=2, checkpoint_every=4))
    assert done == [("evaluate", 0), ("save", 0)]


def test_a_run_that_is_over_does_no_step(tmp_path):
    done, log = run(tmp_path, Schedule(last=4, evaluate_every=3, checkpoint_every=4), start=5)
    assert done == [("save", 5)]
    assert not [line for line in log if line["kind"] == "step"]


def test_two_more_batches_are_put_on_the_device_before_a_step_is_waited_for(tmp_path, monkeypatch):
    placed: list[int] = []
    ahead: dict[int, int] = {}

    class Pending:
        """The loss of a step that the device is at."""

        def __init__(self, step: int) -> None:
            self.step = step

        def block_until_ready(self) -> "Pending":
            ahead.setdefault(self.step, len(placed) - 1 - self.step)
            return self

        def __array__(self, *_: object, **__: object) -> np.ndarray:
            return np.array(self.step, np.float32)

    def note_placed(batch: dict[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
        placed.append(len(placed))
        return place(batch, mesh)

    def pending(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, StepReport]:
        step = int(state.iteration)
        state, report = counted(state, batch)
        return state, report._replace(loss=Pending(step))

    monkeypatch.setattr(loop, "place", note_placed)
    run(tmp_path, Schedule(last=8, evaluate_every=100, checkpoint_every=100), step=pending)
    # The first step is waited for at once, as its time is that of compiling; the last ones have none to follow.
    assert [ahead[step] for step in range(6)] == [0, 2, 2, 2, 2, 2]


def diverging(broken: str, at: Collection[int]) -> Callable:
    """Steps of which some have a loss or gradient norm that is no number."""

    def step(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, StepReport]:
        state, report = counted(state, batch)
        value = jnp.float32(jnp.nan if int(state.iteration) in at else 1.0)
        return state, report._replace(**{broken: value}, gradient_norms={"bn0": jnp.float32(3), "fc1": value})

    return step


@pytest.mark.parametrize("broken", ["loss", "gradient_norm"])
def test_a_loss_or_gradient_that_is_no_number_stops_the_run_before_it_is_saved(tmp_path, broken):
    told: list[str] = []
    done: list[dict] = []
    with pytest.raises(InputError, match=r"diverged: at iteration 3 .* smaller --learning-rate, .* --on-nan skip"):
        run(
            tmp_path, Schedule(last=8, evaluate_every=10, checkpoint_every=4), step=diverging(broken, {3, 4}), told=told
        )
    done = read_log(tmp_path / "log.jsonl")
    assert [line["iteration"] for line in done if line["kind"] == "step"] == [1, 2, 3]
    last = done[-1]
    assert (last["kind"], last["iteration"], last["skipped"]) == ("not_finite", 3, False)
    assert last[broken] is None  # NaN is not JSON
    assert last["gradient_norms"] == {"bn0": 3, "fc1": None}
    assert last["weight_norms"] == {"fc1": 4}  # of four times 2
    assert (last["clips"], last["broken_clips"]) == (["Y3a.wav", "Y3b.wav"], ["Y3b.wav"])
    (text,) = told
    for part in ("at iteration 3", "gradients: fc1 nan, bn0 3", "weights: fc1 4", "Y3a.wav, Y3b.wav", "finite: Y3b"):
        assert part in text


def test_a_run_goes_on_without_what_is_not_finite_if_asked_to(tmp_path):
    told: list[str] = []
    step = diverging("loss", {3, 4, 6})
    schedule = Schedule(last=8, evaluate_every=10, checkpoint_every=4)
    done, log = run(tmp_path, schedule, step=step, skip=True, told=told)
    assert done == [("evaluate", 0), ("save", 4), ("save", 8)]
    skips = [line for line in log if line["kind"] == "not_finite"]
    assert [(line["iteration"], line["skipped"]) for line in skips] == [(3, True), (4, True), (6, True)]
    assert [line["iteration"] for line in log if line["kind"] == "step"] == list(range(1, 9))
    assert "left out (3 so far)" in told[-1]


def test_a_run_without_effect_ends(tmp_path):
    one_less = range(2, 1 + MOST_IN_A_ROW)
    run(
        tmp_path, Schedule(last=40, evaluate_every=50, checkpoint_every=50), step=diverging("loss", one_less), skip=True
    )
    schedule = Schedule(last=40, evaluate_every=50, checkpoint_every=4)
    with pytest.raises(InputError, match=r"at iteration 21 .*, as in the 19 steps before") as error:
        run(tmp_path, schedule, step=diverging("loss", range(2, 40)), skip=True)
    assert "--on-nan" not in str(error.value)


def test_the_learning_rate_and_the_time_left_are_shown(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loop, "_LOOK_EVERY", 0.0)
    _, log = run(tmp_path, Schedule(last=9, evaluate_every=10, checkpoint_every=10))
    lines = [line for line in capsys.readouterr().err.splitlines() if "clips/s" in line and "iteration" in line]
    shape = r"iteration \d of 9: loss \d\.0000, learning rate (\d)\.00e-03, \d+ clips/s, data wait \d+%"
    shown = [re.fullmatch(shape + r"(, 0:00:\d\d left)?", line) for line in lines]
    assert all(shown)
    assert [match[2] is None for match in shown if match] == [False] * (len(shown) - 1) + [True]  # none at the end
    speeds = [line for line in log if line["kind"] == "speed"]
    assert [line["learning_rate"] for line in speeds] == [line["iteration"] / 1000 for line in speeds]


def test_nothing_of_the_progress_is_cut_off_on_a_terminal_of_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    note = "loss 0.0494, learning rate 1.00e-03, 1497 clips/s, data wait 12%"
    with progress_bar("steps") as bar:
        bar.add_task("training", total=1_000_000, completed=123_456, note=note)
    shown = capsys.readouterr().err
    assert "…" not in shown
    words = shown.split()
    assert words[0] == "training" and "123456/1000000" in words
    assert [word for word in words if word in note.split()] == note.split()


def test_a_log_that_is_taken_up_tells_every_step_once(tmp_path):
    run(tmp_path, Schedule(last=6, evaluate_every=10, checkpoint_every=10))
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"kind": "step", "iteration": 7, "lo')  # as a kill leaves it
    _, log = run(tmp_path, Schedule(last=8, evaluate_every=10, checkpoint_every=10), start=4)
    assert [line["iteration"] for line in log if line["kind"] == "step"] == list(range(1, 9))


def test_a_log_of_a_new_run_begins_empty(tmp_path):
    (tmp_path / "log.jsonl").write_text(json.dumps({"kind": "step", "iteration": 1}) + "\n")
    with RunLog(tmp_path, until=None):
        pass
    assert read_log(tmp_path / "log.jsonl") == []


def test_tensorboard_files_hold_the_losses(tmp_path):
    run(tmp_path, Schedule(last=3, evaluate_every=10, checkpoint_every=10))
    assert any(b"step/loss" in path.read_bytes() for path in tmp_path.glob("events.out.tfevents.*"))


def test_a_perfect_score_is_logged_without_a_word(tmp_path, caplog):
    with RunLog(tmp_path, until=None) as log:
        log.write("evaluation", 0, {"test_mAP": 1.0, "test_d_prime": math.inf})
    assert read_log(tmp_path / "log.jsonl") == [
        {"kind": "evaluation", "iteration": 0, "test_mAP": 1.0, "test_d_prime": None}
    ]
    assert not caplog.records


def test_a_log_without_room_is_named(tmp_path, full_disk):
    with pytest.raises(InputError, match=r"cannot write .*log\.jsonl: File too large"), full_disk(2000):  # noqa: SIM117
        with RunLog(tmp_path, until=None) as log:
            for iteration in range(1000):
                log.write("step", iteration, {"loss": 1.0})
            log.flush()


def test_a_log_that_a_crash_has_garbled_is_taken_up(tmp_path):
    (tmp_path / "log.jsonl").write_bytes(b'{"kind": "step", "iteration": 1}\n\xff\x00\xfe\n')
    with RunLog(tmp_path, until=1):
        pass
    assert read_log(tmp_path / "log.jsonl") == [{"kind": "step", "iteration": 1}]


def scores_of(seed: int):
    rng = np.random.default_rng(seed)
    target = rng.random((9, 3)) < 0.4
    target[:, 2] = False
    return score(target, rng.random((9, 3)))


def test_statistics_are_taken_up_without_what_comes_later(tmp_path):
    pytest.importorskip("sklearn")
    statistics = Statistics(tmp_path, until=None)
    for iteration in (0, 10, 20):
        statistics.add(iteration, {"bal": scores_of(iteration), "test": scores_of(iteration + 1)})
    again = Statistics(tmp_path, until=15)
    assert 10 in again
    assert 20 not in again
    again.add(20, {"bal": scores_of(7), "test": scores_of(8)})
    read = read_statistics(tmp_path / "statistics.npz")
    assert [entry["iteration"] for entry in read["bal"]] == [0, 10, 20]
    np.testing.assert_array_equal(read["test"][1]["average_precision"], scores_of(11).average_precision)
    np.testing.assert_array_equal(read["bal"][2]["auc"], scores_of(7).auc)


def test_the_published_container_holds_the_same(tmp_path):
    import pickle

    pytest.importorskip("sklearn")
    Statistics(tmp_path, until=None).add(0, {"bal": scores_of(1), "test": scores_of(2)})
    pickled = (tmp_path / "statistics.pkl").read_bytes()
    assert b"numpy._core" not in pickled  # which NumPy 1 does not know
    container = pickle.loads(pickled)
    assert set(container) == {"bal", "test"}
    (entry,) = container["test"]
    assert set(entry) == {"iteration", "average_precision", "auc"}
    assert math.isnan(entry["average_precision"][2])
    maps = np.nanmean(np.array([entry["average_precision"] for entry in container["bal"]]), axis=-1)  # as it is plotted
    assert maps.shape == (1,)
    ours, theirs = (read_statistics(tmp_path / f"statistics.{kind}") for kind in ("npz", "pkl"))
    for part in ("bal", "test"):
        for field in ("iteration", "average_precision", "auc"):
            np.testing.assert_array_equal(theirs[part][0][field], ours[part][0][field])


@pytest.mark.parametrize("content", [{"bal": []}, {"bal": [], "test": [{"iteration": 0}]}, [], print])
def test_a_pickle_that_holds_no_statistics_is_refused_and_not_run(tmp_path, content):
    import pickle

    (tmp_path / "statistics.pkl").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(InputError, match=r"statistics\.pkl: "):
        read_statistics(tmp_path / "statistics.pkl")


def test_damaged_statistics_are_named(tmp_path):
    (tmp_path / "statistics.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(InputError, match=r"statistics\.npz: is no statistics file, or damaged; remove it"):
        Statistics(tmp_path, until=3)


def test_runs_are_numbered_and_the_newest_comes_first(tmp_path):
    assert started_runs(tmp_path, "a-b") == []
    first = next_run(tmp_path, "a-b")
    assert first.name == "a-b"
    first.create({"seed": 1})
    second = next_run(tmp_path, "a-b")
    assert second.name == "a-b~2"
    second.create({"seed": 2}, branched_at=4)
    next_run(tmp_path, "a-bc").create({})
    assert started_runs(tmp_path, "a-b") == [second, first]
    assert second.saved_options() == {"seed": 2, "branched_at": 4}
    assert (first.branched_at, second.branched_at) == (None, 4)


@pytest.mark.skipif(os.name == "nt", reason="locks of POSIX")
def test_a_run_is_trained_by_one_process_at_a_time(tmp_path):
    run = next_run(tmp_path, "a")
    with run.alone():
        assert next_run(tmp_path, "a") == run  # nothing was saved yet
        with pytest.raises(InputError, match=r"another process is training this run; .* --fresh"), run.alone():
            pass
        with Run(tmp_path, "a~2").alone():
            pass
    with run.alone():
        pass


def test_a_run_that_was_cut_off_before_it_was_saved_has_taken_no_number(tmp_path):
    run = next_run(tmp_path, "a")
    run.checkpoints.mkdir(parents=True)
    (run.checkpoints / ".config.json.x.part").touch()  # as a kill leaves it
    assert next_run(tmp_path, "a") == run


def test_a_branch_that_was_cut_off_is_not_gone_on_with(tmp_path):
    first = next_run(tmp_path, "a")
    first.create({})
    (first.checkpoints / "5").mkdir()
    (first.logs / "log.jsonl").write_text("")
    branch_off(first, Run(tmp_path, "a~2"), 5)  # and no more: `create` did not follow
    assert started_runs(tmp_path, "a") == [first]
    assert next_run(tmp_path, "a").name == "a~3"


def test_a_branch_without_room_ends_in_a_sentence_and_leaves_nothing(tmp_path, full_disk):
    first = next_run(tmp_path, "a")
    first.create({})
    (first.logs / "log.jsonl").write_text("")
    (first.checkpoints / "5" / "model").mkdir(parents=True)
    (first.checkpoints / "5" / "model" / "weights").write_bytes(bytes(5000))
    with pytest.raises(InputError, match=r"a~2: the checkpoint of iteration 5 cannot be copied there: File too large"):  # noqa: SIM117
        with full_disk(2000):
            branch_off(first, Run(tmp_path, "a~2"), 5)
    assert not list(tmp_path.glob("*/a~2"))
    assert next_run(tmp_path, "a").name == "a~2"


def test_a_device_without_memory_ends_in_a_sentence():
    from panns_jax.train import training

    def out_of_memory(*_: object) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")

    def broken(*_: object) -> None:
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(InputError, match=r"memory of the device does not suffice; .* --accumulation-steps"):  # noqa: SIM117
        with training.memory_told():
            out_of_memory()
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"), training.memory_told():
        broken()
    with pytest.raises(InputError, match=r"memory of this machine .* smaller --batch-size"), training.memory_told():
        np.empty(1 << 60, np.uint8)


def test_the_newest_run_of_the_same_options_is_gone_on_with(tmp_path):
    runs = [Run(tmp_path, name) for name in ("a~3", "a~2", "a")]
    for run, seed in zip(runs, (3, 2, 2), strict=True):
        run.create({"seed": seed, "workers": 0})
    free = frozenset({"workers"})
    assert of_same_options(runs, {"seed": 2, "workers": 4}, free) == runs[1:]
    assert of_same_options([], {"seed": 1, "workers": 0}, free) == []
    later = {"seed": 2, "workers": 4, "weight_decay": 0.0}
    assert of_same_options(runs, later, free, {"weight_decay": 0.0, "seed": 7}) == runs[1:]
    with pytest.raises(InputError, match=r"with weight_decay 0.0, now it is weight_decay 0.1"):
        of_same_options(runs[1:], {**later, "weight_decay": 0.1}, free, {"weight_decay": 0.0})
    with pytest.raises(InputError, match=r"the run a~3 was started with seed 3, now it is seed 1"):
        of_same_options(runs, {"seed": 1, "workers": 0}, free)


def test_a_checkpoint_is_looked_for_in_older_runs_too_and_in_what_branched_off_at_it(tmp_path):
    old, branch = Run(tmp_path, "a"), Run(tmp_path, "a~2")
    old.create({})
    for item in ("model", "meta"):
        (old.checkpoints / "5" / item).mkdir(parents=True)
    branch.create({}, branched_at=3)
    assert run_with_checkpoint([branch, old], 5) == old
    assert run_with_checkpoint([branch, old], 3) == branch
    with pytest.raises(InputError, match=r"--resume-iteration 4: the run has no checkpoint .*; there are those of 5"):
        run_with_checkpoint([old], 4)


def test_a_damaged_configuration_is_named(tmp_path):
    run = next_run(tmp_path, "a")
    run.create({})
    run.config.write_text("{")
    with pytest.raises(InputError, match=r"config\.json: cannot be read; give --fresh"):
        run.saved_options()


def test_a_missing_library_is_named_with_the_extra():
    with pytest.raises(InputError, match=r'training needs a_library_of_nobody: pip install "panns_jax\[train\]"'):
        require_extra("training", "train", "numpy", "a_library_of_nobody")
