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
from jax.typing import ArrayLike
from weights import arbitrary

from panns_jax.frontend import Stripes, log_mel, mixup, spec_augment
from panns_jax.labels import LabelSet, numbered
from panns_jax.models.abstract import abstract_model
from panns_jax.models.clips import Clips
from panns_jax.models.cnn import Cnn
from panns_jax.models.config import Features, ModelConfig, Output
from panns_jax.models.heads import ClipHead
from panns_jax.models.model import Model
from panns_jax.models.registry import MEL_32K, create_model, list_models, model_config
from panns_jax.pretrained.rules import filled_model

# Small, as what is tested here holds for any size; the published sizes are tested in test_published.py.
BODY = Cnn(channels=(8, 16), pooled_blocks=2)
HEAD = ClipHead(embedding_dim=32)
SMALL = ModelConfig(name="Small", frontend=MEL_32K, body=BODY, head=HEAD, labels=numbered(12))
# The same without anything random: what it does in training can be computed by hand.
PLAIN = dataclasses.replace(
    SMALL,
    spec_augment=None,
    body=dataclasses.replace(BODY, dropout=0.0),
    head=dataclasses.replace(HEAD, dropout=0.0),
)


@pytest.fixture(scope="module")
def small() -> Any:
    return filled_model(SMALL, arbitrary(SMALL))


def training(config: ModelConfig) -> Any:
    """A model in training mode."""
    model = filled_model(config, arbitrary(config))
    model.train()
    return model


@nnx.jit
def in_training(model: Model, waveform: ArrayLike, rngs: nnx.Rngs) -> Output:
    return model(waveform, rngs=rngs)


def clips(count: int = 2, samples: int = 16000, seed: int = 1) -> np.ndarray:
    return recipe.waveform(count, samples, 32000, seed)


