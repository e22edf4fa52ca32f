"""A step is the same on any number of devices, and its random numbers follow from seed and iteration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from panns_jax.errors import InputError
from panns_jax.models.config import ModelConfig, Precision
from panns_jax.models.model import Model
from panns_jax.train.losses import clip_bce
from panns_jax.train.optimizer import make_optimizer, make_schedule
from panns_jax.train.step import (
    TrainState,
    architecture,
    data_mesh,
    initial_state,
    make_predict,
    make_train_step,
    place,
    require_divisible,
)

CLASSES = 5
ROWS = 16
SAMPLES = 4000


def batch(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "waveform": rng.integers(-20000, 20000, (ROWS, SAMPLES)).astype(np.int16),
        "target": (rng.random((ROWS, CLASSES)) < 0.3).astype(np.float32),
    }


def run(
    config: ModelConfig, *, devices: int = 1, seed: int = 7, mixup: bool = True, precision: Precision = "float32"
) -> tuple[TrainState, list[float]]:
    mesh = data_mesh(jax.devices()[:devices])
    optimizer = make_optimizer(1e-3)
    step = make_train_step(architecture(config, precision), optimizer, mesh, loss=clip_bce, mixup=mixup, seed=seed)
    state, losses = initial_state(config, optimizer, mesh, seed=0), []
    for i in range(2):
        state, report = step(state, place(batch(i), mesh))
        losses.append(float(report.loss))
    return state, losses


@pytest.fixture(scope="module")
def alone(tiny_config) -> tuple[TrainState, list[float]]:
    return run(tiny_config)


def assert_same(got: tuple[TrainState, list[float]], want: tuple[TrainState, list[float]]) -> None:
    np.testing.assert_allclose(got[1], want[1], rtol=1e-5)
    for ours, theirs in zip(jax.tree.leaves(got[0].batch_stats), jax.tree.leaves(want[0].batch_stats), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_two_devices_take_the_step_of_one(tiny_config, alone):
    assert_same(run(tiny_config, devices=2), alone)


def test_the_steps_follow_from_seed_and_iteration_alone(tiny_config, alone):
    again = run(tiny_config)
    assert again[1] == alone[1]
    for ours, theirs in zip(jax.tree.leaves(again[0]), jax.tree.leaves(alone[0]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_in_bfloat16_the_losses_are_near_and_what_is_kept_is_float32(tiny_config, alone):
    state, losses = run(tiny_config, precision="bfloat16")
    assert losses != alone[1]
    np.testing.assert_allclose(losses, alone[1], rtol=2e-2)
    kept = jax.tree.leaves((state.params, state.batch_stats))
    assert {leaf.dtype for leaf in kept} == {jnp.dtype("float32")}
    assert all(np.isfinite(leaf).all() for leaf in kept)


@pytest.mark.slow
def test_seed_and_mixup_change_the_steps(tiny_config, alone):
    assert run(tiny_config, seed=8)[1] != alone[1]
    assert run(tiny_config, mixup=False)[1] != alone[1]


@pytest.mark.slow
def test_a_step_that_is_not_finite_counts_and_changes_nothing(tiny_config):
    mesh = data_mesh(jax.devices()[:1])
    optimizer = make_optimizer(make_schedule(1e-3, "linear", warm_up=0, last=4))
    step = make_train_step(architecture(tiny_config), optimizer, mesh, loss=clip_bce, mixup=True, seed=7)

    def losses_and_norms(broken: int | None) -> tuple[TrainState, list[tuple[float, float]]]:
        state, told = initial_state(tiny_config, optimizer, mesh, seed=0), []
        for i in range(3):
            rows = batch(i)
            rows["waveform"] = rows["waveform"] / np.float32(32767)
            if i == broken:
                rows["waveform"][3, 7] = np.nan
            before = jax.tree.map(np.asarray, state)
            state, report = step(state, place(rows, mesh))
            told.append((float(report.loss), float(report.gradient_norm)))
            whole = np.sqrt(sum(float(norm) ** 2 for norm in report.gradient_norms.values()))
            np.testing.assert_allclose(whole, told[-1][1], rtol=1e-5)
            assert set(report.gradient_norms) == set(state.params)
            if i == broken:
                for name in ("params", "batch_stats"):
                    new, old = jax.tree.leaves(getattr(state, name)), jax.tree.leaves(getattr(before, name))
                    for one, other in zip(new, old, strict=True):
                        np.testing.assert_array_equal(one, other)
        return state, told

    state, told = losses_and_norms(1)
    assert [np.isfinite(figures).all() for figures in told] == [True, False, True]
    assert int(state.iteration) == 3
    counts = {int(leaf) for leaf in jax.tree.leaves(state.optimizer) if leaf.ndim == 0}
    assert counts == {2, 3}  # updates of AMSGrad; iterations, by which the learning rate falls
    assert losses_and_norms(None)[1][2] != told[2]


def test_int16_rows_are_full_scale_at_32767(tiny_config):
    model = Model(tiny_config, rngs=nnx.Rngs(0))
    mesh = data_mesh(jax.devices()[:1])
    predict = make_predict(architecture(tiny_config), mesh)
    weights = (nnx.to_pure_dict(nnx.state(model, nnx.Param)), nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))
    rows = batch()["waveform"]
    model.eval()
    want = model(rows / np.float32(32767)).clipwise
    np.testing.assert_allclose(predict(*weights, jnp.asarray(rows)), want, atol=1e-6)


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(InputError, match=r"--batch-size 3 cannot be split over 2 devices; give a multiple of 2"):
        require_divisible(3, data_mesh(jax.devices()[:2]))
