"""Options of commands that take labelled sounds."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from panns_jax.errors import InputError

if TYPE_CHECKING:
    from panns_jax.data.labelled.clips import LabelledSet

_LONGEST = 3600  # seconds that a model hears at once; already these take tens of gigabytes


def require_clip_seconds(seconds: float) -> None:
    """Checks the length that clips are cut or padded to.

    Raises:
      InputError: it is none that a model can hear.
    """
    if not 0 < seconds <= _LONGEST:
        raise InputError(f"--clip-seconds must be above 0 and at most {_LONGEST}, got {seconds:g}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What of labelled data is what, where its names do not tell."""

    multi_label: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """A clip may carry several classes, or none; by default each has exactly one."""
    root: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Folder that the paths of a table begin at; that of the table by default."""
    path_column: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Column of the paths, or a pattern of columns in braces, such as fold{fold}/{name}.wav; of a TFDS data set, the
    feature that is the sound."""
    label_column: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Column of the class, or of the classes; of a TFDS data set, the feature."""
    label_separator: Annotated[str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="")] = None
    """What stands between the classes of a clip; by default ; where the column has one, and else ,."""
    start_column: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Column of the second at which a clip begins in its file; none: there is no such column."""
    end_column: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Column of the second at which it ends; none: there is no such column."""
    fold_column: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Column of the number of its fold; none: there is no such column."""
    split_column: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Column of its split: train, validation or test; none: there is no such column."""
    allow_missing: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Leave out clips of a table whose file is not there."""
    tfds_dir: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Where TensorFlow Datasets keeps its data sets; by default TFDS_DATA_DIR, or else ~/tensorflow_datasets."""
    tfds_rate: Annotated[int | None, tyro.conf.arg(metavar="HZ", help_behavior_hint="")] = None
    """Sample rate of a TFDS data set that does not tell its own."""
    tfds_bits: Literal[8, 16, 24, 32] | None = None
    """Bits of the samples of a TFDS data set that keeps whole numbers of int32 or int64; by default as many as the
    loudest of some clips need."""
    prepare: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Have TFDS download and prepare the data set where it is not there yet."""

    def read(self, data: str) -> "LabelledSet":
        """The labelled clips of a folder, table or TFDS data set.

        Raises:
          InputError: they cannot be read.
        """
        from panns_jax.data.labelled.read import read_labelled

        told = {field.name: getattr(self, field.name) for field in dataclasses.fields(DataOptions)}
        return read_labelled(data, **told)
