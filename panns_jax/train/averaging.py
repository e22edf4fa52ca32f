"""Averages of the weights over the steps, which often score better than the weights themselves."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Weights = dict[str, Any]
Averaging = Callable[[Weights, Weights, Weights, Int[Array, ""]], Weights]
"""From the averages so far, `params` and `batch_stats` after a step, and its number, to the averages after it."""


def begin_average(params: Weights, batch_stats: Weights) -> Weights:
    """The averages before the first step: the fresh weights, in memory of their own."""
    return jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats})


def make_averaging(*, ema_decay: float, swa_start: int) -> Averaging | None:
    """How the averages go on after each step; None where both are 0.

    Running statistics of batch normalisations are averaged as the weights are.

    Args:
      ema_decay: share that an exponential average keeps at each step, below 1. In step n it is at most n / (n + 9), so
        that the fresh weights are soon forgotten.
      swa_start: iteration whose weights are the first of an average of equal shares. Until then the average is the
        weights themselves.
    """
    if ema_decay:

        def rate(iteration: Int[Array, ""]) -> Float[Array, ""]:
            steps = iteration.astype(jnp.float32)
            return 1 - jnp.minimum(ema_decay, steps / (steps + 9))
    elif swa_start:

        def rate(iteration: Int[Array, ""]) -> Float[Array, ""]:
            return 1 / jnp.maximum(iteration - (swa_start - 1), 1).astype(jnp.float32)
    else:
        return None

    def go_on(average: Weights, params: Weights, batch_stats: Weights, iteration: Int[Array, ""]) -> Weights:
        share = rate(iteration)
        return jax.tree.map(
            lambda old, new: (1 - share) * old + share * new, average, {"params": params, "batch_stats": batch_stats}
        )

    return go_on
