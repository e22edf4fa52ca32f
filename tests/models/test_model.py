"""How a model behaves: shapes, modes, short clips, mixup, and JAX's transformations around it."""

import copy
import dataclasses
import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recipe
from flax import nnx

from panns_jax.frontend import Stripes, log_mel, mixup, spec_augment
from panns_jax.labels import LabelSet
from panns_jax.models.config import Features, ModelConfig
from panns_jax.models.registry import create_model, list_models, model_config

DEMO = model_config("DemoCnn")
HEAD: Any = DEMO.head
# The same without anything random: what it does in training can be computed by hand.
PLAIN = dataclasses.replace(DEMO, spec_augment=None, head=dataclasses.replace(HEAD, dropout=0.0))


@pytest.fixture(scope="module")
def demo() -> Any:
    model: Any = create_model("DemoCnn", rngs=nnx.Rngs(0))
    # Statistics as training would leave them, near enough: fresh ones let the signal fade on its way.
    for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.BatchStat)):
        leaf.set_value(jnp.full(leaf.shape, 0.0 if path[-1] == "mean" else 0.3))
    model.bn0.mean.set_value(jnp.full(64, -30.0))
    model.bn0.var.set_value(jnp.full(64, 200.0))
    model.eval()
    return model


def clips(count: int = 2, samples: int = 16000, seed: int = 1) -> np.ndarray:
    return recipe.waveform(count, samples, 32000, seed)


