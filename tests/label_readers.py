"""Strict readers of what other programs read, written from the documentation of their formats."""

import re
from pathlib import Path

TIME = re.compile(r"\d+\.\d{6}")


def read_label_track(path: Path) -> list[tuple[float, float, str]]:
    """An Audacity label track: "Values are separated by tab characters": start, end and text, in plain text."""
    text = path.read_bytes().decode("utf-8")
    assert "\r" not in text and (not text or text.endswith("\n"))
    labels = []
    for line in text.split("\n")[:-1]:
        start, end, label = line.split("\t")
        assert TIME.fullmatch(start) and TIME.fullmatch(end), line
        assert label and label == label.strip()
        assert float(start) <= float(end)
        labels.append((float(start), float(end), label))
    return labels


# What Raven needs of a selection table: a header, and in each line as many cells, separated by tabs.
NEEDED = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)")
OF_SEQUENCES = ("Begin Path", "File Offset (s)")


def read_selection_table(path: Path) -> list[dict[str, str]]:
    """A Raven selection table: numbered selections, in order, with the columns that Raven needs."""
    lines = path.read_bytes().decode("utf-8").split("\n")
    assert lines.pop() == ""
    header = lines.pop(0).split("\t")
    assert header[: len(NEEDED)] == list(NEEDED)
    assert set(OF_SEQUENCES) < set(header) and len(set(header)) == len(header)
    rows = []
    for number, line in enumerate(lines, start=1):
        cells = line.split("\t")
        assert len(cells) == len(header), line
        row = dict(zip(header, cells, strict=True))
        assert int(row["Selection"]) == number
        assert re.fullmatch(r"(Waveform|Spectrogram) \d+", row["View"]) and int(row["Channel"]) >= 1
        assert 0 <= float(row["Begin Time (s)"]) < float(row["End Time (s)"])
        assert 0 <= float(row["Low Freq (Hz)"]) < float(row["High Freq (Hz)"])
        rows.append(row)
    return rows
