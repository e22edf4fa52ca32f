"""`load_model`: from a file of any kind to a model that is ready."""

import dataclasses
import os
import sys
from typing import Any

import jax
import numpy as np
import pytest
import recipe
from flax import nnx
from pth_writer import state_dict, stream_bytes, write_checkpoint
from weights import arbitrary

import panns_jax
from panns_jax.errors import InputError
from panns_jax.files import sha256
from panns_jax.labels import numbered
from panns_jax.models.registry import REGISTRY, model_config
from panns_jax.models.transfer import transfer
from panns_jax.pretrained import catalogue
from panns_jax.pretrained.conversion import frontend_constants
from panns_jax.pretrained.convert import convert_file
from panns_jax.pretrained.rules import filled_model, to_published

WAVEFORM = recipe.waveform(2, 16000, 32000, 1)


def said(*arguments, **options) -> str:
    with pytest.raises(InputError) as refused:
        panns_jax.load_model(*arguments, **options)
    return str(refused.value)


@pytest.mark.parametrize("kind", ["stream", "zip"])
def test_a_pth_file_and_its_conversion_give_the_same_outputs(tmp_path, small_weights, kind):
    source = write_checkpoint(tmp_path / "x.pth", small_weights, kind=kind, sampler={"indexes": [np.arange(9)]})
    convert_file(source, tmp_path / "x.safetensors")
    published = panns_jax.load_model(checkpoint=source)
    native = panns_jax.load_model(checkpoint=tmp_path / "x.safetensors")
    assert published.config == native.config == model_config("DemoCnn")
    one, other = published(WAVEFORM), native(WAVEFORM)
    np.testing.assert_array_equal(one.clipwise, other.clipwise)
    assert one.embedding is not None and other.embedding is not None
    np.testing.assert_array_equal(one.embedding, other.embedding)


def test_a_loaded_model_is_an_ordinary_module_in_evaluation_mode(small_pth):
    model = panns_jax.load_model("DemoCnn", checkpoint=str(small_pth))
    assert isinstance(model, nnx.Module)
    graph, state = nnx.split(model)
    assert all(isinstance(leaf, jax.Array) and leaf.dtype == np.float32 for leaf in jax.tree.leaves(state))
    again = nnx.merge(graph, state)
    np.testing.assert_array_equal(again(WAVEFORM).clipwise, model(WAVEFORM).clipwise)
    model.train()
    with pytest.raises(ValueError, match="training mode"):
        model(WAVEFORM)


def test_a_model_outlives_its_file(small_pth):
    model = panns_jax.load_model(checkpoint=small_pth)
    before = model(WAVEFORM).clipwise
    small_pth.write_bytes(b"")
    np.testing.assert_array_equal(model(WAVEFORM).clipwise, before)


def test_the_name_of_a_released_file_tells_the_model(tmp_path, make_weights):
    path = write_checkpoint(tmp_path / "cnn6_mAP=0.343.pth", make_weights(model_config("Cnn6")))
    assert panns_jax.load_model(checkpoint=path).config.name == "Cnn6"


def test_a_released_name_on_another_model_is_told(tmp_path, small_weights):
    path = write_checkpoint(tmp_path / "Cnn6_mAP=0.343.pth", small_weights)
    message = said(checkpoint=path)
    assert "does not fit Cnn6" in message and message.endswith("those of DemoCnn")
    assert panns_jax.load_model("DemoCnn", path).config.name == "DemoCnn"


@pytest.fixture
def twin(monkeypatch) -> str:
    """The name of another model with the layers of DemoCnn, which computes something else with them."""
    row = model_config("DemoCnn")
    body: Any = dataclasses.replace(row.body, pooled_blocks=3)  # pyright: ignore[reportArgumentType]
    monkeypatch.setitem(REGISTRY, "DemoTwin", dataclasses.replace(row, name="DemoTwin", body=body))
    return "DemoTwin"


def test_weights_that_several_models_have_alike_need_the_name(small_pth, twin):
    assert said(checkpoint=small_pth).endswith("are those of DemoCnn, DemoTwin alike; give the model's name")
    assert panns_jax.load_model(twin, small_pth).config.name == twin


