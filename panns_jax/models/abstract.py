"""Models without weights: shapes and types stand in their place."""

import functools
from typing import Any

import jax
from flax import nnx

from panns_jax.models.config import ModelConfig
from panns_jax.models.model import Model


def abstract_model(config: ModelConfig) -> Model:
    """A model without weights, in training mode; it takes no memory, and is the caller's own."""
    return nnx.merge(*_abstract_parts(config), copy=True)


@functools.lru_cache(maxsize=256)
def _abstract_parts(config: ModelConfig) -> tuple[Any, Any]:
    return nnx.split(nnx.eval_shape(lambda: Model(config, rngs=_AnyKey())))


class _AnyKey(nnx.Rngs):
    """One key for all layers: no shape depends on it, and tracing a stream's count takes a second in deep models."""

    def params(self) -> jax.Array:
        return jax.random.key(0)
