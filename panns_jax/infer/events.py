"""From scores over time to sound events.

In this order:

1. The scores of each class are smoothed by a median filter over time.
2. An event is a longest run of steps whose scores stay above the low threshold, one of them at least above the high one
   (hysteresis; without a low threshold both are the same).
3. Events of a class that are closer than the smallest gap become one.
4. Events shorter than the smallest duration are dropped.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from panns_jax.errors import InputError
from panns_jax.infer.score_track import ScoreTrack

_SAME = 1e-6
"""Seconds that are no difference: times are products of steps, and round."""


@dataclasses.dataclass(frozen=True, order=True, slots=True)
class Event:
    """A sound, from where to where it is heard; in order of the onset, then the offset, then the class.

    Attributes:
      onset: seconds from the beginning of the recording.
      offset: likewise, above the onset.
      index: of the class in the model's labels.
      score: the highest of the class in the steps that made the event, in [0, 1], before smoothing.
    """

    onset: float
    offset: float
    index: int
    score: float


@dataclasses.dataclass(frozen=True)
class EventRules:
    """What makes an event: for all classes as one number, or for each class.

    Attributes:
      high: an event has a score above this.
      low: it goes on while scores stay above this; at most `high`.
      median: steps that the median filter spans; odd, 1 for none.
      min_duration: seconds; shorter events are dropped.
      min_gap: seconds; events that are closer become one.

    Raises:
      InputError: a number is out of its range.
    """

    high: float | Float[np.ndarray, " classes"] = 0.5
    low: float | Float[np.ndarray, " classes"] | None = None
    median: int | Int[np.ndarray, " classes"] = 1
    min_duration: float | Float[np.ndarray, " classes"] = 0.0
    min_gap: float | Float[np.ndarray, " classes"] = 0.0

    def __post_init__(self) -> None:
        for name, value in (("threshold", self.high), ("low threshold", self.lowest)):
            if not np.all((np.asarray(value) >= 0) & (np.asarray(value) <= 1)):
                raise InputError(f"a {name} must be in [0, 1], as the scores are")
        if np.any(np.asarray(self.lowest) > self.high):
            raise InputError("a low threshold must not be above the threshold of its class")
        if np.any(np.asarray(self.median) < 1) or not np.all(np.asarray(self.median) % 2):
            raise InputError("a median filter spans an odd number of steps")
        for name, value in (("shortest duration", self.min_duration), ("smallest gap", self.min_gap)):
            if not np.all(np.asarray(value) >= 0) or not np.all(np.isfinite(value)):
                raise InputError(f"a {name} must be at least 0 seconds")

    @property
    def lowest(self) -> float | Float[np.ndarray, " classes"]:
        """`low`, or `high` where there is none."""
        return self.high if self.low is None else self.low


def find_events(track: ScoreTrack, rules: EventRules, classes: Sequence[int] | None = None) -> list[Event]:
    """The events of a recording, by onset, then offset, then class; those of one class never overlap or touch.

    Args:
      track: the scores.
      rules: what makes an event.
      classes: the indices of those that are wanted; None for all.
    """
    steps, count = track.scores.shape
    # As the scores are, so that one that reads 0.1 is not above 0.1.
    low, high = (np.broadcast_to(np.float32(bound), count) for bound in (rules.lowest, rules.high))
    wanted = np.unique(np.arange(count) if classes is None else np.asarray(classes, int))
    # A median is never above the highest score: most classes need no look at all.
    wanted = wanted[track.scores.max(axis=0)[wanted] > high[wanted]]
    if not len(wanted):
        return []
    scores = track.scores[:, wanted]
    smooth = median_filtered(scores, np.broadcast_to(rules.median, count)[wanted])
    index, first, last = _runs(smooth, high[wanted], low[wanted])
    if not len(index):
        return []
    onset, offset = track.onsets[first], track.offsets[last]
    # The maximum over the steps of each event, in the scores of one class after another.
    bounds = np.stack([index * steps + first, index * steps + last + 1], axis=1).reshape(-1)
    peak = np.maximum.reduceat(np.append(scores.T.reshape(-1), np.float32(0)), bounds)[::2]

    joined = _joined(index, onset, offset, np.broadcast_to(rules.min_gap, count)[wanted])
    begins = np.flatnonzero(~joined)
    index, onset, offset = index[begins], onset[begins], offset[np.append(begins[1:], len(index)) - 1]
    peak = np.maximum.reduceat(peak, begins)

    lasts = offset - onset > np.broadcast_to(rules.min_duration, count)[wanted][index] - _SAME
    events = (
        Event(round(float(onset[i]), 6), round(float(offset[i]), 6), int(wanted[index[i]]), float(str(peak[i])))
        for i in np.flatnonzero(lasts)
    )
    return sorted(events)


def median_filtered(
    scores: Float[np.ndarray, "steps classes"], lengths: Int[np.ndarray, " classes"]
) -> Float[np.ndarray, "steps classes"]:
    """Each class by a median filter over time; beyond the ends, the first and last score go on.

    Args:
      scores: unchanged where all lengths are 1.
      lengths: steps that the filter of each class spans, odd.
    """
    from scipy.ndimage import median_filter

    smooth = scores
    for length in np.unique(lengths[lengths > 1]):
        smooth = scores.copy() if smooth is scores else smooth
        of_it = np.flatnonzero(lengths == length)
        # Where the filter is longer than the recording, either end goes on far enough that more adds nothing.
        size = min(int(length), 2 * len(scores) + 1)
        smooth[:, of_it] = median_filter(scores[:, of_it], size=(size, 1), mode="nearest")
    return smooth


def _runs(
    scores: Float[np.ndarray, "steps classes"],
    high: Float[np.ndarray, " classes"],
    low: Float[np.ndarray, " classes"],
) -> tuple[Int[np.ndarray, " runs"], Int[np.ndarray, " runs"], Int[np.ndarray, " runs"]]:
    """Class, first and last step of each run above `low` that reaches above `high`, class by class and in time."""
    silence = np.zeros((1, scores.shape[1]), bool)
    above: Bool[np.ndarray, "classes ends"] = np.concatenate([silence, scores > low, silence]).T
    change = np.diff(above.astype(np.int8), axis=1)
    index, first = np.nonzero(change > 0)
    _, end = np.nonzero(change < 0)
    reached = np.concatenate([silence, scores > high]).cumsum(axis=0).T
    reaches = reached[index, end] > reached[index, first]
    return index[reaches], first[reaches], end[reaches] - 1


def _joined(
    index: Int[np.ndarray, " runs"],
    onset: Float[np.ndarray, " runs"],
    offset: Float[np.ndarray, " runs"],
    min_gap: Float[np.ndarray, " classes"],
) -> Bool[np.ndarray, " runs"]:
    """Which runs belong to the one before."""
    close = onset[1:] - offset[:-1] < min_gap[index[1:]] - _SAME
    return np.concatenate([[False], (index[1:] == index[:-1]) & close])
