"""The paper's six comparisons: mAP over iterations by architecture, data, embedding, sampling rate and mel bins."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panns_jax.errors import InputError
from panns_jax.plots.choosing import Choice, Wanted, origin
from panns_jax.plots.figure import (
    COLOURS,
    LEGEND_LINE,
    PAGE,
    draw_scores,
    drawn_to,
    highest,
    iterations_told,
    legend_below,
    mark_iterations,
)
from panns_jax.plots.recipes import Recipe
from panns_jax.plots.series import Curve, Series, StatisticsFile
from panns_jax.pretrained.paper import FIGURES
from panns_jax.train.paper.published import ABLATIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LAST = 540_000
"""The last iteration that the paper shows."""
_CEILING = 0.8
_ROOM = 122
"""For names in the legends, points."""
_MISSING = "; dashed: no statistics, the paper's last mAP"
_RED, _BLUE, _GREEN, _PINK, _ORANGE, _BLACK = COLOURS[:6]


@dataclasses.dataclass(frozen=True)
class Panel:
    """One of the six.

    Attributes:
      title: of the panel.
      wanted: the series, each with its colour.
    """

    title: str
    wanted: tuple[tuple[Wanted, str], ...]


def _of(label: str, paper: float, **recipe: Any) -> Wanted:
    return Wanted(label, Recipe(**recipe), paper)


_PRESETS = {row.preset: row.figures for rows in ABLATIONS.values() for row in rows if row.preset}
_SCORE = {name: figures.mean_average_precision for name, figures in {**_PRESETS, **FIGURES}.items()}
"""The paper's mAP, by model and by preset."""
_CNN14 = _SCORE["Cnn14"]
_20K = "balanced_train"
PANELS = (
    Panel(
        "(a) Architectures",
        (
            (_of("Wavegram-Logmel-CNN", _SCORE["Wavegram_Logmel_Cnn14"], model="Wavegram_Logmel_Cnn14"), _GREEN),
            (_of("CNN14", _CNN14), _RED),
            (_of("MobileNetV1", _SCORE["MobileNetV1"], model="MobileNetV1"), _BLUE),
        ),
    ),
    Panel(
        "(b) Training data and augmentation",
        (
            (_of("CNN14, bal, mixup (1.9M)", _CNN14), _RED),
            (
                _of("CNN14, bal, mixup-wav (1.9M)", _SCORE["Cnn14_mixup_time_domain"], mixup="mixup_timedomain"),
                _ORANGE,
            ),
            (_of("CNN14, bal, no mixup (1.9M)", _SCORE["cnn14_balanced"], mixup="none"), _GREEN),
            (_of("CNN14, no bal, no mixup (1.9M)", _SCORE["cnn14_plain"], balanced="none", mixup="none"), _BLUE),
            (_of("CNN14, bal, mixup (20k)", _SCORE["cnn14_20k_mixup"], data=_20K), _PINK),
            (_of("CNN14, bal, no mixup (20k)", _SCORE["cnn14_20k_balanced"], data=_20K, mixup="none"), _BLACK),
        ),
    ),
    Panel(
        "(c) Embedding size",
        (
            (_of("CNN14, embedding 2048", _CNN14), _RED),
            (_of("CNN14, embedding 128", _SCORE["Cnn14_emb128"], model="Cnn14_emb128"), _GREEN),
            (_of("CNN14, embedding 32", _SCORE["Cnn14_emb32"], model="Cnn14_emb32"), _BLUE),
        ),
    ),
    Panel(
        "(d) Amount of training data",
        (
            (_of("CNN14, 100 % of full", _CNN14), _RED),
            (_of("CNN14, 80 % of full", _SCORE["cnn14_data80"], data="0.8full_train"), _BLUE),
            (_of("CNN14, 50 % of full", _SCORE["cnn14_data50"], data="0.5full_train"), _GREEN),
        ),
    ),
    Panel(
        "(e) Sampling rate",
        (
            (_of("CNN14, 32 kHz", _CNN14), _RED),
            (_of("CNN14, 16 kHz", _SCORE["Cnn14_16k"], sample_rate=16000), _BLUE),
            (_of("CNN14, 8 kHz", _SCORE["Cnn14_8k"], sample_rate=8000), _GREEN),
        ),
    ),
    Panel(
        "(f) Mel bins",
        (
            (_of("CNN14, 128 mel bins", _SCORE["Cnn14_mel128"], mel_bins=128), _GREEN),
            (_of("CNN14, 64 mel bins", _CNN14), _RED),
            (_of("CNN14, 32 mel bins", _SCORE["Cnn14_mel32"], mel_bins=32), _BLUE),
        ),
    ),
)


def plot_six_figures(files: Sequence[StatisticsFile], out: Path, dpi: int) -> str:
    """Draws the figure; a series that there are no statistics of is a dashed line at the mAP of the paper's tables.

    Args:
      files: the statistics at hand, in the order in which they are preferred.
      out: the figure.
      dpi: dots per inch.

    Returns:
      What was drawn, in a line.

    Raises:
      InputError: a file is damaged, none of them is of the figure, or it cannot be written.
    """
    choice = Choice(files)
    found = {wanted.recipe: choice.find(wanted.recipe) for panel in PANELS for wanted, _ in panel.wanted}
    drawn = [series for series in found.values() if series is not None]
    if not drawn:
        raise InputError(
            f"none of the statistics is of an experiment of this figure, such as {PANELS[0].wanted[1][0].label} on all"
            " of AudioSet; panns-jax plot training-curves draws runs of any kind"
        )
    choice.tell_left()
    missing = len(drawn) < len(found)
    last = min(LAST, max(int(curve.iterations[-1]) for curve in _curves(drawn)))
    ceiling = _CEILING if highest([series.test for series in drawn]) <= _CEILING else 1.0
    with drawn_to(out, PAGE, 5.3, dpi) as figure:
        longer = []
        for axes, panel in zip(figure.subplots(2, 3).flat, PANELS, strict=True):
            axes.set_title(panel.title, pad=5)
            axes.set_ylim(0, ceiling)
            axes.set_ylabel("mAP", labelpad=2)
            mark_iterations(axes, last)
            entries = [_draw(axes, *item, found[item[0].recipe], last) for item in panel.wanted]
            longer.append(legend_below(axes, entries, width=_ROOM))
        figure.set_figheight(figure.get_figheight() + LEGEND_LINE * (max(longer[:3]) + max(longer[3:])))
        figure.supxlabel(f"Solid: evaluation set; faint: balanced training set{_MISSING * missing}", fontsize=6.5)
    return f"{len(drawn)} of {len(found)} series from statistics" + ", the others by their mAP in the paper" * missing


def _curves(drawn: Sequence[Series]) -> list[Curve]:
    return [curve for series in drawn for curve in (series.bal, series.test) if curve is not None]


def _draw(axes: "Axes", wanted: Wanted, colour: str, series: Series | None, last: int) -> tuple[Any, str]:
    """Draws one series.

    Returns:
      Its entry of the legend.
    """
    if series is None:
        line = axes.axhline(wanted.paper, color=colour, linestyle=(0, (4, 2)), linewidth=0.7)
        return line, f"{wanted.label}, paper's mAP {_told(wanted.paper)}"
    line = draw_scores(axes, series, {"color": colour})
    end = int(series.test.iterations[-1])
    notes = f", to {iterations_told(end)}" if end < last else ""
    notes += ", evaluation set alone" if series.bal is None else ""
    return line, f"{wanted.label}{origin(series, wanted.recipe)}{notes}"


def _told(score: float) -> str:
    return f"{score:.3f}".removeprefix("0")
