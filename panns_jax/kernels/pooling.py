"""Pooling over windows that do not overlap.

XLA's CPU code takes three to five times as long for a `reduce_window` as for the same from one strided view for each
place of the window, forward as backward; after a depthwise convolution it even stores all terms of that.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from panns_jax.kernels.products import summed

# Places of a window up to which as many views are made.
_MOST = 16


def mean_of_windows(
    x: Float[Array, "batch *space channels"], window: tuple[int, ...]
) -> Float[Array, "batch *other_space channels"]:
    """The mean over each window; what does not fill one is dropped."""
    return _on_platform(x, window, cpu=_mean_by_views, default=_mean_by_reduction)


def largest_of_windows(
    x: Float[Array, "batch *space channels"], window: tuple[int, ...]
) -> Float[Array, "batch *other_space channels"]:
    """The largest value of each window; what does not fill one is dropped.

    NaN counts as larger than all. Of equal values the first one gets the gradient.
    """
    return _on_platform(x, window, cpu=_largest_by_views, default=_largest_by_reduction)


def _on_platform(
    x: Array, window: tuple[int, ...], *, cpu: Callable[..., Array], default: Callable[..., Array]
) -> Array:
    by_default = functools.partial(default, window=window)
    if math.prod(window) > _MOST:
        return by_default(x)
    return lax.platform_dependent(x, cpu=functools.partial(cpu, window=window), default=by_default)


def _views(x: Array, window: tuple[int, ...]) -> Iterator[Array]:
    """One place of all windows after another."""
    ends = [size // step * step for size, step in zip(x.shape[1:-1], window, strict=True)]
    for place in itertools.product(*map(range, window)):
        steps = (slice(first, end, step) for first, end, step in zip(place, ends, window, strict=True))
        yield x[(slice(None), *steps)]


def _mean_by_views(x: Array, *, window: tuple[int, ...]) -> Array:
    total = functools.reduce(jnp.add, _views(x.astype(summed(x.dtype)), window))
    return (total * (1 / math.prod(window))).astype(x.dtype)


def _largest_by_views(x: Array, *, window: tuple[int, ...]) -> Array:
    return functools.reduce(lambda a, b: jnp.where((b > a) | jnp.isnan(b), b, a), _views(x, window))


def _filling(x: Array, window: tuple[int, ...]) -> Array:
    """What fills windows: of that alone, sizes that are symbols (`jax.export`) come out as those of views do."""
    ends = [size // step * step for size, step in zip(x.shape[1:-1], window, strict=True)]
    return lax.slice(x, (0,) * x.ndim, (x.shape[0], *ends, x.shape[-1]))


def _mean_by_reduction(x: Array, *, window: tuple[int, ...]) -> Array:
    steps = (1, *window, 1)
    whole = _filling(x, window).astype(summed(x.dtype))
    total = lax.reduce_window(whole, np.zeros((), whole.dtype), lax.add, steps, steps, "VALID")
    return (total * (1 / math.prod(window))).astype(x.dtype)


def _largest_by_reduction(x: Array, *, window: tuple[int, ...]) -> Array:
    steps = (1, *window, 1)
    return lax.reduce_window(_filling(x, window), -jnp.inf, lax.max, steps, steps, "VALID")
