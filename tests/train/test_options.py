"""Options as the published tool took them; wrong ones end in one sentence, and nothing is made."""

import dataclasses
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from panns_jax.cli import main, run_task
from panns_jax.train.options import Train
from panns_jax.train.presets import list_presets, load_preset

pytest.importorskip("grain")

SMALL = ("--data_type=balanced_train", "--model_type=DemoCnn", "--sample_rate=8000", "--fmax=4000", "--batch_size=4")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, make_workspace) -> Path:
    return make_workspace(tmp_path_factory.mktemp("options"))


def parse(*arguments: str) -> Train:
    return Train.parse(arguments, prog="train")


def test_the_published_command_line_is_understood():
    options = parse(
        *("train", "--workspace=W", "--data_type=full_train", "--sample_rate=32000", "--window_size=1024"),
        *("--hop_size=320", "--mel_bins=64", "--fmin=50", "--fmax=14000", "--model_type=Cnn14"),
        *("--loss_type=clip_bce", "--balanced=balanced", "--augmentation=mixup", "--batch_size=32"),
        *("--learning_rate=1e-3", "--resume_iteration=0", "--early_stop=1000000", "--cuda"),
    )
    assert options == Train(
        workspace=Path("W"),
        sample_rate=32000,
        window_size=1024,
        hop_size=320,
        mel_bins=64,
        fmin=50.0,
        fmax=14000.0,
        cuda=True,
    )


def test_hyphens_and_separate_values_are_the_same():
    assert parse("--batch-size", "8", "--early-stop", "5") == parse("train", "--batch_size=8", "--early_stop=5")


def test_a_preset_gives_the_defaults():
    assert {"cnn6", "cnn10", "cnn14", "demo"} <= set(list_presets())
    for name in ("cnn6", "cnn14_hop640", "demo"):
        assert parse("--config", name) == load_preset(name)
    options = parse("--config=demo", "--seed", "3")
    assert options == dataclasses.replace(load_preset("demo"), seed=3)


