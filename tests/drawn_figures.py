"""What the tests of figures share: statistics of runs, and what lies on what in a figure."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.text import Text

from panns_jax.train.log import LOG
from panns_jax.train.metrics import Scores
from panns_jax.train.runs import Run
from panns_jax.train.statistics import Statistics

OPTIONS = {
    "model_type": "Cnn14",
    "data_type": "full_train",
    "data_fraction": 1.0,
    "balanced": "balanced",
    "augmentation": "mixup",
    "batch_size": 32,
    "sample_rate": 32000,
    "window_size": 1024,
    "hop_size": 320,
    "mel_bins": 64,
    "fmin": 50,
    "fmax": 14000,
}
"""Of a run of Cnn14 as published."""


def make_run(
    workspace: Path,
    name: str,
    *,
    iterations: tuple[int, ...] = (0, 2000, 4000),
    classes: int = 527,
    rise: float = 0.1,
    losses: int = 0,
    none: tuple[int, ...] = (),
    **options: Any,
) -> Path:
    """A run as training leaves it, whose mAP rises with each evaluation.

    Args:
      workspace: its workspace.
      name: of the run.
      iterations: of the evaluations.
      classes: of the model.
      rise: of the mAP from one evaluation to the next.
      losses: how many steps the log tells.
      none: classes without clips to score.
      options: that differ from `OPTIONS`.

    Returns:
      The folder of its statistics.
    """
    run = Run(workspace, name)
    run.create({**OPTIONS, **options})
    statistics = Statistics(run.statistics, until=None)
    rng = np.random.default_rng(0)
    positives = np.ones(classes, int)
    for number, iteration in enumerate(iterations):
        precision = np.clip(rng.uniform(0, 0.2, classes) + rise * number, 0, 1)
        precision[list(none)] = np.nan
        scores = Scores(10, positives, precision, precision)
        seen = Scores(10, positives, np.minimum(precision + 0.1, 1), precision)
        statistics.add(iteration, {"bal": seen, "test": scores})
    lines = [{"kind": "step", "iteration": i, "loss": 0.7 / (i + 1) + 0.01} for i in range(losses)]
    (run.logs / LOG).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run.statistics


def texts_of(figure: Any) -> dict[Text, Any]:
    """The texts that can be seen in a figure, and where they were when this was first asked, in pixels.

    The fixture `saved` asks as soon as a figure is saved, since ticks are chosen anew under other settings.
    """
    if not hasattr(figure, "texts_seen"):
        figure.texts_seen = _texts(figure)
    return figure.texts_seen


def _texts(figure: Any) -> dict[Text, Any]:
    renderer = figure.canvas.get_renderer() if hasattr(figure.canvas, "get_renderer") else figure._get_renderer()
    seen: dict[Text, Any] = {}
    for text in _seen(figure):
        box = text.get_window_extent(renderer)
        if text.get_text().strip() and box.width and box.height:
            seen[text] = box
    return seen


def _seen(artist: Artist) -> list[Text]:
    """All texts below an artist that are drawn: an axis holds more tick labels than it shows."""
    if not artist.get_visible():
        return []
    if isinstance(artist, Text):
        return [artist]
    if isinstance(artist, Axes) and not artist.axison:
        return [artist.title]
    if isinstance(artist, Axis):
        ticks: Any = artist._update_ticks()  # pyright: ignore[reportAttributeAccessIssue]
        labels = [label for tick in ticks for label in (tick.label1, tick.label2)]
        return [label for label in [*labels, artist.label, artist.offsetText] if label.get_visible()]
    return [text for child in artist.get_children() for text in _seen(child)]


def overlapping(figure: Any) -> list[tuple[str, str]]:
    """Pairs of texts of which one lies on the other."""
    seen = texts_of(figure)
    texts = [text.get_text() for text in seen]
    # The boxes of letters have edges of their own, of which a part of a pixel may be shared.
    left, below, right, above = np.array([box.padded(-0.75).extents for box in seen.values()]).T
    beside = np.minimum.outer(right, right) > np.maximum.outer(left, left)
    level = np.minimum.outer(above, above) > np.maximum.outer(below, below)
    return [(texts[a], texts[b]) for a, b in zip(*np.nonzero(np.triu(beside & level, 1)), strict=True)]


def outside(figure: Any) -> list[str]:
    """Texts that are cut off by the edge of the figure."""
    width, height = figure.bbox.width, figure.bbox.height
    return [
        text.get_text()
        for text, box in texts_of(figure).items()
        if box.x0 < -0.5 or box.y0 < -0.5 or box.x1 > width + 0.5 or box.y1 > height + 0.5
    ]


def legend_of(axes: Any) -> list[str]:
    """The entries of a legend, of however many lines each."""
    return [text.get_text().replace("\n", " ") for text in axes.get_legend().get_texts()]
