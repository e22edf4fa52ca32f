"""Average precision over iterations, from the files that the published training and ours leave behind."""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from panns_jax.errors import InputError
from panns_jax.plots.recipes import Recipe
from panns_jax.pretrained.plain import read_plain_pickle
from panns_jax.train.runs import Run
from panns_jax.train.statistics import read_statistics

EVALUATED_EVERY = 2000
"""Iterations between evaluations in the paper, for files that do not tell them."""


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """The scores on one set of clips, over iterations.

    Attributes:
      iterations: ascending; at least one.
      average_precision: of each class, in [0, 1]; NaN where a class has no clips.
    """

    iterations: Int[np.ndarray, " evaluations"]
    average_precision: Float[np.ndarray, "evaluations classes"]

    @property
    def mean_average_precision(self) -> Float[np.ndarray, " evaluations"]:
        """mAP, over the classes that have clips; NaN where none has."""
        known = ~np.isnan(self.average_precision)
        total = np.where(known, self.average_precision, 0).sum(axis=1)
        return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)

    @property
    def best(self) -> int:
        """Which evaluation has the highest mAP; the last where none has one."""
        scores = self.mean_average_precision
        return len(scores) - 1 if np.isnan(scores).all() else int(np.nanargmax(scores))


@dataclasses.dataclass(frozen=True)
class StatisticsFile:
    """A file of statistics, or the place for that of a run which has not been scored yet.

    Attributes:
      name: of the run, or of the file.
      path: the file.
      recipe: the experiment that it is of; None where that cannot be told.
      run: the run of ours that it belongs to; None for files on their own, such as the published ones.
    """

    name: str
    path: Path
    recipe: Recipe | None = None
    run: Run | None = None

    def read(self) -> "Series":
        """Reads the file, of which nothing is run.

        Raises:
          InputError: it is missing, damaged, or holds no scores on the evaluation set.
        """
        if self.run is not None and not self.path.exists():
            raise InputError(f"{self.path}: there is no such file; the run {self.name} has not been scored yet")
        if self.path.suffix == ".npz":
            container: object = read_statistics(self.path)
        else:
            container = read_plain_pickle(self.path, "a statistics file")
        if not isinstance(container, dict):
            raise InputError(f'{self.path}: is no statistics file: it has no list "test" of evaluations')
        curves = {part: _curve(self.path, part, container.get(part)) for part in ("bal", "test")}
        test = curves["test"]
        if test is None:
            raise InputError(f'{self.path}: has no list "test" of evaluations, the scores on the evaluation set')
        classes = {curve.average_precision.shape[1] for curve in curves.values() if curve is not None}
        if len(classes) > 1:
            raise InputError(f'{self.path}: is damaged: "bal" and "test" are of different numbers of classes')
        return Series(self, curves["bal"], test)


@dataclasses.dataclass(frozen=True, eq=False)
class Series:
    """The scores of a run over its iterations.

    Attributes:
      file: where they were read.
      bal: on the balanced training set; None where the file has none.
      test: on the evaluation set.
    """

    file: StatisticsFile
    bal: Curve | None
    test: Curve

    @property
    def classes(self) -> int:
        """How many there are."""
        return self.test.average_precision.shape[1]


def _curve(path: Path, part: str, entries: object) -> Curve | None:
    """The evaluations of one set of clips; None where there are none."""
    if entries is None or (isinstance(entries, list) and not entries):
        return None
    if not isinstance(entries, list):
        raise InputError(f'{path}: is no statistics file: "{part}" is no list of evaluations')
    rows: dict[int, Float[np.ndarray, " classes"]] = {}
    for number, entry in enumerate(entries):
        where = f'{path}: evaluation {number} of "{part}"'
        if not isinstance(entry, dict) or "average_precision" not in entry:
            raise InputError(f'{where} has no "average_precision"')
        rows[_iteration(where, entry, number)] = scores_of_classes(entry["average_precision"], where)
    if len({len(row) for row in rows.values()}) > 1:
        raise InputError(f'{path}: is damaged: the evaluations of "{part}" are of different numbers of classes')
    iterations = sorted(rows)
    return Curve(np.array(iterations), np.stack([rows[iteration] for iteration in iterations]))


def _iteration(where: str, entry: dict[object, object], number: int) -> int:
    iteration = entry.get("iteration", EVALUATED_EVERY * number)  # early published files do not tell it
    if isinstance(iteration, int | np.integer) and 0 <= iteration < 2**40:
        return int(iteration)
    raise InputError(f'{where} has an "iteration" that is no number of iterations')


def scores_of_classes(values: object, where: str) -> Float[np.ndarray, " classes"]:
    """A row of average precisions, checked.

    Args:
      values: what stands in a file.
      where: it stands, as the beginning of a sentence.

    Raises:
      InputError: it is no row of numbers between 0 and 1, or NaN.
    """
    try:
        row = np.array(values, np.float64)
    except (TypeError, ValueError):
        row = np.zeros(0)
    if row.ndim != 1 or not len(row):
        raise InputError(f'{where}: "average_precision" is no row of numbers, one for each class')
    known = row[~np.isnan(row)]
    if len(known) and not 0 <= known.min() <= known.max() <= 1 + 1e-9:
        raise InputError(f'{where}: "average_precision" has numbers outside of 0 to 1')
    return np.minimum(row, 1)
