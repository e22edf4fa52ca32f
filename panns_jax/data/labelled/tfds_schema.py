"""What the records of a TFDS data set hold: which feature is the sound, and which the class.

TFDS's own Audio feature imports TensorFlow as soon as there is one. The description of the data set on disk is
therefore read as what it is, with plain tensors in place of such features, before TFDS sees it.
"""

import dataclasses
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from panns_jax.errors import InputError

_FORMAT = "array_record"
_TENSOR = "tensorflow_datasets.core.features.tensor_feature.Tensor"
_LABELS = ("label", "labels", "class", "target", "category", "genre", "instrument/family")
_SOUNDS = ("audio", "sound", "waveform", "speech")
RATE_FEATURE = "sample_rate"
"""A feature of this name tells the rate of each sound, where its kind does not tell that of all."""


@dataclasses.dataclass(frozen=True)
class Schema:
    """A prepared data set and its features.

    Attributes:
      place: its folder.
      info: what TFDS wrote about it, as its own message.
      features: by name, with "/" between those that are in others; each as TFDS's own message.
      sound: the one that is the sound.
      label: the one that is the class, or the classes.
      names: the classes, where the data set tells them.
      sample_rate: samples per second of all sounds; None where that is not told.
      encoded: whether records hold sound files rather than samples.
      splits: the names of its splits.
      multi_label: whether a clip may carry several classes.
    """

    place: Path
    info: Any
    features: Mapping[str, Any]
    sound: str
    label: str
    names: tuple[str, ...] | None
    sample_rate: int | None
    encoded: bool
    splits: tuple[str, ...]
    multi_label: bool

    def source(self, split: str, features: Sequence[str], origin: str) -> Any:
        """The records of a split at random access, of which only some features are decoded: TFDS's own data source.

        Raises:
          InputError: there is no such split, or its files are missing.
        """
        from tensorflow_datasets.core.read_only_builder import builder_from_metadata

        info = type(self.info)()
        info.CopyFrom(self.info)
        info.features.CopyFrom(_tree({name: self.features[name] for name in features}))
        try:
            builder: Any = builder_from_metadata(self.place, info)
            return builder.as_data_source(split)
        except Exception as error:  # TFDS raises a ValueError or AssertionError for a split, and more for files
            reason = " ".join(str(error).split()) or type(error).__name__
            told = f"its split {split!r} cannot be read (there are {', '.join(self.splits)})"
            raise InputError(f"{origin}: {told}: {reason[:300]}") from error

    @property
    def tells_rate(self) -> bool:
        """Whether the sample rate of every sound is told: by the data set, by a feature, or by its file."""
        return bool(self.sample_rate) or RATE_FEATURE in self.features or self.encoded

    def labels(self, record: Mapping[str, Any]) -> tuple[str, ...]:
        """The classes of a record.

        Raises:
          InputError: it has none, or several; the message is a part of a sentence.
        """
        value = record[self.label]
        is_several = isinstance(value, list | tuple) or getattr(value, "ndim", 0) > 0
        values = list(value) if is_several else [value]
        labels = tuple(dict.fromkeys(name for one in values if (name := self._name(one))))
        if not self.multi_label and len(labels) != 1:
            raise InputError(f"has {len(labels) or 'no'} classes, which --multi-label lets a clip have")
        return labels

    def _name(self, value: Any) -> str | None:
        if isinstance(value, bytes | str):
            return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if self.names is None:
            return str(value)
        # -1 is no class.
        return self.names[int(value)] if 0 <= int(value) < len(self.names) else None


