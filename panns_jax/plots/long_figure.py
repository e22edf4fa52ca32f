"""The paper's long figure: all classes in four rows, those with the most clips first, and how well they are known."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from panns_jax.errors import InputError
from panns_jax.plots.choosing import Choice
from panns_jax.plots.classes import classes_of
from panns_jax.plots.figure import COLOURS, PAGE, drawn_to, iterations_told
from panns_jax.plots.long_figure_file import Published, read_long_figure_file
from panns_jax.plots.names import as_typed, cut, fitted, told_apart
from panns_jax.plots.recipes import Recipe
from panns_jax.plots.series import Series, StatisticsFile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROWS = 4
_IN_A_ROW = 132
_LETTERS = 4.9
_ROOM = 46
"""For names of classes, and the size of their letters, points."""
_ROOM_FOR_RUNS = 115
_BARS, _QUALITY = "#c9d6e6", "#d62728"


@dataclasses.dataclass(frozen=True, eq=False)
class System:
    """A line of the figure.

    Attributes:
      label: in the legend.
      average_precision: of each class, in the order of the outputs.
      colour: of the line.
    """

    label: str
    average_precision: Float[np.ndarray, " classes"]
    colour: str


SYSTEMS: Mapping[str, tuple[str, str, Recipe | None]] = {
    "averaging_instance_system_avg_9_probs_from_10000_to_50000_iterations": (
        "averaging instances (baseline)",
        COLOURS[5],
        None,
    ),
    "panns_mobilenetv1": ("MobileNetV1", COLOURS[1], Recipe("MobileNetV1")),
    "panns_cnn14": ("CNN14", COLOURS[0], Recipe()),
    "panns_wavegram_logmel_cnn14": ("Wavegram-Logmel-CNN", COLOURS[2], Recipe("Wavegram_Logmel_Cnn14")),
}
"""The systems of the paper by their keys in the published file: label, colour, and the experiment of its statistics."""
_OWN_COLOURS = (COLOURS[3], COLOURS[4], COLOURS[6], COLOURS[7], COLOURS[8], COLOURS[9])


def plot_long_figure(file: Path | None, files: Sequence[StatisticsFile], out: Path, dpi: int) -> str:
    """Draws the figure from the published file of it, statistics over iterations, and runs.

    A system of the paper that the published file lacks is taken from its statistics, at their last evaluation; runs of
    other experiments are lines of their own, at their best. Without the file, classes are in the order of AudioSet's
    numbers of clips. What is missing is named in the legend.

    Args:
      file: the published file; None where there is none.
      files: the statistics at hand.
      out: the figure.
      dpi: dots per inch.

    Returns:
      What was drawn, in a line.

    Raises:
      InputError: a file is damaged, there is nothing to draw, or the figure cannot be written.
    """
    published = None if file is None else read_long_figure_file(file, SYSTEMS)
    choice = Choice(files)
    systems, missing = _of_paper(published, choice)
    systems += _of_runs(choice, files)
    choice.tell_left()
    if not systems:
        raise InputError("there are no scores to draw: none of the runs has been scored, no file is of a known system")
    if len({len(system.average_precision) for system in systems}) > 1:
        told = ", ".join(f"{system.label}: {len(system.average_precision)}" for system in systems)
        raise InputError(f"the systems are of different numbers of classes, and have no row in common ({told})")
    names, clips, order = _classes(published, choice, len(systems[0].average_precision))
    rows = min(ROWS, math.ceil(len(names) / _IN_A_ROW))
    width = math.ceil(len(names) / rows)
    with drawn_to(out, PAGE, 0.5 + 2.27 * rows, dpi) as figure:
        figure.get_layout_engine().set(h_pad=0.02, hspace=0)
        handles: list[tuple[Any, str]] = []
        for row, axes in enumerate(np.atleast_1d(figure.subplots(rows, 1))):
            ranks = np.arange(row * width, min((row + 1) * width, len(names)))
            handles = _draw_row(axes, ranks, width, names, clips, order, systems, published)
        handles += [(_nothing(), f"{name}: none") for name in missing]
        handles += [(_nothing(), "label quality: none")] if published is None or published.quality is None else []
        legend = figure.legend(
            [handle for handle, _ in handles],
            [label for _, label in handles],
            loc="outside upper center",
            ncols=3,
            frameon=False,
            fontsize=6,
            handlelength=1.8,
            labelspacing=0.25,
            columnspacing=1.5,
            borderpad=0,
        )
        as_typed(legend.get_texts())
    return f"{len(systems)} systems, {len(names)} classes"


def _of_paper(published: Published | None, choice: Choice) -> tuple[list[System], list[str]]:
    """The systems of the paper, and the labels of those that there is nothing of."""
    systems, missing = [], []
    for key, (label, colour, recipe) in SYSTEMS.items():
        scores = published.systems.get(key) if published else None
        series = choice.find(recipe) if scores is None and recipe is not None else None
        if series is not None:
            scores, label = series.test.average_precision[-1], f"{label} ({_at_last(series)})"
        if scores is None:
            missing.append(f"AP with {label}")
        else:
            systems.append(System(f"AP with {label}", scores, colour))
    return systems, missing


def _at_last(series: Series) -> str:
    own = "own run, " if series.file.run else ""
    return f"{own}iteration {iterations_told(int(series.test.iterations[-1]))}"


def _of_runs(choice: Choice, files: Sequence[StatisticsFile]) -> list[System]:
    """Runs of experiments that are none of the paper's systems, as many as can be told apart."""
    left = [file for file in choice.left if file.run is not None or len(files) == 1][: len(_OWN_COLOURS)]
    read = [choice.read(file) for file in left]
    names = told_apart([file.name for file in left], _ROOM_FOR_RUNS, 6)
    return [
        System(f"AP with {name}", series.test.average_precision[series.test.best], colour)
        for name, series, colour in zip(names, read, _OWN_COLOURS, strict=False)
    ]