def same(ours: Any, expected: Any, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(np.asarray(ours), np.asarray(expected), rtol=0, atol=tolerance)


# Output


def test_output_is_probabilities_and_an_embedding_and_no_frames(small: Any):
    output = small(clips())
    assert output.clipwise.shape == (2, 12)
    assert output.embedding is not None
    assert output.embedding.shape == (2, small.config.embedding_dim) == (2, 32)
    assert output.clipwise.dtype == output.embedding.dtype == jnp.float32
    assert 0 < output.clipwise.min() < output.clipwise.max() < 1
    assert output.embedding.min() == 0
    assert output.framewise is None


def test_a_clip_does_not_depend_on_its_batch(small: Any):
    batch = clips(4)
    run = jax.jit(small)
    together = run(batch)
    for i in range(4):
        same(run(batch[i : i + 1]).clipwise[0], together.clipwise[i])


def test_other_floating_point_waveforms_are_taken_as_float32(small: Any):
    waveform = clips().astype(np.float16)
    same(small(waveform).clipwise, small(waveform.astype(np.float32)).clipwise, 0)
    assert small(waveform).clipwise.dtype == jnp.float32


@pytest.mark.parametrize("samples", [1, 2, 319, 512, 513, 959])
def test_clips_that_are_too_short_are_padded_with_zeros_at_their_end(small: Any, samples: int):
    assert small.config.min_samples == 960
    short = clips(2, samples) if samples > 1 else np.array([[0.5], [-0.25]], np.float32)
    padded = np.pad(short, ((0, 0), (0, 960 - samples)))
    ours = small(short)
    assert np.isfinite(ours.clipwise).all()
    same(ours.clipwise, small(padded).clipwise, 0)
    same(ours.embedding, small(padded).embedding, 0)


def test_clips_that_are_long_enough_are_not_padded(small: Any):
    waveform = clips(2, 960)
    padded = np.pad(waveform, ((0, 0), (0, 16000 - 960)))
    assert np.abs(small(waveform).clipwise - small(padded).clipwise).max() > 1e-4


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros(16000, np.float32), "one clip is waveform"),
        (np.zeros((1, 2, 16000), np.float32), "must be .batch, samples."),
        (np.zeros((1, 16000), np.int16), "floating point in .-1, 1., got int16"),
        (np.zeros((1, 0), np.float32), "no samples"),
    ],
)
def test_what_is_no_batch_of_waveforms_is_refused(small: Any, waveform: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        small(waveform)


# Modes


def test_a_new_model_is_in_training_mode_and_says_that_it_needs_random_numbers():
    model: Any = abstract_model(SMALL)
    assert not model.head_dropout.deterministic
    with pytest.raises(ValueError, match=r"pass rngs=nnx.Rngs\(seed\), or call model.eval\(\) first"):
        model(clips())
    model.eval()
    nnx.eval_shape(lambda model: model(clips()).clipwise, model)
    model.train()
    nnx.eval_shape(lambda model: model(clips(), rngs=nnx.Rngs(0)).clipwise, model)


def test_training_mode_draws_from_the_random_numbers_given_and_evaluation_mode_draws_none(small: Any):
    same(small(clips(), rngs=nnx.Rngs(1)).clipwise, small(clips(), rngs=nnx.Rngs(2)).clipwise, 0)
    model = training(SMALL)
    one, again, other = (in_training(model, clips(), nnx.Rngs(seed)).embedding for seed in (1, 1, 2))
    assert one is not None and again is not None and other is not None
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3


def test_a_model_without_anything_random_needs_no_random_numbers_in_training():
    assert training(PLAIN)(clips()).clipwise.shape == (2, 12)


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

        def __call__(self, layers: Any, features: Features, *, rngs: nnx.Rngs | None) -> Clips:
            assert features.logmel is not None
            seen.append(features.logmel.values)
            return Clips(jnp.ones((len(features.logmel.values), 5, 4)))

    config = dataclasses.replace(SMALL, body=Body())
    model = training(config)

    @nnx.jit
    def features(model: Model, waveform: ArrayLike) -> jax.Array:
        model(waveform, rngs=nnx.Rngs(spec_augment=7, dropout=0))
        return seen.pop()

    augmented = features(model, clips(4))
    logmel = log_mel(clips(4), config.frontend)
    normalised = (logmel - logmel.mean((0, 1))) / jnp.sqrt(logmel.var((0, 1)) + 1e-5)
    same(augmented, spec_augment(normalised, nnx.Rngs(spec_augment=7).spec_augment(), Stripes()), 1e-3)
    assert (augmented == 0).any()


def test_the_classifier_reads_the_whole_embedding_and_the_reported_one_is_dropped_in_training():
    layers: Any = nnx.Dict(HEAD.build(16, 12, rngs=nnx.Rngs(0)))
    calls: list[jax.Array] = []

    def dropout(x: jax.Array, *, rngs: nnx.Rngs | None) -> jax.Array:
        calls.append(x)
        return 2 * x if len(calls) == 1 else jnp.zeros_like(x)

    layers["head_dropout"] = dropout
    steps = jax.random.normal(jax.random.key(0), (3, 7, 16))
    output = HEAD(layers, Clips(steps), frames=7, rngs=None)
    pooled = steps.max(1) + steps.mean(1)
    hidden = jax.nn.relu(layers["fc1"](2 * pooled))
    same(calls[0], pooled)
    same(calls[1], hidden)
    same(output.clipwise, jax.nn.sigmoid(layers["fc_audioset"](hidden)))
    same(output.embedding, jnp.zeros_like(hidden), 0)


def test_dropout_zeroes_the_share_it_is_told_and_scales_the_rest():
    head = dataclasses.replace(HEAD, dropout=0.5)
    layers: Any = nnx.Dict(head.build(16, 5, rngs=nnx.Rngs(0)))
    layers["fc1"].bias.set_value(jnp.full(32, 1000.0))  # so that no unit is at rest
    steps = Clips(jnp.zeros((1600, 2, 16)))
    reported = np.asarray(jax.jit(lambda: head(layers, steps, frames=2, rngs=nnx.Rngs(0)).embedding)())
    assert set(np.unique(reported)) == {0, 2000}
    assert (reported == 0).mean() == pytest.approx(0.5, abs=0.01)


# Mixup


@pytest.mark.parametrize("where", ["features", "waveform"])
def test_mixup_in_a_model_is_mixup_by_hand(where: Any):
    config = dataclasses.replace(PLAIN, mixup=where)
    weights = jnp.asarray([0.9, 0.25])
    batch = clips(4)
    mixed = training(config)(batch, mixup_lambda=weights)
    assert mixed.clipwise.shape == (2, 12)

    by_hand = training(config)
    if where == "waveform":
        expected = by_hand(mixup(jnp.asarray(batch), weights))
    else:
        logmel = by_hand.bn0(Clips(log_mel(batch, config.frontend))).values
        mixed_by_hand = weights[:, None, None] * logmel[0::2] + (1 - weights)[:, None, None] * logmel[1::2]
        features = Features(Clips(jnp.asarray(batch)), Clips(mixed_by_hand))
        expected = config.head(by_hand, config.body(by_hand, features, rngs=None), frames=51, rngs=None)
    same(mixed.clipwise, expected.clipwise)
    same(mixed.embedding, expected.embedding, 1e-4)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.array([0.5, 0.5], np.float32), "needs 4 rows, got 3"),
        (0.5, r"mixup_lambda must be \(pairs,\), a weight per pair of clips, got shape \(\)"),
    ],
)
def test_mixup_of_a_batch_that_is_no_pairs_is_refused(weights: Any, message: str):
    with pytest.raises(ValueError, match=message):
        training(PLAIN)(clips(3), mixup_lambda=weights)


