"""Labelled sounds of TensorFlow Datasets, read without TensorFlow."""

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from panns_jax.data.labelled.clips import LabelledClip, LabelledSet
from panns_jax.data.labelled.folder import SPLITS
from panns_jax.data.labelled.labels import label_set
from panns_jax.data.labelled.tfds_records import Records, RecordSound, name_of_split
from panns_jax.data.labelled.tfds_schema import Schema, read_records, read_schema
from panns_jax.data.labelled.tfds_widths import sample_width
from panns_jax.errors import InputError, require_extra
from panns_jax.files import is_folder
from panns_jax.labels import LabelSet
from panns_jax.progress import progress_bar

_INFO = "dataset_info.json"
_VERSION = r"\d+\.\d+\.\d+"
_SLAB = 64


@dataclasses.dataclass(frozen=True)
class TfdsName:
    """What names a data set of TFDS.

    Attributes:
      text: as it was typed.
      name: of the data set.
      config: its variant; None for the only one.
      version: None for the newest one.
      split: "train", "test", "train[:80%]" and the like; None for all.
    """

    text: str
    name: str
    config: str | None = None
    version: str | None = None
    split: str | None = None

    @classmethod
    def parse(cls, text: str) -> "TfdsName":
        """Understands "tfds:NAME", with "/CONFIG", ":VERSION" and ":SPLIT" where they are wanted.

        Raises:
          InputError: it is none.
        """
        found = re.fullmatch(
            rf"tfds:(?P<name>\w+)(?:/(?P<config>[^:/]+))?(?::(?P<version>{_VERSION}))?(?::(?P<split>[^:].*))?", text
        )
        if found is None:
            raise InputError(
                f"{text}: names no data set of TFDS, as tfds:NAME does, with /CONFIG, :VERSION (1.0.0)"
                " or :SPLIT (train) after it"
            )
        return cls(text, **found.groupdict())

    @property
    def builder(self) -> str:
        """As TFDS names it."""
        config = f"/{self.config}" if self.config else ""
        return f"{self.name}{config}" + (f":{self.version}" if self.version else "")


def read_tfds(
    name: TfdsName,
    *,
    folder: Path | None = None,
    sound: str | None = None,
    label: str | None = None,
    sample_rate: int | None = None,
    bits: int | None = None,
    prepare: bool = False,
    multi_label: bool = False,
) -> LabelledSet:
    """Reads a data set that TFDS prepared as array_record; that imports no TensorFlow.

    Its splits train, validation and test are the makers', where there are several and none is asked for.

    Args:
      name: which.
      folder: where TFDS keeps its data sets.
      sound: the feature that is the sound; by default the first one of the kind Audio, or else "audio".
      label: the feature that is the class, "a/b" where features are in others; by default "label" or the like, or else
        the only class feature.
      sample_rate: where the data set does not tell its own.
      bits: of samples that are whole numbers, 8, 16, 24 or 32; by default what the loudest of some need.
      prepare: whether TFDS is to prepare it where it is not there yet, for which it needs TensorFlow.
      multi_label: whether a clip may carry several classes, or none.

    Raises:
      InputError: TFDS is not installed, or there is no such data set, or it cannot be read.
    """
    require_extra(f"{name.text}", "tfds", "tensorflow_datasets", "array_record")
    home = _home(folder)
    place = _prepared(name, home)
    if place is None and prepare:
        _prepare(name, home)
        place = _prepared(name, home)
    if place is None:
        raise InputError(
            f"{name.text}: is not prepared in {home}; --prepare has TFDS download and prepare it, for which it takes"
            ' pip install "panns_jax[tfds-prepare]"; --tfds-dir names another folder'
        )
    schema = read_schema(place, name.text, sound=sound, label=label, multi_label=multi_label)
    if schema.sample_rate and sample_rate is not None and schema.sample_rate != sample_rate:
        raise InputError(f"{name.text}: tells its sample rate, {schema.sample_rate} Hz, so leave out --tfds-rate")
    if not (schema.tells_rate or sample_rate):
        raise InputError(f"{name.text}: does not tell its sample rate; name it with --tfds-rate")
    width = sample_width(schema, name.text, bits)
    splits = [name.split] if name.split is not None else list(schema.splits)
    clips: list[LabelledClip] = []
    for split in splits:
        makers = SPLITS.get(split.lower()) if name.split is None and len(splits) > 1 else None
        records = Records(schema, split, origin=name.text, sample_rate=sample_rate, width=width)
        clips += [
            LabelledClip(RecordSound(records, number), labels, split=makers)
            for number, labels in enumerate(_labels(schema, split, name.text))
        ]
    if not clips:
        raise InputError(f"{name.text}: holds no records")
    notes = () if width is None else (width.note(),)
    return LabelledSet(name.text, _label_set(name, schema, clips), tuple(clips), multi_label, notes)