def same(ours: Any, expected: Any, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(np.asarray(ours), np.asarray(expected), rtol=0, atol=tolerance)


# Output


def test_output_is_probabilities_and_an_embedding_and_no_frames(demo: Any):
    output = demo(clips(3))
    assert output.clipwise.shape == (3, 527)
    assert output.embedding is not None
    assert output.embedding.shape == (3, demo.config.embedding_dim) == (3, 128)
    assert output.clipwise.dtype == output.embedding.dtype == jnp.float32
    assert 0 < output.clipwise.min() < output.clipwise.max() < 1
    assert output.embedding.min() == 0
    assert output.framewise is None


def test_a_clip_does_not_depend_on_its_batch(demo: Any):
    batch = clips(4)
    together = demo(batch)
    for i in range(4):
        same(demo(batch[i : i + 1]).clipwise[0], together.clipwise[i])


def test_other_floating_point_waveforms_are_taken_as_float32(demo: Any):
    waveform = clips().astype(np.float16)
    same(demo(waveform).clipwise, demo(waveform.astype(np.float32)).clipwise, 0)
    assert demo(waveform).clipwise.dtype == jnp.float32


@pytest.mark.parametrize("samples", [1, 2, 319, 512, 513, 4799])
def test_clips_that_are_too_short_are_padded_with_zeros_at_their_end(demo: Any, samples: int):
    assert demo.config.min_samples == 4800
    short = clips(2, samples) if samples > 1 else np.array([[0.5], [-0.25]], np.float32)
    padded = np.pad(short, ((0, 0), (0, 4800 - samples)))
    ours = demo(short)
    assert np.isfinite(ours.clipwise).all()
    same(ours.clipwise, demo(padded).clipwise, 0)
    same(ours.embedding, demo(padded).embedding, 0)


def test_clips_that_are_long_enough_are_not_padded(demo: Any):
    waveform = clips(1, 4800)
    assert np.abs(demo(waveform).clipwise - demo(np.pad(waveform, ((0, 0), (0, 320 * 32)))).clipwise).max() > 1e-4


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros(16000, np.float32), "one clip is waveform"),
        (np.zeros((1, 2, 16000), np.float32), "must be .batch, samples."),
        (np.zeros((1, 16000), np.int16), "floating point in .-1, 1., got int16"),
        (np.zeros((1, 0), np.float32), "no samples"),
    ],
)
def test_what_is_no_batch_of_waveforms_is_refused(demo: Any, waveform: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        demo(waveform)


# Modes


def test_a_new_model_is_in_training_mode_and_says_that_it_needs_random_numbers():
    model: Any = create_model("DemoCnn", num_classes=3, rngs=nnx.Rngs(0))
    assert not model.head_dropout.deterministic
    with pytest.raises(ValueError, match=r"pass rngs=nnx.Rngs\(seed\), or call model.eval\(\) first"):
        model(clips())
    model.eval()
    model(clips())
    model.train()
    model(clips(), rngs=nnx.Rngs(0))


def test_training_mode_draws_from_the_random_numbers_given_and_evaluation_mode_draws_none(demo: Any):
    same(demo(clips(), rngs=nnx.Rngs(1)).clipwise, demo(clips(), rngs=nnx.Rngs(2)).clipwise, 0)
    model = copy.deepcopy(demo)
    model.train()
    one, again, other = (np.asarray(model(clips(), rngs=nnx.Rngs(seed)).embedding) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3


def test_a_model_without_anything_random_needs_no_random_numbers_in_training():
    assert create_model(PLAIN, rngs=nnx.Rngs(0))(clips()).clipwise.shape == (2, 527)


def test_spec_augment_is_applied_after_batch_normalisation_and_before_the_body():
    seen: list[jax.Array] = []

    class Body:
        reads_logmel = True
        out_channels = 4
        __hash__ = object.__hash__

        def check(self, frontend: Any) -> None:
            pass

        def min_samples(self, frontend: Any) -> int:
            return 1

        def build(self, frontend: Any, *, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
            return {}

        def __call__(self, layers: Any, features: Features, *, rngs: nnx.Rngs | None) -> jax.Array:
            assert features.logmel is not None
            seen.append(features.logmel)
            return jnp.ones((features.logmel.shape[0], 5, 4))

    config = dataclasses.replace(DEMO, body=Body())
    model = create_model(config, rngs=nnx.Rngs(0))
    model(clips(4), rngs=nnx.Rngs(spec_augment=7, dropout=0))
    logmel = log_mel(clips(4), config.frontend)
    normalised = (logmel - logmel.mean((0, 1))) / jnp.sqrt(logmel.var((0, 1)) + 1e-5)
    same(seen[0], spec_augment(normalised, nnx.Rngs(spec_augment=7).spec_augment(), Stripes()), 1e-3)
    assert (seen[0] == 0).any()


def test_the_classifier_reads_the_whole_embedding_and_the_reported_one_is_dropped_in_training():
    layers = nnx.Dict(HEAD.build(128, 527, rngs=nnx.Rngs(0)))
    calls: list[jax.Array] = []

    def dropout(x: jax.Array, *, rngs: nnx.Rngs | None) -> jax.Array:
        calls.append(x)
        return 2 * x if len(calls) == 1 else jnp.zeros_like(x)

    layers["head_dropout"] = dropout
    steps = jax.random.normal(jax.random.key(0), (3, 7, 128))
    output = HEAD(layers, steps, frames=7, rngs=None)
    pooled = steps.max(1) + steps.mean(1)
    hidden = jax.nn.relu(layers["fc1"](2 * pooled))
    same(calls[0], pooled)
    same(calls[1], hidden)
    same(output.clipwise, jax.nn.sigmoid(layers["fc_audioset"](hidden)))
    same(output.embedding, jnp.zeros_like(hidden), 0)


def test_dropout_zeroes_the_share_it_is_told_and_scales_the_rest():
    head = dataclasses.replace(HEAD, dropout=0.5)
    layers = nnx.Dict(head.build(128, 5, rngs=nnx.Rngs(0)))
    layers["fc1"].bias.set_value(jnp.full(128, 1000.0))  # so that no unit is at rest
    steps = jnp.zeros((400, 2, 128))
    reported = np.asarray(head(layers, steps, frames=2, rngs=nnx.Rngs(0)).embedding)
    assert set(np.unique(reported)) == {0, 2000}
    assert (reported == 0).mean() == pytest.approx(0.5, abs=0.01)


# Mixup


@pytest.mark.parametrize("where", ["features", "waveform"])
def test_mixup_in_a_model_is_mixup_by_hand(where: Any):
    config = dataclasses.replace(PLAIN, mixup=where)
    weights = jnp.asarray([0.9, 0.25])
    batch = clips(4)
    mixed = create_model(config, rngs=nnx.Rngs(0))(batch, mixup_lambda=weights)
    assert mixed.clipwise.shape == (2, 527)

    by_hand = create_model(config, rngs=nnx.Rngs(0))
    if where == "waveform":
        expected = by_hand(mixup(jnp.asarray(batch), weights))
    else:
        logmel = by_hand.bn0(log_mel(batch, config.frontend))
        features = Features(
            jnp.asarray(batch), weights[:, None, None] * logmel[0::2] + (1 - weights)[:, None, None] * logmel[1::2]
        )
        expected = config.head(by_hand, config.body(by_hand, features, rngs=None), frames=51, rngs=None)
    same(mixed.clipwise, expected.clipwise)
    same(mixed.embedding, expected.embedding, 1e-4)


def test_mixup_of_a_batch_that_is_no_pairs_is_refused():
    with pytest.raises(ValueError, match="needs 4 rows, got 3"):
        create_model(PLAIN, rngs=nnx.Rngs(0))(clips(3), mixup_lambda=np.array([0.5, 0.5], np.float32))


# Creation


def test_fresh_weights_are_xavier_uniform_with_zero_biases_and_neutral_normalisation():
    model: Any = create_model("Cnn6", rngs=nnx.Rngs(0))
    kernel = np.asarray(model.conv_block2.conv1.kernel[...])
    assert kernel.shape == (5, 5, 64, 128)
    bound = np.sqrt(6 / (25 * 64 + 25 * 128))
    assert np.abs(kernel).max() <= bound
    assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.01)
    dense = np.asarray(model.fc_audioset.kernel[...])
    assert np.abs(dense).max() <= np.sqrt(6 / (512 + 527))
    for module in (model.fc1, model.fc_audioset, model.bn0, model.conv_block1.bn1):
        assert (np.asarray(module.bias[...]) == 0).all()
    assert (np.asarray(model.bn0.scale[...]) == 1).all()
    assert (np.asarray(model.bn0.mean[...]) == 0).all()
    assert (np.asarray(model.bn0.var[...]) == 1).all()


def test_the_demos_model_begins_with_rare_classes_and_the_published_ones_at_even_odds():
    model: Any = create_model("DemoCnn", rngs=nnx.Rngs(0))
    np.testing.assert_allclose(jax.nn.sigmoid(model.fc_audioset.bias[...]), 0.0025, rtol=1e-3)
    for name in list_models():
        assert getattr(model_config(name).head, "initial_probability", 0.5) == 0.5


def test_weights_follow_from_the_seed():
    models: list[Any] = [create_model("DemoCnn", rngs=nnx.Rngs(seed)) for seed in (0, 0, 1)]
    one, again, other = (model.fc1.kernel[...] for model in models)
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize("num_classes", [1, 3, 1000])
def test_any_number_of_classes_can_be_asked_for(num_classes: int):
    model = create_model("DemoCnn", num_classes=num_classes, rngs=nnx.Rngs(0))
    model.eval()
    assert model(clips()).clipwise.shape == (2, num_classes)
    assert model.config.num_classes == len(model.config.labels) == num_classes
    assert model.config.labels[num_classes - 1] == f"class {num_classes - 1}"


def test_a_config_of_ones_own_brings_its_labels():
    labels = LabelSet("pets", ("c", "d"), ("Cat", "Dog"))
    model = create_model(dataclasses.replace(DEMO, labels=labels), rngs=nnx.Rngs(0))
    model.eval()
    assert model(clips()).clipwise.shape == (2, 2)
    assert model.config.labels.index("dog") == 1


# Around a model


def test_a_model_can_be_split_jitted_and_merged(demo: Any):
    expected = demo(clips())
    graph, state = nnx.split(demo)
    assert hash(graph) == hash(nnx.graphdef(demo))

    @jax.jit
    def by_jax(state: nnx.State, waveform: jax.Array):
        return nnx.merge(graph, state)(waveform)

    by_static = jax.jit(lambda graph, state, waveform: nnx.merge(graph, state)(waveform), static_argnums=0)
    for output in (
        by_jax(state, clips()),
        by_static(graph, state, clips()),
        nnx.jit(lambda model, waveform: model(waveform))(demo, clips()),
        jax.jit(demo)(clips()),
    ):
        same(output.clipwise, expected.clipwise)
        same(output.embedding, expected.embedding, 1e-4)


def test_a_model_can_be_mapped_over_clips(demo: Any):
    mapped = jax.vmap(lambda clip: demo(clip[None]).clipwise[0])(clips(3))
    same(mapped, demo(clips(3)).clipwise)


def test_gradients_reach_every_weight_and_the_waveform(demo: Any):
    model = copy.deepcopy(demo)
    gradients = nnx.jit(nnx.grad(lambda model: jnp.square(model(clips()).clipwise - 0.9).mean()))(model)
    flat = nnx.to_flat_state(gradients)
    assert {path for path, _ in flat} == {path for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    for path, gradient in flat:
        assert np.isfinite(gradient[...]).all(), path
        assert np.abs(gradient[...]).max() > 0, path
    to_sound = jax.jit(jax.grad(lambda waveform: demo(waveform).clipwise[0, 0]))(jnp.asarray(clips()))
    assert np.isfinite(to_sound).all()
    assert np.abs(to_sound[0]).max() > 0
    assert (np.asarray(to_sound[1]) == 0).all()


def test_training_keeps_running_statistics_up_to_date_under_jit():
    model = create_model("DemoCnn", num_classes=3, rngs=nnx.Rngs(0))
    before = np.asarray(model.bn0.mean[...])
    nnx.jit(lambda model, waveform, rngs: model(waveform, rngs=rngs).clipwise)(model, clips(), nnx.Rngs(0))
    logmel = np.asarray(log_mel(clips(), DEMO.frontend))
    same(model.bn0.mean[...], 0.9 * before + 0.1 * logmel.mean((0, 1)), 1e-3)


def test_a_fine_tuned_head_can_replace_the_published_one(demo: Any):
    model = copy.deepcopy(demo)
    model.fc_audioset = nnx.Linear(128, 7, rngs=nnx.Rngs(0))
    assert model(clips()).clipwise.shape == (2, 7)


@pytest.mark.slow
def test_models_work_in_the_tree_mode_that_nnx_is_moving_to():
    program = """
import jax, numpy as np
from flax import nnx
from panns_jax import create_model
model = create_model("DemoCnn", num_classes=3, rngs=nnx.Rngs(0))
waveform = np.linspace(-1, 1, 9600, dtype=np.float32)[None].repeat(2, 0)

@nnx.jit
def step(model, rngs):
    def loss(model, rngs):
        return model(waveform, rngs=rngs, mixup_lambda=np.array([0.5], np.float32)).clipwise.sum()
    return nnx.grad(loss)(model, rngs)

before = np.asarray(model.bn0.mean[...])
step(model, nnx.Rngs(0))
assert (np.asarray(model.bn0.mean[...]) != before).any()
model.eval()
graph, state = nnx.split(model)
output = jax.jit(lambda state, x: nnx.merge(graph, state)(x))(state, waveform)
assert np.isfinite(output.clipwise).all()
"""
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "NNX_GRAPH_MODE": "false"})


def test_a_model_config_is_hashable_data():
    assert hash(model_config("Cnn14")) == hash(copy.deepcopy(model_config("Cnn14")))
    assert model_config("Cnn14") == copy.deepcopy(model_config("Cnn14"))
    assert isinstance(DEMO, ModelConfig)
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEMO.name = "other"  # pyright: ignore[reportAttributeAccessIssue]
