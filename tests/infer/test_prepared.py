"""Prepared models answer as the models do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recipe
import tolerances
import weights
from flax import nnx
from small_models import SMALL

import panns_jax
from panns_jax.errors import InputError
from panns_jax.infer.prepared import MOST, PreparedModel, prepare
from panns_jax.kernels import choice
from panns_jax.kernels.choice import Measured
from panns_jax.kernels.kernel import DIRECT, suiting
from panns_jax.kernels.shape import ConvShape
from panns_jax.models.abstract import abstract_model
from panns_jax.models.config import ModelConfig, Output
from panns_jax.models.model import Model

TAPS = ("logits", "pooled", "frames")


def model_of(config: ModelConfig) -> Model:
    """A model whose weights and statistics are random."""
    model = abstract_model(config)
    rng = np.random.default_rng(0)
    state = nnx.state(model)
    arrays = weights.arbitrary(config)
    for path, leaf in nnx.to_flat_state(state):
        array = arrays[".".join(map(str, path))]
        if str(path[-1]) in ("scale", "bias", "mean"):
            array = array + rng.normal(0, 0.2, array.shape).astype(np.float32)
        leaf.set_value(jnp.asarray(array))
    nnx.update(model, state)
    model.eval()
    return model
