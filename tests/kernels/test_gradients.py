"""Training's convolutions and their gradients are XLA's, and come only where they were asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tolerances
from jaxtyping import Array

from panns_jax.kernels.convolution import convolve
from panns_jax.kernels.direct import xla_convolution
from panns_jax.kernels.gradients import gradients_by_products, kernel_to_train
from panns_jax.kernels.shape import ConvShape

SHAPES = [
    ConvShape(2, (13, 8), 16, 24, (3, 3), padding=1),
    ConvShape(1, (9, 15), 32, 16, (3, 3), padding=1),
    ConvShape(3, (31, 2), 16, 16, (3, 3), padding=1),
    ConvShape(2, (67, 1), 16, 16, (3, 3), padding=1),
]


def values(shape: ConvShape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((shape.batch, *shape.space, shape.in_channels))
    kernel = rng.standard_normal((*shape.window, shape.in_channels, shape.out_channels))
    return x, kernel, rng.standard_normal((shape.batch, *shape.space, shape.out_channels))


def by_xla_in_float64(shape: ConvShape) -> list[np.ndarray]:
    with jax.enable_x64(True):
        x, kernel, slope = map(jnp.asarray, values(shape))
        y, pull = jax.vjp(lambda x, kernel: xla_convolution(x, kernel, padding=shape.padding), x, kernel)
        return [np.asarray(array) for array in (y, *pull(slope))]


def by_products(shape: ConvShape) -> list[Array]:
    x, kernel, slope = (jnp.asarray(array, "float32") for array in values(shape))

    @jax.jit
    def run(x: Array, kernel: Array, slope: Array) -> list[Array]:
        y, pull = jax.vjp(lambda x, kernel: convolve(x, kernel, shape), x, kernel)
        return [y, *pull(slope)]

    with gradients_by_products():
        assert kernel_to_train(shape) is not None
        return run(x, kernel, slope)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape.space)))
def test_result_and_gradients_are_those_of_xla_in_float64(shape: ConvShape):
    for ours, exact in zip(by_products(shape), by_xla_in_float64(shape), strict=True):
        np.testing.assert_allclose(ours, exact, atol=tolerances.KERNEL_GRADIENT * np.abs(exact).max())


def test_a_batch_of_gradients_can_be_taken_by_vmap():
    shape = ConvShape(1, (16, 8), 16, 16, (3, 3), padding=1)
    x, kernel, _ = (jnp.asarray(array, "float32") for array in values(ConvShape(3, (16, 8), 16, 16, (3, 3), padding=1)))

    def loss(kernel: Array, clip: Array) -> Array:
        return jnp.square(convolve(clip[None], kernel, shape)).sum()

    expected = jnp.stack([jax.grad(loss)(kernel, clip) for clip in x])
    with gradients_by_products():
        got = jax.vmap(jax.grad(loss), in_axes=(None, 0))(kernel, x)
    np.testing.assert_allclose(got, expected, atol=tolerances.KERNEL_GRADIENT * np.abs(expected).max())


def test_kernels_are_used_only_where_they_were_asked_for_and_gain_something():
    shape = SHAPES[0]
    assert kernel_to_train(shape) is None
    with gradients_by_products():
        assert kernel_to_train(shape) is not None
        others = (
            ConvShape(2, (13, 8), 1, 24, (3, 3), padding=1),
            ConvShape(1, (5, 5), 16, 16, (3, 3), padding=1),
            ConvShape(2, (13, 8), 16, 24, (3, 3), padding=1, stride=2),
            ConvShape(2, (13, 8), 16, 24, (1, 1)),
            ConvShape(2, (130,), 16, 24, (3,), padding=1),
            ConvShape(2, (13, 8), 16, 24, (3, 3), padding=1, dtype="bfloat16"),
        )
        assert not any(map(kernel_to_train, others))
    assert kernel_to_train(shape) is None


def test_without_them_forward_mode_differentiation_works():
    shape = SHAPES[0]
    x, kernel, _ = (jnp.asarray(array, "float32") for array in values(shape))
    _, tangent = jax.jvp(lambda x: convolve(x, kernel, shape), (x,), (x,))
    np.testing.assert_allclose(tangent, convolve(x, kernel, shape), atol=1e-5)
