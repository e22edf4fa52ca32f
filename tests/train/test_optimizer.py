"""The optimizer is torch.optim.Adam(amsgrad=True)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from panns_jax.train.optimizer import make_optimizer, make_schedule

LEARNING_RATE = 1e-2


def gradients(steps: int) -> list[np.ndarray]:
    """The first is large, so that the greatest second moment is not the latest."""
    rng = np.random.default_rng(0)
    return [(10.0 if step == 0 else 0.1) * rng.standard_normal((4, 3)).astype(np.float32) for step in range(steps)]


def ours(start: np.ndarray, steps: list[np.ndarray], weight_decay: float = 0.0) -> list[np.ndarray]:
    optimizer = make_optimizer(LEARNING_RATE, weight_decay=weight_decay)
    params = jnp.asarray(start)
    state = optimizer.init(params)
    trail = []
    for gradient in steps:
        updates, state = optimizer.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        trail.append(np.asarray(params))
    return trail


def written_out(start: np.ndarray, steps: list[np.ndarray], weight_decay: float = 0.0) -> list[np.ndarray]:
    """The rule in float64, from PyTorch's documentation."""
    w = start.astype(np.float64)
    m, v, largest = (np.zeros_like(w) for _ in range(3))
    trail = []
    for t, gradient in enumerate(steps, start=1):
        g = gradient.astype(np.float64)
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        largest = np.maximum(largest, v)
        w = w - LEARNING_RATE * weight_decay * w  # AdamW
        w = w - LEARNING_RATE / (1 - 0.9**t) * m / (np.sqrt(largest) / np.sqrt(1 - 0.999**t) + 1e-8)
        trail.append(w)
    return trail


@pytest.fixture
def start() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)


def test_twenty_steps_follow_the_rule(start):
    steps = gradients(20)
    for got, want in zip(ours(start, steps), written_out(start, steps), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-6, atol=2e-7)


def test_twenty_steps_are_those_of_torch(start):
    torch = pytest.importorskip("torch")
    steps = gradients(20)
    parameter = torch.nn.Parameter(torch.tensor(start))
    adam = torch.optim.Adam([parameter], lr=LEARNING_RATE, amsgrad=True)
    for got, gradient in zip(ours(start, steps), steps, strict=True):
        parameter.grad = torch.tensor(gradient)
        adam.step()
        np.testing.assert_allclose(got, parameter.detach().numpy(), rtol=2e-6, atol=2e-7)


@pytest.mark.parametrize("weight_decay", [0.1, 0.0])
def test_weight_decay_follows_the_rule_and_spares_biases(start, weight_decay):
    steps = gradients(20)
    for got, want in zip(ours(start, steps, weight_decay), written_out(start, steps, weight_decay), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-6, atol=2e-7)
    row = [gradient[0] for gradient in steps]
    np.testing.assert_array_equal(ours(start[0], row, weight_decay)[-1], ours(start[0], row)[-1])


def test_gradients_that_do_not_count_leave_no_trace(start):
    optimizer = make_optimizer(LEARNING_RATE)
    state = optimizer.init(start)
    _, state = optimizer.update(gradients(1)[0], state, start)
    _, again = optimizer.update(np.full_like(start, np.nan), state, start, finite=jnp.bool_(False))
    for new, old in zip(jax.tree.leaves(again), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(new, old)


def test_weight_decay_is_that_of_adamw_and_spares_biases(start):
    torch = pytest.importorskip("torch")
    optimizer = make_optimizer(LEARNING_RATE, weight_decay=0.1)
    params: Any = {"kernel": jnp.asarray(start), "bias": jnp.asarray(start[0])}
    state = optimizer.init(params)
    theirs = {name: torch.nn.Parameter(torch.tensor(np.asarray(value))) for name, value in params.items()}
    groups = [{"params": [theirs["kernel"]], "weight_decay": 0.1}, {"params": [theirs["bias"]], "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=LEARNING_RATE, amsgrad=True)
    for gradient in gradients(20):
        pair = {"kernel": gradient, "bias": gradient[0]}
        updates, state = optimizer.update(pair, state, params)
        params = optax.apply_updates(params, updates)
        for name, parameter in theirs.items():
            parameter.grad = torch.tensor(pair[name])
        adamw.step()
        for name, parameter in theirs.items():
            np.testing.assert_allclose(params[name], parameter.detach().numpy(), rtol=2e-6, atol=2e-7)


def test_without_weight_decay_the_state_is_that_of_older_checkpoints(start):
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(make_optimizer(1e-3).init(start))]
    assert names == ["[0].steps", "[0].mean", "[0].second_moment", "[0].largest"]


def test_a_gradient_of_zero_moves_nothing(start):
    trail = ours(start, [np.zeros_like(start)] * 3)
    np.testing.assert_array_equal(trail[-1], start)


def test_a_constant_step_size_is_a_number():
    assert make_schedule(0.5, "constant", warm_up=0, last=10) == 0.5


@pytest.mark.parametrize(
    ("decay", "warm_up", "wanted"),
    [
        ("constant", 4, [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
        ("linear", 0, [1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0]),
        ("linear", 4, [0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25, 0]),
        ("cosine", 0, [0.5 + 0.5 * np.cos(np.pi * k / 8) for k in range(9)]),
        ("cosine", 1, [1, *(0.5 + 0.5 * np.cos(np.pi * k / 7) for k in range(8))]),
    ],
)
def test_the_step_size_rises_and_falls_as_told(decay, warm_up, wanted):
    schedule = make_schedule(0.02, decay, warm_up=warm_up, last=8)
    assert callable(schedule)
    got = [np.asarray(schedule(k)) for k in range(len(wanted))]
    np.testing.assert_allclose(got, 0.02 * np.array(wanted), rtol=1e-5, atol=1e-8)


def test_the_optimizer_follows_the_schedule(start):
    optimizer = make_optimizer(make_schedule(LEARNING_RATE, "linear", warm_up=0, last=2))
    fixed = make_optimizer(LEARNING_RATE)
    states = [optimizer.init(start), fixed.init(start)]
    for share, gradient in zip((1.0, 0.5, 0.0), gradients(3), strict=True):
        moved: Any
        full: Any
        moved, states[0] = optimizer.update(gradient, states[0], start)
        full, states[1] = fixed.update(gradient, states[1], start)
        np.testing.assert_allclose(np.asarray(moved), share * np.asarray(full), rtol=1e-6, atol=1e-12)
