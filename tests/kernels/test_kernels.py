"""Every kernel convolves as XLA does in float64, whatever the shape that it suits."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tolerances
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Array

from panns_jax.kernels.axis import MOST_PRODUCTS, Axis, cook_toom, products, whole
from panns_jax.kernels.choice import Choice
from panns_jax.kernels.direct import xla_convolution
from panns_jax.kernels.kernel import KERNELS, Kernel, suiting
from panns_jax.kernels.shape import ConvShape
from panns_jax.kernels.tiles import Tiles


@st.composite
def sizes(draw: st.DrawFn) -> dict[str, Any]:
    """Of convolutions that keep the size, and others that step, spread or shrink: odd sizes, few mels, one channel."""
    dimensions = draw(st.sampled_from((1, 2)))
    taps = draw(st.sampled_from((1, 3, 5)))
    keeps = draw(st.booleans())
    steps = ((1, 1), (1, 2), (1, 4)) if keeps else ((1, 1), (2, 1), (5, 1), (1, 2), (2, 3))
    stride, dilation = draw(st.sampled_from(steps))
    padding = dilation * (taps // 2) if keeps else draw(st.integers(0, 2))
    least = 1 if keeps else dilation * (taps - 1) + 1
    return {
        "batch": draw(st.integers(1, 3)),
        "space": tuple(draw(st.integers(least, least + 12)) for _ in range(dimensions)),
        "in_channels": draw(st.integers(1, 5)),
        "out_channels": draw(st.sampled_from((1, 2, 3, 5, 64, 128))),  # 64 at once lie in a block
        "window": (taps,) * dimensions,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
    }


def values(shape: ConvShape, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((shape.batch, *shape.space, shape.in_channels), np.float32)
    return x, rng.standard_normal((*shape.window, shape.in_channels, shape.out_channels), np.float32)


def in_float64(shape: ConvShape, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    with jax.enable_x64(True):
        y = xla_convolution(
            jnp.asarray(x, "float64"),
            jnp.asarray(weights, "float64"),
            stride=shape.stride,
            padding=shape.padding,
            dilation=shape.dilation,
        )
        return np.asarray(y)


def convolved(kernel: Kernel, shape: ConvShape, x: np.ndarray, weights: np.ndarray) -> Array:
    ready = Choice(kernel, shape).transform(jnp.asarray(weights))
    y = jax.jit(lambda x, ready: kernel(x, ready, shape))(jnp.asarray(x, shape.dtype), ready)
    return y.whole() if isinstance(y, Tiles) else y


def tolerance(name: str) -> float:
    """How weights lie changes nothing of the algorithm."""
    return tolerances.KERNELS.get(name.removesuffix(" in blocks"), tolerances.KERNEL)


@settings(max_examples=30, deadline=None)
@given(sizes=sizes(), data=st.data())
def test_every_kernel_that_suits_a_shape_convolves(sizes: dict[str, Any], data: st.DataObject):
    shape = ConvShape(**sizes)
    kernel = data.draw(st.sampled_from(suiting(shape)))
    x, weights = values(shape)
    expected = in_float64(shape, x, weights)
    y = convolved(kernel, shape, x, weights)
    assert y.shape == expected.shape
    assert y.dtype == jnp.float32
    scale = np.abs(expected).max(initial=1)
    np.testing.assert_allclose(y, expected, atol=tolerance(kernel.name) * scale)


EXAMPLES = (
    ConvShape(1, (9, 7), 3, 4, (3, 3), padding=1),
    ConvShape(1, (9, 7), 1, 4, (3, 3), padding=1),
    ConvShape(1, (9, 2), 3, 4, (3, 3), padding=1),
    ConvShape(1, (9,), 3, 4, (1,)),
    ConvShape(1, (8, 8), 3, 64, (3, 3), padding=1),
    ConvShape(1, (9, 2), 3, 64, (3, 3), padding=1),
)


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_suits_something(name: str):
    assert any(KERNELS[name].suits(shape) for shape in EXAMPLES)


@pytest.mark.parametrize("name", KERNELS)
def test_what_a_kernel_reads_is_the_same_for_every_batch_and_time(name: str):
    kernel = KERNELS[name]
    compared = 0
    for shape in filter(kernel.suits, EXAMPLES):
        weights = jnp.asarray(values(shape)[1])
        expected = kernel.transform(weights, shape)
        for batch, time in ((2, shape.space[0]), (1, 5), (3, 4)):
            other = dataclasses.replace(shape, batch=batch, space=(time, *shape.space[1:]))
            if kernel.suits(other):
                assert kernel.growth(other) == kernel.growth(shape)
                for one, another in zip(kernel.transform(weights, other), expected, strict=True):
                    np.testing.assert_array_equal(one, another)
                compared += 1
    assert compared > 0


@pytest.mark.parametrize("name", ["shifted", "columns"])
@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize(("space", "taps"), [((2,), 5), ((4,), 5), ((1, 9), 3), ((5, 2), 3), ((3, 3), 3)])
def test_where_the_window_is_longer_than_the_input_nothing_comes_out_as_of_xla(
    name: str, stride: int, space: tuple[int, ...], taps: int
):
    shape = ConvShape(2, space, 1, 4, (taps,) * len(space), stride=stride)
    x, weights = values(shape)
    expected = xla_convolution(jnp.asarray(x), jnp.asarray(weights), stride=stride)
    y = convolved(KERNELS[name], shape, x, weights)
    assert y.shape == expected.shape
    assert (y.size == 0) == (min(space) < taps)
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in KERNELS if name.startswith("winograd")])
def test_the_error_of_a_tile_size_is_what_is_documented(name: str):
    kernel = KERNELS[name]
    spaces = ((48, 24), (48, 2), (8, 8), (16, 2))  # the last two of few tiles
    shapes = (ConvShape(2 if space[0] == 48 else 1, space, 96, 64, (3, 3), padding=1) for space in spaces)
    shape = next(filter(kernel.suits, shapes))
    x, weights = values(shape)
    expected = in_float64(shape, x, weights)
    error = np.abs(np.asarray(convolved(kernel, shape, x, weights)) - expected).max() / np.abs(expected).max()
    assert error < tolerance(name) / 3


@pytest.mark.parametrize("name", ["product", "columns", "winograd 2x2", "winograd 1xall", "winograd 2xall"])
def test_products_of_bfloat16_are_summed_up_in_float32(name: str):
    kernel = KERNELS[name]
    shapes = (ConvShape(1, (24, width), 64, 8, (3, 3), padding=1, dtype="bfloat16") for width in (8, 2))
    shape = next((shape for shape in shapes if kernel.suits(shape)), ConvShape(1, (24,), 64, 8, (1,), dtype="bfloat16"))
    x, weights = values(shape)
    x, weights = (np.asarray(jnp.asarray(array, "bfloat16").astype("float32")) for array in (x, weights))
    expected = in_float64(shape, x, weights)
    y = convolved(kernel, shape, x, weights)
    assert y.dtype == jnp.bfloat16
    # Rounded to 8 bits at the end, and the transformed values before the products.
    np.testing.assert_allclose(y.astype("float32"), expected, atol=tolerances.BFLOAT16_KERNEL * np.abs(expected).max())


@pytest.mark.parametrize("taps", [1, 2, 3, 5])
@pytest.mark.parametrize("outputs", [1, 2, 3, 4, 6])
def test_an_axis_convolves_exactly(outputs: int, taps: int):
    if products(outputs, taps) > MOST_PRODUCTS:
        with pytest.raises(ValueError, match="products, more than"):
            cook_toom(outputs, taps)
        return
    check_axis(cook_toom(outputs, taps), np.random.default_rng(0).standard_normal(taps))


@pytest.mark.parametrize("size", [1, 2])
def test_a_whole_axis_knows_the_zeros_around_it(size: int):
    kernel, inputs = np.random.default_rng(0).standard_normal((2, 3))
    axis = whole(size)
    outputs = axis.gather @ ((axis.taps @ kernel) * (axis.spread @ inputs[:size]))
    np.testing.assert_allclose(outputs, np.correlate(np.pad(inputs[:size], 1), kernel), atol=1e-12)


def check_axis(axis: Axis, kernel: np.ndarray):
    inputs = np.random.default_rng(1).standard_normal(axis.inputs)
    outputs = axis.gather @ ((axis.taps @ kernel) * (axis.spread @ inputs))
    np.testing.assert_allclose(outputs, np.correlate(inputs, kernel), atol=1e-9)


def test_tiles_are_an_image_in_pieces():
    image = np.random.default_rng(0).standard_normal((2, 8, 6, 3), np.float32)
    pieces = tuple(tuple(jnp.asarray(image[:, i::4, j::2]) for j in range(2)) for i in range(4))
    tiles = Tiles(pieces, (7, 5))
    assert tiles.halves
    np.testing.assert_array_equal(tiles.whole(), image[:, :7, :5])
    np.testing.assert_array_equal(tiles.map(jnp.negative).whole(), -image[:, :7, :5])
    means = image[:, :6, :4].reshape(2, 3, 2, 2, 2, 3).mean((2, 4))
    np.testing.assert_allclose(tiles.mean_of_2x2().whole(), means, atol=1e-6)


def test_means_of_tiles_of_bfloat16_are_added_up_in_float32():
    pieces = (256.0, 1.0), (1.0, 1.0)  # in bfloat16, 256 + 1 is 256
    tiles = Tiles(tuple(tuple(jnp.full((1, 1, 1, 1), piece, jnp.bfloat16) for piece in row) for row in pieces), (2, 2))
    mean = tiles.mean_of_2x2().whole()
    assert mean.dtype == jnp.bfloat16
    assert mean.item() == jnp.bfloat16(259 / 4)
