"""Figures of a fine-tuning: losses and scores over the epochs, and which classes are taken for which."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curves = Mapping[str, Sequence[float | None]]
# Classes up to which the cells of a confusion matrix have their number written in them.
_NUMBERED = 20


def curves(losses: Curves, scores: Curves, *, score: str, best: int) -> "Figure":
    """Losses, and beside them scores where there are some, over the epochs.

    Args:
      losses: of each epoch, by name.
      scores: likewise; None where there is none.
      score: what they are called.
      best: the epoch that was kept, counted from 1.
    """
    from matplotlib.figure import Figure

    scores = {name: values for name, values in scores.items() if any(value is not None for value in values)}
    figure = Figure(figsize=(9 if scores else 5, 3.2), layout="constrained")
    axes = figure.subplots(1, 2 if scores else 1, squeeze=False)[0]
    _curves(axes[0], losses, "loss", best)
    if scores:
        _curves(axes[1], scores, score, best)
        axes[1].set_ylim(-0.02, 1.02)
    return figure


def _curves(axes: "Axes", given: Curves, label: str, best: int) -> None:
    from matplotlib.ticker import MaxNLocator

    for name, values in given.items():
        if any(value is not None for value in values):
            numbers = [np.nan if value is None else value for value in values]
            axes.plot(np.arange(1, len(values) + 1), numbers, label=name, marker="o" if len(values) == 1 else None)
    axes.axvline(best, color="grey", linestyle=":", label=f"epoch {best}, kept")
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize="small")


def confusion(matrix: Int[np.ndarray, "classes classes"], names: Sequence[str]) -> "Figure":
    """Which share of the clips of each class (row) was taken for each class (column).

    Args:
      matrix: number of clips.
      names: of the classes.
    """
    from matplotlib.figure import Figure

    count = len(names)
    shares: Float[np.ndarray, "classes classes"] = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = min(16.0, max(4.0, 1.8 + 0.42 * count if count <= _NUMBERED else 3 + 0.2 * count))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    shown = [name if len(name) <= 24 else f"{name[:23]}…" for name in names]
    size = 9 if count <= _NUMBERED else max(4, 9 - count / 15)
    axes.set_xticks(range(count), shown, rotation=90, fontsize=size)
    axes.set_yticks(range(count), shown, fontsize=size)
    axes.set_xlabel("taken for")
    axes.set_ylabel("class")
    if count <= _NUMBERED:
        for row in range(count):
            for column in range(count):
                if matrix[row, column]:
                    colour = "white" if shares[row, column] > 0.6 else "black"
                    axes.text(
                        column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=size
                    )
    figure.colorbar(image, ax=axes, label="share of the class", shrink=0.7)
    return figure