def test_a_file_named_after_one_of_the_models_that_fit_is_that_models(tmp_path, small_weights, twin):
    for name, model in {"DemoCnn.pth": "DemoCnn", "demotwin-street.pth": twin, "DemoCnn_2.pth": "DemoCnn"}.items():
        assert panns_jax.load_model(checkpoint=write_checkpoint(tmp_path / name, small_weights)).config.name == model
    assert "alike" in said(checkpoint=write_checkpoint(tmp_path / "DemoCnnTwo.pth", small_weights))
    assert panns_jax.load_model(checkpoint=write_checkpoint(tmp_path / "DemoTwin", small_weights)).config.name == twin


def test_a_negative_variance_is_a_fault(tmp_path, small_weights):
    weights = {**small_weights, "bn0.running_var": -small_weights["bn0.running_var"]}
    assert "holds negative variances: bn0.running_var" in said(checkpoint=write_checkpoint(tmp_path / "x.pth", weights))


def test_models_that_differ_in_their_training_alone_are_as_good_as_one(tmp_path, small_pth, monkeypatch):
    row = model_config("DemoCnn")
    head: Any = dataclasses.replace(row.head, dropout=0.0)  # pyright: ignore[reportArgumentType]
    monkeypatch.setitem(REGISTRY, "DemoDry", dataclasses.replace(row, name="DemoDry", head=head, spec_augment=None))
    assert panns_jax.load_model(checkpoint=small_pth).config.name == "DemoCnn"


def test_a_renamed_released_file_is_known_by_its_content(small_pth, twin, monkeypatch):
    digest = sha256(small_pth)
    monkeypatch.setattr(catalogue, "RELEASED", (catalogue.Released(twin, "Twin_mAP=0.1.pth", sha256=digest),))
    assert panns_jax.load_model(checkpoint=small_pth).config.name == twin


def test_weights_of_no_model_are_told(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(stream_bytes(state_dict({"x": np.ones(3)})))
    assert "are those of no model known here" in said(checkpoint=path)


def test_a_damaged_state_dict_is_told_with_all_that_differs_from_the_nearest_model(tmp_path, small_weights):
    del small_weights["fc1.bias"]
    small_weights["bn0.weight"] = np.full(64, np.nan, np.float32)
    small_weights["conv_block1.conv1.weight"] = small_weights["conv_block1.conv1.weight"][..., :2]
    small_weights["logmel_extractor.melW"] = small_weights["logmel_extractor.melW"][:, :32]
    message = said(checkpoint=write_checkpoint(tmp_path / "x.pth", {**small_weights, "extra": np.ones(2)}))
    assert "x.pth does not fit DemoCnn: 5 faults: " in message
    for part in (
        "missing: fc1.bias",
        "conv1.weight (",
        "part of the model: extra",
        "NaN or infinity: bn0",
        "melW (of shape (513, 32) instead of (513, 64))",
    ):
        assert part in message


def test_a_file_named_after_a_model_is_compared_with_that_one_of_two_as_near(tmp_path, small_weights, twin):
    del small_weights["fc1.bias"]
    assert "does not fit DemoCnn" in said(checkpoint=write_checkpoint(tmp_path / "x.pth", small_weights))
    assert f"does not fit {twin}" in said(checkpoint=write_checkpoint(tmp_path / f"{twin}-2.pth", small_weights))


def test_a_fine_tuned_checkpoint_has_its_own_classes(tmp_path, make_weights):
    config = model_config("DemoCnn").with_classes(5)
    path = write_checkpoint(tmp_path / "mine.pth", make_weights(config))
    model = panns_jax.load_model(checkpoint=path)
    assert model.config.num_classes == 5
    assert list(model.config.labels) == [f"class {i}" for i in range(5)]
    assert model(WAVEFORM).clipwise.shape == (2, 5)
    convert_file(path, tmp_path / "mine.safetensors")
    assert panns_jax.load_model(checkpoint=tmp_path / "mine.safetensors").config == model.config


def test_a_converted_file_under_another_suffix_is_recognised(tmp_path, small_pth):
    convert_file(small_pth, tmp_path / "x.safetensors")
    moved = (tmp_path / "x.safetensors").rename(tmp_path / "weights.bin")
    assert panns_jax.load_model(checkpoint=moved).config.name == "DemoCnn"


def test_without_a_checkpoint_a_model_is_needed_of_which_one_was_released():
    message = said("Cnn14_mel32")
    assert message.startswith("Cnn14_mel32 needs a checkpoint, as none was released; released are those of Cnn6, Cnn10")
    assert all(entry.model in message for entry in catalogue.RELEASED)
    assert said().startswith("a checkpoint or the name of a model is needed")


def test_a_mirror_beside_a_checkpoint_is_refused(small_pth):
    assert said(checkpoint=small_pth, mirror="http://localhost/").startswith("a mirror is for the released files; ")


def test_a_released_file_of_a_model_with_the_same_entries_is_told(tmp_path, small_pth, twin, monkeypatch):
    by_hash = catalogue.Released(twin, "Twin_mAP=0.1.pth", sha256=sha256(small_pth))
    monkeypatch.setattr(catalogue, "RELEASED", (by_hash,))
    assert said("DemoCnn", small_pth) == f"{small_pth}: is the released file of DemoTwin, not of DemoCnn"
    assert panns_jax.load_model(twin, small_pth).config.name == twin
    monkeypatch.setattr(catalogue, "RELEASED", (catalogue.Released(twin, "Twin_mAP=0.1.pth"),))
    assert panns_jax.load_model("DemoCnn", small_pth).config.name == "DemoCnn"
    assert "is named like the released file of DemoTwin" in said("DemoCnn", small_pth.rename(tmp_path / by_hash.file))


def test_wrong_names_and_paths_are_told(tmp_path, small_pth):
    assert "no model 'Cnn41'" in said("Cnn41", small_pth)
    assert "there is no such file" in said("Cnn14", tmp_path / "absent.pth")
    convert_file(small_pth, tmp_path / "x.safetensors")
    assert said("Cnn14", tmp_path / "x.safetensors").endswith("holds a DemoCnn, not a Cnn14")
    assert "does not fit Cnn14" in said("Cnn14", small_pth)
    (tmp_path / "x.wav").write_bytes(b"RIFF")
    assert "is no PyTorch checkpoint" in said(checkpoint=tmp_path / "x.wav")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ""])
