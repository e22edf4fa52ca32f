"""How well a run knows each class: all in the order of their average precision, the best and the worst by name."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from panns_jax.errors import InputError
from panns_jax.plots.classes import Classes, classes_of
from panns_jax.plots.figure import COLOURS, FAINT, PAGE, drawn_to, iterations_told, legend_below, light_grid
from panns_jax.plots.names import as_typed, cut, fitted
from panns_jax.plots.series import Curve, Series, StatisticsFile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROOM = 115
"""For names of classes, points."""
_GOOD, _BAD = COLOURS[2], COLOURS[0]


def plot_classwise(file: StatisticsFile, out: Path, dpi: int, *, top: int = 15, iteration: int | None = None) -> str:
    """Draws average precision by class.

    Args:
      file: the run.
      out: the figure.
      dpi: dots per inch.
      top: how many of the best classes, and of the worst, are named; all where there are no more.
      iteration: of the evaluation that is shown; None for the one with the highest mAP.

    Returns:
      What was drawn, in a line.

    Raises:
      InputError: a file is damaged, was not scored at the iteration, or the figure cannot be written.
    """
    series = file.read()
    number = evaluation_at(series, iteration)
    scores = series.test.average_precision[number]
    score = series.test.mean_average_precision[number]
    known = np.flatnonzero(~np.isnan(scores))
    if not len(known):
        raise InputError(f"{file.path}: no class has a score at iteration {series.test.iterations[number]}")
    order = known[np.argsort(-scores[known], kind="stable")]
    shown = order if len(order) <= 2 * top else np.concatenate([order[:top], order[-top:]])
    classes = classes_of(series)
    seen = _balanced(series, number)
    with drawn_to(out, PAGE, max(2.4, 0.7 + 0.115 * len(shown)), dpi) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
        _draw_all(left, scores[order], None if seen is None else seen[order], float(score))
        left.set_title(f"All {len(order)} classes", pad=5)
        _draw_named(right, classes, shown, scores, seen, split=top if len(shown) < len(order) else None)
        right.set_title(f"The best and worst {top}" if len(shown) < len(order) else "By name", pad=5)
        at = iterations_told(int(series.test.iterations[number]))
        told = f"{fitted(file.name, 220, 7)}, iteration {at}: mAP {score:.3f}"
        if len(order) < series.classes:
            told += f"; {series.classes - len(order)} of {series.classes} classes have no clips to score"
        as_typed([figure.suptitle(told, fontsize=7)])
    return f"{len(order)} classes, mAP {score:.3f}"


def evaluation_at(series: Series, iteration: int | None) -> int:
    """Which evaluation is that of an iteration; the best where none is asked for.

    Raises:
      InputError: there is none; the message names the nearest ones.
    """
    there = series.test.iterations
    if iteration is None:
        return series.test.best
    found = np.flatnonzero(there == iteration)
    if not len(found):
        near = sorted(there[np.argsort(np.abs(there - iteration), kind="stable")[:2]].tolist())
        told = " and ".join(map(str, near))
        raise InputError(f"--iteration {iteration}: {series.file.name} was not scored then; the nearest are {told}")
    return int(found[0])


def _balanced(series: Series, number: int) -> Float[np.ndarray, " classes"] | None:
    """The scores on the balanced training set at the same iteration."""
    bal: Curve | None = series.bal
    found = [] if bal is None else np.flatnonzero(bal.iterations == series.test.iterations[number])
    return bal.average_precision[found[0]] if bal is not None and len(found) else None


def _draw_all(
    axes: "Axes", scores: Float[np.ndarray, " known"], seen: Float[np.ndarray, " known"] | None, score: float
) -> None:
    ranks = np.arange(1, len(scores) + 1)
    handles: list[tuple[Any, str]] = []
    if seen is not None:
        (marks,) = axes.plot(ranks, seen, ".", color=COLOURS[1], markersize=2.5, alpha=FAINT)
        handles.append((marks, "balanced training set"))
    (line,) = axes.plot(ranks, scores, color="black", marker="." if len(ranks) <= 40 else None, markersize=3)
    mean = axes.axhline(score, color="0.4", linewidth=0.6, linestyle=(0, (4, 2)))
    handles = [(line, "evaluation set"), (mean, f"mAP {score:.3f}"), *handles]
    if seen is None:
        handles.append((axes.plot([], [], linestyle="none")[0], "balanced training set: not scored"))
    axes.set_xlim(0.5, len(scores) + 0.5)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("AP", labelpad=2)
    axes.set_xlabel("Classes, the best first", labelpad=2)
    axes.locator_params(axis="x", integer=True)
    light_grid(axes)
    legend_below(axes, handles, width=_ROOM, ncols=2)


def _draw_named(
    axes: "Axes",
    classes: Classes,
    shown: Int[np.ndarray, " shown"],
    scores: Float[np.ndarray, " classes"],
    seen: Float[np.ndarray, " classes"] | None,
    *,
    split: int | None,
) -> None:
    rows = np.arange(len(shown)) + (0.6 * (np.arange(len(shown)) >= split) if split else 0)
    colours = [_GOOD if split is None or place < split else _BAD for place in range(len(shown))]
    axes.barh(rows, scores[shown], height=0.7, color=colours, alpha=0.75)
    if seen is not None:
        axes.plot(seen[shown], rows, "|", color=COLOURS[1], markersize=5)
    axes.set_ylim(rows[-1] + 0.6, -0.6)
    axes.set_yticks(rows, [fitted(classes.names[index], _ROOM, 6, cut) for index in shown], fontsize=6)
    as_typed(axes.get_yticklabels())
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1)
    axes.set_xlabel("AP" if seen is None else "AP (mark: on the balanced training set)", labelpad=2)
    axes.grid(axis="x", color="0.85", linewidth=0.4)
    axes.set_axisbelow(True)
