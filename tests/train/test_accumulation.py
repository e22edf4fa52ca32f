"""A batch in parts takes the step of the whole batch, but for what batch normalisation and dropout see."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from weights import arbitrary

from panns_jax.errors import InputError
from panns_jax.models.abstract import abstract_model
from panns_jax.models.config import ModelConfig
from panns_jax.pretrained.rules import filled_model
from panns_jax.train.losses import clip_bce
from panns_jax.train.step import (
    StepReport,
    TrainState,
    architecture,
    data_mesh,
    loss_and_statistics,
    make_train_step,
    place,
    require_divisible,
)

CLASSES = 5
ROWS = 16
SAMPLES = 4000


def batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "waveform": rng.integers(-20000, 20000, (ROWS, SAMPLES)).astype(np.int16),
        "target": (rng.random((ROWS, CLASSES)) < 0.3).astype(np.float32),
    }


def state(config: ModelConfig, optimizer: optax.GradientTransformation) -> TrainState:
    """Before the first step, on the host."""
    model = filled_model(config, arbitrary(config))
    params, statistics = (nnx.to_pure_dict(nnx.state(model, kind)) for kind in (nnx.Param, nnx.BatchStat))
    fresh = TrainState(np.zeros((), np.int32), params, statistics, optimizer.init(params))
    return jax.tree.map(np.asarray, fresh)


def step(
    config: ModelConfig,
    graph: Any,
    *,
    mixup: bool,
    devices: int = 1,
    rows: dict[str, np.ndarray] | None = None,
    **how: Any,
) -> tuple[TrainState, TrainState, StepReport]:
    """The state before a step of plain gradient descent and after it, whose difference are the gradients."""
    mesh = data_mesh(jax.devices()[:devices])
    descent = optax.sgd(1.0)
    train_step = make_train_step(graph, descent, mesh, loss=clip_bce, mixup=mixup, seed=3, **how)
    before = state(config, descent)
    after, report = train_step(before, place(batch() if rows is None else rows, mesh))
    return before, after, report


def gradients(before: TrainState, after: TrainState) -> list[np.ndarray]:
    pairs = zip(jax.tree.leaves(before.params), jax.tree.leaves(after.params), strict=True)
    return [old - np.asarray(new) for old, new in pairs]


def frozen(config: ModelConfig) -> nnx.GraphDef:
    """The model with batch normalisation by its running statistics, and without dropout and SpecAugment."""
    model = abstract_model(config)
    model.eval()
    return nnx.graphdef(model)


@pytest.mark.slow
@pytest.mark.parametrize("mixup", [True, False])
def test_gradients_are_those_of_the_whole_batch_where_batch_normalisation_is_frozen(tiny_config, mixup):
    before, after, report = step(tiny_config, frozen(tiny_config), mixup=mixup)
    whole = gradients(before, after)
    assert max(np.abs(gradient).max() for gradient in whole) > 1e-2
    for devices, parts in ((1, 4), (2, 2)):
        before, after, again = step(
            tiny_config, frozen(tiny_config), mixup=mixup, devices=devices, accumulation_steps=parts
        )
        assert float(again.loss) == pytest.approx(float(report.loss), rel=1e-5)
        assert float(again.gradient_norm) == pytest.approx(float(report.gradient_norm), rel=1e-5)
        for ours, theirs in zip(gradients(before, after), whole, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_parts_are_the_same_on_any_number_of_devices(tiny_config):
    _, alone, report = step(tiny_config, architecture(tiny_config), mixup=True, accumulation_steps=2)
    _, shared, again = step(tiny_config, architecture(tiny_config), mixup=True, accumulation_steps=2, devices=2)
    assert float(again.loss) == pytest.approx(float(report.loss), rel=1e-5)
    for ours, theirs in zip(jax.tree.leaves(shared.batch_stats), jax.tree.leaves(alone.batch_stats), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_batch_statistics_move_once_a_step_to_the_mean_of_the_parts(tiny_config):
    before, after, report = step(tiny_config, architecture(tiny_config), mixup=False, accumulation_steps=2)
    parts = [{name: jnp.asarray(rows[first::2]) for name, rows in batch().items()} for first in (0, 1)]
    graph = architecture(tiny_config)
    params, statistics = jax.tree.map(jnp.asarray, (before.params, before.batch_stats))

    @jax.jit
    def alone(part: dict[str, jax.Array]) -> Any:
        # Neither dropout nor SpecAugment comes before the normalisation whose statistics are compared.
        return loss_and_statistics(params, statistics, graph, clip_bce, part, None, jax.random.key(0))[1]["bn0"]

    each = [alone(part) for part in parts]
    for field in ("mean", "var"):
        mean = (each[0][field] + each[1][field]) / 2
        np.testing.assert_allclose(after.batch_stats["bn0"][field], mean, rtol=1e-5)
    assert np.isfinite(float(report.loss))


def test_dropout_differs_from_part_to_part(tiny_config):
    """Two parts of the same clips would else have the gradients of one."""
    once = {name: values[: ROWS // 2] for name, values in batch().items()}
    twice = {name: np.repeat(values, 2, axis=0) for name, values in once.items()}
    *_, whole = step(tiny_config, architecture(tiny_config), mixup=False, rows=once)
    *_, parts = step(tiny_config, architecture(tiny_config), mixup=False, rows=twice, accumulation_steps=2)
    assert float(parts.loss) != pytest.approx(float(whole.loss), rel=1e-6)


def test_a_batch_that_does_not_divide_into_parts_for_all_devices_is_refused():
    mesh = data_mesh(jax.devices()[:2])
    require_divisible(8, mesh, accumulation_steps=4)
    told = r"--batch-size 6 cannot be split over 2 devices in 2 parts \(--accumulation-steps\); give a multiple of 4"
    with pytest.raises(InputError, match=told):
        require_divisible(6, mesh, accumulation_steps=2)


@pytest.mark.long
def test_the_command_trains_in_parts_on_eight_devices_as_on_one(tmp_path: Path, make_workspace, run_training):
    pytest.importorskip("grain")
    how = ("--batch_size=16", "--accumulation_steps=2", "--rematerialize=blocks", "--early_stop=3")
    losses = []
    for devices in (1, 8):
        workspace = make_workspace(tmp_path / str(devices))
        run_training(workspace, *how, devices=devices)
        (log,) = workspace.glob("logs/*/log.jsonl")
        told = [json.loads(line) for line in log.read_text().splitlines()]
        losses.append([line["loss"] for line in told if "loss" in line])
    assert len(losses[0]) == 3
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