def _home(folder: Path | None) -> Path:
    """Where TFDS keeps its data sets, as it finds that itself."""
    return folder or Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def _prepared(name: TfdsName, home: Path) -> Path | None:
    """The folder of the data set; None where it is not prepared.

    Raises:
      InputError: there are several configs and none is named.
    """
    base = home / name.name / (name.config or "")
    versions = _versions(base)
    if not versions and name.config is None and is_folder(base):
        configs = sorted(path.name for path in base.iterdir() if _versions(path))
        if len(configs) > 1:
            told = f"name one of its configs, as tfds:{name.name}/{configs[0]}"
            raise InputError(f"{name.text}: {told}: {', '.join(configs)}")
        if configs:
            base /= configs[0]
            versions = _versions(base)
    if name.version is not None:
        return base / name.version if name.version in versions else None
    return base / versions[-1] if versions else None


def _versions(base: Path) -> list[str]:
    """The versions that are prepared, the newest last."""
    if not is_folder(base):
        return []
    found = [path.name for path in base.iterdir() if re.fullmatch(_VERSION, path.name) and (path / _INFO).is_file()]
    return sorted(found, key=lambda version: tuple(map(int, version.split("."))))


def _prepare(name: TfdsName, home: Path) -> None:
    require_extra(f"preparing {name.text}", "tfds-prepare", "tensorflow", "pydub")
    import tensorflow_datasets as tfds

    try:
        tfds.builder(name.builder, data_dir=home, file_format="array_record").download_and_prepare()
    except Exception as error:  # what the code of a data set raises is of all kinds
        reason = " ".join(str(error).partition("Available datasets")[0].split()) or type(error).__name__
        raise InputError(f"{name.text}: TFDS cannot prepare it: {reason[:500].rstrip('.')}") from error


def _labels(schema: Schema, split: str, origin: str) -> Iterator[tuple[str, ...]]:
    """The classes of each record of a split, in order."""
    source = schema.source(split, (schema.label,), origin)
    what = name_of_split(origin, split)
    with progress_bar("records", shown=len(source) > _SLAB * 16) as bar:
        task = bar.add_task(f"reading labels of {split}", total=len(source), note="")
        for start in range(0, len(source), _SLAB):
            numbers = range(start, min(start + _SLAB, len(source)))
            for number, record in zip(numbers, _read(source, numbers, what), strict=True):
                try:
                    yield schema.labels(record)
                except InputError as error:
                    raise InputError(f"{what}, record {number}: {error}") from error
            bar.update(task, advance=len(numbers))


def _read(source: Any, numbers: Sequence[int], what: str) -> Sequence[Mapping[str, Any]]:
    try:
        return read_records(source, numbers)
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


def _label_set(name: TfdsName, schema: Schema, clips: list[LabelledClip]) -> LabelSet:
    """The makers' classes in their order, or those that clips carry."""
    if schema.names is not None:
        return LabelSet(name.name, schema.names, schema.names)
    return label_set(name.name, (label for clip in clips for label in clip.labels))
