"""Which of the statistics at hand are those that a figure of the paper shows."""

import dataclasses
import sys
from collections.abc import Sequence

from panns_jax.plots.recipes import Recipe
from panns_jax.plots.series import Series, StatisticsFile


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A series of a figure.

    Attributes:
      label: as the paper calls it.
      recipe: the experiment.
      paper: mAP at its end, as the paper's tables tell it.
    """

    label: str
    recipe: Recipe
    paper: float


class Choice:
    """Answers from the statistics at hand, the first of those that fit, and remembers which it took.

    Args:
      files: in the order in which they are preferred.
    """

    def __init__(self, files: Sequence[StatisticsFile]) -> None:
        self._files = [file for file in files if file.run is None or file.path.exists()]
        self._read: dict[StatisticsFile, Series] = {}

    def find(self, recipe: Recipe) -> Series | None:
        """The statistics of an experiment, with whatever batch size; None where there are none.

        Raises:
          InputError: the file is damaged.
        """
        fitting = next((file for file in self._files if file.recipe == recipe), None)
        return None if fitting is None else self.read(fitting)

    def first(self) -> Series | None:
        """The first statistics of all; None where there are none."""
        return self.read(self._files[0]) if self._files else None

    def read(self, file: StatisticsFile) -> Series:
        """The series of a file, read once.

        Raises:
          InputError: the file is damaged.
        """
        if file not in self._read:
            self._read[file] = file.read()
        return self._read[file]

    @property
    def taken(self) -> list[Series]:
        """What was read, in that order."""
        return list(self._read.values())

    @property
    def left(self) -> list[StatisticsFile]:
        """What was not taken."""
        return [file for file in self._files if file not in self._read]

    def tell_left(self) -> None:
        """Names the runs that are in no part of the figure, on standard error; published files go without saying."""
        names = [file.name for file in self.left if file.run is not None]
        if names:
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            print(f"not of this figure: {shown}", file=sys.stderr)


def origin(series: Series, recipe: Recipe) -> str:
    """What a legend has to say of a series that was not published: that it is a run of one's own."""
    if series.file.run is None:
        return ""
    batch = series.file.recipe.batch_size if series.file.recipe else recipe.batch_size
    return ", own run" + (f" (batch {batch})" if batch != recipe.batch_size else "")
