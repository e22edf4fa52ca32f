"""The loss is PyTorch's, at the ends of [0, 1] too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from panns_jax.models.config import Output
from panns_jax.train.losses import clip_bce

PROBABILITIES = np.array([[0.0, 0.0, 1.0, 1.0, 0.5, 0.25, 1e-6, 1 - 1e-6]], np.float32)
TARGETS = np.array([[0.0, 1.0, 0.0, 1.0, 0.5, 1.0, 1.0, 0.3]], np.float32)


def loss(probabilities, targets=TARGETS):
    return clip_bce(Output(clipwise=jnp.asarray(probabilities)), jnp.asarray(targets))


def test_the_loss_is_the_mean_cross_entropy():
    p, t = np.array([[0.2, 0.9]], np.float32), np.array([[1.0, 0.25]], np.float32)
    want = -(np.log(0.2) + 0.25 * np.log(0.9) + 0.75 * np.log(0.1)) / 2
    assert float(loss(p, t)) == pytest.approx(want, rel=1e-6)


def test_loss_and_gradient_are_those_of_torch_at_the_ends_too():
    torch = pytest.importorskip("torch")
    p = torch.tensor(PROBABILITIES, requires_grad=True)
    want = torch.nn.functional.binary_cross_entropy(p, torch.tensor(TARGETS))
    want.backward()
    got, gradient = jax.value_and_grad(loss)(PROBABILITIES)
    assert float(got) == pytest.approx(want.item(), rel=1e-6)
    inside = (PROBABILITIES > 0) & (PROBABILITIES < 1)
    np.testing.assert_allclose(np.asarray(gradient)[inside], p.grad.numpy()[inside], rtol=1e-5)


def test_a_certain_mistake_costs_a_hundred_and_has_a_finite_gradient():
    assert float(loss(np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32))) == 100
    assert float(loss(np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32))) == 100
    for argument in (0, 1):
        assert np.isfinite(jax.grad(loss, argnums=argument)(PROBABILITIES, TARGETS)).all()


def test_saturated_logits_have_finite_gradients():
    def of_logits(logits):
        return loss(jax.nn.sigmoid(logits), np.array([[1.0, 0.0, 1.0, 0.0]], np.float32))

    gradient = jax.jit(jax.grad(of_logits))(jnp.array([[-200.0, 200.0, 200.0, -95.0]]))
    assert np.isfinite(gradient).all()


def test_probabilities_that_round_to_above_one_are_clipped():
    above = np.array([[1 + 1e-6]], np.float32)
    assert float(loss(above, np.ones((1, 1), np.float32))) == 0
    assert np.isfinite(jax.grad(loss)(above, np.zeros((1, 1), np.float32))).all()
