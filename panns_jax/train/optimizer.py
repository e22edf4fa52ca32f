"""The published optimizer: Adam with AMSGrad, by PyTorch's rule; and how its step size goes on."""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int

Decay = Literal["constant", "linear", "cosine"]
"""How the step size goes on after the warm-up."""


def make_optimizer(
    learning_rate: float | optax.Schedule, *, weight_decay: float = 0.0
) -> optax.GradientTransformationExtraArgs:
    """Adam with AMSGrad, without weight decay as the published models were trained (section IV-B of the paper).

    Args:
      learning_rate: step size, or a function of the number of steps done; 1e-3 throughout in the paper.
      weight_decay: each step takes this share, times the step size, off the weights of convolutions and linear layers
        (as AdamW does, not through the gradients); biases and batch normalisations are left out.

    Returns:
      The optimizer. Its `update` takes `finite`, whether the gradients count: where they do not, what it remembers of
      gradients stays as it is, while the step size goes on.
    """
    parts: list[optax.GradientTransformation] = [scale_by_amsgrad()]
    if weight_decay:
        parts.append(optax.add_decayed_weights(weight_decay, mask=_is_kernel))
    return optax.with_extra_args_support(optax.chain(*parts, optax.scale_by_learning_rate(learning_rate)))


def _is_kernel(params: optax.Params) -> optax.Params:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def make_schedule(peak: float, decay: Decay, *, warm_up: int, last: int) -> float | optax.Schedule:
    """The step size over the iterations.

    Args:
      peak: the largest.
      decay: whether it stays there, or falls to 0 along a line or half a cosine.
      warm_up: steps over which it rises to the peak along a line.
      last: the iteration at which it arrives at 0; above `warm_up`.

    Returns:
      A function of the number of steps done; the number `peak` where nothing changes.
    """
    after: optax.Schedule
    match decay:
        case "constant":
            if not warm_up:
                return peak
            after = optax.constant_schedule(peak)
        case "linear":
            after = optax.linear_schedule(peak, 0.0, last - warm_up)
        case "cosine":
            after = optax.cosine_decay_schedule(peak, last - warm_up)
    if not warm_up:
        return after
    rise = optax.linear_schedule(peak / warm_up, peak, warm_up - 1)  # not from 0: that would be a step without effect
    return optax.join_schedules([rise, after], [warm_up])


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


def scale_by_amsgrad(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformationExtraArgs:
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
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        *,
        finite: bool | Bool[Array, ""] = True,
        **others: object,
    ) -> tuple[optax.Updates, AmsgradState]:
        del params, others
        assert isinstance(state, AmsgradState)

        def moved(old: Array, new: Array) -> Array:
            return new if finite is True else jnp.where(finite, new, old)

        steps = moved(state.steps, state.steps + 1)
        mean = jax.tree.map(lambda m, g: moved(m, b1 * m + (1 - b1) * g), state.mean, updates)
        second_moment = jax.tree.map(lambda v, g: moved(v, b2 * v + (1 - b2) * g * g), state.second_moment, updates)
        largest = jax.tree.map(jnp.maximum, state.largest, second_moment)
        unbias = 1 / _one_minus_power(b1, steps)
        root_unbias = 1 / jnp.sqrt(_one_minus_power(b2, steps))
        scaled = jax.tree.map(lambda m, v: unbias * m / (jnp.sqrt(v) * root_unbias + eps), mean, largest)
        return scaled, AmsgradState(steps, mean, second_moment, largest)

    return optax.GradientTransformationExtraArgs(init, update)


def _one_minus_power(base: float, exponent: Int[Array, ""]) -> Array:
    # 1 - 0.999 in float32 has but three good digits; expm1 has them all. `float` is float64 where JAX is set to it.
    return -jnp.expm1(exponent.astype(float) * math.log(base))
