"""A dry run of fine-tuning needs no data and no weights, tells what a step takes, and leaves nothing behind."""

import re
from collections.abc import Callable
from pathlib import Path

import jax
import pytest

from panns_jax import cli
from panns_jax.train.finetune.options import Finetune
from panns_jax.train.presets import list_presets, read_preset

Dry = Callable[..., tuple[int, str, str]]
TRANSFERS = [name for name in list_presets() if not hasattr(read_preset(name).config, "check")]


@pytest.fixture
def dry(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> Dry:
    """Runs it in an empty folder; gives exit code, output and errors."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PANNS_JAX_CACHE", str(tmp_path / "here"))
    jax.config.update("jax_disable_most_optimizations", True)  # fast to compile
    request.addfinalizer(lambda: jax.config.update("jax_disable_most_optimizations", False))

    def dry(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(["finetune", "--dry-run", *map(str, arguments)])
        assert isinstance(end.value.code, int)
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return dry


SMALL = ("--model", "DemoCnn", "--clip-seconds", "0.5", "--batch-size", "2")


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy", [pytest.param("scratch", marks=pytest.mark.long), "fine_tune", "freeze_L1", "freeze_L3"]
)
def test_each_strategy_takes_a_step_without_data(dry: Dry, strategy: str):
    code, out, _ = dry(*SMALL, "--strategy", strategy)
    assert code == 0
    assert f"model: Transfer_DemoCnn, {strategy} from fresh weights, 10 classes" in out
    assert "4 clips blended to 2 of 0.5 s at 32000 Hz" in out
    told = re.search(r"parameters: ([\d,]+), of which ([\d,]+) learn", out)
    assert told
    total, learning = (int(number.replace(",", "")) for number in told.groups())
    assert (learning < total / 2) == strategy.startswith("freeze") and learning > 0
    assert ("embeddings: " in out) == strategy.startswith("freeze")
    assert re.search(r"step: \d+\.\d+ s; the first one \d+\.\d s", out)
    loss = re.search(r"loss: (\d\.\d{4})", out)
    assert loss and 0 < float(loss[1]) < 5
    assert ("released checkpoint of DemoCnn" in out) == (strategy != "scratch")
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.slow
def test_data_and_a_checkpoint_that_are_named_are_looked_at(dry: Dry, sound_folder: Path, demo_checkpoint: Path):
    given = ("--strategy", "freeze_L1", "--checkpoint", demo_checkpoint, "--batch-size", 2)
    code, out, _ = dry(*given, "--data", sound_folder)
    median = re.search(r"median (\d\.\d+) s", out)
    assert median and float(median[1]) < 10
    assert re.search(rf"of {float(median[1]):g}\d* s at 32000 Hz", out)
    assert code == 0 and f"from {demo_checkpoint}, 3 classes" in out and f"data: {sound_folder} can be read" in out
    assert list(Path.cwd().iterdir()) == []
    code, out, err = dry(*given, "--data", sound_folder / "nowhere")
    assert (code, out, err.count("\n")) == (2, "", 1) and "nowhere" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--batch-size", 0), "--batch-size must be at least 1"),
        (("--model", "Cnn15"), "there is no model 'Cnn15'"),
        (("--config", "cnn14"), "cnn14: is for panns-jax train"),
        (("--strategy", "freeze_L1", "--freeze-depth", 1), "--freeze-depth is for --strategy fine_tune"),
    ],
)
def test_options_that_cannot_be_are_told_as_ever(dry: Dry, arguments: tuple[object, ...], told: str):
    code, out, err = dry(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1) and told in err


def test_without_it_data_has_to_be_named(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        cli.main(["finetune", "--config", "gtzan_scratch"])
    assert end.value.code == 2 and "--data" in capsys.readouterr().err


def test_presets_of_each_task_can_be_tried():
    assert len(TRANSFERS) == 24
    for name in TRANSFERS:
        options = Finetune.parse(["--config", name, "--dry-run"], prog="finetune")
        options.check()
        assert options.dry_run and name.endswith(options.strategy.lower())


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in TRANSFERS if name.startswith("ravdess")])
def test_a_step_of_the_presets_can_be_taken(dry: Dry, name: str):
    code, out, _ = dry("--config", name, "--batch-size", 1, "--clip-seconds", 1)
    assert code == 0 and "loss: " in out
