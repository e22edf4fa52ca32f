"""The classes of a series of scores: their names, and how many training clips each has."""

import dataclasses

import numpy as np
from jaxtyping import Int

from panns_jax.errors import InputError
from panns_jax.labels import audioset, audioset_train_clips, numbered
from panns_jax.plots.finding import saved_options
from panns_jax.plots.series import Series


@dataclasses.dataclass(frozen=True, eq=False)
class Classes:
    """Names and numbers of training clips.

    Attributes:
      names: of the classes.
      clips: training clips of each; None where nothing tells them.
    """

    names: tuple[str, ...]
    clips: Int[np.ndarray, " classes"] | None

    @property
    def by_clips(self) -> Int[np.ndarray, " classes"]:
        """Indices of the classes, those with the most training clips first; without numbers, as they are."""
        if self.clips is None:
            return np.arange(len(self.names))
        return np.argsort(-self.clips, kind="stable")


def classes_of(series: Series) -> Classes:
    """The classes of AudioSet where there are 527, with the paper's numbers of clips.

    Other runs have classes by number, counted in the index files of their workspace, where those are still there.
    """
    if series.classes == len(audioset()):
        return Classes(audioset().names, np.array(audioset_train_clips()))
    return Classes(numbered(series.classes).names, _counted(series))


def _counted(series: Series) -> Int[np.ndarray, " classes"] | None:
    from panns_jax.data.index import read_index

    run = series.file.run
    options = saved_options(run) if run else {}
    if run is None or "data_type" not in options:
        return None
    try:
        targets = read_index(run.workspace / "hdf5s" / "indexes" / f"{options['data_type']}.h5").targets
    except InputError:  # the data may have been removed since
        return None
    if targets.num_classes != series.classes:
        return None
    _, starts = targets.by_class()
    return np.diff(starts).astype(np.int64)
