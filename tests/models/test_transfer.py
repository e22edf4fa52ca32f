"""A new last layer on top of a model that has weights."""

import dataclasses
import json
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recipe
from flax import nnx
from small_models import SMALL
from weights import arbitrary

from panns_jax import InputError, LabelSet, create_model, create_transfer
from panns_jax.models.clips import Clips
from panns_jax.models.cnn import Cnn
from panns_jax.models.config import Features, ModelConfig, Tuning
from panns_jax.models.layers import freeze
from panns_jax.models.model import Model
from panns_jax.models.registry import model_config
from panns_jax.models.transfer import transfer
from panns_jax.pretrained.conversion import convert_weights
from panns_jax.pretrained.rules import entries, filled_model, to_published

CLASSES = LabelSet("pets", ("1", "2", "3"), ("cat", "dog", "fish"))
WITH_EMBEDDING = [name for name, config in SMALL.items() if config.embedding_dim is not None]


def base_model(name: str = "cnn") -> Model:
    return filled_model(SMALL[name], arbitrary(SMALL[name]))


def clips(count: int = 2) -> np.ndarray:
    return recipe.waveform(count, 4000, 8000, 1)


def embedding_of(model: Model) -> np.ndarray:
    embedding = model(clips()).embedding
    assert embedding is not None
    return np.asarray(embedding)


@pytest.mark.parametrize("name", WITH_EMBEDDING)
def test_the_new_layer_reads_the_embedding_of_any_model(name: str):
    base = base_model(name)
    model: Any = create_transfer(base, CLASSES, rngs=nnx.Rngs(0))
    model.eval()
    output = model(clips(), taps=("logits", "pooled", "frames"))
    below = base(clips(), taps=("pooled", "frames"))
    np.testing.assert_array_equal(output.pooled, below.pooled)
    np.testing.assert_array_equal(output.frames, below.frames)
    expected = embedding_of(base) @ np.asarray(model.fc_transfer.kernel[...])
    np.testing.assert_allclose(output.logits, expected, atol=1e-5)
    np.testing.assert_allclose(output.clipwise, jax.nn.softmax(expected), atol=1e-5)
    np.testing.assert_allclose(output.clipwise.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(output.embedding, embedding_of(base), atol=1e-5)
    assert model.config.labels == CLASSES
    assert model.config.name == f"Transfer_{name}"


def gradients_of(model: Model) -> dict[str, float]:
    def loss(model: Model) -> jax.Array:
        return model(clips(), rngs=nnx.Rngs(0)).clipwise[:, 0].sum()

    flat = nnx.to_flat_state(nnx.state(nnx.jit(nnx.grad(loss))(model)))
    return {".".join(map(str, path)): float(jnp.abs(leaf[...]).max()) for path, leaf in flat}


def test_of_a_frozen_base_nothing_learns_and_its_statistics_stay():
    base = base_model()
    model: Any = create_transfer(base, 3, freeze_base=True, rngs=nnx.Rngs(0))
    for _ in range(2):
        found = gradients_of(model)
        assert {name for name, largest in found.items() if largest} == {"fc_transfer.kernel", "fc_transfer.bias"}
        np.testing.assert_array_equal(model.base.bn0.mean[...], base.bn0.mean[...])
        assert model.base.head_dropout.deterministic and model.base.spec_augmenter.deterministic
        model.eval()
        model.train()  # as training loops do after an evaluation


def test_a_base_that_is_not_frozen_learns():
    base: Any = base_model()
    model: Any = create_transfer(base, 3, rngs=nnx.Rngs(0))
    before = np.asarray(model.base.bn0.mean[...])
    found = gradients_of(model)
    assert found["base.conv_block1.conv1.kernel"] and found["base.fc1.kernel"]
    assert not found["base.fc_audioset.kernel"]  # its outputs are not read
    assert (np.asarray(model.base.bn0.mean[...]) != before).any()
    np.testing.assert_array_equal(base.bn0.mean[...], before)  # what was given is left as it was
    assert base.bn0.use_running_average


def test_mixup_blends_what_the_base_blends():
    blend = jnp.asarray([0.25, 1.0])
    for name in ("cnn", "wavegram-logmel", "leenet"):
        model: Any = create_transfer(base_model(name), 3, rngs=nnx.Rngs(0))
        model.eval()
        mixed = model(clips(4), mixup_lambda=blend)
        below = model.base(clips(4), mixup_lambda=blend).embedding
        np.testing.assert_allclose(mixed.embedding, below, atol=1e-6)
        assert mixed.clipwise.shape == (2, 3)


def test_names_are_the_published_ones_and_survive_the_way_there_and_back():
    config = transfer(SMALL["cnn"], CLASSES)
    names = {entry.published for entry in entries(config)}
    below = {f"base.{entry.published}" for entry in entries(SMALL["cnn"])}
    assert names == below | {"fc_transfer.weight", "fc_transfer.bias"}
    arrays = arbitrary(config)
    back = convert_weights(to_published(filled_model(config, arrays)), config, "the file")
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)


