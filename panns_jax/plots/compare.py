"""Two runs beside each other: their mAP over iterations, and which classes one knows better than the other."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from panns_jax.errors import InputError
from panns_jax.plots.classes import Classes, classes_of
from panns_jax.plots.figure import (
    COLOURS,
    LEGEND_SIZE,
    PAGE,
    draw_scores,
    drawn_to,
    highest,
    iterations_told,
    legend_below,
    light_grid,
    mark_iterations,
)
from panns_jax.plots.names import as_typed, cut, fitted, told_apart
from panns_jax.plots.series import Series, StatisticsFile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROOM, _ROOM_FOR_CLASSES = 130, 105
"""For names of runs and of classes, points."""
_A, _B = COLOURS[1], COLOURS[0]


def plot_compare(a: StatisticsFile, b: StatisticsFile, out: Path, dpi: int, *, top: int = 12) -> str:
    """Draws two runs, class by class at the best evaluation of each.

    Args:
      a: a run.
      b: another one, of the same classes.
      out: the figure.
      dpi: dots per inch.
      top: how many of the classes that B knows better, and of those that it knows worse, are named.

    Returns:
      What was drawn, in a line.

    Raises:
      InputError: a file is damaged, the runs have different numbers of classes or none in common, or the figure cannot
        be written.
    """
    runs = [a.read(), b.read()]
    if runs[0].classes != runs[1].classes:
        raise InputError(
            f"{a.name} has {runs[0].classes} classes and {b.name} {runs[1].classes}: compare runs of the same classes"
        )
    best_a, best_b = (run.test.average_precision[run.test.best] for run in runs)
    gain = best_b - best_a
    known = np.flatnonzero(~np.isnan(gain))
    if not len(known):
        raise InputError(f"{a.name} and {b.name} have no scored class in common")
    order = known[np.argsort(-gain[known], kind="stable")]
    better = order[gain[order] > 0][:top]
    worse = order[gain[order] < 0][-top:]
    with drawn_to(out, PAGE, max(4.0, 1.0 + 0.115 * (len(better) + len(worse))), dpi) as figure:
        names = told_apart([a.name, b.name], _ROOM, LEGEND_SIZE)
        left, right = figure.subfigures(1, 2)
        above, below = left.subplots(2, 1)
        _draw_curves(above, runs, names)
        _draw_classes(below, best_a[known], best_b[known])
        _draw_gains(right.subplots(), classes_of(runs[0]), np.concatenate([better, worse]), gain)
        told = [f"{letter}: mAP {_score(run)}" for letter, run in zip("AB", runs, strict=True)]
        wins = f"B is better in {(gain[known] > 0).sum()} of {len(known)} classes, A in {(gain[known] < 0).sum()}"
        figure.suptitle(f"{', '.join(told)}. {wins}", fontsize=7)
    return f"{', '.join(told)}; {wins}"


def _score(run: Series) -> str:
    best = run.test.best
    return f"{run.test.mean_average_precision[best]:.3f} at iteration {iterations_told(int(run.test.iterations[best]))}"


def _draw_curves(axes: "Axes", runs: list[Series], names: list[str]) -> None:
    curves = [curve for run in runs for curve in (run.bal, run.test) if curve is not None]
    mark_iterations(axes, max(int(curve.iterations[-1]) for curve in curves))
    axes.set_ylim(0, min(1.0, 1.08 * highest(curves)) or 1.0)
    axes.set_ylabel("mAP", labelpad=2)
    axes.set_title("Evaluation set (faint: balanced training set)", pad=5)
    entries = []
    for letter, run, name, colour in zip("AB", runs, names, (_A, _B), strict=True):
        note = " (evaluation set alone)" if run.bal is None else ""
        entries.append((draw_scores(axes, run, {"color": colour}), f"{letter}: {name}{note}"))
    legend_below(axes, entries, width=2 * _ROOM)


def _draw_classes(axes: "Axes", a: Float[np.ndarray, " known"], b: Float[np.ndarray, " known"]) -> None:
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.6)
    axes.scatter(a, b, s=4, c=np.where(b > a, _B, _A), linewidth=0, alpha=0.7)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("AP of A", labelpad=1.5)
    axes.set_ylabel("AP of B", labelpad=2)
    axes.set_title("Each class", pad=5)
    light_grid(axes)


def _draw_gains(
    axes: "Axes", classes: Classes, shown: Int[np.ndarray, " shown"], gain: Float[np.ndarray, " classes"]
) -> None:
    if not len(shown):
        axes.set_title("No class differs", pad=5)
        axes.set_axis_off()
        return
    rows = np.arange(len(shown))
    axes.barh(rows, gain[shown], height=0.7, color=[_B if value > 0 else _A for value in gain[shown]], alpha=0.75)
    axes.axvline(0, color="0.3", linewidth=0.6)
    axes.set_ylim(rows[-1] + 0.6, -0.6)
    axes.set_yticks(rows, [fitted(classes.names[index], _ROOM_FOR_CLASSES, 6, cut) for index in shown], fontsize=6)
    as_typed(axes.get_yticklabels())
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("AP of B minus AP of A", labelpad=2)
    axes.set_title("The largest differences", pad=5)
    axes.grid(axis="x", color="0.85", linewidth=0.4)
    axes.set_axisbelow(True)
