"""The parts of a sound put together: pooled over its time steps, however many there are."""

from typing import Any

import numpy as np
from jaxtyping import Float

from panns_jax.infer.tape import Part
from panns_jax.models.heads import DecisionHead

# Names of `Local` that are kept of every step, for each tap of `Heard`.
_KEPT = {"frames": "frames", "pooled": "pooled", "logits": "logits", "stepwise": "logits"}


class Gathering:
    """What is known of a sound whose parts are heard one by one, in whatever order.

    Of the steps themselves only what is asked for is kept, so that hours of sound take no memory.

    Args:
      head: of a decision-level model; None for others, whose frames alone are pooled.
      taps: what of `Heard` is wanted.
    """

    def __init__(self, head: DecisionHead | None, taps: tuple[str, ...]) -> None:
        self._head = head
        names = {_KEPT[tap] for tap in taps if head is not None or tap == "frames"}
        self._kept: dict[str, dict[int, np.ndarray]] = {name: {} for name in names}
        self._heard = 0
        self._parts: int | None = None
        self._largest: Any = -np.inf
        self._sum: Any = 0.0
        self._weight: Any = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether all parts have been added."""
        return self._heard == self._parts

    def add(self, part: Part, values: dict[str, Float[np.ndarray, "steps _"]]) -> None:
        """Adds the steps of a part, those at its ends among them that are left out."""
        kept = {name: array[part.first : part.last] for name, array in values.items()}
        for name, parts in self._kept.items():
            parts[part.number] = np.array(kept[name])
        weights = kept.get("weights")
        pooled = kept["frames"] if self._head is None else _sigmoid(kept["logits"])
        if len(pooled):
            self._pool(pooled, weights)
        self._heard += 1
        if part.ends:
            self._parts = part.number + 1

    def _pool(self, values: np.ndarray, weights: np.ndarray | None) -> None:
        weighted = values if weights is None else values * weights
        weight = len(values) if weights is None else weights.sum(axis=0, dtype=np.float64)
        self._largest = np.maximum(self._largest, values.max(axis=0))
        self._sum = self._sum + weighted.sum(axis=0, dtype=np.float64)
        self._weight = self._weight + weight

    @property
    def _mean(self) -> Float[np.ndarray, " channels"]:
        return (self._sum / self._weight).astype(np.float32)

    @property
    def pooled(self) -> Float[np.ndarray, " channels"]:
        """Maximum + mean over time, of models that are not decision-level."""
        return self._largest + self._mean

    @property
    def clipwise(self) -> Float[np.ndarray, " classes"]:
        """Probability of each class, of decision-level models."""
        assert self._head is not None
        if self._head.pooling == "max":
            return self._largest
        # Rounding may lift it just above 1.
        return np.clip(self._mean, 0, 1)

    def kept(self, tap: str) -> Float[np.ndarray, "steps _"]:
        """A tap that was asked for, of the whole sound."""
        parts = self._kept[_KEPT[tap]]
        whole = np.concatenate([parts[number] for number in sorted(parts)])
        return _sigmoid(whole) if tap == "stepwise" else whole


def _sigmoid(x: Float[np.ndarray, "steps classes"]) -> Float[np.ndarray, "steps classes"]:
    # Of a large number with either sign exp would overflow.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)