# Creation


def test_fresh_weights_are_xavier_uniform_with_zero_biases_and_neutral_normalisation():
    def leaves() -> dict[str, jax.Array]:
        model: Any = create_model("Cnn6", rngs=nnx.Rngs(0))
        biased = (model.fc1, model.fc_audioset, model.bn0, model.conv_block1.bn1)
        return {
            "convolution": model.conv_block2.conv1.kernel[...],
            "dense": model.fc_audioset.kernel[...],
            "zero": jnp.concatenate([model.bn0.mean[...], *(module.bias[...] for module in biased)]),
            "one": jnp.concatenate([model.bn0.scale[...], model.bn0.var[...]]),
        }

    fresh = {name: np.asarray(leaf) for name, leaf in jax.jit(leaves)().items()}  # leaves that nobody asks for are free
    for kernel, shape, fans in (
        (fresh["convolution"], (5, 5, 64, 128), 25 * (64 + 128)),
        (fresh["dense"], (512, 527), 512 + 527),
    ):
        assert kernel.shape == shape
        bound = np.sqrt(6 / fans)
        assert np.abs(kernel).max() <= bound
        assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.01)
    assert (fresh["zero"] == 0).all()
    assert (fresh["one"] == 1).all()


def test_the_demos_model_begins_with_rare_classes_and_the_published_ones_at_even_odds():
    def bias() -> jax.Array:
        model: Any = create_model("DemoCnn", rngs=nnx.Rngs(0))
        return model.fc_audioset.bias[...]

    np.testing.assert_allclose(jax.nn.sigmoid(jax.jit(bias)()), 0.0025, rtol=1e-3)
    for name in list_models():
        assert getattr(model_config(name).head, "initial_probability", 0.5) == 0.5


