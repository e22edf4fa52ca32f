"""Blocks that are computed twice give what they give when they are computed once, and take less memory."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small_models import CLASSES, SMALL
from weights import arbitrary

from panns_jax.models.config import ModelConfig
from panns_jax.models.rematerialization import Rematerialize, rematerialized
from panns_jax.pretrained.rules import filled_model
from panns_jax.train.losses import clip_bce
from panns_jax.train.step import loss_and_statistics

SAMPLES = 8000
# One of each kind of block.
NAMES = ("cnn", "resnet", "bottleneck", "mobilenet1", "mobilenet2", "leenet2", "dainet", "res1dnet", "wavegram-logmel")


def subject(config: ModelConfig) -> tuple[Any, Any]:
    """A function from weights to loss and batch statistics in training mode, with dropout; and the weights."""
    model = filled_model(config, arbitrary(config))
    model.train()
    graph, params, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    rng = np.random.default_rng(0)
    batch = {
        "waveform": jnp.asarray(rng.uniform(-0.5, 0.5, (4, SAMPLES)), jnp.float32),
        "target": jnp.asarray(rng.random((4, CLASSES)) < 0.3, jnp.float32),
    }
    blend = jnp.asarray([0.3, 0.8], jnp.float32)
    statistics = nnx.to_pure_dict(batch_stats)

    def loss(params: Any) -> tuple[Any, Any]:
        return loss_and_statistics(params, statistics, graph, clip_bce, batch, blend, jax.random.key(5))

    return loss, nnx.to_pure_dict(params)


def differentiated(name: str, what: Rematerialize) -> tuple[Any, Any, Any]:
    loss, params = subject(SMALL[name])
    with rematerialized(what):
        (value, statistics), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return value, statistics, gradients


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow if name == "cnn" else pytest.mark.long]) for name in NAMES]
)
def test_loss_gradients_dropout_and_batch_statistics_stay_the_same(name: str):
    value, statistics, gradients = differentiated(name, "none")
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradients))
    for what in ("activations", "blocks"):
        again = differentiated(name, what)
        np.testing.assert_allclose(again[0], value, rtol=1e-6)
        # Moved twice, they would be off by a tenth.
        jax.tree.map(
            lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6), again[1], statistics
        )
        for ours, theirs in zip(jax.tree.leaves(again[2]), jax.tree.leaves(gradients), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * scale)


def bytes_kept(name: str, what: Rematerialize) -> int:
    """Bytes that the backward pass is handed by the forward pass."""
    loss, params = subject(SMALL[name])
    with rematerialized(what):
        backward = jax.eval_shape(lambda params: jax.vjp(loss, params, has_aux=True)[1], params)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(backward))


@pytest.mark.parametrize("name", NAMES)
def test_less_is_kept_for_the_backward_pass_the_more_is_computed_twice(name: str):
    assert bytes_kept(name, "blocks") < bytes_kept(name, "activations") < bytes_kept(name, "none")