def _classes(
    published: Published | None, choice: Choice, number: int
) -> tuple[tuple[str, ...], Int[np.ndarray, " classes"] | None, Int[np.ndarray, " classes"]]:
    """Names, numbers of training clips and order of the classes."""
    taken = choice.taken
    if published is not None:
        return published.names, published.clips, published.order
    classes = classes_of(taken[0])
    assert len(classes.names) == number
    return classes.names, classes.clips, classes.by_clips


def _draw_row(
    axes: "Axes",
    ranks: Int[np.ndarray, " ranks"],
    width: int,
    names: Sequence[str],
    clips: Int[np.ndarray, " classes"] | None,
    order: Int[np.ndarray, " classes"],
    systems: Sequence[System],
    published: Published | None,
) -> list[tuple[Any, str]]:
    """Draws the classes of some ranks.

    Returns:
      The entries of the legend.
    """
    shown = order[ranks]
    handles: list[tuple[Any, str]] = []
    axes.set_xlim(ranks[0] - 0.7, ranks[0] + width - 0.3)
    bars = axes.twinx()
    axes.set_zorder(bars.get_zorder() + 1)
    axes.patch.set_visible(False)
    if clips is None:
        bars.set_yticks([])
    else:
        bars.set_yscale("log")
        bars.set_ylim(10, 10 ** math.ceil(math.log10(max(int(clips.max()), 100)) + 0.01))
        drawn = bars.bar(ranks, np.maximum(clips[shown], 1), width=0.8, color=_BARS, linewidth=0)
        bars.set_ylabel("training clips", fontsize=6, labelpad=2)
        bars.tick_params(labelsize=5.5, pad=1.5)
        bars.minorticks_off()
        handles.append((drawn, "training clips"))
    for system in systems:
        (line,) = axes.plot(
            ranks, system.average_precision[shown], ".-", color=system.colour, linewidth=0.6, markersize=2
        )
        handles.append((line, system.label))
    if published is not None and published.quality is not None:
        handles += _draw_quality(axes, ranks, published.quality[shown])
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.set_ylabel("AP", fontsize=6, labelpad=2)
    axes.tick_params(axis="y", labelsize=5.5, pad=1.5)
    axes.grid(axis="y", color="0.8", linewidth=0.4, linestyle=(0, (3, 2)))
    _name_classes(axes, ranks, [str(names[index]) for index in shown.tolist()])
    return handles


def _draw_quality(
    axes: "Axes", ranks: Int[np.ndarray, " ranks"], quality: Float[np.ndarray, " ranks"]
) -> list[tuple[Any, str]]:
    known = ~np.isnan(quality)
    style: dict[str, Any] = {"s": 9, "color": _QUALITY, "linewidth": 0.6, "zorder": 5}
    marks = axes.scatter(ranks[known], quality[known], marker="+", **style)
    unknown = axes.scatter(ranks[~known], np.full((~known).sum(), 0.5), marker="_", **style)
    return [(marks, "label quality"), (unknown, "label quality not known")]


def _name_classes(axes: "Axes", ranks: Int[np.ndarray, " ranks"], names: Sequence[str]) -> None:
    """Names every other class below and the others above, so that letters are twice as large as all below could be."""
    axes.set_xticks([])
    above = axes.secondary_xaxis("top")
    for place, half in ((axes, slice(0, None, 2)), (above, slice(1, None, 2))):
        short = [fitted(name, _ROOM, _LETTERS, cut) for name in names[half]]
        place.set_xticks(ranks[half], short, rotation=90, fontsize=_LETTERS)
        place.tick_params(axis="x", length=1.5, width=0.4, pad=1)
        as_typed(place.get_xticklabels())
    axes.vlines(ranks, 0, 1.02, color="0.9", linewidth=0.3, zorder=0)


def _nothing() -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="none")
