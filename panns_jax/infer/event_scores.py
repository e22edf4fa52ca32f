"""How well detected events fit a reference: the segment-based and event-based scores of sed_eval."""

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from panns_jax.errors import InputError, require_extra
from panns_jax.infer.event_lists import EventList


@dataclasses.dataclass(frozen=True)
class Score:
    """Of a class, or an average; NaN where nothing is defined, as precision is where nothing was detected.

    Attributes:
      f_score: harmonic mean of precision and recall, in [0, 1].
      precision: share of what was detected that is right.
      recall: share of the reference that was detected.
      error_rate: deletions and insertions (over all classes substitutions, too) over the reference; may be above 1.
      reference: segments or events of it.
      detected: likewise.
    """

    f_score: float
    precision: float
    recall: float
    error_rate: float
    reference: int
    detected: int


@dataclasses.dataclass(frozen=True)
class Scores:
    """Of all classes.

    Attributes:
      micro: over all segments or events, whatever their class.
      macro: the mean of the classes that have a score; as in sed_eval, a class that was never detected has no F-score.
      classes: by name.
    """

    micro: Score
    macro: Score
    classes: dict[str, Score]


@dataclasses.dataclass(frozen=True)
class Matching:
    """What counts as the same.

    Attributes:
      segment_length: seconds; in each segment a class is there or not.
      collar: seconds by which onsets may differ, and offsets at least.
      offset_share: the share of the length of a reference event by which its offset may differ, where that is more.

    Raises:
      InputError: one of them is out of its range.
    """

    segment_length: float = 1.0
    collar: float = 0.2
    offset_share: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.segment_length < math.inf:
            raise InputError(f"--segment-length must be above 0 seconds, not {self.segment_length:g}")
        if not 0 < self.collar < math.inf:
            raise InputError(f"--collar must be above 0 seconds, not {self.collar:g}")
        if not 0 <= self.offset_share <= 1:
            raise InputError(f"--offset-share must be in [0, 1], not {self.offset_share:g}")


def score_events(
    reference: EventList, detected: EventList, classes: Sequence[str], matching: Matching
) -> tuple[Scores, Scores]:
    """Scores detected events.

    Args:
      reference: what is to be found.
      detected: what was found; a recording that the reference does not have has no events in it.
      classes: names of those that are scored; events of others do not count.
      matching: what counts as the same.

    Returns:
      Segment-based and event-based.

    Raises:
      InputError: sed_eval is not installed, or there are no classes.
    """
    require_extra("scoring events", "sed", "sed_eval")
    if not classes:
        raise InputError("there are no classes to score: the reference has no events")
    with _old_ways_allowed():
        from dcase_util.containers import MetaDataContainer  # pyright: ignore[reportMissingImports]
        from sed_eval.sound_event import EventBasedMetrics, SegmentBasedMetrics  # pyright: ignore[reportMissingImports]

        names = list(dict.fromkeys(classes))
        segments = SegmentBasedMetrics(names, time_resolution=float(matching.segment_length))
        events = EventBasedMetrics(
            names, t_collar=float(matching.collar), percentage_of_length=float(matching.offset_share)
        )
        for file in sorted({*reference, *detected}):
            lists = [MetaDataContainer(_rows(file, of_it, names)) for of_it in (reference, detected)]
            ends = [row["offset"] for rows in lists for row in rows]
            if not ends:
                continue
            for metric in (segments, events):
                metric.evaluate(reference_event_list=lists[0], estimated_event_list=lists[1])
        return _scores(segments), _scores(events)


def _rows(file: str, events: EventList, names: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"filename": file, "onset": event.onset, "offset": event.offset, "event_label": event.label}
        for event in events.get(file, ())
        if event.label in names
    ]


def _scores(metric: Any) -> Scores:
    overall, average = metric.results_overall_metrics(), metric.results_class_wise_average_metrics()
    classes = metric.results_class_wise_metrics()
    by_name = {name: _score(told, told["count"]) for name, told in classes.items()}
    count = {"Nref": metric.overall["Nref"], "Nsys": metric.overall["Nsys"]}
    return Scores(_score(overall, count), _score(average, count), by_name)


def _score(told: dict[str, Any], count: dict[str, float]) -> Score:
    return Score(
        **{
            ours: float(told["f_measure"][theirs])
            for ours, theirs in (("f_score", "f_measure"), ("precision", "precision"), ("recall", "recall"))
        },
        error_rate=float(told["error_rate"]["error_rate"]),
        reference=int(count["Nref"]),
        detected=int(count["Nsys"]),
    )


@contextlib.contextmanager
def _old_ways_allowed() -> Iterator[None]:
    """sed_eval and its dcase_util speak of NumPy, and of setuptools, as they were years ago."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
