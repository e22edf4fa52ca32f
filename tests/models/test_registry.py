"""Models by name, and models as data."""

import dataclasses
import inspect
import json
from typing import Any

import pytest
from flax import nnx

import panns_jax
from panns_jax.errors import InputError
from panns_jax.labels import audioset, numbered
from panns_jax.models.config import ModelConfig
from panns_jax.models.registry import REGISTRY, _by_name, create_model, list_models, model_config

CNN14 = model_config("Cnn14")


def test_published_models_are_listed_and_ours_only_when_asked_for():
    assert {"Cnn6", "Cnn10", "Cnn14"} <= set(list_models())
    assert "DemoCnn" not in list_models()
    assert "DemoCnn" in list_models(ours=True)
    assert panns_jax.list_models() == list_models()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cnn14", "did you mean Cnn14"),
        ("Cnn41", "did you mean Cnn14"),
        ("CNN_14_no_dropout", "Cnn14_no_dropout"),
        ("whisper", "there are Cnn6, Cnn10"),
        ("", "there are Cnn6, Cnn10"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, hint: str):
    with pytest.raises(InputError, match=hint):
        create_model(name, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("num_classes", [0, -1])
def test_a_model_has_at_least_one_class(num_classes: int):
    with pytest.raises(InputError, match="num_classes must be at least 1"):
        create_model("Cnn6", num_classes=num_classes, rngs=nnx.Rngs(0))


def test_the_public_functions_take_what_they_are_documented_to_take():
    assert str(inspect.signature(panns_jax.create_model).replace(return_annotation=inspect.Signature.empty)) == (
        "(name: str, *, num_classes: int = 527, rngs: flax.nnx.rnglib.Rngs)"
    )
    loads = list(inspect.signature(panns_jax.load_model).parameters)
    assert loads == ["name", "checkpoint", "mirror", "precision", "weights"]
    assert list(inspect.signature(panns_jax.list_models).parameters) == ["ours"]


def test_two_models_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two models named Cnn14"):
        _by_name((CNN14, CNN14))


def test_a_model_as_published_has_audiosets_classes():
    assert CNN14.labels == audioset()
    assert CNN14.with_classes(527) is CNN14
    assert CNN14.with_classes(3).labels == numbered(3)


@pytest.mark.parametrize("name", list(REGISTRY))
@pytest.mark.parametrize("num_classes", [527, 3])
def test_a_config_survives_json(name: str, num_classes: int):
    config = REGISTRY[name].with_classes(num_classes)
    again = ModelConfig.from_json(json.loads(json.dumps(config.to_json())), "x")
    assert again == config
    assert hash(again) == hash(config)
    assert again.sample_rate == config.sample_rate
    assert again.embedding_dim == config.embedding_dim
    assert again.min_samples == config.min_samples


def test_json_carries_front_end_settings_that_differ_from_the_registrys():
    other = dataclasses.replace(CNN14, frontend=dataclasses.replace(CNN14.frontend, hop_size=160, mel_bins=32))
    assert ModelConfig.from_json(other.to_json(), "x") == other != CNN14


def without(key: str) -> dict[str, Any]:
    data = CNN14.to_json()
    del data[key]
    return data


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (None, "description of its model is incomplete"),
        ([], "description of its model is incomplete"),
        ({}, "description of its model is incomplete"),
        (without("architecture"), "incomplete"),
        (without("frontend"), "incomplete"),
        (without("labels"), "incomplete"),
        (CNN14.to_json() | {"architecture": "Cnn99"}, "there is no model 'Cnn99'"),
        (CNN14.to_json() | {"frontend": {"windows": 1024}}, "incomplete"),
        (CNN14.to_json() | {"frontend": CNN14.to_json()["frontend"] | {"hop_size": 0}}, "hop_size"),
        (CNN14.to_json() | {"labels": {"task": "x", "ids": ["a"], "names": []}}, "1 ids for 0 names"),
        (CNN14.to_json() | {"labels": {"task": "x", "ids": [], "names": []}}, "has no classes"),
        (CNN14.to_json() | {"labels": {"task": "x", "ids": ["a"], "names": ["\x1b[2J"]}}, "of the wrong kind"),
        (CNN14.to_json() | {"labels": {"task": "x\ny", "ids": ["a"], "names": ["b"]}}, "of the wrong kind"),
        (CNN14.to_json() | {"architecture": "C" * 1000}, "of the wrong kind"),
    ],
)
def test_a_description_that_is_not_ours_is_refused(data: Any, named: str):
    with pytest.raises(InputError, match=f"^model.safetensors: .*{named}"):
        ModelConfig.from_json(data, "model.safetensors")
