"""A checkpoint is scored on an index file."""

import csv
import dataclasses
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest
from flax import nnx

from panns_jax.cli import main
from panns_jax.data.index import read_index
from panns_jax.data.sources import ClipSource
from panns_jax.errors import InputError
from panns_jax.infer import programs
from panns_jax.infer.prepared import PreparedModel, prepare
from panns_jax.labels import numbered
from panns_jax.models.config import ModelConfig, Output
from panns_jax.models.model import Model
from panns_jax.models.registry import model_config
from panns_jax.pretrained.load import load_model
from panns_jax.pretrained.training import find_checkpoint, read_training_checkpoint
from panns_jax.train import evaluation
from panns_jax.train.checkpoints import Checkpoints
from panns_jax.train.evaluation import predictor, prepared_predictor
from panns_jax.train.metrics import score
from panns_jax.train.optimizer import make_optimizer
from panns_jax.train.report import REPORTS, class_rows
from panns_jax.train.step import TrainState, abstract_state, architecture, data_mesh, initial_state, make_predict

pytest.importorskip("grain")


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    row = model_config("DemoCnn").with_classes(5)
    frontend = dataclasses.replace(row.frontend, sample_rate=8000, window_size=256, hop_size=80, fmax=4000)
    return dataclasses.replace(row, frontend=frontend)


@pytest.fixture(scope="module")
def state(config) -> TrainState:
    return initial_state(config, make_optimizer(1e-3), data_mesh(), seed=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory, config, state) -> Path:
    """A run's folder with checkpoints of iterations 5 and 10, the latter with other weights."""
    folder = tmp_path_factory.mktemp("run")
    later = jax.tree.map(lambda leaf: leaf + leaf.dtype.type(1) / 2, state.params)
    with Checkpoints(folder, config, {"seed": 0}, keep=0) as checkpoints:
        checkpoints.save(state, 5)
        checkpoints.save(TrainState(state.iteration, later, state.batch_stats, state.optimizer), 10)
    return folder


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, make_workspace) -> Path:
    return make_workspace(tmp_path_factory.mktemp("evaluation"))


def kernel_of(model: Model) -> np.ndarray:
    return np.asarray(nnx.to_pure_dict(nnx.state(model))["fc1"]["kernel"])


def test_a_run_is_read_at_its_newest_checkpoint_or_at_the_one_named(config, state, run):
    first = read_training_checkpoint(run / "5")
    np.testing.assert_array_equal(kernel_of(first), state.params["fc1"]["kernel"])
    assert first.config == config
    newest = read_training_checkpoint(run)
    np.testing.assert_array_equal(kernel_of(newest), np.asarray(state.params["fc1"]["kernel"]) + 0.5)
    assert len(jax.tree.leaves(nnx.state(newest))[0].devices()) == 1
    clip = np.zeros((1, 4000), np.float32)
    np.testing.assert_array_equal(first(clip).clipwise, first(clip).clipwise)  # evaluation mode: nothing is drawn


def test_what_is_restored_is_what_was_saved(config, state, run):
    optimizer = make_optimizer(1e-3)
    with Checkpoints(run, config, {}, keep=0) as checkpoints:
        read = checkpoints.restore(5, abstract_state(config, optimizer, data_mesh()))
    assert int(read.iteration) == 5
    for name in ("params", "batch_stats", "optimizer"):
        got, want = jax.tree.leaves(getattr(read, name)), jax.tree.leaves(getattr(state, name))
        for ours, theirs in zip(got, want, strict=True):
            np.testing.assert_array_equal(ours, theirs)
            assert ours.sharding == theirs.sharding


def test_a_checkpoint_stays_as_it_was_while_training_goes_on(tmp_path, config, state):
    change = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 0 + 7, tree), donate_argnums=0)
    mine = jax.tree.map(lambda leaf: leaf + 0, state)
    with Checkpoints(tmp_path, config, {}, keep=0) as checkpoints:
        checkpoints.save(mine, 1)
        jax.block_until_ready(change(mine))
    model = read_training_checkpoint(tmp_path)
    np.testing.assert_array_equal(kernel_of(model), state.params["fc1"]["kernel"])


def test_old_checkpoints_make_room(tmp_path, config, state):
    with Checkpoints(tmp_path, config, {}, keep=2) as checkpoints:
        for iteration in (100_000, 100_010, 100_020, 100_030):
            checkpoints.save(state, iteration)
            checkpoints.wait()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["100000", "100020", "100030"]


