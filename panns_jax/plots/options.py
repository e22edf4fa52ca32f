"""`panns-jax plot FIGURE …`: the figures of the paper, and of runs of one's own."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import tyro

from panns_jax.errors import InputError

_From = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FROM...", help_behavior_hint="")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawing:
    """What all figures have."""

    out: Path
    """The figure to write: a .pdf, .png or .svg file."""
    dpi: int = 200
    """Dots per inch of a .png; its size is that of the paper."""

    def run(self) -> int:
        """Draws the figure.

        Raises:
          InputError: what it is drawn from is missing or damaged, or it cannot be written.
        """
        from panns_jax.plots.figure import require_drawable

        require_drawable(self.out, self.dpi)
        told = self.draw()
        print(f"{self.out}: {told}")
        return 0

    def draw(self) -> str:
        """Draws the figure, and tells what is in it."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClasswiseIterationMap(Drawing):
    """Average precision over iterations of the classes ranked 0-9, 250-259 and 517-526 by their number of clips.

    It is that of Wavegram-Logmel-CNN; without its statistics, that of CNN14, of MobileNetV1, or of what there is.
    """

    sources: _From
    """The published folder paper_statistics, workspaces, folders of runs, or files; the first that fit are taken."""

    def draw(self) -> str:
        from panns_jax.plots.classwise_iteration_map import plot_classwise_iteration_map
        from panns_jax.plots.finding import find_statistics

        return plot_classwise_iteration_map(find_statistics(_named(self.sources)), self.out, self.dpi)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SixFigures(Drawing):
    """mAP over iterations: architectures, data and augmentation, embedding, amount of data, sampling rate, mel bins.

    A series without statistics is a dashed line at the mAP of the paper's tables.
    """

    sources: _From
    """The published folder paper_statistics, workspaces, folders of runs, or files; the first that fit are taken."""

    def draw(self) -> str:
        from panns_jax.plots.finding import find_statistics
        from panns_jax.plots.six_figures import plot_six_figures

        return plot_six_figures(find_statistics(_named(self.sources)), self.out, self.dpi)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComplexityMap(Drawing):
    """mAP against operations for a clip of ten seconds: the paper's models, and your runs beside them."""

    sources: _From = ()
    """Workspaces, folders of runs, files, or the published folder paper_statistics; the paper's figures need none."""

    def draw(self) -> str:
        from panns_jax.plots.complexity_map import plot_complexity_map
        from panns_jax.plots.finding import find_statistics

        return plot_complexity_map(find_statistics(self.sources), self.out, self.dpi)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LongFigure(Drawing):
    """All classes in four rows, those with the most clips first: clips, average precision by system, label quality."""

    sources: _From
    """The published folder paper_statistics, workspaces, folders of runs, or files."""

    def draw(self) -> str:
        from panns_jax.plots.finding import find_long_figure_file, find_statistics
        from panns_jax.plots.long_figure import plot_long_figure

        sources = _named(self.sources)
        return plot_long_figure(find_long_figure_file(sources), find_statistics(sources), self.out, self.dpi)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingCurves(Drawing):
    """Training loss and mAP over iterations, of one run or several."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...", help_behavior_hint="")]
    """Folders of runs, such as W/statistics/Cnn14-full_train-balanced-mixup-batch32; a workspace is all its runs."""

    def draw(self) -> str:
        from panns_jax.plots.finding import find_statistics
        from panns_jax.plots.training_curves import plot_training_curves

        return plot_training_curves(find_statistics(_named(self.runs)), self.out, self.dpi)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classwise(Drawing):
    """Average precision of each class of a run, and the best and worst classes by name."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(name="run", metavar="RUN", help_behavior_hint="")]
    """Folder of a run, or a file of statistics."""
    top: int = 15
    """How many of the best classes, and of the worst, are named."""
    iteration: Annotated[
        int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: that of the best mAP)")
    ] = None
    """The evaluation that is shown."""

    def draw(self) -> str:
        from panns_jax.plots.classwise import plot_classwise
        from panns_jax.plots.finding import one_run

        _require_positive(self.top)
        run = one_run(self.source, "RUN")
        return plot_classwise(run, self.out, self.dpi, top=self.top, iteration=self.iteration)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compare(Drawing):
    """Two runs: mAP over iterations, and class by class where each is best."""

    a: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="A", help_behavior_hint="")]
    """Folder of a run, or a file of statistics."""
    b: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="B", help_behavior_hint="")]
    """Another one, of the same classes."""
    top: int = 12
    """How many of the classes that B knows better, and of those that it knows worse, are named."""

    def draw(self) -> str:
        from panns_jax.plots.compare import plot_compare
        from panns_jax.plots.finding import one_run

        _require_positive(self.top)
        return plot_compare(one_run(self.a, "A"), one_run(self.b, "B"), self.out, self.dpi, top=self.top)


FIGURES: Mapping[str, tuple[type[Drawing], str]] = {
    "classwise-iteration-map": (ClasswiseIterationMap, "AP of frequent, middling and rare classes over iterations"),
    "six-figures": (SixFigures, "mAP over iterations, compared in six ways"),
    "complexity-map": (ComplexityMap, "mAP against operations"),
    "long-figure": (LongFigure, "AP of all classes"),
    "training-curves": (TrainingCurves, "loss and mAP of runs"),
    "classwise": (Classwise, "AP of the classes of a run"),
    "compare": (Compare, "two runs, class by class"),
}
_ALSO = {"long-fig": "long-figure", "complexity-map-figure": "complexity-map", "curves": "training-curves"}


class Plot:
    """Draws a figure, which is named first."""

    @staticmethod
    def parse(arguments: Sequence[str], *, prog: str) -> Drawing:
        """Reads the options of the figure that the first argument names, as the published script does or nearly so.

        Raises:
          InputError: no figure is named, or one that there is not.
        """
        if arguments and arguments[0] in ("-h", "--help"):
            print(_help(prog))
            raise SystemExit(0)
        if not arguments or arguments[0].startswith("-"):
            raise InputError(f"name a figure: {', '.join(FIGURES)}")
        typed, *rest = arguments
        name = typed.lower().replace("_", "-").removeprefix("plot-")
        name = _ALSO.get(name, name)
        if name not in FIGURES:
            near = difflib.get_close_matches(name, FIGURES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(FIGURES)}"
            raise InputError(f"there is no figure {typed!r}; {hint}")
        return tyro.cli(FIGURES[name][0], args=rest, prog=f"{prog} {name}")


def _help(prog: str) -> str:
    width = max(map(len, FIGURES))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in FIGURES.items()]
    return "\n".join(
        [
            f"usage: {prog} FIGURE [FROM...] --out X.pdf",
            "",
            "The figures of the paper, from the published folder paper_statistics or from runs of your own, in any",
            "mixture; and the last three of runs of your own.",
            "",
            "figures:",
            *lines,
            "",
            f"{prog} FIGURE --help tells a figure's options.",
        ]
    )


def _named(sources: Sequence[Path]) -> Sequence[Path]:
    if not sources:
        raise InputError("name what is to be drawn: the published folder paper_statistics, a workspace, or runs")
    return sources


def _require_positive(top: int) -> None:
    if top < 1:
        raise InputError(f"--top must be at least 1, not {top}")
