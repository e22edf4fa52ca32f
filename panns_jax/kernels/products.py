"""Matrix products and sums for kernels."""

import functools

import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

# Columns of a block of weights: four of the widest registers.
BLOCK = 64


def multiply(
    rows: Float[Array, "rows inputs"],
    weights: Float[Array, "inputs outputs"] | Float[Array, "blocks inputs columns"],
) -> Float[Array, "rows outputs"]:
    """rows · weights, in whole float32; of bfloat16 weights in bfloat16 with float32 sums.

    Weights may be cut by `in_blocks`.
    """
    if weights.dtype == jnp.bfloat16:
        rows = rows.astype(jnp.bfloat16)
    product = functools.partial(lax.dot_general, precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32)
    if weights.ndim == 2:
        return product(rows, weights, (((1,), (0,)), ((), ())))
    repeated = jnp.broadcast_to(rows, (weights.shape[0], *rows.shape))
    y = product(repeated, weights, (((2,), (1,)), ((0,), (0,))))
    return jnp.moveaxis(y, 0, 1).reshape(y.shape[1], -1)


def in_blocks(weights: Float[Array, "inputs outputs"]) -> Float[Array, "blocks inputs columns"]:
    """Cuts a matrix between its columns.

    Times few rows, a product waits for the weights; XLA's code reads such blocks, which lie in one piece, about twice
    as fast as a whole matrix.
    """
    return weights.reshape(weights.shape[0], -1, BLOCK).swapaxes(0, 1)


def summed(dtype: DTypeLike) -> jnp.dtype:
    """The type to add up in what is of `dtype`: float32 at least."""
    return jnp.promote_types(dtype, jnp.float32)
