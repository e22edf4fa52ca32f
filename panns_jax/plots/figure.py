"""What all figures of scores share: size, letters, colours, legends, axes of iterations, and how they are written."""

import contextlib
import itertools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panns_jax.errors import InputError, require_extra
from panns_jax.files import require_parent, written_aside
from panns_jax.plots.names import as_typed, wrapped
from panns_jax.plots.series import Curve, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".pdf", ".png", ".svg")
PAGE, COLUMN = 7.16, 3.5
"""Widths of the paper's page and of one of its two columns, inches; figures are drawn as large as they are printed."""
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#000000", "#56b4e9", "#8b5a2b", "#7f7f7f", "#6a3d9a")
"""Told apart by colour-blind readers, the first seven (Okabe's and Ito's palette)."""
FAINT = 0.35
"""Opacity of what is not the evaluation set."""
_DASHES = ("-", (0, (4, 1.2)), (0, (1, 1)))
LEGEND_SIZE = 6
LEGEND_LINE = 0.108
"""Letters of legends, points, and height of a line of them, inches."""
_STYLE = {
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": LEGEND_SIZE,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 0.9,
    "pdf.fonttype": 42,  # letters that publishers accept
    "svg.hashsalt": "panns_jax",
}


def require_drawable(out: Path, dpi: int) -> None:
    """Checks before any work that a figure can be drawn and written.

    Raises:
      InputError: matplotlib is missing, the name ends in no format, or its folder is missing.
    """
    require_extra("panns-jax plot", "plots", "matplotlib")
    if out.suffix.lower() not in FORMATS:
        raise InputError(f"--out {out}: a figure ends in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if not 50 <= dpi <= 1200:
        raise InputError(f"--dpi must be from 50 to 1200, not {dpi}")
    require_parent(out)


@contextlib.contextmanager
def drawn_to(out: Path, width: float, height: float, dpi: int) -> Iterator[Any]:
    """Yields an empty figure; it is written when the block ends, and nothing is where that raises.

    Args:
      out: the file, in the format of its ending.
      width: inches.
      height: inches.
      dpi: dots per inch, where the format has dots.

    Raises:
      InputError: the file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        for name, value in _STYLE.items():
            mpl.rcParams[name] = value  # pyright: ignore[reportArgumentType]
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # names may hold any letters
        figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
        yield figure
        format = out.suffix[1:].lower()
        dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(format)
        with written_aside(out) as aside:
            figure.savefig(aside, format=format, dpi=dpi, metadata=dates)


def line_styles(number: int) -> list[dict[str, Any]]:
    """As many ways to draw a line as are asked for, all different up to thirty."""
    ways = itertools.islice(itertools.cycle(itertools.product(_DASHES, COLOURS)), number)
    return [{"color": colour, "linestyle": dashes} for dashes, colour in ways]


def draw_scores(axes: "Axes", series: Series, style: dict[str, Any]) -> Any:
    """Draws mAP over iterations, faint on the balanced training set and solid on the evaluation set.

    Returns:
      The solid line, for a legend.
    """
    if series.bal is not None:
        draw_line(axes, series.bal, series.bal.mean_average_precision, {**style, "alpha": FAINT})
    return draw_line(axes, series.test, series.test.mean_average_precision, style)


def draw_line(axes: "Axes", curve: Curve, scores: Any, style: dict[str, Any]) -> Any:
    """Draws one score of each evaluation; those are marked where they are few, as a line of one is none."""
    marker = "." if len(curve.iterations) <= 12 else None
    (line,) = axes.plot(curve.iterations, scores, marker=marker, markersize=3, **style)
    return line


def mark_iterations(axes: "Axes", last: int) -> None:
    """Makes an axis of iterations from 0 to `last`."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_xlim(0, max(last, 1))
    axes.margins(x=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: iterations_told(round(value))))
    axes.set_xlabel("Iterations", labelpad=1.5)
    light_grid(axes)


def light_grid(axes: "Axes") -> None:
    axes.grid(color="0.85", linewidth=0.4)
    axes.set_axisbelow(True)


def iterations_told(iterations: int) -> str:
    """Such as 600k."""
    if iterations >= 1_000_000:
        return f"{iterations / 1e6:g}M"
    return f"{iterations / 1000:g}k" if iterations >= 1000 else str(iterations)


def legend_below(
    axes: "Axes",
    entries: Sequence[tuple[Any, str]],
    *,
    width: float,
    offset: float = 24,
    in_layout: bool = True,
    **options: Any,
) -> int:
    """Lists what is drawn below an axes, where it hides none of it.

    Args:
      axes: the axes.
      entries: what is drawn, and how it is called.
      width: of the room for a name, points; longer ones go on in the next line, after a comma.
      offset: from the axes to the legend, points.
      in_layout: whether the axes make room for it; else the figure has to.
      options: of matplotlib's legend.

    Returns:
      How many lines it takes beyond one for each entry.
    """
    from matplotlib.transforms import ScaledTranslation

    down = ScaledTranslation(0, -offset / 72, axes.figure.dpi_scale_trans)
    labels = [wrapped(label, width, LEGEND_SIZE) for _, label in entries]
    legend = axes.legend(
        [handle for handle, _ in entries],
        [f" {label}" if label.startswith("_") else label for label in labels],  # which would hide it
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=axes.transAxes + down,
        **_COMPACT,
        **options,
    )
    as_typed(legend.get_texts())
    legend.set_in_layout(in_layout)
    return sum(label.count("\n") for label in labels)


_COMPACT: dict[str, Any] = {
    "frameon": False,
    "borderaxespad": 0,
    "borderpad": 0,
    "labelspacing": 0.22,
    "handlelength": 1.8,
    "handletextpad": 0.5,
    "columnspacing": 1.2,
}


def highest(curves: Sequence[Curve]) -> float:
    """The highest mAP of all; 0 where there is none."""
    return max((float(np.nan_to_num(curve.mean_average_precision).max()) for curve in curves), default=0.0)
