"""`panns-jax evaluate-events`: detected events beside a reference."""

import dataclasses
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import tyro

from panns_jax.errors import InputError, require_extra
from panns_jax.files import require_parent
from panns_jax.infer.event_lists import EventList, read_event_list
from panns_jax.infer.event_scores import Matching, Score, Scores, score_events
from panns_jax.infer.writers.destination import writing_text


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateEvents:
    """Scores detected events against a reference: the segment-based and event-based F-scores of sed_eval.

    Recordings are told apart by their file names without folders, classes by their names. A recording that is not in
    the reference has no events in it. The macro average is sed_eval's: the mean of the classes that have a score, and
    a class that was never detected has no F-score.
    """

    detected: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DETECTED", help_behavior_hint="")]
    """What was detected: a TSV or CSV with filename, onset, offset and event_label, as panns-jax detect writes it
    (--format dcase or csv)."""
    reference: Annotated[Path, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
    """What is to be found, of the same form."""
    classes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="CLASS...", help_behavior_hint="")] = ()
    """Names of the classes that are scored; by default those of the reference. Events of others do not count."""
    segment_length: float = 1.0
    """Segment-based: seconds of a segment, in which a class is there or not."""
    collar: float = 0.2
    """Event-based: seconds by which an onset may differ, and an offset at least."""
    offset_share: float = 0.2
    """Event-based: an offset may differ by this share of the length of the reference event where that is more."""
    format: Literal["text", "json"] = "text"
    """Two tables, or one JSON object."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Write the scores there instead of printing them."""

    def run(self) -> int:
        """Prints the scores.

        Raises:
          InputError: an option or a file cannot be used, or sed_eval is not installed.
        """
        require_extra("evaluate-events", "sed", "sed_eval", "pkg_resources")
        matching = Matching(self.segment_length, self.collar, self.offset_share)
        if self.out is not None:
            require_parent(self.out)
            if self.out.exists() and any(self.out.samefile(path) for path in (self.detected, self.reference)):
                raise InputError(f"--out {self.out} is read here, and would be replaced; name another file")
        reference, detected = read_event_list(self.reference), read_event_list(self.detected)
        classes = self.classes or tuple(sorted(_labels(reference)))
        _tell_what_stands_alone(reference, detected, classes)
        segments, events = score_events(reference, detected, classes, matching)
        told = _json(matching, segments, events) if self.format == "json" else _text(matching, segments, events)
        with writing_text(self.out) as stream:
            stream.write(told + "\n")
        return 0


def _labels(events: EventList) -> set[str]:
    return {event.label for of_file in events.values() for event in of_file}


def _tell_what_stands_alone(reference: EventList, detected: EventList, classes: tuple[str, ...]) -> None:
    """What may be a mistake rather than what was meant, on standard error."""
    strange = sorted(_labels(detected) - set(classes))
    if strange:
        print(f"left out, as they are not scored: events of {_few(strange)}", file=sys.stderr)
    if unknown := sorted(set(detected) - set(reference)):
        print(f"not in the reference, so that all events in them are wrong: {_few(unknown)}", file=sys.stderr)
    if reference and detected and not set(detected) & set(reference):
        raise InputError(
            f"no recording is in both files: there are {_few(sorted(detected))}, and in the reference"
            f" {_few(sorted(reference))}"
        )


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _json(matching: Matching, segments: Scores, events: Scores) -> str:
    def told(scores: Scores) -> dict[str, object]:
        return {
            "micro": _known(scores.micro),
            "macro": _known(scores.macro),
            "classes": {name: _known(score) for name, score in scores.classes.items()},
        }

    record = {
        "segment_based": {"segment_length": matching.segment_length, **told(segments)},
        "event_based": {"collar": matching.collar, "offset_share": matching.offset_share, **told(events)},
    }
    return json.dumps(record, indent=2, allow_nan=False)


def _known(score: Score) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in dataclasses.asdict(score).items()}


def _text(matching: Matching, segments: Scores, events: Scores) -> str:
    share = f"{100 * matching.offset_share:g} %"
    lines = [
        *_table(f"segment-based, segments of {matching.segment_length:g} s", segments),
        "",
        *_table(f"event-based, collar {matching.collar:g} s, for offsets at least {share} of the length", events),
    ]
    return "\n".join(lines)


def _table(heading: str, scores: Scores) -> Iterator[str]:
    rows = {**scores.classes, "micro average": scores.micro, "macro average": scores.macro}
    width = max(map(len, rows))
    yield heading
    shares = "  ".join(f"{name:>9}" for name in ("F-score", "precision", "recall"))
    yield f"{'class':<{width}}  {shares}  error rate  reference  detected"
    for name, score in rows.items():
        if name == "micro average":
            yield ""
        shares = "  ".join(f"{_shown(share):>9}" for share in (score.f_score, score.precision, score.recall))
        yield f"{name:<{width}}  {shares}  {_shown(score.error_rate):>10}  {score.reference:>9}  {score.detected:>8}"


def _shown(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"
