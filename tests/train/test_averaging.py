"""Averages of the weights over the steps."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from panns_jax.train.averaging import begin_average, make_averaging
from panns_jax.train.losses import clip_bce
from panns_jax.train.optimizer import make_optimizer
from panns_jax.train.step import TrainState, architecture, data_mesh, initial_state, make_train_step, place

CLASSES = 5


def averages(values: list[float], **options: Any) -> list[float]:
    """What becomes of the average, and of that of the running statistics, of a weight that takes these values."""
    averaging = make_averaging(**{"ema_decay": 0.0, "swa_start": 0, **options})
    assert averaging is not None
    average, trail = begin_average({"w": jnp.float32(100)}, {"mean": jnp.float32(-100)}), []
    for iteration, value in enumerate(values, start=1):
        now = {"w": jnp.float32(value)}, {"mean": jnp.float32(-value)}
        average = jax.jit(averaging)(average, *now, jnp.int32(iteration))
        assert float(average["batch_stats"]["mean"]) == -float(average["params"]["w"])
        trail.append(float(average["params"]["w"]))
    return trail


def test_nothing_is_averaged_unless_it_is_asked_for():
    assert make_averaging(ema_decay=0.0, swa_start=0) is None


def test_an_exponential_average_forgets_the_fresh_weights_and_then_keeps_its_share():
    values = [float(n % 7) for n in range(1, 40)]
    want, average = [], 100.0
    for n, value in enumerate(values, start=1):
        kept = min(0.7, n / (n + 9))
        average = kept * average + (1 - kept) * value
        want.append(average)
    np.testing.assert_allclose(averages(values, ema_decay=0.7), want, rtol=1e-5)


def test_from_its_start_on_all_weights_have_equal_shares():
    values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0]
    got = averages(values, swa_start=3)
    assert got[:2] == values[:2]  # until then the weights themselves
    np.testing.assert_allclose(got[2:], [np.mean(values[2:n]) for n in range(3, 7)], rtol=1e-6)


@pytest.mark.slow
def test_the_average_of_a_state_follows_its_weights_and_leaves_them_as_they_are(tiny_config):
    mesh, optimizer = data_mesh(jax.devices()[:1]), make_optimizer(1e-3)
    rng = np.random.default_rng(0)
    batch = {
        "waveform": rng.integers(-20000, 20000, (4, 4000)).astype(np.int16),
        "target": (rng.random((4, CLASSES)) < 0.3).astype(np.float32),
    }

    def trail(**options: Any) -> list[TrainState]:
        averaging = make_averaging(**{"ema_decay": 0.0, "swa_start": 0, **options})
        step = make_train_step(
            architecture(tiny_config), optimizer, mesh, loss=clip_bce, mixup=False, seed=7, averaging=averaging
        )
        state = initial_state(tiny_config, optimizer, mesh, seed=0, averaged=averaging is not None)
        states = []
        for _ in range(3):
            state, _ = step(state, place(batch, mesh))
            states.append(jax.tree.map(np.asarray, state))
        return states

    plain, averaged = trail(), trail(swa_start=2)
    for ours, theirs in zip(plain, averaged, strict=True):
        alone = dataclasses.replace(theirs, average=None)
        for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)  # compiled apart
    assert plain[-1].scored == (plain[-1].params, plain[-1].batch_stats)
    params, batch_stats = averaged[-1].scored
    for average, name in ((params, "params"), (batch_stats, "batch_stats")):
        of = [jax.tree.leaves(getattr(state, name)) for state in averaged[1:]]
        for got, *each in zip(jax.tree.leaves(average), *of, strict=True):
            np.testing.assert_allclose(got, np.mean(each, axis=0), rtol=1e-5, atol=1e-7)
