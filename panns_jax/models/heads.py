"""From a body's sequence of vectors to probabilities."""

import dataclasses
import math
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

from panns_jax.models.config import Output
from panns_jax.models.layers import linear


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipHead:
    """Pools over time (maximum + mean), embeds, classifies (section III-A).

    Attributes:
      embedding_dim: length of the embedding.
      dropout: rate after pooling and on the reported embedding, in training only.
      initial_probability: what a fresh head gives every class, about; 0.5 as published. Classes are rare, and a short
        training is spent on little else than learning that unless it starts there.
    """

    embedding_dim: int
    dropout: float = 0.5
    initial_probability: float = 0.5

    def build(self, in_channels: int, num_classes: int, *, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        log_odds = math.log(self.initial_probability / (1 - self.initial_probability))
        return {
            "fc1": linear(in_channels, self.embedding_dim, rngs=rngs),
            "fc_audioset": linear(self.embedding_dim, num_classes, bias=log_odds, rngs=rngs),
            "head_dropout": nnx.Dropout(self.dropout),
        }

    def __call__(self, layers: Any, x: Float[Array, "batch steps channels"], *, rngs: nnx.Rngs | None) -> Output:
        pooled = x.max(axis=1) + x.mean(axis=1)
        pooled = layers.head_dropout(pooled, rngs=rngs)
        hidden = jax.nn.relu(layers.fc1(pooled))
        # As published, dropout touches the reported embedding only; the classifier reads the whole of it.
        embedding = layers.head_dropout(hidden, rngs=rngs)
        return Output(clipwise=jax.nn.sigmoid(layers.fc_audioset(hidden)), embedding=embedding)
