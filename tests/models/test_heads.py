"""Decision-level heads: classes over time, and what becomes of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from panns_jax.models.clips import Clips
from panns_jax.models.config import Output
from panns_jax.models.heads import ClipHead, DecisionHead
from panns_jax.train.losses import clip_bce

POOLINGS = ("max", "mean", "attention")
CHANNELS, HIDDEN, CLASSES = 6, 8, 3


def made(pooling: Any) -> tuple[DecisionHead, Any]:
    head = DecisionHead(hidden_dim=HIDDEN, pooling=pooling, frames_per_step=4, dropout=0.0)
    return head, nnx.Dict(head.build(CHANNELS, CLASSES, rngs=nnx.Rngs(0)))


def steps(count: int, seed: int = 0) -> Clips:
    return Clips(jax.random.normal(jax.random.key(seed), (2, count, CHANNELS)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def by_hand(layers: Any, x: np.ndarray) -> np.ndarray:
    """What the classifier reads: neighbours pooled (the mean counts the zeros of the padding), embedded."""
    count = x.shape[1]
    low = np.pad(x, ((0, 0), (1, 1), (0, 0)), constant_values=-np.inf)
    zero = np.pad(x, ((0, 0), (1, 1), (0, 0)))
    largest = np.max([low[:, i : i + count] for i in range(3)], axis=0)
    mean = np.sum([zero[:, i : i + count] for i in range(3)], axis=0) / 3
    fc1 = layers["fc1"]
    return np.maximum((largest + mean) @ np.asarray(fc1.kernel[...]) + np.asarray(fc1.bias[...]), 0)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_probabilities_of_the_steps_are_pooled(pooling: str, count: int):
    head, layers = made(pooling)
    x = steps(count)
    output = head(layers, x, frames=4 * count, rngs=None)
    dense = layers["fc_audioset"]
    stepwise = sigmoid(
        by_hand(layers, np.asarray(x.values)) @ np.asarray(dense.kernel[...]) + np.asarray(dense.bias[...])
    )
    expected = stepwise.max(1) if pooling == "max" else stepwise.mean(1)
    np.testing.assert_allclose(output.clipwise, expected, atol=1e-5)
    assert output.framewise is not None
    np.testing.assert_allclose(output.framewise[:, ::4], stepwise, atol=1e-5)


def test_of_steps_that_are_equally_probable_the_first_one_gets_the_gradient():
    stepwise = jnp.asarray([[[0.25, 0.875], [0.75, 0.875], [0.75, 0.125]]])
    np.testing.assert_array_equal(Clips(stepwise).max(), [[0.75, 0.875]])
    gradient = jax.grad(lambda x: Clips(x).max().sum())(stepwise)
    np.testing.assert_array_equal(gradient, [[[0, 1], [1, 0], [0, 0]]])


def test_attention_weighs_the_steps_by_a_softmax_over_time_of_clamped_scores():
    head, layers = made("attention")
    block = layers["att_block"]
    block.att.kernel.set_value(30 * block.att.kernel[...])  # so that some scores lie beyond the clamp
    x = steps(5)
    hidden = by_hand(layers, np.asarray(x.values))
    scores = hidden @ np.asarray(block.att.kernel[...])[0]
    assert scores.max() > 10 and scores.min() < -10
    weights = np.exp(np.clip(scores, -10, 10))
    weights /= weights.sum(axis=1, keepdims=True)
    stepwise = sigmoid(hidden @ np.asarray(block.cla.kernel[...])[0])
    output = head(layers, x, frames=20, rngs=None)
    np.testing.assert_allclose(output.clipwise, (weights * stepwise).sum(1), atol=1e-5)
    assert output.framewise is not None
    np.testing.assert_allclose(output.framewise[:, ::4], stepwise, atol=1e-5)


def test_attention_never_gives_more_than_one_and_its_loss_is_finite():
    head, layers = made("attention")
    block = layers["att_block"]
    block.cla.bias.set_value(jnp.full(CLASSES, 100.0))  # every step is certain
    x = Clips(jax.random.normal(jax.random.key(0), (500, 7, CHANNELS)))
    hidden = by_hand(layers, np.asarray(x.values))
    scores = hidden @ np.asarray(block.att.kernel[...])[0]
    assert jax.nn.softmax(scores, axis=1).sum(axis=1).max() > 1  # as float32 sums go
    output = head(layers, x, frames=28, rngs=None)
    assert 0.99 < output.clipwise.min() <= output.clipwise.max() <= 1
    assert np.isfinite(clip_bce(output, jnp.zeros((500, CLASSES))))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_step_is_repeated_and_the_last_one_fills_the_frames(pooling: str):
    head, layers = made(pooling)
    for frames in (1, 12, 15, 25):
        framewise = head(layers, steps(3), frames=frames, rngs=None).framewise
        assert framewise is not None
        assert framewise.shape == (2, frames, CLASSES)
        steps_of_frames = np.minimum(np.arange(frames) // 4, 2)
        np.testing.assert_array_equal(framewise, np.asarray(framewise)[:, 4 * steps_of_frames])
        assert frames < 12 or (framewise[:, 0] != framewise[:, 4]).any()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_dropout_acts_before_and_after_the_first_layer(pooling: str):
    head, layers = made(pooling)
    calls: list[tuple[int, ...]] = []

    def dropout(x: jax.Array, *, rngs: nnx.Rngs | None) -> jax.Array:
        calls.append(x.shape)
        return jnp.zeros_like(x)

    layers["head_dropout"] = dropout
    output = head(layers, steps(5), frames=20, rngs=None)
    assert calls == [(2, 5, CHANNELS), (2, 5, HIDDEN)]
    np.testing.assert_allclose(output.clipwise, 0.5, atol=1e-6)
    assert output.embedding is None and head.embedding_dim is None


def test_a_head_may_leave_the_pooled_vector_whole_and_drop_of_the_embedding():
    head = ClipHead(embedding_dim=HIDDEN, drops_pooled=False)
    layers: Any = nnx.Dict(head.build(CHANNELS, CLASSES, rngs=nnx.Rngs(0)))
    calls: list[tuple[int, ...]] = []

    def dropout(x: jax.Array, *, rngs: nnx.Rngs | None) -> jax.Array:
        calls.append(x.shape)
        return x

    layers["head_dropout"] = dropout
    output = head(layers, steps(5), frames=20, rngs=None)
    assert calls == [(2, HIDDEN)]
    assert isinstance(output, Output)
