"""The paper's map of complexity: mAP against operations for a clip of ten seconds, families joined by lines."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from panns_jax.errors import InputError
from panns_jax.plots.beside import name_marks
from panns_jax.plots.choosing import Choice
from panns_jax.plots.figure import (
    COLOURS,
    COLUMN,
    LEGEND_LINE,
    LEGEND_SIZE,
    drawn_to,
    legend_below,
    light_grid,
)
from panns_jax.plots.finding import saved_options
from panns_jax.plots.names import told_apart
from panns_jax.plots.recipes import Recipe
from panns_jax.plots.series import Series, StatisticsFile
from panns_jax.pretrained.paper import FIGURES

FAMILIES = (
    ("Cnn6", "Cnn10", "Cnn14"),
    ("ResNet22", "ResNet38", "ResNet54"),
    ("MobileNetV1", "MobileNetV2"),
    ("DaiNet19",),
    ("LeeNet11", "LeeNet24"),
    ("Res1dNet31", "Res1dNet51"),
    ("Wavegram_Cnn14", "Wavegram_Logmel_Cnn14"),
)
"""Models that a line joins."""
_NAMES = {"Wavegram_Cnn14": "Wavegram-CNN", "Wavegram_Logmel_Cnn14": "Wavegram-\nLogmel-CNN"}
_OWN = "#000000"
_ROOM = 190
"""For names in the legend, points."""


@dataclasses.dataclass(frozen=True)
class _Result:
    """A measured mAP, of a model that takes so many 10⁹ operations."""

    name: str
    operations: float
    score: float
    own: bool


def plot_complexity_map(files: Sequence[StatisticsFile], out: Path, dpi: int) -> str:
    """Draws the models of the paper with its figures, and beside them what was measured here.

    Args:
      files: statistics of runs, each of which is drawn at its best mAP; of published ones, those of the paper's models
        trained as published. May be empty.
      out: the figure.
      dpi: dots per inch.

    Returns:
      What was drawn, in a line.

    Raises:
      InputError: a file is damaged, or the figure cannot be written.
    """
    choice = Choice(files)
    results = [result for file in files if file.path.exists() and (result := _measured(choice, file)) is not None]
    choice.tell_left()
    own = [result for result in results if result.own]
    published = [result for result in results if not result.own]
    room = 0.15 + LEGEND_LINE * (1 + bool(published) + len(own))
    with drawn_to(out, COLUMN, 2.9 + room, dpi) as figure:
        figure.get_layout_engine().set(rect=(0, room / (2.9 + room), 1, 2.9 / (2.9 + room)))
        axes = figure.subplots()
        _set_limits(axes, results)
        entries = []
        for colour, family in zip(COLOURS, FAMILIES, strict=False):
            (line,) = axes.plot(
                *zip(*map(_place, family), strict=True), "o-", color=colour, markersize=3, linewidth=0.8
            )
            entries = entries or [(line, "mAP in the paper; lines join families")]
        if published:
            found = axes.plot(
                *_columns(published), "D", color="0.3", markersize=5, fillstyle="none", markeredgewidth=0.6
            )
            entries.append((found[0], "published statistics, best evaluation"))
        names = told_apart([result.name for result in own], _ROOM - 60, LEGEND_SIZE)
        for number, (result, name) in enumerate(zip(own, names, strict=True), 1):
            found = axes.plot([result.operations], [result.score], "*", color=_OWN, markersize=5.5)
            entries.append((found[0], f"{number}: {name}, mAP {_told(result.score)}"))
        legend_below(axes, entries, width=2 * _ROOM, offset=26, in_layout=False)
        figure.draw_without_rendering()  # places are asked for
        models = [(*_place(model), _NAMES.get(model, model)) for family in FAMILIES for model in family]
        numbers = [(result.operations, result.score, str(number)) for number, result in enumerate(own, 1)]
        others = [(result.operations, result.score) for result in published]
        lines = [list(map(_place, family)) for family in FAMILIES]
        name_marks(axes, [*numbers, *models], others=others, lines=lines, fontsize=6)
    return f"the paper's {sum(map(len, FAMILIES))} models, {len(own)} own runs, {len(published)} published statistics"


def _set_limits(axes: Any, results: Sequence[_Result]) -> None:
    scores = [0.2, 0.5, *(result.score for result in results)]
    operations = [70.0, *(1.1 * result.operations for result in results)]
    axes.set_xlim(0, max(operations))
    lowest, top = min(scores), max(scores)
    axes.set_ylim(0.2 if lowest == 0.2 else max(0.0, lowest - 0.03), 0.5 if top == 0.5 else min(1.02, top + 0.03))
    axes.set_xlabel("10⁹ operations for a clip of 10 s (a multiply-add is two)", labelpad=2)
    axes.set_ylabel("mAP", labelpad=2)
    light_grid(axes)


def _place(model: str) -> tuple[float, float]:
    figures = FIGURES[model]
    assert figures.giga_operations is not None
    return figures.giga_operations, figures.mean_average_precision


def _columns(results: Sequence[_Result]) -> tuple[list[float], list[float]]:
    return [result.operations for result in results], [result.score for result in results]


def _measured(choice: Choice, file: StatisticsFile) -> _Result | None:
    """The result of a file; None where it is a published one of no model on the map."""
    own = file.run is not None
    if not own and (file.recipe is None or file.recipe != Recipe(file.recipe.model)):
        return None
    model = saved_options(file.run).get("model_type") if file.run else file.recipe and file.recipe.model
    if not own and model not in {name for family in FAMILIES for name in family}:
        return None
    if not isinstance(model, str):
        raise InputError(f"{file.path}: there is no configuration of this run that tells its model")
    series = choice.read(file)
    score = float(series.test.mean_average_precision[series.test.best])
    if score != score:
        return None
    return _Result(file.name, _operations(model, series), score, own)


def _operations(model: str, series: Series) -> float:
    """10⁹ operations: the paper's where it counts the model as it is, else computed from the model."""
    if series.file.recipe == Recipe(model) and model in FIGURES and (known := FIGURES[model].giga_operations):
        return known
    from panns_jax.frontend import FrontendConfig
    from panns_jax.models.registry import model_config
    from panns_jax.models.summary import summary

    config = model_config(model).with_classes(series.classes)
    options = saved_options(series.file.run) if series.file.run else {}
    settings = {field.name: options.get(field.name) for field in dataclasses.fields(FrontendConfig)}
    known = {name: value for name, value in settings.items() if value is not None}
    frontend = dataclasses.replace(config.frontend, **known)
    return summary(dataclasses.replace(config, frontend=frontend)).operations / 1e9


def _told(score: float) -> str:
    return f"{score:.3f}".removeprefix("0")