def test_the_best_checkpoints_stay_and_the_best_can_be_read(tmp_path, config, state):
    scores = {1: 0.2, 2: 0.5, 3: None, 4: 0.4, 5: 0.1, 6: 0.3}
    with Checkpoints(tmp_path, config, {}, keep=1, keep_best=2) as checkpoints:
        for iteration, value in scores.items():
            if iteration == 5:
                assert not checkpoints.among_best(0.1)
                assert checkpoints.among_best(0.45)
                assert not checkpoints.among_best(math.nan)
            checkpoints.save(state, iteration, value)
            checkpoints.wait()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "4", "6"]
    assert find_checkpoint(tmp_path) == tmp_path / "6"
    assert find_checkpoint(tmp_path / "best") == tmp_path / "2"
    np.testing.assert_array_equal(kernel_of(load_model(checkpoint=tmp_path / "best")), state.params["fc1"]["kernel"])
    with Checkpoints(tmp_path, config, {}, keep=1, keep_best=1) as checkpoints:  # the scores are known again
        assert not checkpoints.among_best(0.45)
        checkpoints.save(state, 7, 0.45)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "7"]


def test_a_run_that_was_not_scored_has_no_best_checkpoint(run):
    with pytest.raises(InputError, match=r"holds no checkpoint that was scored; name one by its iteration"):
        find_checkpoint(run / "best")
    with pytest.raises(InputError, match=r"best: holds no training checkpoint"):
        find_checkpoint(run / "5" / "best")


