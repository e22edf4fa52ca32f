"""The published figure of sound event detection: a log spectrogram over the scores of the top classes."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from panns_jax.files import written_aside
from panns_jax.infer.events import Event
from panns_jax.infer.score_track import ScoreTrack
from panns_jax.plots.spectrogram import Spectrogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DYNAMIC_RANGE = 90.0
"""Decibels below the loudest that are told apart."""
_COLUMNS = 1500
"""Columns of scores that a figure has room for."""
_LONGEST_LABEL = 34
_LONGEST_NAME = 100
"""Letters that are shown of a class, and of a recording."""
_EVENTS = "#f04a23"
_TICKS = (
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    20,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    14400,
)
"""Seconds that may lie between ticks."""
_IN_MINUTES, _IN_HOURS = 120, 3600
"""Seconds from which on time is told in them."""


def plot_events(
    path: Path,
    name: str,
    spectrogram: Spectrogram,
    track: ScoreTrack,
    events: Sequence[Event],
    labels: Sequence[str],
    classes: Sequence[int],
    *,
    top: int = 10,
) -> None:
    """Draws a recording: its spectrogram, below it the scores of the classes with the highest ones, and their events.

    Args:
      path: the figure, in a format of matplotlib by its ending.
      name: of the recording.
      spectrogram: of the recording.
      track: its scores.
      events: what was found; those of the classes that are drawn are lines below their scores.
      labels: names of the classes.
      classes: the indices of those that may be drawn.
      top: how many are.

    Raises:
      InputError: the file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    peaks = track.scores.max(axis=0)
    shown = sorted(classes, key=lambda index: (-peaks[index], index))[:top]
    # Names may hold any letters: what no font has is a box, and a dollar sign begins no formula.
    with mpl.rc_context({"svg.hashsalt": "panns_jax"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(12, 3.4 + 0.24 * len(shown)), dpi=120, layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, 0.4 + 0.24 * len(shown)))
        _draw_spectrogram(above, spectrogram)
        above.set_title(_shortened(Path(name).name, _LONGEST_NAME), parse_math=False, fontsize=11)
        _draw_scores(below, track, shown, [_shortened(labels[index], _LONGEST_LABEL) for index in shown])
        _draw_events(below, events, shown)
        below.set_xlim(0, track.duration)
        _mark_time(below, track.duration)
        with written_aside(path) as aside:
            format = path.suffix[1:].lower()
            dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(format)
            figure.savefig(aside, format=format, metadata=dates)


def _draw_spectrogram(axes: "Axes", spectrogram: Spectrogram) -> None:
    _, columns = spectrogram.decibels.shape
    image = axes.imshow(
        spectrogram.decibels,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=-_DYNAMIC_RANGE,
        vmax=0,
        interpolation="nearest",
        extent=(0, columns * spectrogram.column, 0, spectrogram.highest / 1000),
    )
    axes.set_ylabel("kHz")
    _colour_bar(axes, image, "dB")


def _draw_scores(axes: "Axes", track: ScoreTrack, shown: Sequence[int], names: Sequence[str]) -> None:
    scores, edges = _as_wide_as_a_figure(track.scores[:, list(shown)], np.append(track.onsets, track.duration))
    rows = np.arange(len(shown) + 1) - 0.5
    image = axes.pcolormesh(edges, rows, scores.T, cmap="viridis", vmin=0, vmax=1, rasterized=True)
    axes.set_ylim(len(shown) - 0.5, -0.5)  # the top class above
    axes.set_yticks(range(len(shown)), names, parse_math=False, fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.hlines(rows[1:-1], 0, track.duration, color="black", linewidth=0.5, alpha=0.5)
    _colour_bar(axes, image, "score")


def _as_wide_as_a_figure(
    scores: Float[np.ndarray, "steps shown"], edges: Float[np.ndarray, " bounds"]
) -> tuple[Float[np.ndarray, "columns shown"], Float[np.ndarray, " edges"]]:
    """The maxima of as many steps as make a column that can be seen."""
    firsts = np.arange(0, len(scores), -(-len(scores) // _COLUMNS))
    return np.maximum.reduceat(scores, firsts, axis=0), np.append(edges[firsts], edges[-1])


def _draw_events(axes: "Axes", events: Sequence[Event], shown: Sequence[int]) -> None:
    row = {index: number for number, index in enumerate(shown)}
    drawn = [event for event in events if event.index in row]
    if not drawn:
        return
    onsets, offsets = [event.onset for event in drawn], [event.offset for event in drawn]
    rows = [row[event.index] + 0.36 for event in drawn]
    axes.hlines(rows, onsets, offsets, color=_EVENTS, linewidth=2.5, capstyle="butt")
    axes.set_title("▬ events", loc="right", fontsize=9, color=_EVENTS, pad=3)


def _mark_time(axes: "Axes", duration: float) -> None:
    """At most a dozen ticks, at round times."""
    spacing = next((spacing for spacing in _TICKS if duration / spacing <= 12), duration / 12)
    ticks = np.arange(0, duration + 1e-9, spacing)
    if duration < _IN_MINUTES:
        unit, named = "seconds", [f"{tick:g}" for tick in ticks.round(6)]
    elif duration < _IN_HOURS:
        unit, named = "minutes and seconds", [f"{round(tick) // 60}:{round(tick) % 60:02}" for tick in ticks]
    else:
        unit, named = "hours and minutes", [f"{round(tick) // 3600}:{round(tick) % 3600 // 60:02}" for tick in ticks]
    axes.set_xticks(ticks, named)
    axes.set_xlabel(unit)


def _colour_bar(axes: "Axes", image: Any, label: str) -> None:
    bar = axes.figure.colorbar(image, ax=axes, pad=0.01, aspect=12)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)


def _shortened(name: str, longest: int) -> str:
    return name if len(name) <= longest else name[: longest - 1].rstrip() + "…"