def refused(capsys, *arguments: str) -> str:
    """The one line that a wrong command line ends in."""
    with pytest.raises(SystemExit) as end:
        run_task("train", arguments, prog="train")
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--batch_size=0",), "--batch-size must be at least 1, got 0"),
        (("--batch_size=2147483648",), "--batch-size must be below 2^31, got 2147483648"),
        (("--early_stop=-1",), "--early-stop must be at least 0"),
        (("--early_stop=3000000000",), "--early-stop must be below 2^31"),
        (("--evaluate_every=0",), "--evaluate-every must be at least 1"),
        (("--checkpoint_every=0",), "--checkpoint-every must be at least 1"),
        (("--data-fraction=0",), "--data-fraction must be above 0 and at most 1, got 0.0"),
        (("--data-fraction=1.1",), "--data-fraction must be above 0 and at most 1, got 1.1"),
        (("--data-fraction=nan",), "--data-fraction must be above 0 and at most 1"),
        (("--learning_rate=0",), "--learning-rate must be above 0"),
        (("--learning_rate=nan",), "--learning-rate must be above 0"),
        (("--seed=-1",), "--seed must be"),
        (("--workers=-1",), "--workers must be at least 0"),
        (("--accumulation_steps=0",), "--accumulation-steps must be at least 1, got 0"),
        (("--accumulation_steps=3",), "in 3 parts (--accumulation-steps); give a multiple of 6"),
        (("--fresh", "--resume_iteration=5"), "--fresh"),
        (("--resume_iteration=7",), "--resume-iteration 7: the run has no checkpoint of this iteration"),
        (("--model_type=Transfer_DemoCnn",), "--model-type Transfer_DemoCnn: a new last layer needs a model"),
        (("--model_type=DemoCn",), "there is no model 'DemoCn'; did you mean DemoCnn"),
        (("--window_size=255",), "--window-size 255"),
        (("--keep-best=-1",), "--keep-best must be at least 0"),
        (("--swa-start=-1",), "--swa-start must be at least 0"),
        (("--ema-decay=1",), "--ema-decay must be at least 0 and below 1, got 1.0"),
        (("--ema-decay=nan",), "--ema-decay must be at least 0 and below 1"),
        (("--weight-decay=-0.1",), "--weight-decay must be at least 0, got -0.1"),
        (("--weight-decay=inf",), "--weight-decay must be at least 0, got inf"),
        (("--ema-decay=0.9", "--swa-start=5"), "--ema-decay and --swa-start average the weights in two ways"),
        (("--warm-up=-1",), "--warm-up must be at least 0"),
        (("--learning-rate-decay=cosine", "--warm-up=9", "--early-stop=9"), "--warm-up must end before --early-stop 9"),
        (("--fmax=5000",), "fmin < fmax"),
        (("--black_list=/nowhere/list.txt",), str(Path("/nowhere/list.txt"))),
        (("--workspace=/nowhere",), f"--workspace {Path('/nowhere')}: there is no such folder"),
        (
            ("--data_type=full_train",),
            "full_train.h5: there is no such index file; make it by panns-jax index --combine",
        ),
        (("--batch_size=3",), "--batch-size 3 cannot be split over 2 devices"),
        (("--cuda",), "--cuda: JAX finds no GPU"),
        (("--config=cnn15",), "--config cnn15: there is no such preset; did you mean cnn14"),
        (("--config",), "--config takes one name"),
        (("--sample_rate=7000", "--fmax=3000"), "7000"),
        (("--model_type=Wavegram_Logmel_Cnn14", "--hop_size=640"), "hop_size must be 320, the step of the wavegram"),
    ],
)
def test_a_wrong_option_is_named_and_nothing_is_made(capsys, workspace, options, named):
    before = sorted(workspace.rglob("*"))
    assert named in refused(capsys, f"--workspace={workspace}", *SMALL, *options)
    assert sorted(workspace.rglob("*")) == before


@pytest.mark.parametrize("model", ["LeeNet11", "DaiNet19", "Res1dNet31", "Wavegram_Cnn14"])
def test_a_model_that_makes_no_spectrogram_refuses_another_hop_and_takes_its_own(capsys, workspace, model):
    from panns_jax.train.experiment import prepare

    common = (f"--workspace={workspace}", "--data_type=balanced_train", f"--model_type={model}", "--batch_size=4")
    rate = ("--sample_rate=8000", "--fmax=4000")
    said = refused(capsys, *common, *rate, "--hop_size=640", "--window_size=1024")
    assert f"--hop-size 640: {model} reads the waveform itself, in steps that are built in; leave --hop-size" in said
    published = ("--window_size=1024", "--hop_size=320", "--mel_bins=64", "--fmin=50")
    assert prepare(parse(*common, *rate, *published)).model.sample_rate == 8000


@pytest.mark.parametrize(
    "option", ["--on-nan=ignore", "--balanced=sometimes", "--augmentation=flip", "--loss_type=mse", "--batch_size=x"]
)
def test_an_impossible_value_ends_with_code_2(capsys, option):
    with pytest.raises(SystemExit) as end:
        run_task("train", [option], prog="train")
    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_missing_evaluation_index_is_named_with_the_command_that_makes_it(capsys, tmp_path, make_workspace):
    make_workspace(tmp_path)
    index = tmp_path / "hdf5s" / "indexes" / "eval.h5"
    index.unlink()
    said = refused(capsys, f"--workspace={tmp_path}", *SMALL)
    waveforms = tmp_path / "hdf5s" / "waveforms" / "eval.h5"
    assert f"panns-jax index {waveforms} --out {index}" in said


def test_sets_of_different_classes_are_refused(capsys, tmp_path, make_workspace):
    make_workspace(tmp_path)
    with h5py.File(tmp_path / "hdf5s" / "indexes" / "eval.h5", "r+") as file:
        clips = len(file["audio_name"])  # pyright: ignore[reportArgumentType]
        del file["target"]
        file["target"] = np.ones((clips, 6), bool)
    assert "has 6 classes" in refused(capsys, f"--workspace={tmp_path}", *SMALL)


