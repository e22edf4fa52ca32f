"""Published weights to ours and back, strictly."""

import math

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import recipe
from flax import nnx
from tolerances import CLIPWISE, EMBEDDING

from panns_jax.errors import InputError
from panns_jax.models.abstract import abstract_model
from panns_jax.models.registry import create_model, list_models, model_config
from panns_jax.pretrained.conversion import convert_weights, fitting_models, frontend_constants, with_classes_of
from panns_jax.pretrained.rules import entries, filled_model, to_published, unused_names

DEMO = model_config("DemoCnn")

all_models = pytest.mark.parametrize("name", list_models(ours=True))


# Of the families that have large models alone, one each is in the quick tests.
_ONE_OF_A_FAMILY = ("Cnn14_DecisionLevelAtt", "ResNet22", "Res1dNet31", "Wavegram_Logmel_Cnn14")


def _later(name: str) -> bool:
    large = sum(math.prod(entry.shape) for entry in entries(model_config(name))) > 20e6
    return large and name not in _ONE_OF_A_FAMILY


all_models_most_large_ones_later = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.long] if _later(n) else []) for n in list_models(ours=True)]
)
published_models = pytest.mark.parametrize("name", list_models())


@published_models
def test_names_and_shapes_are_the_published_ones(name):
    config = model_config(name)
    ours = {entry.published: entry.shape for entry in entries(config)}
    ours |= {constant: array.shape for constant, array in frontend_constants(config).items()}
    ours |= dict.fromkeys(unused_names(config), ())
    assert ours == {key: tuple(shape) for key, shape, _ in recipe.manifest()[name]["entries"]}


@all_models
def test_every_variable_of_a_model_has_an_entry_of_its_shape(name):
    config = model_config(name)
    state = nnx.to_flat_state(nnx.state(abstract_model(config)))
    shapes = {".".join(map(str, path)): variable.shape for path, variable in state}
    assert {entry.ours: entry.our_shape for entry in entries(config)} == shapes


@all_models_most_large_ones_later
def test_what_is_converted_comes_back_as_it_was(name):
    config = model_config(name)
    weights = {
        entry.published: np.arange(i, i + math.prod(entry.shape), dtype=np.float32).reshape(entry.shape)
        for i, entry in enumerate(entries(config))
    }
    back = to_published(filled_model(config, convert_weights(weights, config, "weights")))
    assert back.keys() == {entry.published for entry in entries(config)}
    for key, array in back.items():
        np.testing.assert_array_equal(array, weights[key], err_msg=key)


def test_converted_weights_reproduce_the_published_outputs():
    config = model_config("Cnn6")
    weights = recipe.checkpoint("Cnn6", 1)
    model = filled_model(config, convert_weights(weights, config, "weights"))
    golden = recipe.golden("published/Cnn6.npz")
    output = model(jnp.asarray(recipe.waveform(2, 64000, 32000, 1)))
    np.testing.assert_allclose(output.clipwise, golden["2.0s_clipwise_output"], atol=CLIPWISE)
    assert output.embedding is not None
    scale = np.abs(golden["2.0s_embedding"]).max()
    np.testing.assert_allclose(output.embedding, golden["2.0s_embedding"], atol=EMBEDDING * scale)


def test_a_fresh_model_goes_to_the_published_names_and_back():
    model = create_model("DemoCnn", num_classes=3, rngs=nnx.Rngs(0))
    weights = to_published(model)
    config = with_classes_of(weights, DEMO)
    again = filled_model(config, convert_weights(weights, config, "weights"))
    assert config.num_classes == 3
    for ours, others in zip(nnx.to_flat_state(nnx.state(model)), nnx.to_flat_state(nnx.state(again)), strict=True):
        assert ours[0] == others[0]
        np.testing.assert_array_equal(ours[1][...], others[1][...])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64, ">f4"])
def test_other_floating_point_becomes_float32(small_weights, dtype):
    stored = {name: array.astype(dtype) if array.dtype.kind == "f" else array for name, array in small_weights.items()}
    arrays = convert_weights(stored, DEMO, "weights")
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(arrays["fc1.kernel"], stored["fc1.weight"].astype(np.float32).T)


def test_weights_without_the_constants_of_the_front_end_are_converted(small_weights):
    for name in frontend_constants(DEMO):
        del small_weights[name]
    assert convert_weights(small_weights, DEMO, "weights")


def test_the_constants_are_those_of_the_published_front_ends():
    for name in ("Cnn14", "DemoCnn"):
        config = model_config(name)
        for key, array in recipe.frontend_buffers(**recipe.manifest()["Cnn14"]["frontend"]).items():
            np.testing.assert_allclose(frontend_constants(config)[key], array, atol=1e-6)


