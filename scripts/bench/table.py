"""Figures of a comparison: lines of a table, ratios beside what is aimed at, and the JSON of both."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limits import Limited
from turns import Timing

OURS = "panns_jax"


@dataclasses.dataclass(frozen=True)
class Row:
    """What one engine took for one thing.

    Attributes:
      what: the thing.
      engine: name of the engine; ours begin with "panns_jax".
      timing: its turns.
      difference: largest absolute difference of its results from those of the engine that counts as right; None for
        that engine itself.
      unit: of the difference.
      first_call: seconds that the first call took, in which ours compiles; None where that is not known.
      details: more that the JSON is to hold.
    """

    what: str
    engine: str
    timing: Timing
    difference: float | None
    unit: str
    first_call: float | None = None
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "engine": self.engine,
            "median": self.timing.median,
            "least": self.timing.least,
            "most": self.timing.most,
            "seconds": self.timing.seconds,
            "faults": self.timing.usual_faults,
            "difference": self.difference,
            "unit": self.unit,
            "first_call": self.first_call,
            **self.details,
        }


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Our median time as a fraction of another engine's.

    Attributes:
      what: what was timed.
      ours: our engine.
      theirs: the other one.
      value: the ratio; below 1 where we are faster.
      aim: what it is to be at most; None for nothing in particular.
    """

    what: str
    ours: str
    theirs: str
    value: float
    aim: float | None

    @property
    def verdict(self) -> str:
        if self.aim is None:
            return ""
        return f"≤ {self.aim:.2f} {'reached' if self.value <= self.aim else 'missed'}"


Aims = Mapping[tuple[str, str], float]
"""By our engine and another: the largest ratio that is aimed at."""


def is_ours(engine: str) -> bool:
    return engine.startswith(OURS)


def ratios(rows: Sequence[Row], aims: Aims) -> list[Ratio]:
    """Of every engine of ours to every other one.

    Args:
      rows: of one thing.
      aims: for that thing.
    """
    return [
        Ratio(ours.what, ours.engine, theirs.engine, ours.timing.median / theirs.timing.median, aim)
        for ours in rows
        if is_ours(ours.engine)
        for theirs in rows
        if not is_ours(theirs.engine)
        for aim in [aims.get((ours.engine, theirs.engine))]
    ]


def table(rows: Sequence[Row], compared: Sequence[Ratio]) -> str:
    """The lines of one thing: its engines, and the ratio of ours to each.

    Args:
      rows: of one thing.
      compared: of `ratios`.
    """
    first = next((ratio.ours for ratio in compared), OURS)
    beside = {ratio.theirs: ratio for ratio in compared if ratio.ours == first}
    lines = ["", _line(rows[0].what, "median", "least – most", "faults", "first call", f"{first} / it", "difference")]
    for row in rows:
        timing, ratio = row.timing, beside.get(row.engine)
        lines.append(
            _line(
                f"  {row.engine}",
                duration(timing.median),
                f"{duration(timing.least)} – {duration(timing.most)}",
                "" if timing.usual_faults is None else str(timing.usual_faults),
                "" if row.first_call is None else duration(row.first_call),
                "" if ratio is None else f"{ratio.value:.2f}  {ratio.verdict}",
                "" if row.difference is None else f"{row.difference:.1e} {row.unit}",
            )
        )
    for ratio in compared:
        if ratio.ours != first:
            names, value = f"  {ratio.ours} / {ratio.theirs}", f"{ratio.value:.2f}  {ratio.verdict}"
            lines.append(_line(names, "", "", "", "", value, ""))
    return "\n".join(lines)


def _line(*columns: str) -> str:
    what, median, spread, faults, first, ratio, difference = columns
    return f"{what:<36} {median:>8}  {spread:<17} {faults:>8} {first:>10}  {ratio:<23} {difference}".rstrip()


def duration(seconds: float) -> str:
    """Three digits in the unit that suits them."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.{0 if seconds >= 0.1 else 1}f} ms"


def summary(compared: Sequence[Ratio]) -> str:
    """How many aims were reached, and which were not."""
    aimed = [ratio for ratio in compared if ratio.aim is not None]
    missed = [ratio for ratio in aimed if ratio.value > (ratio.aim or 0)]
    lines = [f"\n{len(aimed) - len(missed)} of {len(aimed)} aims reached"]
    lines += [f"  missed: {r.what}: {r.ours} / {r.theirs} {r.value:.2f}, aim {r.aim:.2f}" for r in missed]
    return "\n".join(lines)


def write_json(
    path: Path | None,
    machine: Mapping[str, Any],
    rows: Sequence[Row | Limited],
    compared: Sequence[Ratio] = (),
) -> None:
    """Writes the figures and what they were taken on, where a file is named."""
    if path is None:
        return
    contents = {
        "machine": machine,
        "figures": [row.to_json() for row in rows],
        "ratios": [dataclasses.asdict(ratio) for ratio in compared],
    }
    path.write_text(json.dumps(contents, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
