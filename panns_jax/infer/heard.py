"""What a model makes of sounds."""

import dataclasses

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True)
class Heard:
    """What a model makes of one sound, whatever its length.

    Attributes:
      clipwise: probability of each class, in [0, 1].
      embedding: the sound as a vector, or None where the model makes none.
      stepwise: probability of each class in each time step of `Listener.step` samples; None but for decision-level
        models. Like the next three, None unless it was asked for (`taps`).
      logits: what the probabilities are the sigmoid of (the softmax, in a model whose classes exclude each other); in
        decision-level models those of each step.
      pooled: what the head reads: maximum + mean over time; in decision-level models over each step and its neighbours.
      frames: what the body yields, in time, before pooling.
    """

    clipwise: Float[np.ndarray, " classes"]
    embedding: Float[np.ndarray, " embedding_dim"] | None
    stepwise: Float[np.ndarray, "steps classes"] | None = None
    logits: Float[np.ndarray, "*steps classes"] | None = None
    pooled: Float[np.ndarray, "*steps channels"] | None = None
    frames: Float[np.ndarray, "steps channels"] | None = None


TAPS = ("stepwise", "logits", "pooled", "frames")


@dataclasses.dataclass(frozen=True)
class Excerpt:
    """A part of a sound, and what a model makes of it alone.

    Attributes:
      start: seconds from the beginning of the sound.
      end: likewise; that of the sound for the last part.
      heard: what the model makes of it.
    """

    start: float
    end: float
    heard: Heard
