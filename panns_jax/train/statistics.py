"""The metrics of a run over its iterations, in files for plotting."""

import pickle
import pickletools
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from panns_jax.errors import InputError
from panns_jax.files import written_aside
from panns_jax.pretrained.plain import read_plain_pickle
from panns_jax.train.metrics import Scores

PARTS = ("bal", "test")
"""The sets that are scored: the balanced training set and the evaluation set."""
_FIELDS = ("iteration", "average_precision", "auc")


class Statistics:
    """Average precision and AUC of every class at every evaluation of a run.

    Two files are kept in the run's folder. `statistics.pkl` is the published container, {"bal": [...], "test": [...]}
    with one entry {"iteration", "average_precision" (classes,), "auc" (classes,)} for each evaluation; NumPy 1, under
    which the published scripts run, reads it as well. `statistics.npz` holds the same as arrays, "bal_iteration"
    (evaluations,), "bal_average_precision" (evaluations, classes) and so on; numpy reads it without running code.
    """

    def __init__(self, folder: Path, *, until: int | None, writes: bool = True) -> None:
        """Takes up what the folder holds, which exists.

        Args:
          folder: of the run's statistics.
          until: iteration that the run is taken up from; later entries are dropped, since they will be made again.
            None for a run that begins.
          writes: whether what is added is written; of several processes, one does.

        Raises:
          InputError: the file is damaged.
        """
        self._folder = folder
        self._writes = writes
        self._entries: dict[str, dict[int, dict[str, Any]]] = {part: {} for part in PARTS}
        if until is not None and (folder / "statistics.npz").exists():
            self._entries = {
                part: {entry["iteration"]: entry for entry in entries if entry["iteration"] <= until}
                for part, entries in read_statistics(folder / "statistics.npz").items()
            }

    def __contains__(self, iteration: int) -> bool:
        return all(iteration in entries for entries in self._entries.values())

    def score(self, iteration: int) -> float | None:
        """mAP on the evaluation set; None where that was not scored."""
        entry = self._entries["test"].get(iteration)
        if entry is None or np.isnan(entry["average_precision"]).all():
            return None
        return float(np.nanmean(entry["average_precision"]))

    def add(self, iteration: int, scores: dict[str, Scores]) -> None:
        """Adds the scores of each of `PARTS`, and writes both files anew."""
        for part in PARTS:
            self._entries[part][iteration] = {
                "iteration": iteration,
                "average_precision": scores[part].average_precision,
                "auc": scores[part].auc,
            }
        if self._writes:
            self._write()

    def _write(self) -> None:
        container = {part: list(entries.values()) for part, entries in self._entries.items()}
        with written_aside(self._folder / "statistics.pkl") as path:
            path.write_bytes(_pickled(container))
        arrays = {
            f"{part}_{field}": np.array([entry[field] for entry in entries])
            for part, entries in container.items()
            for field in _FIELDS
        }
        with written_aside(self._folder / "statistics.npz") as path, path.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)


def read_statistics(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Reads `statistics.npz`, or a published `.pkl`, of which nothing is run, into the published container's form.

    Raises:
      InputError: the file is missing or damaged.
    """
    if path.suffix == ".pkl":
        return _read_published(path)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {part: list(_entries(*(arrays[f"{part}_{field}"] for field in _FIELDS))) for part in PARTS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: is no statistics file, or damaged; remove it to go on without the figures so far"
        ) from error


def _read_published(path: Path) -> dict[str, list[dict[str, Any]]]:
    container = read_plain_pickle(path, "a statistics file")
    if not isinstance(container, dict) or not all(_is_part(container.get(part)) for part in PARTS):
        raise InputError(f'{path}: is no statistics file: it has no lists "bal" and "test" of evaluations')
    return {part: list(container[part]) for part in PARTS}


def _is_part(entries: object) -> bool:
    return isinstance(entries, list) and all(
        isinstance(entry, dict) and entry.keys() >= {*_FIELDS} for entry in entries
    )


def _pickled(container: dict[str, Any]) -> bytes:
    """A pickle that NumPy 1 reads too: it knows the function that makes arrays by its older name alone."""
    pickled = pickle.dumps(container, protocol=2)  # of this protocol, names are lines
    parts, begin = [], 0
    for code, argument, place in pickletools.genops(pickled):
        if code.name == "GLOBAL" and str(argument).startswith("numpy._core."):
            assert place is not None
            parts += [pickled[begin:place], b"cnumpy.core."]
            begin = place + len(b"cnumpy._core.")
    return b"".join([*parts, pickled[begin:]])


def _entries(iterations: np.ndarray, *columns: np.ndarray) -> Iterable[dict[str, Any]]:
    for iteration, average_precision, auc in zip(iterations, *columns, strict=True):
        yield {"iteration": int(iteration), "average_precision": average_precision, "auc": auc}
