"""From a body's sequence of vectors to probabilities."""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from panns_jax.models.config import Output
from panns_jax.models.layers import BatchNorm, conv, linear


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipHead:
    """Pools over time (maximum + mean), embeds, classifies (section III-A).

    Attributes:
      embedding_dim: length of the embedding.
      dropout: rate after pooling and on the reported embedding, in training only.
      drops_pooled: whether dropout acts after pooling, too (not so in MobileNetV2).
      initial_probability: what a fresh head gives every class, about; 0.5 as published. Classes are rare, and a short
        training is spent on little else than learning that unless it starts there.
    """

    embedding_dim: int
    dropout: float = 0.5
    drops_pooled: bool = True
    initial_probability: float = 0.5

    def build(self, in_channels: int, num_classes: int, *, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        log_odds = math.log(self.initial_probability / (1 - self.initial_probability))
        return {
            "fc1": linear(in_channels, self.embedding_dim, rngs=rngs),
            "fc_audioset": linear(self.embedding_dim, num_classes, bias=log_odds, rngs=rngs),
            "head_dropout": nnx.Dropout(self.dropout),
        }

    def __call__(
        self, layers: Any, x: Float[Array, "batch steps channels"], *, frames: int, rngs: nnx.Rngs | None
    ) -> Output:
        pooled = x.max(axis=1) + x.mean(axis=1)
        if self.drops_pooled:
            pooled = layers.head_dropout(pooled, rngs=rngs)
        hidden = jax.nn.relu(layers.fc1(pooled))
        # As published, dropout touches the reported embedding only; the classifier reads the whole of it.
        embedding = layers.head_dropout(hidden, rngs=rngs)
        return Output(clipwise=jax.nn.sigmoid(layers.fc_audioset(hidden)), embedding=embedding)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecisionHead:
    """Classifies every step, then pools the probabilities over time (section III-A: decision-level systems).

    Attributes:
      hidden_dim: length of the vectors that are classified.
      pooling: over time: "max", "mean", or "attention", a mean whose weights are learnt for each class.
      frames_per_step: log-mel frames that one step stands for.
      dropout: rate before and after `fc1`, in training only.
    """

    hidden_dim: int
    pooling: Literal["max", "mean", "attention"]
    frames_per_step: int = 32
    dropout: float = 0.5

    @property
    def embedding_dim(self) -> None:
        return None

    def build(self, in_channels: int, num_classes: int, *, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        classifier = (
            {"att_block": AttentionPooling(self.hidden_dim, num_classes, rngs=rngs)}
            if self.pooling == "attention"
            else {"fc_audioset": linear(self.hidden_dim, num_classes, rngs=rngs)}
        )
        fc1 = linear(in_channels, self.hidden_dim, rngs=rngs)
        return {"fc1": fc1, **classifier, "head_dropout": nnx.Dropout(self.dropout)}

    def __call__(
        self, layers: Any, x: Float[Array, "batch steps channels"], *, frames: int, rngs: nnx.Rngs | None
    ) -> Output:
        # The mean counts the padding, as published.
        x = nnx.max_pool(x, (3,), strides=(1,), padding="SAME") + nnx.avg_pool(x, (3,), strides=(1,), padding="SAME")
        x = layers.head_dropout(x, rngs=rngs)
        x = layers.head_dropout(jax.nn.relu(layers.fc1(x)), rngs=rngs)
        if self.pooling == "attention":
            clipwise, stepwise = layers.att_block(x)
        else:
            stepwise = jax.nn.sigmoid(layers.fc_audioset(x))
            clipwise = _largest(stepwise) if self.pooling == "max" else stepwise.mean(axis=1)
        return Output(clipwise=clipwise, framewise=_repeated(stepwise, self.frames_per_step, frames))


class AttentionPooling(nnx.Module):
    """Probability of each class in each step, and their mean over time with weights that are learnt."""

    def __init__(self, in_channels: int, num_classes: int, *, rngs: nnx.Rngs):
        self.att = conv(in_channels, num_classes, (1,), use_bias=True, rngs=rngs)
        self.cla = conv(in_channels, num_classes, (1,), use_bias=True, rngs=rngs)
        self.bn_att = BatchNorm(num_classes, rngs=rngs)  # in the published checkpoints, and never used

    def __call__(
        self, x: Float[Array, "batch steps channels"]
    ) -> tuple[Float[Array, "batch classes"], Float[Array, "batch steps classes"]]:
        weights = jax.nn.softmax(jnp.clip(self.att(x), -10, 10), axis=1)
        stepwise = jax.nn.sigmoid(self.cla(x))
        # Rounding lifts the sum just above 1, where the loss has no logarithm.
        return jnp.clip((weights * stepwise).sum(axis=1), 0, 1), stepwise


def _largest(stepwise: Float[Array, "batch steps classes"]) -> Float[Array, "batch classes"]:
    """The maximum over time, whose gradient goes to the first step that has it, as published.

    Probabilities near 1 are often equal; that of `jnp.max` would be shared among them.
    """
    first = stepwise.argmax(axis=1, keepdims=True)
    return jnp.take_along_axis(stepwise, first, axis=1).squeeze(axis=1)


def _repeated(
    stepwise: Float[Array, "batch steps classes"], frames_per_step: int, frames: int
) -> Float[Array, "batch frames classes"]:
    """Every step `frames_per_step` times, and the last one for the frames that are left."""
    step = np.minimum(np.arange(frames) // frames_per_step, stepwise.shape[1] - 1)
    return stepwise[:, step]
