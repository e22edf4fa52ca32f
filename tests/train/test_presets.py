"""Every experiment of the paper is a preset, and its step can be built and taken."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from panns_jax.errors import InputError
from panns_jax.pretrained.paper import FIGURES, Training
from panns_jax.train.dry_run import take_step
from panns_jax.train.experiment import batch_rows, configured_model
from panns_jax.train.finetune.options import Finetune
from panns_jax.train.options import Train
from panns_jax.train.paper.published import ABLATIONS, PREVIOUS, STRATEGIES, SYSTEMS, TRANSFER
from panns_jax.train.presets import list_presets, load_preset, load_transfer, plain, read_preset
from panns_jax.train.program import make_program
from panns_jax.train.step import data_mesh

PRESETS = [name for name in list_presets() if isinstance(read_preset(name).config, Train)]
OURS = ("demo",)
# Of each family the lightest, and what it takes: those that take over a quarter of a minute are for long.
FAMILIES = {
    "cnn6": pytest.mark.slow,
    "leenet11": pytest.mark.slow,
    "dainet19": pytest.mark.slow,
    **dict.fromkeys(("resnet22", "mobilenetv1", "res1dnet31", "wavegram_cnn14"), pytest.mark.long),
}
CLASSES = 527


def test_there_is_one_for_each_row_of_the_papers_tables():
    rows = [*SYSTEMS, *PREVIOUS, *(row for table in ABLATIONS.values() for row in table)]
    assert len(SYSTEMS) == 15
    assert {row.preset for row in rows} - {None} <= set(PRESETS)
    for model in FIGURES:
        assert any(load_preset(name).model_type == model for name in PRESETS), model


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in OURS])
def test_they_train_as_the_paper_says_but_for_what_they_are_about(name: str):
    config, paper = load_preset(name), Training()
    assert config.learning_rate == paper.learning_rate
    assert (config.batch_size, config.early_stop) == (paper.batch_size, paper.iterations)
    assert (config.learning_rate_decay, config.weight_decay, config.ema_decay, config.swa_start) == (
        "constant",
        0,
        0,
        0,
    )
    assert (config.precision, config.loss_type, config.black_list) == ("float32", "clip_bce", "dcase2017task4")
    if not any(row.preset == name for row in ABLATIONS["augmentation"]):
        assert (config.data_type, config.balanced, config.augmentation) == ("full_train", "balanced", "mixup")


def test_no_two_are_the_same_and_each_tells_its_command():
    assert len({load_preset(name) for name in PRESETS}) == len(PRESETS)
    assert len({plain(name) for name in PRESETS}) == len(PRESETS)
    for name in PRESETS:
        assert read_preset(name).about


def test_the_ablations_change_what_they_are_named_after():
    def settings(name: str) -> dict:
        config = load_preset(name)
        frontend = dataclasses.asdict(configured_model(config, CLASSES).frontend)
        about = ("model_type", "data_type", "data_fraction", "balanced", "augmentation")
        return {**frontend, **{key: getattr(config, key) for key in about}}

    published = settings("cnn14")

    def changed(name: str) -> dict:
        return {key: value for key, value in settings(name).items() if value != published[key] and key != "model_type"}

    assert changed("cnn14_hop640") == {"hop_size": 640}
    assert changed("cnn14_mel128") == {"mel_bins": 128}
    assert changed("cnn14_8k") == {"sample_rate": 8000, "window_size": 256, "hop_size": 80, "fmax": 4000}
    assert changed("cnn14_data80") == {"data_fraction": 0.8}
    assert changed("cnn14_plain") == {"balanced": "none", "augmentation": "none"}
    assert changed("cnn14_20k_balanced") == {"data_type": "balanced_train", "augmentation": "none"}
    assert changed("cnn14_mixup_time_domain") == {}
    embeddings = [configured_model(load_preset(f"cnn14_emb{size}"), CLASSES).embedding_dim for size in (32, 128, 512)]
    assert embeddings == [32, 128, 512]


@pytest.mark.parametrize("typed", ["Cnn14_hop640", "CNN14-hop-640", "cnn14hop640"])
def test_names_are_forgiving(typed: str):
    assert load_preset(typed) == load_preset("cnn14_hop640")


@pytest.mark.parametrize(
    ("typed", "hint"),
    [("cnn14_hop64", "did you mean cnn14_hop640"), ("../cnn14", "cnn14"), ("", "there are cnn6, cnn10")],
)
def test_a_name_of_none_is_answered_with_the_nearest(typed: str, hint: str):
    with pytest.raises(InputError, match=hint):
        load_preset(typed)


TRANSFERS = [name for name in list_presets() if name not in PRESETS]


def test_there_is_one_of_fine_tuning_for_each_task_and_strategy():
    assert sorted(TRANSFERS) == sorted(f"{task}_{strategy.lower()}" for task in TRANSFER for strategy in STRATEGIES)


@pytest.mark.parametrize("name", TRANSFERS)
def test_those_of_fine_tuning_can_be_used(name: str, tmp_path: Path):
    out = tmp_path / "x.safetensors"
    options = Finetune.parse(["--config", name, "--data", "sounds", "--out", str(out)], prog="finetune")
    options.check()
    assert name.endswith(options.strategy.lower())
    assert options == load_transfer(name)(data="sounds", out=out)


def test_a_preset_is_for_one_command():
    with pytest.raises(InputError, match="gtzan_scratch: is for panns-jax finetune"):
        load_preset("gtzan_scratch")
    with pytest.raises(InputError, match="cnn14: is for panns-jax train"):
        load_transfer("cnn14")


@functools.cache
def built(config: Train) -> tuple:
    """Shapes of the state before a step of the true size, and after it."""
    model = configured_model(config, CLASSES)
    program = make_program(config, model, data_mesh())
    rows = batch_rows(config)
    batch = {
        "waveform": jax.ShapeDtypeStruct((rows, 10 * model.sample_rate), jnp.int16),
        "target": jax.ShapeDtypeStruct((rows, CLASSES), jnp.float32),
    }
    state = program.abstract_state()
    after, report = jax.eval_shape(program.step(), state, batch)
    return *(jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), x) for x in (state, after)), report.loss.shape


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_the_step_of_each_can_be_built(name: str):
    # What decides which clips are drawn changes no shape.
    config = dataclasses.replace(
        load_preset(name), data_type="full_train", data_fraction=1.0, balanced="none", early_stop=9, warm_up=0
    )
    before, after, loss = built(config)
    assert before == after and loss == ()


def take(name: str) -> None:
    config = dataclasses.replace(load_preset(name), batch_size=2)
    model = configured_model(config, CLASSES)
    program = make_program(config, model, data_mesh())
    trial = take_step(program, rows=batch_rows(config), samples=2 * model.sample_rate, dtype=np.dtype(np.int16))
    assert 0 < float(trial.report.loss) < 5 and 0 < float(trial.report.gradient_norm) < np.inf
    assert trial.parameters * 12 < trial.held < trial.planned


@pytest.fixture
def fast_to_compile():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize("name", [pytest.param(name, marks=mark) for name, mark in FAMILIES.items()])
def test_a_step_of_each_family_can_be_taken(name: str, fast_to_compile: None):
    take(name)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in PRESETS if name not in FAMILIES])
def test_a_step_of_all_others_can_be_taken(name: str, fast_to_compile: None):
    take(name)
