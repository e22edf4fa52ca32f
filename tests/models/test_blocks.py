"""Blocks of the families: where they pool, what they add, and how they number."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from panns_jax.models.clips import Clips
from panns_jax.models.layers import Apply, avg_pool, max_pool, relu
from panns_jax.models.mobilenet import InvertedResidual, MobileNetV1
from panns_jax.models.resnet import BasicBlock, Bottleneck
from panns_jax.models.waveform import BasicBlock1d, DaiNetBlock
from panns_jax.models.wavegram import WavegramBlock, as_image


def normal(*shape: int) -> Clips:
    return Clips(jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32))


def ready(block: Any) -> Any:
    """In evaluation mode, with normalisations that do something."""
    rng = np.random.default_rng(1)
    for path, leaf in nnx.to_flat_state(nnx.state(block)):
        if path[-1] != "kernel":
            leaf.set_value(jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32))
    block.eval()
    return block


def layer(block: Any, *names: str) -> Any:
    for name in names:
        block = getattr(block, name)
    return block


def same(one: Clips, other: Clips) -> None:
    np.testing.assert_allclose(one.values, other.values, atol=1e-5)


def test_a_stride_is_a_mean_before_the_first_convolution_and_in_the_shortcut():
    block, x = ready(BasicBlock(2, 2, stride=2, rngs=nnx.Rngs(0))), normal(2, 7, 5, 2)
    pooled = avg_pool(x, (2, 2))
    branch = block.bn2(block.conv2(relu(block.bn1(block.conv1(pooled)))))
    shortcut = layer(block.downsample, "2")(layer(block.downsample, "1")(pooled))
    assert block(x, rngs=None).values.shape == (2, 3, 2, 2)
    same(block(x, rngs=None), relu(branch + shortcut))


def test_a_bottleneck_widens_fourfold_and_projects_without_a_stride_too():
    block, x = ready(Bottleneck(2, 2, stride=1, rngs=nnx.Rngs(0))), normal(2, 4, 4, 2)
    y = relu(block.bn1(block.conv1(x)))
    branch = block.bn3(block.conv3(relu(block.bn2(block.conv2(y)))))
    shortcut = layer(block.downsample, "1")(layer(block.downsample, "0")(x))
    assert block(x, rngs=None).values.shape == (2, 4, 4, 8)
    same(block(x, rngs=None), relu(branch + shortcut))
    assert Bottleneck(8, 2, stride=1, rngs=nnx.Rngs(0)).downsample is None


def test_over_waveforms_the_branch_takes_the_largest_value_and_the_shortcut_the_mean():
    block, x = ready(BasicBlock1d(2, 2, stride=4, rngs=nnx.Rngs(0))), normal(2, 19, 2)
    branch = block.bn2(block.conv2(relu(block.bn1(block.conv1(max_pool(x, 4))))))
    shortcut = layer(block.downsample, "2")(layer(block.downsample, "1")(avg_pool(x, (4,))))
    assert block(x, rngs=None).values.shape == (2, 4, 2)
    same(block(x, rngs=None), relu(branch + shortcut))


@pytest.mark.parametrize(
    "block", [lambda: BasicBlock1d(1, 1, stride=1, rngs=nnx.Rngs(0)), lambda: WavegramBlock(1, 1, rngs=nnx.Rngs(0))]
)
def test_the_second_convolution_over_a_waveform_has_holes(block: Any):
    made = block()
    impulse = Clips(jnp.zeros((1, 11, 1)).at[0, 5].set(1))
    assert np.flatnonzero(made.conv1(impulse).values).tolist() == [4, 5, 6]
    assert np.flatnonzero(made.conv2(impulse).values).tolist() == [3, 5, 7]


@pytest.mark.parametrize(("in_channels", "projects"), [(2, False), (3, True)])
def test_dainets_block_adds_its_input_where_the_shapes_agree(in_channels: int, projects: bool):
    block, x = ready(DaiNetBlock(in_channels, 2, rngs=nnx.Rngs(0))), normal(2, 9, in_channels)
    y = x
    for i in (1, 2, 3):
        y = relu(layer(block, f"bn{i}")(layer(block, f"conv{i}")(y)))
    y = block.bn4(block.conv4(y))
    same(block(x), relu(y + (block.bn_downsample(block.downsample(x)) if projects else x)))


def test_a_mobilenet_pools_between_the_convolution_and_its_normalisation():
    config = MobileNetV1(stem_channels=2, blocks=((3, 2),))
    features: Any = ready(config.features(rngs=nnx.Rngs(0)))
    stem, separable = layer(features, "0"), layer(features, "1")
    x = normal(2, 9, 8, 1)
    y = relu(layer(stem, "2")(avg_pool(layer(stem, "0")(x), (2, 2))))
    y = relu(layer(separable, "2")(avg_pool(layer(separable, "0")(y), (2, 2))))
    same(features(x), relu(layer(separable, "5")(layer(separable, "4")(y))))
    # In training, what is normalised are the means.
    stem.train()
    before = layer(stem, "2", "mean")[...]
    convolved = layer(stem, "0")(x)
    stem(x)
    expected = 0.9 * before + 0.1 * avg_pool(convolved, (2, 2)).values.mean((0, 1, 2))
    np.testing.assert_allclose(layer(stem, "2", "mean")[...], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("out_channels", "expansion", "stride", "adds"),
    [(2, 1, 1, True), (2, 2, 1, True), (3, 2, 1, False), (2, 2, 2, False)],
)
def test_an_inverted_residual_adds_its_input_where_it_fits(out_channels: int, expansion: int, stride: int, adds: bool):
    block: Any = ready(InvertedResidual(2, out_channels, expansion=expansion, stride=stride, rngs=nnx.Rngs(0)))
    x = normal(2, 6, 4, 2).map(lambda values: 5 * values)
    layers = [layer(block.conv, str(i)) for i in range(block.conv.count)]
    y = x
    for each in layers:
        y = each(y)
    same(block(x), x + y if adds else y)
    # ReLU6 stands behind every normalisation but the last.
    bounded = [
        each for each in layers if isinstance(each, Apply) and each(Clips(jnp.full((1, 1), 9.0))).values.max() == 6
    ]
    assert len(bounded) == (1 if expansion == 1 else 2)
    assert isinstance(layers[-1], nnx.BatchNorm)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6, 7, 30, 31])
def test_padded_max_pooling_has_a_step_for_every_third_sample_and_pads_with_nothing(length: int):
    x = -1 - np.abs(np.random.default_rng(length).standard_normal((1, length, 1))).astype(np.float32)
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0)), constant_values=-np.inf)
    steps = (length + 2) // 3
    expected = [padded[0, 3 * i : 3 * i + 3].max() for i in range(steps)]
    np.testing.assert_array_equal(np.asarray(max_pool(Clips(jnp.asarray(x)), 3, padding=1).values)[0, :, 0], expected)


def test_channels_become_frequencies_in_runs():
    x = Clips(jnp.arange(8.0).reshape(1, 1, 8))
    image = np.asarray(as_image(x, 4).values)
    assert image.shape == (1, 1, 4, 2)
    for channel in range(8):
        assert image[0, 0, channel % 4, channel // 4] == channel
