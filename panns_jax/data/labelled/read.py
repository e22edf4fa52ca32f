"""Labelled sounds by what people type: a folder, a table, or the name of a TensorFlow data set."""

from collections.abc import Mapping
from pathlib import Path

from panns_jax.data.labelled.clips import LabelledSet
from panns_jax.data.labelled.folder import read_folder
from panns_jax.data.labelled.table import Columns, read_labelled_table
from panns_jax.errors import InputError
from panns_jax.files import is_folder
from panns_jax.tables import TABLE_ENDINGS

TFDS_PREFIX = "tfds:"


def read_labelled(
    data: str,
    *,
    multi_label: bool = False,
    root: Path | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    label_separator: str | None = None,
    start_column: str | None = None,
    end_column: str | None = None,
    fold_column: str | None = None,
    split_column: str | None = None,
    allow_missing: bool = False,
    tfds_dir: Path | None = None,
    tfds_rate: int | None = None,
    tfds_bits: int | None = None,
    prepare: bool = False,
) -> LabelledSet:
    """Reads which sounds there are, and what is in them.

    Args:
      data: a folder with one for each class; a csv, tsv or Parquet table; or "tfds:NAME", "tfds:NAME/CONFIG",
        "tfds:NAME:SPLIT" for a data set of TensorFlow Datasets.
      multi_label: whether a clip may carry several classes, or none.
      root: folder that the paths of a table begin at; that of the table by default.
      path_column: see `panns_jax.data.labelled.table.Columns`, as the following are; of a TFDS data set, the feature
        that is the sound.
      label_column: of a TFDS data set, the feature that is the class.
      label_separator: what stands between several classes.
      start_column: of a table.
      end_column: of a table.
      fold_column: of a table.
      split_column: of a table.
      allow_missing: of a table.
      tfds_dir: where TFDS keeps its data sets; by default TFDS_DATA_DIR, or else ~/tensorflow_datasets.
      tfds_rate: sample rate of a TFDS data set that does not tell its own.
      tfds_bits: bits of its samples, where they are whole numbers; by default what the loudest of some need.
      prepare: whether TFDS is to download and prepare a data set that is not there yet.

    Raises:
      InputError: it cannot be read, or is not as it should be.
    """
    named = {"path_column": path_column, "label_column": label_column}
    of_tables = {
        "root": root,
        "label_separator": label_separator,
        "start_column": start_column,
        "end_column": end_column,
        "fold_column": fold_column,
        "split_column": split_column,
        "allow_missing": allow_missing or None,
    }
    of_tfds = {"tfds_dir": tfds_dir, "tfds_rate": tfds_rate, "tfds_bits": tfds_bits, "prepare": prepare or None}
    if data.startswith(TFDS_PREFIX):
        _refuse(data, "a TFDS data set", of_tables)
        from panns_jax.data.labelled.tfds import TfdsName, read_tfds

        return read_tfds(
            TfdsName.parse(data),
            folder=tfds_dir,
            sound=path_column,
            label=label_column,
            sample_rate=tfds_rate,
            bits=tfds_bits,
            prepare=prepare,
            multi_label=multi_label,
        )
    path = Path(data)
    if is_folder(path):
        _refuse(data, "a folder", named | of_tables | of_tfds)
        return read_folder(path, multi_label=multi_label)
    if path.suffix.lower() not in TABLE_ENDINGS:
        endings = ", ".join(TABLE_ENDINGS)
        found = "there is no such folder" if not path.exists() else "is no folder, and no table by its name"
        raise InputError(f"{data}: {found}; name a folder with one for each class, a table ({endings}), or tfds:NAME")
    _refuse(data, "a table", of_tfds)
    if label_separator is not None and not (multi_label and label_separator):
        told = "is what stands between several classes, which --multi-label lets a clip have"
        raise InputError(f"--label-separator {label_separator!r} {told if label_separator else 'must not be empty'}")
    columns = Columns(
        path=path_column,
        label=label_column,
        start=start_column,
        end=end_column,
        fold=fold_column,
        split=split_column,
        separator=label_separator,
        root=root,
        allow_missing=allow_missing,
    )
    return read_labelled_table(path, columns, multi_label=multi_label)


def _refuse(data: str, what: str, options: Mapping[str, object]) -> None:
    """Nothing that is said is left unheard.

    Raises:
      InputError: an option is given that means nothing to such data.
    """
    for name, value in options.items():
        if value is not None:
            raise InputError(f"{data}: is {what}, to which --{name.replace('_', '-')} means nothing; leave it out")
