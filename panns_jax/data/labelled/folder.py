"""Labelled sounds in folders: one for each class."""

import functools
import os
from collections.abc import Mapping
from pathlib import Path

from panns_jax.audio import SOUND_EXTENSIONS
from panns_jax.data.labelled.clips import LabelledClip, LabelledSet
from panns_jax.data.labelled.labels import label_set, require_text
from panns_jax.data.labelled.sounds import FileSound
from panns_jax.errors import InputError
from panns_jax.files import files_below, is_visible

SPLITS: Mapping[str, str] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""What makers of data sets call their splits, in lower case, and what they are called here."""


def read_folder(folder: Path, *, multi_label: bool = False) -> LabelledSet:
    """Reads a folder with a folder for each class, in which the sounds of that class are, at any depth.

    Where the folders are train, validation and test (or val, eval and the like), those of the classes are in them.
    Hidden files and folders are left out, and files whose names do not end as those of sounds do; a folder without
    sounds is no class.

    Args:
      folder: the data.
      multi_label: whether a clip may carry several classes; none of these does.

    Raises:
      InputError: there are no classes, a sound is in no folder of a class, or a folder cannot be looked into.
    """
    paths, closed = files_below(folder, _is_sound)
    if closed:
        raise InputError(f"{closed[0][0]}: the folder cannot be listed: {closed[0][1]}")
    if not paths:
        raise InputError(f"{folder}: there are no sound files in the folder, as far as their names tell")
    below = [path.relative_to(folder).parts for path in paths]
    depth = 1 if _are_splits(folder, {parts[0] for parts in below if len(parts) > 1}) else 0
    loose = next((path for path, parts in zip(paths, below, strict=True) if len(parts) < depth + 2), None)
    if loose is not None:
        raise InputError(f"{loose}: is in no folder of a class: each class has a folder of its own in {loose.parent}")
    clips = [
        LabelledClip(
            FileSound(path), (require_text(parts[depth], str(path)),), split=SPLITS[parts[0].lower()] if depth else None
        )
        for path, parts in zip(paths, below, strict=True)
    ]
    labels = label_set(folder.resolve().name or str(folder), (clip.labels[0] for clip in clips))
    return LabelledSet(str(folder), labels, tuple(clips), multi_label)


@functools.cache
def _endings() -> frozenset[str]:
    return frozenset(SOUND_EXTENSIONS)


def _is_sound(name: str) -> bool:
    return is_visible(name) and os.path.splitext(name)[1].lower() in _endings()  # noqa: PTH122 - there may be millions


def _are_splits(folder: Path, names: set[str]) -> bool:
    """Whether the topmost folders are splits: a single one may be a class, as the train of the railway is.

    Raises:
      InputError: some are and others are not.
    """
    found = {name: SPLITS.get(name.lower()) for name in names}
    if "train" not in found.values() or len(set(found.values()) - {None}) < 2:
        return False
    if strange := sorted(name for name, split in found.items() if split is None):
        splits = ", ".join(sorted(set(found) - set(strange)))
        raise InputError(f"{folder}: holds {strange[0]} beside {splits}: folders are either all splits or all classes")
    return True
