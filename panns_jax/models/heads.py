"""From a body's sequence of vectors to probabilities."""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from panns_jax.frontend import counted
from panns_jax.models.clips import Clips, Window
from panns_jax.models.config import Local, Output
from panns_jax.models.layers import BatchNorm, Conv, linear


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

    def __call__(self, layers: Any, x: Clips, *, frames: int, rngs: nnx.Rngs | None) -> Output:
        output = self.classify(layers, x.max() + x.mean(), rngs)
        return dataclasses.replace(output, frames=x.own())

    def local(self, layers: Any, x: Clips) -> Local:
        return Local(x)

    def classify(self, layers: Any, pooled: Float[Array, "batch channels"], rngs: nnx.Rngs | None = None) -> Output:
        hidden = layers.head_dropout(pooled, rngs=rngs) if self.drops_pooled else pooled
        hidden = jax.nn.relu(layers.fc1(hidden))
        logits = layers.fc_audioset(hidden)
        # As published, dropout touches the reported embedding only; the classifier reads the whole of it.
        embedding = layers.head_dropout(hidden, rngs=rngs)
        return Output(clipwise=jax.nn.sigmoid(logits), embedding=embedding, logits=logits, pooled=pooled)


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

    def __call__(self, layers: Any, x: Clips, *, frames: int, rngs: nnx.Rngs | None) -> Output:
        pooled = _smoothed(x)
        clipwise, logits = self.decide(layers, pooled.map(lambda values: self.hidden(layers, values, rngs)))
        return Output(
            clipwise=clipwise,
            framewise=_repeated(logits.map(jax.nn.sigmoid), self.frames_per_step, frames),
            logits=logits.own(),
            pooled=pooled.own(),
            frames=x.own(),
        )

    def decide(self, layers: Any, hidden: Clips) -> tuple[Float[Array, "batch classes"], Clips]:
        """Probability of each class in each clip, and its log-odds in each step, by the last layer."""
        if self.pooling == "attention":
            return layers.att_block(hidden)
        logits = hidden.map(layers.fc_audioset)
        stepwise = logits.map(jax.nn.sigmoid)
        return stepwise.max() if self.pooling == "max" else stepwise.mean(), logits

    def local(self, layers: Any, x: Clips) -> Local:
        pooled = _smoothed(x)
        hidden = pooled.map(lambda values: self.hidden(layers, values))
        if self.pooling == "attention":
            attention, logits = layers.att_block.local(hidden)
            return Local(x, pooled, logits, attention.map(jnp.exp))
        return Local(x, pooled, hidden.map(layers.fc_audioset))

    def classify(self, layers: Any, pooled: Float[Array, "batch channels"]) -> Output:
        raise TypeError("a decision-level head classifies every step")

    def hidden(
        self, layers: Any, pooled: Float[Array, "batch steps channels"], rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch steps hidden_dim"]:
        """What the last layer reads."""
        x = jax.nn.relu(layers.fc1(layers.head_dropout(pooled, rngs=rngs)))
        return layers.head_dropout(x, rngs=rngs)


class AttentionPooling(nnx.Module):
    """Classifies every step, and takes the mean over time with weights that are learnt for each class."""

    def __init__(self, in_channels: int, num_classes: int, *, rngs: nnx.Rngs):
        self.att = Conv(in_channels, num_classes, (1,), use_bias=True, rngs=rngs)
        self.cla = Conv(in_channels, num_classes, (1,), use_bias=True, rngs=rngs)
        self.bn_att = BatchNorm(num_classes, rngs=rngs)  # in the published checkpoints, and never used

    def __call__(self, x: Clips) -> tuple[Float[Array, "batch classes"], Clips]:
        """Probability of each class in each clip, and its log-odds in each step."""
        attention, logits = self.local(x)
        weights = jax.nn.softmax(attention.own(-jnp.inf), axis=1)
        # Rounding lifts the sum just above 1, where the loss has no logarithm.
        return jnp.clip((weights * jax.nn.sigmoid(logits.values)).sum(axis=1), 0, 1), logits

    def local(self, x: Clips) -> tuple[Clips, Clips]:
        """Logarithm of each step's weight, but for what they all have in common, and log-odds, for each class."""
        return self.att(x).map(lambda a: jnp.clip(a, -10, 10)), self.cla(x)


def _smoothed(x: Clips) -> Clips:
    """Maximum + mean of every step and its two neighbours; the mean counts the padding, as published."""
    largest = nnx.max_pool(x.own(-jnp.inf), (3,), strides=(1,), padding="SAME")
    mean = nnx.avg_pool(x.own(), (3,), strides=(1,), padding="SAME")
    # Beyond a clip's end the maximum is -infinity, from which NaN would come.
    pooled = x.through(Window(3, padding=1), largest + mean)
    return pooled.map(lambda _: pooled.own())


def _repeated(stepwise: Clips, frames_per_step: int, frames: int) -> Float[Array, "batch frames classes"]:
    """Every step `frames_per_step` times, and the clip's last one for the frames that are left."""
    step = counted(frames) // frames_per_step
    if stepwise.lengths is None:
        last = stepwise.values.shape[1] - 1
        return stepwise.values[:, jnp.minimum(step, last) if isinstance(step, Array) else np.minimum(step, last)]
    last = stepwise.lengths[:, None] - 1
    return jnp.take_along_axis(stepwise.values, jnp.minimum(step, last)[..., None], axis=1)