def test_weights_follow_from_the_seed():
    @jax.jit
    def kernel(key: jax.Array) -> jax.Array:
        model: Any = Model(SMALL, rngs=nnx.Rngs(key))
        return model.fc1.kernel[...]

    one, again, other = (kernel(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize("num_classes", [1, 3, 1000])
def test_any_number_of_classes_can_be_asked_for(num_classes: int):
    configs: list[ModelConfig] = []

    def created(waveform: jax.Array) -> jax.Array:
        model = create_model("DemoCnn", num_classes=num_classes, rngs=nnx.Rngs(0))
        model.eval()
        configs.append(model.config)
        return model(waveform).clipwise

    assert jax.eval_shape(created, clips()).shape == (2, num_classes)
    (config,) = configs
    assert config.num_classes == len(config.labels) == num_classes
    assert config.labels[num_classes - 1] == f"class {num_classes - 1}"


def test_a_config_of_ones_own_brings_its_labels():
    labels = LabelSet("pets", ("c", "d"), ("Cat", "Dog"))
    model = abstract_model(dataclasses.replace(SMALL, labels=labels))
    model.eval()
    assert nnx.eval_shape(lambda model: model(clips()).clipwise, model).shape == (2, 2)
    assert model.config.labels.index("dog") == 1


# Around a model


def test_a_model_can_be_split_jitted_and_merged(small: Any):
    expected = small(clips())
    graph, state = nnx.split(small)
    assert hash(graph) == hash(nnx.graphdef(small))

    @jax.jit
    def by_jax(state: nnx.State, waveform: jax.Array):
        return nnx.merge(graph, state)(waveform)

    by_static = jax.jit(lambda graph, state, waveform: nnx.merge(graph, state)(waveform), static_argnums=0)
    for output in (
        by_jax(state, clips()),
        by_static(graph, state, clips()),
        nnx.jit(lambda model, waveform: model(waveform))(small, clips()),
        jax.jit(small)(clips()),
    ):
        same(output.clipwise, expected.clipwise)
        same(output.embedding, expected.embedding, 1e-4)


def test_a_model_can_be_mapped_over_clips(small: Any):
    mapped = jax.jit(jax.vmap(lambda clip: small(clip[None]).clipwise[0]))(clips())
    same(mapped, small(clips()).clipwise)


def test_gradients_reach_every_weight_and_the_waveform(small: Any):
    model = copy.deepcopy(small)
    gradients = nnx.jit(nnx.grad(lambda model: jnp.square(model(clips()).clipwise - 0.9).mean()))(model)
    flat = nnx.to_flat_state(gradients)
    assert {path for path, _ in flat} == {path for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    for path, gradient in flat:
        assert np.isfinite(gradient[...]).all(), path
        assert np.abs(gradient[...]).max() > 0, path
    to_sound = jax.jit(jax.grad(lambda waveform: small(waveform).clipwise[0, 0]))(jnp.asarray(clips()))
    assert np.isfinite(to_sound).all()
    assert np.abs(to_sound[0]).max() > 0
    assert (np.asarray(to_sound[1]) == 0).all()


def test_training_keeps_running_statistics_up_to_date_under_jit():
    model = training(SMALL)
    before = np.asarray(model.bn0.mean[...])
    in_training(model, clips(), nnx.Rngs(0))
    logmel = np.asarray(log_mel(clips(), SMALL.frontend))
    same(model.bn0.mean[...], 0.9 * before + 0.1 * logmel.mean((0, 1)), 1e-3)


def test_a_fine_tuned_head_can_replace_the_published_one(small: Any):
    model = copy.deepcopy(small)
    model.fc_audioset = nnx.Linear(32, 7, rngs=nnx.Rngs(0))
    assert model(clips()).clipwise.shape == (2, 7)


@pytest.mark.slow
def test_models_work_in_the_tree_mode_that_nnx_is_moving_to():
    program = """
import jax, numpy as np
from flax import nnx
from panns_jax.labels import numbered
from panns_jax.models.cnn import Cnn
from panns_jax.models.clips import Clips
from panns_jax.models.config import ModelConfig
from panns_jax.models.heads import ClipHead
from panns_jax.models.model import Model
from panns_jax.models.registry import MEL_32K
body, head = Cnn(channels=(4,), pooled_blocks=1), ClipHead(embedding_dim=8)
config = ModelConfig(name="Small", frontend=MEL_32K, body=body, head=head, labels=numbered(3))
model = Model(config, rngs=nnx.Rngs(0))
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
    assert isinstance(SMALL, ModelConfig)
    with pytest.raises(dataclasses.FrozenInstanceError):
        SMALL.name = "other"  # pyright: ignore[reportAttributeAccessIssue]
