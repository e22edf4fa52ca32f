"""Weights that cost nothing to make: JAX would compile every initialiser of a fresh model."""

import numpy as np
from flax import nnx

from panns_jax.models.abstract import abstract_model
from panns_jax.models.config import ModelConfig

# As training would leave them, near enough: with fresh statistics the signal fades on its way.
_VALUES = {"bn0.mean": -30.0, "bn0.var": 200.0, "mean": 0.0, "var": 0.3, "scale": 1.0, "bias": 0.0}


def arbitrary(config: ModelConfig) -> dict[str, np.ndarray]:
    """Weights under which a model answers differently to different sounds, by their paths in the model."""
    rng = np.random.default_rng(0)
    arrays = {}
    for path, leaf in nnx.to_flat_state(nnx.state(abstract_model(config))):
        name, field = ".".join(map(str, path)), str(path[-1])
        if field == "kernel":
            fans = np.prod(leaf.shape[:-2]) * sum(leaf.shape[-2:])
            values = rng.normal(0, np.sqrt(2 / fans), leaf.shape)
        else:
            values = np.full(leaf.shape, _VALUES.get(name, _VALUES[field]))
        arrays[name] = values.astype(np.float32)
    return arrays
