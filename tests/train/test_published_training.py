"""Four training steps are those of the published implementation."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import recipe
import tolerances
from flax import nnx

from panns_jax.models.model import Model
from panns_jax.models.registry import model_config
from panns_jax.pretrained.conversion import convert_weights
from panns_jax.pretrained.rules import entries, filled_model
from panns_jax.train.losses import clip_bce
from panns_jax.train.optimizer import make_optimizer
from panns_jax.train.step import loss_and_statistics

ROWS = 8
STEPS = 4


def published_model(name: str) -> Model:
    """In training mode, but without dropout and SpecAugment, with the weights of seed 1."""
    config = model_config(name)
    model = filled_model(config, convert_weights(recipe.checkpoint(name, 1), config, name))
    model.train()
    model.set_attributes(deterministic=True)
    return model


def golden_batch(sample_rate: int) -> tuple[dict[str, jax.Array], jax.Array]:
    rng = recipe._rng
    waveform = recipe.waveform(ROWS, sample_rate, sample_rate, 1)
    target = rng(1, "target").random((ROWS, 527)) < 0.02
    blend = rng(1, "lambda").beta(1, 1, ROWS // 2).astype(np.float32)
    return {"waveform": jnp.asarray(waveform), "target": jnp.asarray(target, jnp.float32)}, jnp.asarray(blend)


def leaf(tree: Any, path: str) -> np.ndarray:
    for name in path.split("."):
        tree = tree[name]
    return np.asarray(tree)


@pytest.mark.parametrize("name", ["Cnn6", pytest.param("Cnn14_no_dropout", marks=pytest.mark.slow)])
def test_losses_gradients_and_batch_statistics_are_the_published_ones(name):
    golden = json.loads((recipe.GOLDEN / "training.json").read_text())[name]
    model = published_model(name)
    ours = {entry.published: entry.ours for entry in entries(model.config)}
    graph = nnx.graphdef(model)
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    batch_stats = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
    optimizer = make_optimizer(golden["lr"])
    batch, blend = golden_batch(model.config.sample_rate)

    @jax.jit
    def step(params, batch_stats, memory):
        (loss, batch_stats), gradients = jax.value_and_grad(loss_and_statistics, has_aux=True)(
            params, batch_stats, graph, clip_bce, batch, blend, jax.random.key(0)
        )
        updates, memory = optimizer.update(gradients, memory, params)
        return loss, gradients, optax.apply_updates(params, updates), batch_stats, memory

    memory = optimizer.init(params)
    losses = []
    for number in range(1, STEPS + 1):
        loss, gradients, params, batch_stats, memory = step(params, batch_stats, memory)
        losses.append(float(loss))
        if number == 1:
            check_gradients(gradients, golden["grad_norm"], ours)
            check_statistics(batch_stats, golden["bn_after_step1"], ours)
    np.testing.assert_allclose(losses, golden["losses"], rtol=tolerances.LOSS)

    @jax.jit
    def predict(params, batch_stats):
        trained = nnx.merge(graph, params, batch_stats)
        trained.eval()
        return trained(batch["waveform"]).clipwise

    clipwise = np.asarray(predict(params, batch_stats))
    np.testing.assert_allclose(
        [clipwise.mean(), clipwise.std()], golden["eval_after_4"], atol=tolerances.EVALUATION_AFTER_STEPS
    )


def check_gradients(gradients: Any, golden: dict[str, float], ours: dict[str, str]) -> None:
    got = {key: float(np.linalg.norm(leaf(gradients, ours[key]))) for key in golden}
    assert got == {key: pytest.approx(norm, rel=tolerances.GRADIENT_NORM) for key, norm in golden.items()}


def check_statistics(batch_stats: Any, golden: dict[str, list[float]], ours: dict[str, str]) -> None:
    statistics = {key: leaf(batch_stats, ours[key]) for key in golden}
    for key, (mean, std) in golden.items():
        got = statistics[key]
        assert got.mean() == pytest.approx(mean, rel=tolerances.BATCH_STATISTICS, abs=1e-6), key
        assert got.std() == pytest.approx(std, rel=tolerances.BATCH_STATISTICS), key
