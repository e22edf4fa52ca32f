"""Weights for the tests of conversion and loading."""

import numpy as np
import pytest
from pth_writer import write_checkpoint

from panns_jax.models.config import ModelConfig
from panns_jax.models.registry import model_config
from panns_jax.pretrained.conversion import frontend_constants
from panns_jax.pretrained.rules import entries, unused_names


def published_weights(config: ModelConfig, seed: int = 1) -> dict[str, np.ndarray]:
    """Random weights and statistics of a model as a released checkpoint holds them, front-end constants included."""
    rng = np.random.default_rng(seed)
    weights = dict(frontend_constants(config))
    for entry in entries(config):
        positive = entry.published.endswith("running_var")
        values = rng.uniform(0.5, 1.5, entry.shape) if positive else 0.05 * rng.standard_normal(entry.shape)
        weights[entry.published] = values.astype(np.float32)
    return {**weights, **{name: np.array(1000) for name in unused_names(config)}}


@pytest.fixture
def make_weights():
    """`published_weights`."""
    return published_weights


@pytest.fixture
def small_weights():
    """Weights of the smallest model, under the published names."""
    return published_weights(model_config("DemoCnn"))


@pytest.fixture
def small_pth(tmp_path, small_weights):
    """A `.pth` file with `small_weights`."""
    return write_checkpoint(tmp_path / "small.pth", small_weights)
