"""The paper's map of classes over iterations: average precision of frequent, middling and rare classes."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from panns_jax.errors import InputError
from panns_jax.plots.choosing import Choice, Wanted
from panns_jax.plots.classes import Classes, classes_of
from panns_jax.plots.figure import (
    LEGEND_SIZE,
    PAGE,
    draw_line,
    drawn_to,
    legend_below,
    line_styles,
    mark_iterations,
)
from panns_jax.plots.names import as_typed, cut, fitted, width_of
from panns_jax.plots.series import Series, StatisticsFile
from panns_jax.plots.six_figures import PANELS

LAST = 600_000
"""The last iteration that the paper shows."""
IN_PANEL = 10
_MIDDLE = 250
"""Rank of the first class of the middle panel in the paper, of 527."""
_ROOM = 122
"""For names in the legends, points."""
_ROOM_BELOW = 190


def plot_classwise_iteration_map(files: Sequence[StatisticsFile], out: Path, dpi: int) -> str:
    """Draws the figure, of Wavegram-Logmel-CNN; else of the next of the paper's architectures, or what there is.

    Args:
      files: the statistics at hand, in the order in which they are preferred.
      out: the figure.
      dpi: dots per inch.

    Returns:
      What was drawn, in a line.

    Raises:
      InputError: there are no statistics, a file is damaged, or the figure cannot be written.
    """
    choice = Choice(files)
    series, told = _chosen(choice)
    choice.tell_left()
    classes = classes_of(series)
    scored = np.array(~np.isnan(series.test.average_precision).all(axis=0))
    if not scored.any():
        raise InputError(f"{series.file.path}: no class has a score")
    order = classes.by_clips[scored[classes.by_clips]]
    if none := int((~scored).sum()):
        told += f"; {none} of {len(scored)} classes {'has' if none == 1 else 'have'} no clips to score"
    with drawn_to(out, PAGE, 3.7, dpi) as figure:
        for axes, ranks in zip(figure.subplots(1, 3), ranks_of_panels(len(order)), strict=True):
            mark_iterations(axes, min(LAST, int(series.test.iterations[-1])))
            axes.set_ylim(0, 1)
            axes.set_ylabel("AP", labelpad=2)
            if not ranks:
                axes.set_visible(False)
                continue
            axes.set_title(_ranked(ranks, classes), pad=5)
            shown: list[int] = order[list(ranks)].tolist()
            lines = [
                draw_line(axes, series.test, series.test.average_precision[:, index], style)
                for index, style in zip(shown, line_styles(len(shown)), strict=True)
            ]
            names = [_named(classes, index) for index in shown]
            legend_below(axes, list(zip(lines, names, strict=True)), width=2 * _ROOM)
        below = f"AP on the evaluation set: {told}"
        if width_of(below, 6.5) > 72 * PAGE - 10:
            below = below.replace("; ", ";\n", 1)
        as_typed([figure.supxlabel(below, fontsize=6.5)])
    return told


def ranks_of_panels(classes: int) -> list[range]:
    """Which ranks by number of clips are in the three panels; those of few classes are not in two panels."""
    last = range(max(0, classes - IN_PANEL), classes)
    if classes >= 3 * IN_PANEL:
        begin = _MIDDLE if classes == 527 else (classes - IN_PANEL) // 2
        return [range(IN_PANEL), range(begin, begin + IN_PANEL), last]
    edges = [min(classes, IN_PANEL * panel) for panel in range(4)]
    return [range(first, end) for first, end in itertools.pairwise(edges)]


def _chosen(choice: Choice) -> tuple[Series, str]:
    """The series that is drawn, and what it is of."""
    wanted: list[Wanted] = [item for item, _ in PANELS[0].wanted]
    missing = ""
    for item in wanted:
        if series := choice.find(item.recipe):
            own = f", own run {fitted(series.file.name, _ROOM_BELOW, 6.5)}" if series.file.run else ""
            return series, f"{item.label}{own}{missing}"
        missing = f"; there are no statistics of {wanted[0].label}"
    series = choice.first()
    if series is None:
        raise InputError("none of the runs has been scored yet")
    return series, f"{fitted(series.file.name, _ROOM_BELOW, 6.5)}{missing}"


def _ranked(ranks: range, classes: Classes) -> str:
    what = "Ranks by number of clips" if classes.clips is not None else "Classes"
    return f"{what}: {ranks[0]} to {ranks[-1]}"


def _named(classes: Classes, index: int) -> str:
    count = "" if classes.clips is None else f" ({classes.clips[index]:,})"
    return fitted(classes.names[index], _ROOM - width_of(count, LEGEND_SIZE), LEGEND_SIZE, cut) + count
