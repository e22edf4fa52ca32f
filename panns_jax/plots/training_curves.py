"""How runs went: their loss and mAP over iterations."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from panns_jax.errors import InputError
from panns_jax.plots.figure import (
    LEGEND_LINE,
    LEGEND_SIZE,
    PAGE,
    draw_scores,
    drawn_to,
    highest,
    legend_below,
    line_styles,
    mark_iterations,
)
from panns_jax.plots.names import told_apart
from panns_jax.plots.series import Series, StatisticsFile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 30
"""Runs that lines can tell apart."""
_BINS = 150
_ROOM = 300
"""For names in the legend, points."""


@dataclasses.dataclass(frozen=True, eq=False)
class Loss:
    """The training loss of a run.

    Attributes:
      iterations: the last of each span of iterations.
      loss: the mean over them.
    """

    iterations: Int[np.ndarray, " spans"]
    loss: Float[np.ndarray, " spans"]


def plot_training_curves(files: Sequence[StatisticsFile], out: Path, dpi: int) -> str:
    """Draws the training loss and the mAP of runs; what a run lacks of the two is named in the legend.

    Args:
      files: the runs.
      out: the figure.
      dpi: dots per inch.

    Returns:
      What was drawn, in a line.

    Raises:
      InputError: a file is damaged, there is nothing to draw, or the figure cannot be written.
    """
    if len(files) > MOST:
        raise InputError(f"there are {len(files)} runs, and lines can tell {MOST} apart: name some of them")
    scores = [file.read() if file.run is None or file.path.exists() else None for file in files]
    losses = [read_loss(file) for file in files]
    curves = [curve for series in scores if series for curve in (series.bal, series.test) if curve is not None]
    ends = [int(loss.iterations[-1]) for loss in losses if loss] + [int(curve.iterations[-1]) for curve in curves]
    if not ends:
        raise InputError(f"{files[0].name} has neither been scored nor told a loss yet: there is nothing to draw")
    told = any(losses)
    lacking = [_lacking(series, told and loss is None) for series, loss in zip(scores, losses, strict=True)]
    room = 0.18 + LEGEND_LINE * len(files)
    with drawn_to(out, PAGE, 2.4 + room, dpi) as figure:
        figure.get_layout_engine().set(rect=(0, room / (2.4 + room), 1, 2.4 / (2.4 + room)))
        panels = figure.subplots(1, 1 + told, squeeze=False)[0]
        for axes in panels:
            mark_iterations(axes, max(ends))
        _prepare_scores(panels[-1], highest(curves))
        if told:
            _prepare_losses(panels[0])
        lines = [
            _draw(panels, series, loss, style)
            for series, loss, style in zip(scores, losses, line_styles(len(files)), strict=True)
        ]
        names = told_apart([file.name for file in files], _ROOM, LEGEND_SIZE)
        names = [name + note for name, note in zip(names, lacking, strict=True)]
        legend_below(panels[0], list(zip(lines, names, strict=True)), width=2 * _ROOM, in_layout=False)
    return f"{len(files)} runs"


def read_loss(file: StatisticsFile) -> Loss | None:
    """The training loss of a run by its log; None where there is none."""
    from panns_jax.train.log import LOG, read_log

    path = file.run.logs / LOG if file.run else None
    if path is None or not path.is_file():
        return None
    steps = [line for line in read_log(path) if line["kind"] == "step" and isinstance(line.get("loss"), float)]
    if not steps:
        return None
    iterations = np.array([line["iteration"] for line in steps])
    order = np.argsort(iterations, kind="stable")
    spans = np.array_split(order, min(_BINS, len(order)))
    values = np.array([line["loss"] for line in steps])
    return Loss(iterations[[span[-1] for span in spans]], np.array([values[span].mean() for span in spans]))


def _draw(panels: Sequence["Axes"], series: Series | None, loss: Loss | None, style: dict[str, Any]) -> Any:
    """Draws one run.

    Returns:
      A line for the legend.
    """
    line = None
    if loss is not None:
        marker = "." if len(loss.iterations) <= 12 else None
        (line,) = panels[0].plot(loss.iterations, loss.loss, marker=marker, markersize=3, **style)
    if series is not None:
        return draw_scores(panels[-1], series, style)
    return line or panels[-1].plot([], [], **style)[0]


def _lacking(series: Series | None, lacks_loss: bool) -> str:
    """What of the figure there is not of a run, for the legend."""
    notes = ["no log of the loss"] * lacks_loss
    notes += ["not scored yet"] if series is None else ["evaluation set alone"] * (series.bal is None)
    return f" ({', '.join(notes)})" if notes else ""


def _prepare_scores(axes: "Axes", top: float) -> None:
    axes.set_title("Evaluation set (faint: balanced training set)", pad=5)
    axes.set_ylim(0, min(1.0, 1.08 * top) or 1.0)
    axes.set_ylabel("mAP", labelpad=2)


def _prepare_losses(axes: "Axes") -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_title("Training loss", pad=5)
    axes.set_ylabel("Loss", labelpad=2)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