def refused(weights, config=DEMO) -> str:
    with pytest.raises(InputError) as error:
        convert_weights(weights, config, "some.pth")
    message = str(error.value)
    assert message.startswith(f"some.pth does not fit {config.name}: ")
    assert message.isprintable()
    return message


def test_every_fault_is_reported_at_once(small_weights):
    del small_weights["fc1.bias"]
    del small_weights["conv_block3.bn2.running_var"]
    small_weights["bn0.weight"] = small_weights["bn0.weight"][:5]
    small_weights["fc1.weight"] = small_weights["fc1.weight"].astype(np.int32)
    small_weights["bn0.bias"] = np.full_like(small_weights["bn0.bias"], np.nan)
    small_weights["bn0.running_mean"] = np.full(64, 1e39)
    small_weights["sur\nprise"] = np.ones(2, np.float32)
    small_weights["logmel_extractor.melW"] = 1.01 * small_weights["logmel_extractor.melW"]
    message = refused(small_weights)
    for part in (
        "8 faults",
        "missing: conv_block3.bn2.running_var (64,), fc1.bias (128,)",
        "of another shape: bn0.weight (5,) instead of (64,)",
        "not part of the model: sur\\nprise (2,)",
        "not floating point: fc1.weight (int32)",
        "holds NaN or infinity: bn0.bias, bn0.running_mean",
        "of another front end than the model's: logmel_extractor.melW",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x[:-1], "(512, "),
        (lambda x: x.T, " instead of (513, "),
        (lambda x: -x, "differs by 200 % of the largest value"),
        (lambda x: 1.0002 * x, "differs by 0.02"),
        (lambda x: np.full_like(x, np.nan), "holds NaN or infinity"),
        (lambda x: 1e45 * x.astype(np.float64), "holds NaN or infinity"),
        (lambda x: x.astype(np.int64), "int64"),
        (lambda x: np.roll(x, 1, axis=-1), "differs by "),
    ],
)
def test_constants_of_another_front_end_are_told_with_the_difference(small_weights, change, said):
    for name in frontend_constants(DEMO):
        message = refused({**small_weights, name: change(small_weights[name])})
        assert f"1 fault: of another front end than the model's: {name} (" in message
        assert said in message


def test_a_window_that_is_not_periodic_is_told(small_weights):
    name = "spectrogram_extractor.stft.conv_real.weight"
    ratio = np.hanning(1024) / np.maximum(np.hanning(1025)[:-1], 1e-9)
    assert name in refused({**small_weights, name: small_weights[name] * ratio})


def test_only_the_step_counters_of_batch_norms_are_passed_over(small_weights):
    small_weights["fc1.num_batches_tracked"] = np.array(1)
    small_weights["bn1.num_batches_tracked"] = np.array(1)
    message = refused(small_weights)
    assert "not part of the model: bn1.num_batches_tracked (), fc1.num_batches_tracked ()" in message


def test_long_lists_of_faults_are_cut_and_counted():
    message = refused({})
    assert "36 faults: missing: bn0.bias (64,)" not in message  # the demo's model has more than that
    assert "and " in message and " more" in message and len(message) < 700


def test_weights_of_another_model_are_told_with_the_models_that_they_fit(make_weights):
    message = refused(make_weights(model_config("Cnn6")))
    assert message.endswith("its names and shapes are those of Cnn6")


def test_models_are_found_by_names_and_shapes(small_weights, make_weights):
    assert fitting_models(small_weights) == ["DemoCnn"]
    assert fitting_models(make_weights(model_config("Cnn10").with_classes(3))) == ["Cnn10"]
    assert {"Cnn14", "Cnn14_no_dropout"} <= {*fitting_models(recipe_shapes("Cnn14"))}
    assert fitting_models({"x": np.ones(3)}) == []
    assert fitting_models({}) == []


def recipe_shapes(name: str) -> dict[str, np.ndarray]:
    return {key: np.broadcast_to(np.float32(0), shape) for key, shape, _ in recipe.manifest()[name]["entries"]}


def test_the_number_of_classes_is_that_of_the_last_layer(small_weights):
    assert with_classes_of(small_weights, DEMO) == DEMO
    weight = small_weights["fc_audioset.weight"]
    config = with_classes_of({"fc_audioset.weight": weight[:7]}, DEMO)
    assert config.num_classes == 7
    assert list(config.labels)[:2] == ["class 0", "class 1"]
    for other in (np.zeros((1 << 40, 0)), np.broadcast_to(np.float32(0), (1 << 40, 1)), np.float32(1)):
        assert with_classes_of({"fc_audioset.weight": np.asarray(other)}, DEMO) == DEMO