def test_a_model_is_made_by_name():
    model: Any = nnx.eval_shape(lambda: create_model("Transfer_DemoCnn", num_classes=7, rngs=nnx.Rngs(0)))
    assert model.fc_transfer.kernel.shape == (128, 7)
    assert model.base.config == model_config("DemoCnn")
    assert (model.config.sample_rate, model.config.min_samples) == (32000, model.base.config.min_samples)


def test_a_base_without_embedding_is_refused():
    with pytest.raises(InputError, match="Cnn14_DecisionLevelMax makes no embedding"):
        create_model("Transfer_Cnn14_DecisionLevelMax", rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match="Transfer_cnn is below a new last layer already"):
        create_transfer(filled_model(transfer(SMALL["cnn"]), arbitrary(transfer(SMALL["cnn"]))), 3, rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match="there is no model 'Transfer_Cnn5'"):
        model_config("Transfer_Cnn5")


def test_a_config_survives_json_with_the_classes_of_the_base():
    config = transfer(model_config("DemoCnn").with_classes(4), CLASSES, freeze_base=True)
    again = ModelConfig.from_json(config.to_json(), "file")
    assert again == config
    assert again.body.base.num_classes == 4  # pyright: ignore[reportAttributeAccessIssue]
    nested = {**config.to_json(), "base": config.to_json()}
    with pytest.raises(InputError, match="is damaged"):
        ModelConfig.from_json(nested, "file")


@pytest.mark.parametrize("multi_label", [False, True])
def test_several_new_layers_read_the_embedding_one_after_another(multi_label: bool):
    base = base_model()
    model: Any = create_transfer(base, CLASSES, hidden=(6, 4), multi_label=multi_label, rngs=nnx.Rngs(0))
    model.eval()
    x = embedding_of(base)
    for layer in (model.fc_hidden1, model.fc_hidden2):
        x = np.maximum(x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...]), 0)
    logits = x @ np.asarray(model.fc_transfer.kernel[...])
    expected = jax.nn.sigmoid(logits) if multi_label else jax.nn.softmax(logits)
    np.testing.assert_allclose(model(clips()).clipwise, expected, atol=1e-5)
    model.train()
    one, other = (np.asarray(model(clips(), rngs=nnx.Rngs(seed)).clipwise) for seed in (0, 1))
    assert (one != other).any()  # dropout


def test_new_layers_survive_json_and_a_damaged_description_is_refused():
    config = transfer(model_config("DemoCnn"), CLASSES, hidden=(6, 4), multi_label=True)
    described = config.to_json()
    assert ModelConfig.from_json(described, "file") == config
    del described["new_layers"]  # as files of earlier versions
    assert ModelConfig.from_json(described, "file") == transfer(model_config("DemoCnn"), CLASSES)
    for damage in ({"hidden": [10**9]}, {"hidden": ["6"]}, {"dropout": 1.0}, {"multi_label": 1}):
        broken = {**described, "new_layers": {**config.head.to_json(), **damage}}  # pyright: ignore
        with pytest.raises(InputError, match="file: is damaged: the description of its new layers"):
            ModelConfig.from_json(broken, "file")


@pytest.mark.parametrize("config", [model_config("DemoCnn"), transfer(model_config("DemoCnn"), CLASSES)])
def test_what_a_model_was_tuned_on_survives_json_and_damage_is_refused(config: ModelConfig):
    tuned = dataclasses.replace(config, tuning=Tuning(clip_seconds=2.5, multi_label=True))
    described = json.loads(json.dumps(tuned.to_json()))
    assert ModelConfig.from_json(described, "file") == tuned
    assert "tuning" not in config.to_json()
    for damage in ({"clip_seconds": 0}, {"clip_seconds": True}, {"clip_seconds": math.inf}, {"multi_label": 1}):
        broken = {**described, "tuning": {**described["tuning"], **damage}}
        with pytest.raises(InputError, match=r"^file: is damaged: what it tells of its fine-tuning"):
            ModelConfig.from_json(broken, "file")
    assert tuned.with_classes(7).tuning is None


def test_frozen_blocks_stay_in_evaluation_mode_with_the_dropout_behind_them():
    model: Any = base_model("cnn")
    features = Features(
        Clips(jnp.asarray(clips())), Clips(jnp.asarray(recipe.waveform(2, 40 * 16, 8000, 1)).reshape(2, 40, 16))
    )
    first = Cnn(channels=model.config.body.channels[:1], pooled_blocks=1)
    expected = first(model, features, rngs=None).values
    freeze(model.conv_block1)
    model.train()
    assert model.conv_block1.bn1.use_running_average and not model.conv_block2.bn1.use_running_average
    np.testing.assert_array_equal(first(model, features, rngs=nnx.Rngs(0)).values, expected)
    whole = [np.asarray(model.config.body(model, features, rngs=nnx.Rngs(seed)).values) for seed in (0, 1)]
    assert (whole[0] != whole[1]).any()  # the dropout behind the second block
