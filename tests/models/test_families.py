"""What holds for a model of every family: lengths, training mode, mixup, and what a fresh model begins with."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recipe
from flax import nnx
from small_models import CLASSES, FRONTEND, SMALL

from panns_jax.errors import InputError
from panns_jax.models.abstract import abstract_model
from panns_jax.models.clips import Clips
from panns_jax.models.cnn import Cnn
from panns_jax.models.config import Features, Output
from panns_jax.models.layers import DepthwiseConv
from panns_jax.models.registry import REGISTRY, list_models
from panns_jax.models.resnet import BasicBlock, Bottleneck
from panns_jax.models.waveform import BasicBlock1d, DaiNetBlock
from panns_jax.pretrained.rules import Entry, entries, filled_model

families = pytest.mark.parametrize("name", SMALL)
published = pytest.mark.parametrize("name", list_models())

# In the published checkpoints, and never used.
UNUSED = {
    "decision-attention": ("att_block.bn_att",),
    "dainet": ("conv_block1.downsample", "conv_block1.bn_downsample"),
    "wavegram": ("bn0", "conv_block1"),
}


def clips(count: int, samples: int) -> np.ndarray:
    return recipe.waveform(count, samples, FRONTEND.sample_rate, 1)


@functools.cache
def weights(name: str) -> dict[str, np.ndarray]:
    """Weights and statistics that show what every layer does; fresh ones would hide the end of residual blocks."""
    rng = np.random.default_rng(0)

    def draw(entry: Entry) -> np.ndarray:
        if entry.ours.endswith(("scale", "var")):
            return rng.uniform(0.5, 1.5, entry.our_shape)
        return rng.standard_normal(entry.our_shape) / np.sqrt(np.prod(entry.our_shape[:-1]) + 1)

    return {entry.ours: draw(entry) for entry in entries(SMALL[name])}


def made(name: str) -> Any:
    """A model of the family, in evaluation mode."""
    return filled_model(SMALL[name], weights(name))


def forward(model: Any, waveform: np.ndarray, **options: Any) -> Output:
    return nnx.jit(lambda model, waveform: model(waveform, **options))(model, waveform)


# Taps


@families
def test_a_tap_is_there_if_it_is_asked_for_and_agrees_with_what_is_made_of_it(name: str):
    model: Any = made(name)
    plain = model(clips(2, 2011))
    assert plain.logits is plain.pooled is plain.frames is None
    output = model(clips(2, 2011), taps=("logits", "pooled", "frames"))
    np.testing.assert_array_equal(output.clipwise, plain.clipwise)
    frames, logits, pooled = (np.asarray(x) for x in (output.frames, output.logits, output.pooled))
    assert frames.shape[::2] == (2, model.config.body.out_channels)
    if model.config.embedding_dim is None:
        assert logits.shape == (2, frames.shape[1], CLASSES) and pooled.shape == frames.shape
        np.testing.assert_allclose(output.framewise[:, 0], jax.nn.sigmoid(logits[:, 0]), atol=1e-6)
    else:
        np.testing.assert_allclose(output.clipwise, jax.nn.sigmoid(logits), atol=1e-6)
        np.testing.assert_allclose(pooled, frames.max(1) + frames.mean(1), atol=1e-5)
        np.testing.assert_allclose(output.embedding, jax.nn.relu(model.fc1(pooled)), atol=1e-5)


def test_one_tap_may_be_named_alone_and_what_is_none_is_told():
    model = made("cnn")
    output = model(clips(1, 800), taps="pooled")
    assert output.pooled is not None and output.logits is None
    with pytest.raises(ValueError, match="there is no tap 'pool'; there are clipwise, embedding, framewise, logits"):
        model(clips(1, 800), taps=["pool"])
    with pytest.raises(ValueError, match="this model makes no framewise"):
        model(clips(1, 800), taps=["framewise"])


# Transformations


@pytest.mark.parametrize(
    "name", ["cnn", "decision-attention", "resnet", "mobilenet2", "leenet2", "dainet", "res1dnet", "wavegram-logmel"]
)
def test_gradients_by_waveform_and_weights_are_finite_on_silence_under_jit_and_vmap(name: str):
    model = made(name)
    graph, state = nnx.split(model)

    def heard(state: Any, clip: jax.Array, length: jax.Array) -> jax.Array:
        output = nnx.merge(graph, state)(clip[None], lengths=length[None], taps=("logits",))
        return jnp.stack([x.sum() for x in jax.tree.leaves(output)]).sum()

    sounds = np.stack([np.zeros(4000, np.float32), np.ones(4000, np.float32), clips(1, 4000)[0]])
    by_clip = jax.vmap(jax.grad(heard, argnums=(0, 1)), in_axes=(None, 0, 0))
    weights, gradients = jax.jit(by_clip)(state, sounds, jnp.asarray([4000, 4000, 3000]))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((weights, gradients)))
    assert (gradients[2, :3000] != 0).any()
    assert (gradients[2, 3000:] == 0).all()


# Lengths


@families
def test_a_clip_of_odd_length_becomes_probabilities_that_tell_clips_apart(name: str):
    model = made(name)
    output = forward(model, clips(2, 2011))
    assert output.clipwise.shape == (2, CLASSES)
    assert 0 < output.clipwise.min() < output.clipwise.max() < 1
    assert np.abs(output.clipwise[0] - output.clipwise[1]).max() > 1e-4
    assert (output.embedding is None) == (model.config.embedding_dim is None) == (output.framewise is not None)


@pytest.mark.parametrize("name", ["leenet", "leenet2"])
def test_networks_that_pad_everywhere_read_one_sample_as_it_is(name: str):
    model = made(name)
    assert model.config.min_samples == 1
    one, two = forward(model, np.full((1, 1), 0.5, np.float32)), forward(model, np.array([[0.5, 0]], np.float32))
    assert np.isfinite(one.clipwise).all()
    assert one.clipwise.shape == two.clipwise.shape


# Around the steps of the log-mel spectrogram (320 samples), of the pools and of the wavegram.
ODD = [
    (name, samples)
    for name in list_models()
    if name.startswith("Wavegram") or "DecisionLevel" in name
    for samples in (33 * 320 - 1, 33 * 320)
]


@pytest.mark.parametrize(("name", "samples"), [*((name, 1) for name in list_models()), *ODD])
def test_every_published_model_takes_any_length(name: str, samples: int):
    model: Any = abstract_model(REGISTRY[name])
    model.eval()
    config = model.config

    def shapes(model: Any) -> tuple[Any, ...]:
        output = model(jnp.zeros((2, samples)))
        return output.clipwise, output.embedding, output.framewise

    clipwise, embedding, framewise = nnx.eval_shape(shapes, model)
    assert clipwise.shape == (2, 527)
    if config.embedding_dim is not None:
        assert embedding.shape == (2, config.embedding_dim)
    else:
        assert framewise.shape == (2, config.frontend.frames(max(samples, config.min_samples)), 527)


# Training


@pytest.mark.parametrize("name", UNUSED)
def test_training_changes_every_layer_but_those_that_the_published_model_never_uses(name: str):
    model = made(name)
    model.train()
    before = statistics(model)
    waveform = clips(4, 2011)

    @nnx.jit
    def step(model: Any) -> Any:
        return nnx.grad(lambda model: jnp.square(model(waveform, rngs=nnx.Rngs(1)).clipwise - 0.9).mean())(model)

    for path, gradient in nnx.to_flat_state(step(model)):
        where = ".".join(map(str, path))
        assert np.isfinite(gradient[...]).all(), where
        assert (np.abs(gradient[...]).max() > 0) != where.startswith(UNUSED[name]), where
    for where, now in statistics(model).items():
        assert (before[where] != now).any() != where.startswith(UNUSED[name]), where


def statistics(model: Any) -> dict[str, np.ndarray]:
    return {
        ".".join(map(str, path)): np.asarray(leaf[...])
        for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.BatchStat))
    }


@pytest.mark.parametrize("name", ["wavegram", "wavegram-logmel"])
def test_mixup_blends_the_wavegram_beside_the_log_mel_spectrogram(name: str):
    """Normalised by fixed statistics, a blend of two rows is the same before the first convolution that follows."""
    model = made(name)
    batch, blend = clips(4, 2011), jnp.asarray([0.9, 0.25])
    seen: list[Clips] = []

    def looking(blocks: Any, first: int, layers: Any, x: Clips, *, rngs: nnx.Rngs | None) -> Clips:
        seen.append(x)
        return run_from(blocks, first, layers, x, rngs=rngs)

    run_from = Cnn.run_from
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cnn, "run_from", looking)
        output = model(batch, mixup_lambda=blend)
        model(batch)
    assert output.clipwise.shape == (2, CLASSES)
    mixed, apart = (x.values[..., -4:] for x in seen)  # the wavegram's channels, which come last
    for pair, weight in enumerate((0.9, 0.25)):
        expected = weight * apart[2 * pair] + (1 - weight) * apart[2 * pair + 1]
        np.testing.assert_allclose(mixed[pair], expected, atol=1e-5)


@published
def test_mixup_is_done_where_the_published_model_does_it(name: str):
    config = REGISTRY[name]
    on_waveforms = name == "Cnn14_mixup_time_domain" or name.startswith(("LeeNet", "DaiNet", "Res1dNet"))
    assert config.mixup == ("waveform" if on_waveforms else "features")


@published
def test_spec_augment_masks_every_log_mel_spectrogram_but_one(name: str):
    config = REGISTRY[name]
    assert (config.spec_augment is not None) == (config.body.reads_logmel and name != "Cnn14_no_specaug")


# Published rates of dropout, by the path of the layer, outside residual blocks.
DROPOUT = {
    "Cnn6": {"body_dropout": 0.2, "head_dropout": 0.5},
    "Cnn14_no_dropout": {"body_dropout": 0.0, "head_dropout": 0.5},
    "Cnn14_DecisionLevelAtt": {"body_dropout": 0.2, "head_dropout": 0.5},
    "ResNet22": {"body_dropout": 0.2, "head_dropout": 0.5},
    "MobileNetV1": {"head_dropout": 0.5},
    "MobileNetV2": {"head_dropout": 0.5},
    "LeeNet11": {"body_dropout": 0.0, "head_dropout": 0.5},
    "LeeNet24": {"body_dropout": 0.1, "head_dropout": 0.5},
    "DaiNet19": {"head_dropout": 0.5},
    "Res1dNet31": {"head_dropout": 0.5},
    "Wavegram_Logmel_Cnn14": {"body_dropout": 0.2, "head_dropout": 0.5},
}


@pytest.mark.parametrize("name", DROPOUT)
def test_dropout_has_the_published_rates(name: str):
    layers = nnx.iter_modules(abstract_model(REGISTRY[name]))
    rates = {".".join(map(str, path)): layer.rate for path, layer in layers if isinstance(layer, nnx.Dropout)}
    assert {path: rate for path, rate in rates.items() if "." not in path} == DROPOUT[name]
    in_blocks = [rate for path, rate in rates.items() if "." in path]
    assert set(in_blocks) == ({0.1} if name.startswith("Res") else set())
    assert getattr(REGISTRY[name].head, "drops_pooled", True) == (name != "MobileNetV2")


# Beginning


@pytest.mark.parametrize(
    ("block", "last"),
    [
        (lambda rngs: BasicBlock(2, 2, stride=2, rngs=rngs), "bn2"),
        (lambda rngs: Bottleneck(8, 2, stride=2, rngs=rngs), "bn3"),
        (lambda rngs: BasicBlock1d(2, 2, stride=4, rngs=rngs), "bn2"),
        (lambda rngs: DaiNetBlock(2, 2, rngs=rngs), "bn4"),
    ],
)
def test_a_residual_block_begins_with_a_last_normalisation_of_zero(block: Callable[..., Any], last: str):
    scales = {
        ".".join(map(str, path)): leaf
        for path, leaf in nnx.to_flat_state(nnx.state(block(nnx.Rngs(0))))
        if "scale" in path
    }
    assert f"{last}.scale" in scales and len(scales) > 2
    for path, scale in scales.items():
        assert (np.asarray(scale[...]) == (path != f"{last}.scale")).all(), path


def test_a_depthwise_kernel_begins_xavier_uniform_by_pytorchs_fans():
    kernel = np.asarray(DepthwiseConv(64, (3, 3), rngs=nnx.Rngs(0)).kernel[...])
    bound = np.sqrt(6 / (9 * 1 + 9 * 64))  # one channel in, 64 out
    assert 0.95 * bound < np.abs(kernel).max() <= bound


# Front ends that do not fit


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("Cnn14", {"mel_bins": 31}, "mel_bins must be at least 32"),
        ("Cnn6", {"mel_bins": 15}, "mel_bins must be at least 16"),
        ("ResNet38", {"mel_bins": 31}, "mel_bins must be at least 32"),
        ("MobileNetV1", {"mel_bins": 31}, "mel_bins must be at least 32"),
        ("MobileNetV2", {"mel_bins": 31}, "mel_bins must be at least 32"),
        ("Wavegram_Logmel_Cnn14", {"mel_bins": 128}, "mel_bins must be 64, as the wavegram .* 32 frequencies; got 128"),
        ("Wavegram_Logmel_Cnn14", {"hop_size": 160}, "hop_size must be 320, the step of the wavegram .*; got 160"),
    ],
)
def test_a_front_end_that_the_body_can_not_read_is_refused(name: str, change: dict[str, Any], message: str):
    config = REGISTRY[name]
    with pytest.raises(InputError, match=message):
        dataclasses.replace(config, frontend=dataclasses.replace(config.frontend, **change))


# Beside the spectrogram


@pytest.mark.parametrize(("samples", "longer"), [(1920, 0), (2000, 1), (2075, 1), (2076, 0)])
def test_the_spectrogram_comes_before_the_wavegram_and_both_are_cut_to_the_shorter(samples: int, longer: int):
    model = made("wavegram-logmel")
    body, frontend = model.config.body, model.config.frontend
    frames = frontend.frames(samples)
    logmel = Clips(jax.random.normal(jax.random.key(0), (1, frames, frontend.mel_bins)))
    features = Features(Clips(jnp.asarray(clips(1, samples))), logmel)
    seen: list[Clips] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Cnn, "run_from", lambda cnn, first, layers, x, rngs: seen.append(x) or Clips(jnp.zeros((1, 1, 6)))
        )
        body(model, features, rngs=None)
    spectrum = model.conv_block1(features.image, pool=(2, 2)).values
    wavegram = body._wavegram(model, features.signal).values
    steps = wavegram.shape[1]
    assert spectrum.shape[1] == steps + longer
    assert seen[0].values.shape == (1, steps, 8, 8)
    np.testing.assert_allclose(seen[0].values[..., :4], spectrum[:, :steps], atol=1e-5)
    np.testing.assert_allclose(seen[0].values[..., 4:], wavegram[:, :steps], atol=1e-5)
