"""Lists of events in files, as references for evaluation are, and as `panns-jax detect` writes them."""

import csv
import dataclasses
import math
from pathlib import Path

from panns_jax.errors import InputError
from panns_jax.files import require_file

_COLUMNS = {
    "filename": ("filename", "file"),
    "onset": ("onset", "event_onset", "start"),
    "offset": ("offset", "event_offset", "end"),
    "event_label": ("event_label", "label"),
}


@dataclasses.dataclass(frozen=True)
class ListedEvent:
    """An event of a list: onset and offset in seconds, and the name of its class."""

    onset: float
    offset: float
    label: str


EventList = dict[str, list[ListedEvent]]
"""The events of each recording, by the name of its file without folders; a recording may have none."""


def read_event_list(path: Path) -> EventList:
    """Reads events: filename, onset, offset and event_label with tabs or commas between, under a header or without one.

    A line whose label is empty or "nan" tells of a recording without events.

    Args:
      path: a TSV of the DCASE challenges, or a table that `panns-jax detect` wrote as dcase or csv.

    Raises:
      InputError: the file cannot be read, or a line is not as it should be.
    """
    require_file(path, "a list of events")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text in UTF-8: a list of events is a TSV or CSV") from error
    first = next(iter(text.splitlines()), "")
    lines = csv.reader(text.splitlines(), delimiter="\t" if "\t" in first else ",")
    rows = [(number, [cell.strip() for cell in row]) for number, row in enumerate(lines, start=1) if any(row)]
    if not rows:
        raise InputError(f"{path}: is empty; a list of events begins with filename, onset, offset, event_label")
    places = _places(path, rows[0][1])
    if places is None:
        places = dict(zip(_COLUMNS, range(4), strict=True))
    else:
        rows = rows[1:]
    events: EventList = {}
    for number, row in rows:
        name, *told = (row[place] if place < len(row) else "" for place in places.values())
        listed = events.setdefault(Path(name).name, [])
        if told[2] and told[2].lower() != "nan":
            listed.append(_event(f"{path}, line {number}", *told))
    return events


def _places(path: Path, header: list[str]) -> dict[str, int] | None:
    """Where each column stands; None where the first line is an event already."""
    places = {
        column: next((header.index(name) for name in names if name in header), -1) for column, names in _COLUMNS.items()
    }
    if -1 not in places.values():
        return places
    if len(header) == 4 and _is_number(header[1]) and _is_number(header[2]):
        return None
    missing = next(column for column, place in places.items() if place < 0)
    raise InputError(f"{path}: has no column {missing}; a list of events has filename, onset, offset and event_label")


def _event(where: str, onset: str, offset: str, label: str) -> ListedEvent:
    if not (_is_number(onset) and _is_number(offset)):
        raise InputError(f"{where}: onset and offset must be seconds, not {onset!r} and {offset!r}")
    if not 0 <= float(onset) <= float(offset):
        raise InputError(f"{where}: an event from {onset} to {offset} s cannot be")
    return ListedEvent(float(onset), float(offset), label)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
