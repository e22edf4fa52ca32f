"""`panns-jax workspace-to-tfds`: a packed workspace as a data set of TensorFlow Datasets, made without TensorFlow."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from panns_jax.errors import InputError, require_extra
from panns_jax.files import is_folder

if TYPE_CHECKING:
    from panns_jax.data.sources import ClipSource

NAME = "packed_audioset"
VERSION = "1.0.0"


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkspaceToTfds:
    """Writes the clips that the index files of a workspace list as a data set of TensorFlow Datasets, in array_record.

    It is called packed_audioset; each index file is a split of its name, such as balanced_train. A record holds audio
    (samples,), sample_rate, labels (the numbers of its classes) and audio_name. --data tfds:packed_audioset:eval reads
    a split of it, and so does tfds.data_source("packed_audioset", data_dir=OUT).
    """

    workspace: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="WORKSPACE", help_behavior_hint="")]
    """Folder with hdf5s/indexes/."""
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")]
    """Where data sets of TFDS are kept (--tfds-dir)."""
    sample_rate: int = 32000
    """Samples per second; a lower one takes every second or fourth sample, as the published models did."""

    def run(self) -> int:
        """Writes the data set and tells where it is.

        Raises:
          InputError: there is no index file, or one cannot be read.
        """
        place = workspace_to_tfds(self.workspace, self.out, sample_rate=self.sample_rate)
        print(f"{self.workspace} is in {place}: --data tfds:{NAME}:SPLIT --tfds-dir {self.out}")
        return 0


def workspace_to_tfds(workspace: Path, out: Path, *, sample_rate: int = 32000) -> Path:
    """Writes a workspace as a data set of TFDS.

    Args:
      workspace: folder with `hdf5s/indexes/*.h5`.
      out: folder of data sets of TFDS.
      sample_rate: of the clips.

    Returns:
      The folder of the data set.

    Raises:
      InputError: TFDS is not installed, there is no index file or it cannot be read, or the data set is there already.
    """
    require_extra("writing a TFDS data set", "tfds", "tensorflow_datasets", "array_record")
    from panns_jax.data.index import read_index
    from panns_jax.data.sources import ClipSource

    indexes = workspace / "hdf5s" / "indexes"
    paths = sorted(indexes.glob("*.h5")) if is_folder(indexes) else []
    if not paths:
        raise InputError(f"{workspace}: there are no index files in {indexes}; panns-jax index makes them")
    builder = packed_audioset({path.stem: ClipSource(read_index(path), sample_rate) for path in paths}, out)
    if builder.data_path.exists():
        raise InputError(f"{builder.data_path} is there already; remove it, or name another folder with --out")
    builder.download_and_prepare()
    return Path(builder.data_path)


def packed_audioset(sources: "Mapping[str, ClipSource]", out: Path) -> Any:
    """The builder of TFDS of packed clips, a `tfds.core.GeneratorBasedBuilder`.

    Args:
      sources: the clips of each split; of one rate, length and type of samples, and of the same classes.
      out: folder of data sets of TFDS.

    Raises:
      InputError: the splits are not alike.
    """
    import tensorflow_datasets as tfds

    first = _first_of_alike(sources)
    num_classes = first.index.targets.num_classes

    class PackedAudioset(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Clips of AudioSet as they were packed."""

        VERSION = tfds.core.Version(VERSION)
        name = NAME
        pkg_dir_path = None

        def _info(self) -> tfds.core.DatasetInfo:
            # No feature of the kind Audio: those import TensorFlow.
            features = tfds.features.FeaturesDict(
                {
                    "audio": tfds.features.Tensor(shape=(first.samples,), dtype=first.dtype),
                    "sample_rate": tfds.features.Scalar(dtype=np.int32),
                    "labels": tfds.features.Sequence(tfds.features.ClassLabel(names=_names(num_classes))),
                    "audio_name": tfds.features.Text(),
                }
            )
            description = f"Clips of AudioSet at {first.sample_rate} Hz, as panns_jax packed them."
            return tfds.core.DatasetInfo(
                builder=self, description=description, features=features, disable_shuffling=True
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
            del dl_manager  # nothing is downloaded
            return {split: self._generate_examples(source) for split, source in sources.items()}

        def _generate_examples(self, source: "ClipSource") -> Iterator[tuple[int, dict[str, Any]]]:
            for number in range(len(source)):
                clip = source[number]
                yield (
                    number,
                    {
                        "audio": clip["waveform"],
                        "sample_rate": source.sample_rate,
                        "labels": clip["target"].nonzero()[0].tolist(),
                        "audio_name": str(clip["audio_name"]),
                    },
                )

    return PackedAudioset(data_dir=out, file_format="array_record")


def _first_of_alike(sources: "Mapping[str, ClipSource]") -> "ClipSource":
    first = next(iter(sources.values()))
    for source in sources.values():
        for what in ("samples", "dtype", "sample_rate"):
            if getattr(source, what) != getattr(first, what):
                told = f"has not the {what} of {first.index.path}"
                raise InputError(f"{source.index.path}: {told}: {getattr(source, what)}, {getattr(first, what)}")
    return first


def _names(num_classes: int) -> list[str]:
    from panns_jax.labels import audioset, numbered

    names = audioset() if num_classes == len(audioset()) else numbered(num_classes)
    return list(names)
