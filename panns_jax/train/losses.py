"""What training minimises."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from panns_jax.models.config import Output

# PyTorch's binary cross-entropy, which the published system was trained with, bounds logarithms and slopes so.
_LEAST_LOG = -100.0
_LEAST_VARIANCE = 1e-12


def clip_bce(output: Output, target: Float[Array, "batch classes"]) -> Float[Array, ""]:
    """Mean binary cross-entropy of the clipwise probabilities (section III-E of the paper).

    Probabilities are clipped to [0, 1], since the weighted sums of attention heads can round to just above 1. Loss and
    gradients stay finite where a probability is exactly 0 or 1.

    Args:
      output: what the model made of the batch; `clipwise` is read.
      target: which classes each clip carries, 0 or 1; between them after mixup.
    """
    return _cross_entropy(jnp.clip(output.clipwise, 0, 1), target).mean()


def clip_ce(output: Output, target: Float[Array, "batch classes"]) -> Float[Array, ""]:
    """Mean cross-entropy of classes that exclude each other, of the softmax of the logits.

    Args:
      output: what the model made of the batch; `logits`, (batch, classes), are read.
      target: the class of each clip, as a vector of which one is 1 and the others 0; a mean of two after mixup.
    """
    assert output.logits is not None
    return -(target * jax.nn.log_softmax(output.logits)).sum(axis=-1).mean()


LOSSES = {"clip_bce": clip_bce}


@jax.custom_jvp
def _cross_entropy(p: Float[Array, "batch classes"], target: Float[Array, "batch classes"]) -> Array:
    return -(target * _bounded_log(p) + (1 - target) * _bounded_log(1 - p))


@_cross_entropy.defjvp
def _cross_entropy_slope(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    # The slope is written down, because that of a bounded logarithm would be 0/0 or infinite at the ends.
    p, target = primals
    p_dot, target_dot = tangents
    along_p = (p - target) / jnp.maximum(p * (1 - p), _LEAST_VARIANCE)
    along_target = _bounded_log(1 - p) - _bounded_log(p)
    return _cross_entropy(p, target), along_p * p_dot + along_target * target_dot


def _bounded_log(x: Array) -> Array:
    return jnp.maximum(jnp.log(x), _LEAST_LOG)
