"""Depthwise convolution, in whichever way it is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from panns_jax.kernels.depthwise import _grouped, _shifted, depthwise_conv

RNG = np.random.default_rng(0)


def by_hand(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    height, width, _, _ = kernel.shape
    padded = np.pad(x, ((0, 0), (height // 2,) * 2, (width // 2,) * 2, (0, 0))).astype(np.float64)
    y = np.zeros(x.shape)
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            y[:, i, j] = (padded[:, i : i + height, j : j + width] * kernel[:, :, 0]).sum((1, 2))
    return y


@pytest.mark.parametrize("size", [(7, 5, 3), (1, 1, 4), (2, 9, 1)])
@pytest.mark.parametrize("window", [(3, 3), (5, 1)])
def test_every_channel_has_its_own_kernel(size: tuple[int, ...], window: tuple[int, int]):
    x = RNG.standard_normal((2, *size)).astype(np.float32)
    kernel = RNG.standard_normal((*window, 1, size[-1])).astype(np.float32)
    for convolve in (depthwise_conv, _shifted, _grouped):
        np.testing.assert_allclose(convolve(jnp.asarray(x), jnp.asarray(kernel)), by_hand(x, kernel), atol=1e-5)


def test_both_ways_have_the_same_gradients():
    x = RNG.standard_normal((2, 6, 5, 3)).astype(np.float32)
    kernel = RNG.standard_normal((3, 3, 1, 3)).astype(np.float32)
    slope = RNG.standard_normal(x.shape).astype(np.float32)
    (ours, theirs) = (
        jax.grad(lambda x, kernel, way=way: (way(x, kernel) * slope).sum(), argnums=(0, 1))(x, kernel)
        for way in (depthwise_conv, _grouped)
    )
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