def test_averages_are_saved_and_taken_unless_the_trained_weights_are_asked_for(tmp_path, config, run):
    optimizer = make_optimizer(1e-3)
    state = initial_state(config, optimizer, data_mesh(), seed=0, averaged=True)
    assert state.average is not None
    state = dataclasses.replace(state, average=jax.tree.map(lambda leaf: leaf + leaf.dtype.type(1), state.average))
    with Checkpoints(tmp_path, config, {}, keep=0) as checkpoints:
        checkpoints.save(state, 5)
        checkpoints.wait()
        read = checkpoints.restore(5, abstract_state(config, optimizer, data_mesh(), averaged=True))
    for ours, theirs in zip(jax.tree.leaves(read.average), jax.tree.leaves(state.average), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    trained = np.asarray(state.params["fc1"]["kernel"])
    np.testing.assert_array_equal(kernel_of(load_model(checkpoint=tmp_path, weights="trained")), trained)
    for weights in ("auto", "averaged"):
        np.testing.assert_array_equal(kernel_of(load_model(checkpoint=tmp_path, weights=weights)), trained + 1)
    with pytest.raises(InputError, match=r"holds no averaged weights; it was trained without --ema-decay"):
        load_model(checkpoint=run, weights="averaged")
    with pytest.raises(InputError, match=r"a released checkpoint: holds one set of weights"):
        load_model("Cnn14", weights="averaged")


@pytest.mark.parametrize("where", ["params", "batch_stats", "optimizer"])
def test_a_state_that_is_not_finite_is_not_saved(tmp_path, config, state, where):
    leaves, structure = jax.tree.flatten(getattr(state, where))
    spoilt = max(range(len(leaves)), key=lambda i: leaves[i].size)
    leaves[spoilt] = leaves[spoilt].at[0].set(jax.numpy.inf)
    broken = dataclasses.replace(state, **{where: jax.tree.unflatten(structure, leaves)})
    with Checkpoints(tmp_path, config, {}, keep=0) as checkpoints:
        checkpoints.save(state, 4)
        with pytest.raises(InputError, match=r"the weights of iteration 5 are not finite, and are not saved"):
            checkpoints.save(broken, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["4"]


@pytest.mark.parametrize("what", ["nothing", "run", "meta", "other"])
def test_a_damaged_checkpoint_is_named(tmp_path, config, state, what):
    with Checkpoints(tmp_path, config, {}, keep=0) as checkpoints:
        checkpoints.save(state, 5)
    folder = tmp_path / "5"
    match what:
        case "nothing":
            folder = tmp_path / "6"
        case "run":
            tmp_path.joinpath("5").rename(tmp_path / "5.orbax-checkpoint-tmp")
            folder = tmp_path
        case "meta":
            (folder / "meta" / "metadata").write_text("{")
        case "other":
            meta = json.loads((folder / "meta" / "metadata").read_text())
            meta["model_config"]["frontend"]["mel_bins"] = 32
            (folder / "meta" / "metadata").write_text(json.dumps(meta))
    with pytest.raises(InputError, match=re.escape(str(folder))) as error:
        read_training_checkpoint(folder)
    assert "\n" not in str(error.value)


def test_truncated_weights_end_in_one_sentence(tmp_path, config, state):
    with Checkpoints(tmp_path, config, {}, keep=0) as checkpoints:
        checkpoints.save(state, 5)
    largest = max(tmp_path.glob("5/model/**/d/*"), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    # In a process of its own: Orbax leaves reads behind in the background, which are to end without a word.
    command = [sys.executable, "-m", "panns_jax", "tag", str(largest), "--checkpoint", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert f"{tmp_path / '5'}: the checkpoint is damaged or incomplete" in ended.stderr
    assert ended.stderr.count("\n") == 1 and ended.returncode == 2


def test_training_tells_how_to_go_on_from_an_earlier_checkpoint(tmp_path, config, run):
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "10" / "optimizer")
    abstract = abstract_state(config, make_optimizer(1e-3), data_mesh())
    with Checkpoints(tmp_path / "run", config, {}, keep=0) as checkpoints:
        with pytest.raises(InputError, match=r"10: the checkpoint is damaged .* \(here: --resume-iteration 5\)"):
            checkpoints.restore(10, abstract)
        shutil.rmtree(tmp_path / "run" / "5" / "optimizer")
        with pytest.raises(InputError, match=r"5: the checkpoint is damaged .* \(here: --fresh\)"):
            checkpoints.restore(5, abstract)


def test_a_checkpoint_without_room_is_one_sentence_and_leaves_nothing(tmp_path, config, state, monkeypatch):
    def save(iteration: int, **_: object) -> None:  # as TensorStore fails, but for the tracebacks of its threads
        (tmp_path / f"{iteration}.orbax-checkpoint-tmp" / "model").mkdir(parents=True)
        raise ValueError("RESOURCE_EXHAUSTED: Failed to write 83 bytes to \"/a/file\": …\n [os_error_code='28']")

    with Checkpoints(tmp_path, config, {}, keep=0) as checkpoints:
        monkeypatch.setattr(checkpoints._manager, "save", save)
        with pytest.raises(InputError, match=r"the checkpoint cannot be written: No space left on device$"):
            checkpoints.save(state, 5)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_noticed_before_a_checkpoint_is_begun(tmp_path, config, state, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with Checkpoints(tmp_path, config, {}, keep=0) as checkpoints:
        with pytest.raises(InputError, match=r"No space left on device: it takes [\d.]+ MB, and 0.1 MB are free"):
            checkpoints.save(state, 5)
        assert list(tmp_path.iterdir()) == []


def evaluated(capsys, *arguments: object) -> str:
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *map(str, arguments)])
    assert end.value.code == 0
    return capsys.readouterr().out


def test_the_command_prints_what_the_model_scores(capsys, run, workspace, config, state):
    index = workspace / "hdf5s" / "indexes" / "eval.h5"
    source = ClipSource(read_index(index), 8000)
    whole = source.batch(np.arange(len(source)))
    predict = make_predict(architecture(config), data_mesh(jax.devices()[:1]))
    want = score(
        whole["target"], np.asarray(predict(state.params, state.batch_stats, jax.numpy.asarray(whole["waveform"])))
    )

    given = ("--checkpoint", run / "5", "--index", index)
    told = json.loads(evaluated(capsys, *given, "--format", "json", "--batch-size", 4))
    assert told["clips"] == 21
    assert told["mAP"] == pytest.approx(want.mean_average_precision, abs=1e-6)
    assert told["mAUC"] == pytest.approx(want.mean_auc, abs=1e-6)
    assert [row["name"] for row in told["classes"]] == [f"class {i}" for i in range(5)]
    assert told["classes"][0]["chance"] == pytest.approx(5 / 21)
    assert told["classes"][0]["positives"] == 5

    text = evaluated(capsys, *given).splitlines()
    assert text[0].split() == ["class", "AP", "chance", "AUC", "d'", "clips"]
    assert f"mAP {want.mean_average_precision:.3f}" in text


@pytest.fixture
def by_prepared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shape of each batch that a prepared model heard."""
    heard: list[tuple[int, ...]] = []
    call = PreparedModel.__call__

    def watched(self: PreparedModel, waveform: jax.Array) -> Output:
        heard.append(waveform.shape)
        return call(self, waveform)

    monkeypatch.setattr(PreparedModel, "__call__", watched)
    return heard


def test_many_clips_are_scored_by_the_prepared_model_which_says_the_same(
    capsys, run, workspace, by_prepared, monkeypatch
):
    index = workspace / "hdf5s" / "indexes" / "eval.h5"
    given = ("--checkpoint", run / "5", "--index", index, "--format", "json", "--batch-size", 8)
    plain = json.loads(evaluated(capsys, *given))
    assert by_prepared == []  # 21 clips of half a second would not repay

    monkeypatch.setattr(programs, "REPAYS", 10.5)
    monkeypatch.setattr(evaluation, "_LONGEST", 3.4)  # six clips at a time, of which a batch holds no whole number
    told = json.loads(evaluated(capsys, *given))
    assert by_prepared == [(4, 4000)] * 6
    assert told["mAP"] == pytest.approx(plain["mAP"], abs=1e-6)
    assert told["mAUC"] == pytest.approx(plain["mAUC"], abs=1e-6)

    by_prepared.clear()
    monkeypatch.setattr(programs, "REPAYS", 10.6)
    evaluated(capsys, *given)
    monkeypatch.setattr(programs, "REPAYS", 0.0)
    monkeypatch.setattr(evaluation, "_LONGEST", 0.4)  # one clip alone would take too much memory
    evaluated(capsys, *given)
    monkeypatch.setattr(evaluation, "_LONGEST", 60.0)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    evaluated(capsys, *given)
    assert by_prepared == []


def test_a_prepared_model_predicts_what_the_model_does_from_whole_numbers_too(config, state, workspace):
    model = nnx.merge(architecture(config), state.params, state.batch_stats)
    source = ClipSource(read_index(workspace / "hdf5s" / "indexes" / "eval.h5"), 8000)
    waveform = source.waveforms(np.arange(8))
    assert waveform.dtype == np.int16
    ready = prepared_predictor(prepare(model), 2)
    np.testing.assert_allclose(ready(waveform), predictor(model)(waveform), atol=1e-6)


def test_evaluations_during_training_prepare_nothing(tmp_path, make_workspace, train_here, by_prepared, monkeypatch):
    monkeypatch.setattr(programs, "REPAYS", 0.0)
    told = train_here(make_workspace(tmp_path), "--early-stop", "1", "--evaluate-every", "1")
    assert "iteration 1: bal_mAP" in told
    assert by_prepared == []  # the weights change each time


def test_the_scores_can_go_to_a_file(capsys, run, workspace, tmp_path):
    index = workspace / "hdf5s" / "indexes" / "eval.h5"
    out = tmp_path / "scores.csv"
    assert evaluated(capsys, "--checkpoint", run, "--index", index, "--format=csv", "--out", out) == ""
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [row["positives"] for row in rows] == ["5", "4", "4", "4", "4"]


def test_classes_that_no_clip_carries_are_listed_if_asked_for():
    target = np.array([[True, False], [False, False]])
    scores = score(target, np.array([[0.9, 0.5], [0.1, 0.5]]))
    labels = numbered(2)
    assert [row.name for row in class_rows(scores, labels, present=True)] == ["class 0"]
    rows = class_rows(scores, labels, present=False)
    assert rows[1].average_precision is None
    told = json.loads(REPORTS["json"](scores, rows))
    assert told["d_prime"] is None  # infinite, which JSON cannot say
    assert " - " in REPORTS["text"](scores, rows)


def test_an_index_of_no_clips_is_named(capsys, run, tmp_path):
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        for name, kind in {"audio_name": "S20", "hdf5_path": "S200", "index_in_hdf5": np.int32}.items():
            file[name] = np.zeros(0, kind)
        file["target"] = np.zeros((0, 5), bool)
    with pytest.raises(SystemExit) as end:
        main(["evaluate", "--checkpoint", str(run), "--index", str(tmp_path / "empty.h5")])
    assert end.value.code == 2
    assert "empty.h5: lists no clips" in capsys.readouterr().err


def test_scores_do_not_replace_the_index_that_they_are_of(capsys, run, workspace):
    index = workspace / "hdf5s" / "indexes" / "eval.h5"
    before = index.read_bytes()
    with pytest.raises(SystemExit) as end:
        main(["evaluate", "--checkpoint", str(run), "--index", str(index), "--out", str(index)])
    assert end.value.code == 2
    assert "eval.h5 is read here, and would be replaced" in capsys.readouterr().err
    assert index.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--checkpoint", "/nowhere"), str(Path("/nowhere"))),
        (("--index", "/nowhere/eval.h5"), str(Path("/nowhere/eval.h5"))),
        (("--batch-size", "0"), "--batch-size must be at least 1"),
        (("--out", "/nowhere/scores.txt"), str(Path("/nowhere"))),
        (("--model", "Cnn6"), "holds a DemoCnn, not a Cnn6"),
    ],
)
def test_a_wrong_option_is_named(capsys, run, workspace, options, named):
    given = ["--checkpoint", str(run), "--index", str(workspace / "hdf5s" / "indexes" / "eval.h5"), *options]
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *given])
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert named in err
    assert err.count("\n") == 1
