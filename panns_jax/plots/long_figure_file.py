"""The published file of the long figure, `stats_for_long_fig.pkl`."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from panns_jax.errors import InputError
from panns_jax.labels import audioset, audioset_train_clips, numbered
from panns_jax.plots.series import scores_of_classes
from panns_jax.pretrained.plain import read_plain_pickle

_KINDS_OF_CLIPS = ("official_balanced_training_samples", "official_unbalanced_training_samples")
_ORDER = "sorted_indexes_for_plot"
_QUALITY = "label_quality"


@dataclasses.dataclass(frozen=True, eq=False)
class Published:
    """What the published file tells.

    Attributes:
      names: of the classes.
      clips: training clips of each, in the order of the outputs.
      order: the classes as they are shown.
      quality: of the labels of each class, in [0, 1]; NaN where it is not known. None where the file has none.
      systems: average precision of each class, by the file's keys.
    """

    names: tuple[str, ...]
    clips: Int[np.ndarray, " classes"]
    order: Int[np.ndarray, " classes"]
    quality: Float[np.ndarray, " classes"] | None
    systems: Mapping[str, Float[np.ndarray, " classes"]]


def read_long_figure_file(path: Path, keys: Iterable[str]) -> Published:
    """Reads the file, of which nothing is run.

    Numbers of clips and order that it lacks are those of AudioSet's classes; systems and quality may be missing.

    Args:
      path: the file.
      keys: of the systems.

    Raises:
      InputError: it is missing, damaged, or none of its systems is there.
    """
    content = read_plain_pickle(path, "a file of the long figure")
    if not isinstance(content, dict):
        raise InputError(f"{path}: is no file of the long figure, which is a table of systems")
    systems = {key: _precision(path, key, content[key]) for key in keys if content.get(key) is not None}
    if not systems:
        raise InputError(f"{path}: is no file of the long figure: it has no system such as {next(iter(keys))}")
    sizes = {key: len(row) for key, row in systems.items()}
    if len(set(sizes.values())) > 1:
        raise InputError(f"{path}: is damaged: its systems are of different numbers of classes")
    classes = next(iter(sizes.values()))
    clips = _clips(path, content, classes)
    return Published(
        names=audioset().names if classes == len(audioset()) else numbered(classes).names,
        clips=clips,
        order=_order(path, content, clips),
        quality=_quality(path, content, classes),
        systems=systems,
    )


def _precision(path: Path, key: str, system: object) -> Float[np.ndarray, " classes"]:
    scored = system.get("eval") if isinstance(system, dict) else None
    if not isinstance(scored, dict) or "average_precision" not in scored:
        raise InputError(f'{path}: {key} has no "eval" with an "average_precision"')
    return scores_of_classes(scored["average_precision"], f"{path}: {key}")


def _clips(path: Path, content: Mapping[object, object], classes: int) -> Int[np.ndarray, " classes"]:
    there = [name for name in _KINDS_OF_CLIPS if content.get(name) is not None]
    if len(there) < len(_KINDS_OF_CLIPS):
        if classes == len(audioset()):
            return np.array(audioset_train_clips())
        raise InputError(f'{path}: has no "{(set(_KINDS_OF_CLIPS) - set(there)).pop()}", a number for each class')
    return sum((_whole_numbers(path, name, content[name], classes) for name in there), np.zeros(classes, np.int64))


def _order(
    path: Path, content: Mapping[object, object], clips: Int[np.ndarray, " classes"]
) -> Int[np.ndarray, " classes"]:
    if content.get(_ORDER) is None:
        return np.argsort(-clips, kind="stable")
    order = _whole_numbers(path, _ORDER, content[_ORDER], len(clips))
    if sorted(order.tolist()) != list(range(len(clips))):
        raise InputError(f'{path}: "{_ORDER}" does not name each class once')
    return order


def _quality(path: Path, content: Mapping[object, object], classes: int) -> Float[np.ndarray, " classes"] | None:
    told = content.get(_QUALITY)
    if told is None:
        return None
    try:
        values = [np.nan if value is None else float(value) for value in told]  # pyright: ignore[reportGeneralTypeIssues]
    except (TypeError, ValueError):
        values = []
    quality = np.array(values, np.float64)
    if len(quality) != classes or not ((quality >= 0) & (quality <= 1) | np.isnan(quality)).all():
        raise InputError(f'{path}: "{_QUALITY}" is no row of numbers from 0 to 1 or None, one for each class')
    return quality


def _whole_numbers(path: Path, name: str, values: object, classes: int) -> Int[np.ndarray, " classes"]:
    try:
        numbers = np.array(values, np.float64)
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if numbers.shape != (classes,) or not ((numbers >= 0) & (numbers < 2**40) & (numbers % 1 == 0)).all():
        raise InputError(f'{path}: "{name}" is no row of whole numbers, one for each class')
    return numbers.astype(np.int64)
