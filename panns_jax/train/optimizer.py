"""The published optimizer: Adam with AMSGrad, by PyTorch's rule."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int


def make_optimizer(learning_rate: float) -> optax.GradientTransformation:
    """Adam with AMSGrad and no weight decay, as the published models were trained (section IV-B of the paper).

    Args:
      learning_rate: step size; 1e-3 in the paper.
    """
    return optax.chain(scale_by_amsgrad(), optax.scale_by_learning_rate(learning_rate))


class AmsgradState(NamedTuple):
    """What AMSGrad remembers.

    Attributes:
      steps: number of updates so far.
      mean: running mean of the gradients, shaped as the parameters.
      second_moment: running mean of their squares.
      largest: greatest second moment so far.
    """

    steps: Int[Array, ""]
    mean: optax.Updates
    second_moment: optax.Updates
    largest: optax.Updates


def scale_by_amsgrad(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    """Scales gradients by AMSGrad's rule as PyTorch applies it.

    PyTorch keeps the greatest second moment *before* its bias is corrected, and corrects the root of the greatest;
    `optax.amsgrad` keeps the greatest of the corrected ones. The first one, of a single gradient, stays the largest for
    many steps, so that losses part at the third step.

    Args:
      b1: decay of the mean of gradients.
      b2: decay of the mean of squared gradients.
      eps: added to the root, after its correction.
    """

    def init(params: optax.Params) -> AmsgradState:
        def zeros() -> optax.Updates:  # three trees of their own: donated buffers must not be shared
            return jax.tree.map(jnp.zeros_like, params)

        return AmsgradState(jnp.zeros((), jnp.int32), zeros(), zeros(), zeros())

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AmsgradState]:
        del params
        assert isinstance(state, AmsgradState)
        steps = state.steps + 1
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mean, updates)
        second_moment = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.second_moment, updates)
        largest = jax.tree.map(jnp.maximum, state.largest, second_moment)
        unbias = 1 / _one_minus_power(b1, steps)
        root_unbias = 1 / jnp.sqrt(_one_minus_power(b2, steps))
        scaled = jax.tree.map(lambda m, v: unbias * m / (jnp.sqrt(v) * root_unbias + eps), mean, largest)
        return scaled, AmsgradState(steps, mean, second_moment, largest)

    return optax.GradientTransformation(init, update)


def _one_minus_power(base: float, exponent: Int[Array, ""]) -> Array:
    # 1 - 0.999 in float32 has but three good digits; expm1 has them all.
    return -jnp.expm1(exponent.astype(jnp.float32) * math.log(base))