def test_a_run_that_would_go_on_with_other_options_is_refused(capsys, tmp_path, make_workspace):
    make_workspace(tmp_path)
    folder = tmp_path / "checkpoints" / "DemoCnn-balanced_train-balanced-mixup-batch4"
    folder.mkdir(parents=True)
    from panns_jax.train.experiment import prepare

    saved = prepare(parse(f"--workspace={tmp_path}", *SMALL)).resolved()
    (folder / "config.json").write_text(json.dumps({**saved, "learning_rate": 0.5}))
    said = refused(capsys, f"--workspace={tmp_path}", *SMALL)
    assert "was started with learning_rate 0.5, now it is learning_rate 0.001" in said
    assert "--fresh" in said


def test_a_run_from_before_there_was_an_option_goes_on_with_its_default(capsys, tmp_path, make_workspace):
    make_workspace(tmp_path)
    folder = tmp_path / "checkpoints" / "DemoCnn-balanced_train-balanced-mixup-batch4"
    folder.mkdir(parents=True)
    from panns_jax.train.experiment import prepare

    saved = prepare(parse(f"--workspace={tmp_path}", *SMALL)).resolved()
    for name in ("weight_decay", "ema_decay", "swa_start", "on_nan", "keep_best"):
        del saved[name]
    (folder / "config.json").write_text(json.dumps(saved))
    said = refused(capsys, f"--workspace={tmp_path}", *SMALL, "--weight-decay=0.1")
    assert "was started with weight_decay 0.0, now it is weight_decay 0.1" in said
    with pytest.raises(SystemExit) as end:  # no checkpoint was written yet: it begins
        run_task("train", [f"--workspace={tmp_path}", *SMALL, "--early-stop=0", "--on-nan=skip"], prog="train")
    assert end.value.code == 0
    assert f"{folder}: begins" in capsys.readouterr().out


def test_a_run_in_bf16_is_one_in_bfloat16(workspace):
    from panns_jax.train.experiment import prepare

    short, long = (
        prepare(parse(f"--workspace={workspace}", *SMALL, f"--precision={name}")) for name in ("bf16", "bfloat16")
    )
    assert short.resolved() == long.resolved()
    assert short.resolved()["precision"] == "bfloat16"


def test_a_run_on_a_share_of_the_clips_samples_these_alone_and_is_a_run_of_its_own(workspace):
    from panns_jax.train.experiment import prepare

    half, all_of_them = (
        prepare(parse(f"--workspace={workspace}", *SMALL, "--black-list=none", *options))
        for options in (("--data-fraction=0.5",), ())
    )
    sampled = [set(experiment.sampler.batch(np.arange(500))) for experiment in (half, all_of_them)]
    assert [len(clips) for clips in sampled] == [round(len(half.train) / 2), len(half.train)]
    assert half.run_name == "DemoCnn-0.5balanced_train-balanced-mixup-batch4"
    assert half.resolved() == {**all_of_them.resolved(), "data_fraction": 0.5}


@pytest.mark.skipif(os.name == "nt", reason="locks of POSIX")
def test_a_run_that_another_process_trains_is_left_alone(capsys, tmp_path, make_workspace):
    from panns_jax.train.runs import Run

    make_workspace(tmp_path)
    with Run(tmp_path, "DemoCnn-balanced_train-balanced-mixup-batch4").alone():
        before = sorted(tmp_path.rglob("*"))
        assert "another process is training this run" in refused(capsys, f"--workspace={tmp_path}", *SMALL)
        assert sorted(tmp_path.rglob("*")) == before


def test_help_and_the_package_command_tell_the_presets(capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", "--help"])
    assert end.value.code == 0
    assert "demo" in capsys.readouterr().out