def read_schema(place: Path, origin: str, *, sound: str | None, label: str | None, multi_label: bool) -> Schema:
    """Reads what TFDS wrote about a data set.

    Args:
      place: its folder, of one version.
      origin: how it was named.
      sound: the feature that is the sound; None to find it.
      label: the feature that is the class; None to find it.
      multi_label: whether a clip may carry several classes.

    Raises:
      InputError: it is not in array_record, is of an old form, or there is no such feature.
    """
    from google.protobuf import json_format

    told = _read_json(place / "dataset_info.json", origin)
    formats = {told.get("fileFormat") or "tfrecord", *told.get("alternativeFileFormats", ())}
    if _FORMAT not in formats:
        raise InputError(f"{origin}: {_conversion(place, sorted(formats)[0])}")
    features = _read_json(place / "features.json", origin)
    if "pythonClassName" not in features:
        raise InputError(f"{origin}: {place} was prepared by an old TFDS; prepare it anew with --prepare")
    try:
        info = json_format.ParseDict(told, _message("dataset_info", "DatasetInfo"), ignore_unknown_fields=True)
        tree = json_format.ParseDict(features, _message("feature", "Feature"), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise InputError(f"{origin}: {place} cannot be read as TFDS writes it: {error}") from error
    info.file_format = _FORMAT
    leaves = dict(_leaves(tree))
    sound = _chosen(sound, _sounds(leaves), leaves, f"{origin}: no feature is a sound", "--path-column")
    label = _chosen(label, _classes(leaves), leaves, f"{origin}: no feature is a class", "--label-column")
    audio = leaves[sound].audio if leaves[sound].WhichOneof("content") == "audio" else None
    if audio is not None:
        leaves[sound] = _plain(audio)
    return Schema(
        place,
        info,
        leaves,
        sound,
        label,
        _names(place, label, leaves[label]),
        int(audio.sample_rate) or None if audio is not None else None,
        audio is not None and audio.lazy_decode,
        tuple(split.name for split in info.splits),
        multi_label,
    )


def _message(module: str, name: str) -> Any:
    """A new message of TFDS, whose kinds are made when their modules are imported."""
    messages = importlib.import_module("tensorflow_datasets.core.proto")
    return getattr(getattr(messages, f"{module}_pb2"), name)()


def _read_json(path: Path, origin: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{origin}: {path} cannot be read: {reason}") from error


def _conversion(place: Path, file_format: str) -> str:
    command = f"tfds convert_format --dataset_version_dir={place} --out_file_format=array_record"
    needs = 'pip install "panns_jax[tfds-prepare]"'
    return f"is there as {file_format} alone, and array_record is what is read; convert it: {needs}; {command}"


def _leaves(feature: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The features that are in no other, and those of sequences as they are."""
    if feature.WhichOneof("content") == "features_dict":
        for inner, below in feature.features_dict.features.items():
            yield from _leaves(below, f"{name}/{inner}" if name else inner)
    else:
        yield name, feature


def _tree(leaves: Mapping[str, Any]) -> Any:
    """A dictionary of some features alone: records hold those that are in others under names with "/", too."""
    root = _message("feature", "Feature")
    root.python_class_name = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
    root.features_dict.SetInParent()
    for name, feature in leaves.items():
        root.features_dict.features[name].CopyFrom(feature)
    return root


def _plain(audio: Any) -> Any:
    """A sound as a tensor: its samples, or the bytes of its file."""
    plain = _message("feature", "Feature")
    plain.python_class_name = _TENSOR
    plain.tensor.encoding = audio.encoding or "none"
    if audio.lazy_decode:
        plain.tensor.dtype = "string"
        plain.tensor.shape.SetInParent()
    else:
        plain.tensor.dtype = audio.dtype
        plain.tensor.shape.CopyFrom(audio.shape)
    return plain


def _sounds(leaves: Mapping[str, Any]) -> Iterator[str]:
    yield from (name for name, feature in leaves.items() if feature.WhichOneof("content") == "audio")
    yield from (name for name in _SOUNDS if name in leaves)


def _classes(leaves: Mapping[str, Any]) -> Iterator[str]:
    yield from (name for name in _LABELS if name in leaves)
    yield from (name for name, feature in leaves.items() if _class_label(feature) is not None)


def _class_label(feature: Any) -> Any:
    kind = feature.WhichOneof("content")
    if kind == "sequence":
        return _class_label(feature.sequence.feature)
    return feature.class_label if kind == "class_label" else None


def _chosen(wanted: str | None, usual: Iterator[str], leaves: Mapping[str, Any], nothing: str, option: str) -> str:
    chosen = next(usual, None) if wanted is None else wanted
    if chosen is not None and chosen in leaves:
        return chosen
    there = f"those of its records are {', '.join(sorted(leaves))}"
    if wanted is not None:
        raise InputError(f"{nothing.partition(': ')[0]}: has no feature {wanted!r}; {there}")
    raise InputError(f"{nothing}; name one with {option}: {there}")


def _names(place: Path, label: str, feature: Any) -> tuple[str, ...] | None:
    """The classes by their numbers; None where the feature is text or a plain number."""
    class_label = _class_label(feature)
    if class_label is None:
        return None
    # What is in another feature, and what has the sign in its own name, go by different names of files.
    names = (f"{label.replace('/', sign)}.labels.txt" for sign in "-.")
    file = next((place / name for name in names if (place / name).is_file()), None)
    if file is None:
        return tuple(map(str, range(class_label.num_classes)))
    lines = file.read_text(encoding="utf-8").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def read_records(source: Any, numbers: Sequence[int]) -> Sequence[Mapping[str, Any]]:
    """Some records of a data source.

    Raises:
      InputError: they cannot be read; the message is a part of a sentence.
    """
    try:
        return source.__getitems__(list(numbers))
    except Exception as error:  # array_record and protobuf raise errors of all kinds for damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"cannot be read: {reason[:300]}") from error