def test_a_name_that_no_file_can_have_is_told(tmp_path, suffix):
    path = tmp_path / ("x" * 300 + suffix)
    assert said(checkpoint=path).startswith(f"{path}: ")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the administrator may read everything")
def test_files_and_folders_that_may_not_be_read_are_told(tmp_path, small_pth):
    convert_file(small_pth, tmp_path / "x.safetensors")
    for path in (small_pth, tmp_path / "x.safetensors"):
        path.chmod(0)
        assert said(checkpoint=path) == f"{path}: cannot be read: Permission denied"
    locked = tmp_path / "locked"
    locked.mkdir(mode=0)
    for path in (locked, locked / "x.pth", locked / "run"):
        assert said(checkpoint=path) == f"{path}: cannot be read: Permission denied"


def test_a_truncated_checkpoint_is_told(small_pth):
    small_pth.write_bytes(small_pth.read_bytes()[:-1000])
    assert "is cut short or damaged" in said(checkpoint=small_pth)


def test_torch_is_not_needed(small_pth, monkeypatch):
    for name in [name for name in sys.modules if name == "torch" or name.startswith("torch.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert panns_jax.load_model(checkpoint=small_pth).config.name == "DemoCnn"


@pytest.mark.slow
@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_written_by_torch_are_loaded(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    weights = recipe.checkpoint("Cnn10", 2)
    content = {"iteration": 1, "model": {name: torch.from_numpy(array) for name, array in weights.items()}}
    path = tmp_path / "Cnn10_mAP=0.380.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    model = panns_jax.load_model(checkpoint=path)
    np.testing.assert_array_equal(to_published(model)["fc1.weight"], weights["fc1.weight"])


def test_a_model_below_a_new_last_layer_is_found_out_or_named(tmp_path):
    config = transfer(model_config("DemoCnn"), numbered(4))
    model = filled_model(config, arbitrary(config))
    path = write_checkpoint(tmp_path / "mine.pth", {**to_published(model), **frontend_constants(config)})
    for name in (None, "Transfer_DemoCnn"):
        loaded = panns_jax.load_model(name, path)
        assert (loaded.config.name, loaded.config.num_classes) == ("Transfer_DemoCnn", 4)
        np.testing.assert_array_equal(loaded(WAVEFORM).clipwise, model(WAVEFORM).clipwise)
    assert "does not fit Transfer_Cnn6" in said("Transfer_Cnn6", path)
