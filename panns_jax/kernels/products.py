"""Matrix products for kernels."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def multiply(
    rows: Float[Array, "rows inputs"], weights: Float[Array, "inputs outputs"]
) -> Float[Array, "rows outputs"]:
    """rows · weights, in whole float32; of bfloat16 weights in bfloat16 with float32 sums."""
    if weights.dtype == jnp.bfloat16:
        rows = rows.astype(jnp.bfloat16)
    return lax.dot_general(
        rows,
        weights,
        (((1,), (0,)), ((), ())),
        precision=lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )
