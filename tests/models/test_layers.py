"""The layers against numpy's formulas, and against PyTorch where it is installed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from panns_jax.frontend import Stripes
from panns_jax.models.clips import Clips
from panns_jax.models.layers import BatchNorm, ConvBlock, ConvBlock5x5, SpecAugment, avg_pool, pad_to


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def randomised(layer: nnx.Module, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _, leaf in nnx.to_flat_state(nnx.state(layer)):
        leaf.set_value(jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32))


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    shape=st.sampled_from([(3, 4), (2, 7, 4), (2, 5, 3, 4)]),
    offset=st.sampled_from([0.0, 3.0, -40.0]),
    steps=st.integers(1, 3),
)
def test_batch_norm_keeps_the_mean_and_the_unbiased_variance(shape: tuple[int, ...], offset: float, steps: int):
    layer: Any = BatchNorm(4, rngs=nnx.Rngs(0))
    randomised(layer, 1)
    mean, var = np.asarray(layer.mean[...]), np.asarray(layer.var[...])
    for step in range(steps):
        x = normal(step, *shape) + offset
        flat = x.reshape(-1, 4).astype(np.float64)
        y = layer(Clips(jnp.asarray(x))).values
        expected = (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
        scale, bias = np.asarray(layer.scale[...]), np.asarray(layer.bias[...])
        np.testing.assert_allclose(y, (expected * scale + bias).reshape(shape), atol=2e-4)
        mean = 0.9 * mean + 0.1 * flat.mean(0)
        var = 0.9 * var + 0.1 * flat.var(0, ddof=1)
        np.testing.assert_allclose(layer.mean[...], mean, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(layer.var[...], var, rtol=1e-4)
    layer.eval()
    x = normal(9, *shape)
    expected = (x - mean) / np.sqrt(var + 1e-5) * np.asarray(layer.scale[...]) + np.asarray(layer.bias[...])
    np.testing.assert_allclose(layer(Clips(jnp.asarray(x))).values, expected, atol=1e-4)
    np.testing.assert_allclose(layer.mean[...], mean, rtol=1e-5, atol=1e-5)


def test_batch_norm_is_torchs_in_training_and_in_evaluation():
    torch = pytest.importorskip("torch")
    ours, theirs = BatchNorm(5, rngs=nnx.Rngs(0)), torch.nn.BatchNorm2d(5)
    randomised(ours, 1)
    pairs = {"weight": ours.scale, "bias": ours.bias, "running_mean": ours.mean, "running_var": ours.var}
    for name, variable in pairs.items():
        getattr(theirs, name).data = torch.tensor(np.asarray(variable[...]))
    for step in range(3):
        x = normal(step, 2, 3, 4, 5) * 7 - 30
        expected = theirs(torch.tensor(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        np.testing.assert_allclose(ours(Clips(jnp.asarray(x))).values, expected.detach().numpy(), atol=1e-4)
        for name in ("running_mean", "running_var"):
            np.testing.assert_allclose(pairs[name][...], getattr(theirs, name).numpy(), rtol=1e-5)
    ours.eval()
    theirs.eval()
    x = normal(5, 2, 3, 4, 5)
    expected = theirs(torch.tensor(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    np.testing.assert_allclose(ours(Clips(jnp.asarray(x))).values, expected.detach().numpy(), atol=1e-4)


def test_batch_norm_of_a_single_value_stays_finite():
    layer = BatchNorm(3, rngs=nnx.Rngs(0))
    y = layer(Clips(jnp.ones((1, 3))))
    assert np.isfinite(y.values).all()
    np.testing.assert_allclose(layer.var[...], 0.9, rtol=1e-6)


@pytest.mark.parametrize("kind", [ConvBlock, ConvBlock5x5])
@pytest.mark.parametrize("pool", [(1, 1), (2, 2)])
def test_conv_blocks_are_torchs(kind: type, pool: tuple[int, int]):
    torch = pytest.importorskip("torch")
    layer = kind(3, 4, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(2)
    for _, leaf in nnx.to_flat_state(nnx.state(layer, nnx.BatchStat)):
        leaf.set_value(jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32))
    layer.eval()
    x = normal(0, 2, 9, 7, 3)
    y = torch.tensor(x).permute(0, 3, 1, 2)
    for conv, bn in (
        ((layer.conv1, layer.bn1),)
        if kind is ConvBlock5x5
        else (
            (layer.conv1, layer.bn1),
            (layer.conv2, layer.bn2),
        )
    ):
        kernel = torch.tensor(np.asarray(conv.kernel[...])).permute(3, 2, 0, 1)
        y = torch.nn.functional.conv2d(y, kernel, padding=kernel.shape[-1] // 2)
        mean, var, scale, bias = (torch.tensor(np.asarray(v[...])) for v in (bn.mean, bn.var, bn.scale, bn.bias))
        y = torch.relu(torch.nn.functional.batch_norm(y, mean, var, scale, bias))
    y = torch.nn.functional.avg_pool2d(y, pool).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(layer(Clips(jnp.asarray(x)), pool=pool).values, y, atol=1e-5)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(time=st.integers(2, 9), mels=st.integers(2, 9), window=st.sampled_from([(1, 1), (2, 2), (2, 1), (1, 2)]))
def test_average_pooling_drops_what_does_not_fill_a_window(time: int, mels: int, window: tuple[int, int]):
    x = normal(time * 10 + mels, 2, time, mels, 3)
    rows, columns = time // window[0], mels // window[1]
    kept = x[:, : rows * window[0], : columns * window[1]]
    expected = kept.reshape(2, rows, window[0], columns, window[1], 3).mean((2, 4))
    np.testing.assert_allclose(avg_pool(Clips(jnp.asarray(x)), window).values, expected, atol=1e-6)


def test_spec_augment_is_the_identity_in_evaluation_mode():
    layer = SpecAugment(Stripes())
    x = Clips(jnp.ones((4, 101, 64)))
    assert (layer(x, nnx.Rngs(0)).values == 0).any()
    layer.eval()
    np.testing.assert_array_equal(layer(x, None).values, x.values)
    layer.train()
    assert (layer(x, nnx.Rngs(0)).values == 0).any()
    assert not jax.tree.leaves(nnx.state(layer))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(samples=st.integers(1, 12), least=st.integers(1, 12))
def test_padding_appends_zeros_and_never_cuts(samples: int, least: int):
    x = normal(0, 2, samples)
    padded = np.asarray(pad_to(jnp.asarray(x), least))
    assert padded.shape == (2, max(samples, least))
    np.testing.assert_array_equal(padded[:, :samples], x)
    assert (padded[:, samples:] == 0).all()
