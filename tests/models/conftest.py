"""Models with the weights behind the golden figures."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recipe
from flax import nnx

from panns_jax.models.abstract import abstract_model
from panns_jax.models.model import Model
from panns_jax.models.registry import model_config

# Entry of a PyTorch layer → attribute of ours, and where its axes come from. On purpose not the package's own rules.
_LAYOUT = {
    (nnx.Conv, "weight"): ("kernel", lambda x: np.transpose(x, (*range(2, x.ndim), 1, 0))),
    (nnx.Conv, "bias"): ("bias", np.asarray),
    (nnx.Linear, "weight"): ("kernel", np.transpose),
    (nnx.Linear, "bias"): ("bias", np.asarray),
    (nnx.BatchNorm, "weight"): ("scale", np.asarray),
    (nnx.BatchNorm, "bias"): ("bias", np.asarray),
    (nnx.BatchNorm, "running_mean"): ("mean", np.asarray),
    (nnx.BatchNorm, "running_var"): ("var", np.asarray),
}


def fill(model: Model, weights: dict[str, np.ndarray]) -> None:
    """Puts PyTorch state-dict entries into a model, under the same names."""
    for key, value in weights.items():
        *path, field = key.split(".")
        if field == "num_batches_tracked" or path[0] in ("spectrogram_extractor", "logmel_extractor"):
            continue
        layer = model
        for name in path:
            layer = getattr(layer, name)
        kind = next(kind for kind in (nnx.Conv, nnx.Linear, nnx.BatchNorm) if isinstance(layer, kind))
        attribute, rearranged = _LAYOUT[kind, field]
        variable = getattr(layer, attribute)
        ours = rearranged(value)
        assert variable.shape == ours.shape, key
        variable.set_value(jnp.asarray(ours))


@pytest.fixture(scope="session")
def published_model() -> Callable[[str], Model]:
    """Makes a model in evaluation mode with the weights of seed 1."""

    def make(name: str) -> Model:
        model = abstract_model(model_config(name))
        fill(model, recipe.checkpoint(name, 1))
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(nnx.state(model)))
        model.eval()
        return model

    return make
