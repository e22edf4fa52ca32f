"""Pooling is the same from views and by reduction, forward and backward."""

from collections.abc import Callable

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panns_jax.kernels.pooling import largest_of_windows, mean_of_windows

sizes = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 4)), min_size=1, max_size=2)


def expected(x: np.ndarray, window: tuple[int, ...], pooled) -> np.ndarray:
    """One window after another, in float64."""
    counts = [size // step for size, step in zip(x.shape[1:-1], window, strict=True)]
    y = np.empty((x.shape[0], *counts, x.shape[-1]))
    for place in np.ndindex(*counts):
        steps = (slice(i * step, (i + 1) * step) for i, step in zip(place, window, strict=True))
        y[(slice(None), *place)] = pooled(x[(slice(None), *steps)], axis=tuple(range(1, x.ndim - 1)))
    return y


@settings(max_examples=30)
@given(sizes, st.integers(0, 99))
def test_windows_are_pooled_and_what_fills_none_is_dropped(sizes: list[tuple[int, int]], seed: int):
    sizes = [(max(size, step), step) for size, step in sizes]
    window = tuple(step for _, step in sizes)
    x = np.random.default_rng(seed).standard_normal((2, *(size for size, _ in sizes), 3))
    mean, largest = jax.jit(lambda x: (mean_of_windows(x, window), largest_of_windows(x, window)))(np.float32(x))
    np.testing.assert_allclose(mean, expected(x, window, np.mean), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(largest, expected(x.astype(np.float32), window, np.max))


def test_a_window_too_large_for_views_is_pooled_too():
    x = np.random.default_rng(0).standard_normal((1, 12, 11, 2))
    mean = mean_of_windows(jnp.asarray(x, jnp.float32), (6, 5))
    largest = largest_of_windows(jnp.asarray(x, jnp.float32), (6, 5))
    np.testing.assert_allclose(mean, expected(x, (6, 5), np.mean), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(largest, expected(x.astype(np.float32), (6, 5), np.max))


def test_bfloat16_is_added_up_in_float32():
    x = jnp.asarray([[[256.0], [1.0], [1.0], [1.0]]], jnp.bfloat16)
    assert mean_of_windows(x, (4,)).dtype == jnp.bfloat16
    assert mean_of_windows(x, (4,)).item() == jnp.bfloat16(259 / 4)


@pytest.mark.parametrize("values, gradient", [([3, 3, 1], [1, 0, 0]), ([1, 2, 2], [0, 1, 0]), ([0, 1, 2], [0, 0, 1])])
def test_of_equal_values_the_first_gets_the_gradient_as_in_pytorch(values: list[float], gradient: list[float]):
    x = jnp.asarray(values, jnp.float32)[None, :, None]
    found = jax.grad(lambda x: largest_of_windows(x, (3,)).sum())(x)
    np.testing.assert_array_equal(found[0, :, 0], gradient)


@pytest.mark.parametrize("place", range(3))
def test_nan_stays_to_be_seen(place: int):
    x = jnp.zeros((1, 3, 1)).at[0, place, 0].set(jnp.nan)
    assert jnp.isnan(largest_of_windows(x, (3,))).all()
    assert jnp.isnan(mean_of_windows(x, (3,))).all()


def test_infinity_at_a_clips_end_gives_no_gradient_that_is_no_number():
    x = jnp.asarray([[[1.0], [-jnp.inf], [-jnp.inf], [-jnp.inf]]])
    found = jax.grad(lambda x: jnp.where(jnp.isfinite(y := largest_of_windows(x, (2,))), y, 0.0).sum())(x)
    np.testing.assert_array_equal(found[0, :, 0], [1, 0, 0, 0])


def test_float64_is_added_up_in_float64():
    with jax.enable_x64(True):
        x = jnp.asarray([[[1.0], [1e-12]]], jnp.float64)
        assert mean_of_windows(x, (2,)).item() == (1 + 1e-12) / 2


@pytest.mark.parametrize("pool", [mean_of_windows, largest_of_windows])
def test_sizes_may_be_symbols_in_an_exported_program(pool: Callable[..., jax.Array]):
    sizes = jax.export.symbolic_shape("batch, time, 6, 2")
    exported = jax.export.export(jax.jit(lambda x: pool(x, (2, 3))))(jax.ShapeDtypeStruct(sizes, jnp.float32))
    for batch, time in ((1, 7), (3, 2), (2, 1)):
        x = np.random.default_rng(0).standard_normal((batch, time, 6, 2), np.float32)
        np.testing.assert_allclose(exported.call(x), pool(jnp.asarray(x), (2, 3)), rtol=1e-6)
