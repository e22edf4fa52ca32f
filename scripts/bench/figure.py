"""The README's figure: time per clip of ten seconds, by model and engine, from the figures that engines.py wrote.

python scripts/bench/figure.py FIGURES.json FIGURE.png
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import common
from table import OURS, duration

_CLIP = 10
# Colour, mark and its area. Colour-blind readers tell them apart, too (Okabe's and Ito's palette).
_STYLES = {
    "PyTorch": ("#0072B2", "s", 40),
    "ONNX Runtime": ("#009E73", "D", 40),
    "OpenVINO": ("#56B4E9", "v", 50),
    "OpenVINO bf16": ("#56B4E9", "^", 50),
    f"{OURS} plain": ("#E69F00", "o", 50),
    f"{OURS} bf16": ("#D55E00", "^", 80),
    OURS: ("#D55E00", "o", 80),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path, metavar="FIGURES.json", help="what engines.py --json wrote")
    parser.add_argument("out", type=Path, metavar="FIGURE.png")
    options = parser.parse_args()
    common.require("matplotlib")
    try:
        contents = json.loads(options.figures.read_text(encoding="utf-8"))
        draw(contents["machine"], contents["figures"], options.out)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{options.figures}: no figures of engines.py: {error}", file=sys.stderr)
        sys.exit(2)


def draw(machine: Mapping[str, Any], figures: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Draws one line per case, with a mark for each engine.

    Args:
      machine: of `machine.describe`.
      figures: of `table.Row.to_json`; those that are not of whole models are passed over.
      out: the file to write.

    Raises:
      ValueError: no figure is of a whole model.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # pyright: ignore[reportMissingImports]
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]

    times = per_clip(figures)
    if not times:
        raise ValueError("none is of a whole model")
    figure = Figure(figsize=(9, 2 + 0.36 * len(times)), layout="constrained")
    _mark(figure.add_subplot(), times)
    figure.suptitle("Time per clip of ten seconds; the further left, the faster")
    sets = ", ".join(machine["instruction_sets"])
    figure.supxlabel(
        f"{machine['processor']}, {machine['cores']} cores\n{sets}\nallocator: {machine['allocator']}", fontsize=8
    )
    FigureCanvasAgg(figure).print_png(out)


def _mark(axes: Any, times: Mapping[str, Mapping[str, float]]) -> None:
    """A row for each case, the first at the top; a mark for each engine, and our time in figures."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # pyright: ignore[reportMissingImports]

    cases = list(times)
    for place, case in enumerate(cases):
        taken = times[case].values()
        axes.plot([1000 * min(taken), 1000 * max(taken)], [place, place], color="0.85", linewidth=2, zorder=1)
    for engine, (color, marker, size) in _STYLES.items():
        places = [place for place, case in enumerate(cases) if engine in times[case]]
        values = [1000 * times[cases[place]][engine] for place in places]
        if places:
            axes.scatter(values, places, s=size, color=color, marker=marker, label=engine, zorder=2 + size)
    for place, case in enumerate(cases):
        if OURS in times[case]:
            text = duration(times[case][OURS])
            axes.annotate(text, (1.01, place), xycoords=("axes fraction", "data"), va="center", color=_STYLES[OURS][0])
    axes.set_yticks(range(len(cases)), cases)
    axes.set_ylim(len(cases) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.tick_params(axis="x", labelsize=8)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:g} ms" if ms < 1000 else f"{ms / 1000:g} s"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4, frameon=False, reverse=True)


def per_clip(figures: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Median seconds for ten seconds of sound, by case and engine; one clip of ten seconds goes without saying."""
    times: dict[str, dict[str, float]] = {}
    for row in figures:
        if "model" not in row:
            continue
        batch, seconds = row["batch"], row["clip_seconds"]
        case = ", ".join(
            [row["model"], *[f"batch {batch}"] * (batch > 1), *[f"clips of {seconds:g} s"] * (seconds != _CLIP)]
        )
        times.setdefault(case, {})[row["engine"]] = row["median"] / batch * _CLIP / seconds
    return times


if __name__ == "__main__":
    main()
