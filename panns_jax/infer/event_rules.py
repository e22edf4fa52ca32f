"""The options that say what makes an event, and the file that says it class by class."""

import csv
import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from panns_jax.errors import InputError
from panns_jax.files import require_file

if TYPE_CHECKING:
    from panns_jax.infer.events import EventRules
    from panns_jax.labels import LabelSet

NAME_COLUMNS = ("class", "label", "event_label", "name", "id")
RULE_COLUMNS = ("threshold", "low", "median", "min_duration", "min_gap")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RuleOptions:
    """What makes an event. First the median filter, then the thresholds, then gaps are closed, then short events go."""

    threshold: float = 0.5
    """An event has a score above this."""
    low: float | None = None
    """Hysteresis: an event goes on for as long as the scores stay above this; by default the threshold."""
    median: str = "0"
    """Length of the median filter over time: seconds (0.96), of which the nearest odd number of time steps is made, or
    time steps (3steps). 0 is no filter."""
    min_duration: float = 0.0
    """Events shorter than this are dropped; seconds."""
    min_gap: float = 0.0
    """Events of a class that are closer than this become one; seconds."""
    thresholds: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Rules of single classes, in place of those above. CSV: a column "class" (name or id), and any of threshold, low,
    median, min_duration and min_gap. JSON: {"Speech": 0.3, "Music": {"threshold": 0.4, "min_gap": 1}}."""

    def rules(self, labels: "LabelSet", step: float) -> "EventRules":
        """The rules of the options.

        Args:
          labels: the classes of the model.
          step: seconds of a time step.

        Raises:
          InputError: an option or something in the file cannot be used.
        """
        import numpy as np

        from panns_jax.infer.events import EventRules

        base = {name: getattr(self, name) for name in RULE_COLUMNS}
        self._checked("the options", base, step)
        per_class = [dict(base) for _ in labels]
        for name, own in (read_class_rules(self.thresholds) if self.thresholds else {}).items():
            where = f"{self.thresholds}, {name}"
            try:
                row = per_class[labels.index(name)]
            except InputError as error:
                raise InputError(f"{self.thresholds}: {error}") from None
            row.update(own)
            # A low threshold for all does not forbid a lower threshold for one.
            if "low" not in own and row["low"] is not None and "threshold" in own:
                row["low"] = min(float(row["low"]), float(row["threshold"]))
            self._checked(where, row, step)

        def column(name: str) -> "np.ndarray":
            return np.array([float(row[name]) for row in per_class])

        for row in per_class:
            row["low"] = row["threshold"] if row["low"] is None else row["low"]
        return EventRules(
            column("threshold"),
            column("low"),
            np.array([median_steps(row["median"], step) for row in per_class]),
            column("min_duration"),
            column("min_gap"),
        )

    @staticmethod
    def _checked(where: str, row: Mapping[str, Any], step: float) -> None:
        from panns_jax.infer.events import EventRules

        try:
            EventRules(
                row["threshold"], row["low"], median_steps(row["median"], step), row["min_duration"], row["min_gap"]
            )
        except InputError as error:
            raise InputError(f"{where}: {error}") from None


def median_steps(length: str | float, step: float) -> int:
    """How many time steps a median filter spans, an odd number.

    Args:
      length: in seconds, or in steps as in "3steps".
      step: seconds of a time step.

    Raises:
      InputError: it is neither, or an even number of steps.
    """
    told = str(length).strip()
    in_steps = told.endswith(("steps", "step"))
    try:
        value = float(told.removesuffix("s").removesuffix("step")) if in_steps else float(told)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise InputError(f"a median filter of {told!r} cannot be: give seconds, as in 0.96, or steps, as in 3steps")
    if not in_steps:
        return 2 * math.floor((value / step - 1) / 2 + 0.5) + 1 if value > step else 1
    if value and value % 2 != 1:
        raise InputError(f"a median filter spans an odd number of steps, not {told}")
    return max(1, int(value))


def read_class_rules(path: Path) -> dict[str, dict[str, Any]]:
    """Rules of single classes by name or id, as `--thresholds` tells: what is given of `RULE_COLUMNS`.

    Raises:
      InputError: the file cannot be read, or is not as it should be.
    """
    require_file(path, "a file of thresholds")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text in UTF-8; write CSV or JSON") from error
    rules = _from_json(path, text) if text.lstrip().startswith(("{", "[")) else _from_csv(path, text)
    if not rules:
        raise InputError(f"{path}: tells the rules of no class")
    return {name: _numbers(f"{path}, {name}", own) for name, own in rules.items()}


def _from_json(path: Path, text: str) -> dict[str, dict[str, Any]]:
    try:
        told = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: is no JSON: {error}") from error
    if not isinstance(told, dict):
        raise InputError(f'{path}: must be one JSON object, as {{"Speech": 0.3}}')
    rules = {}
    for name, value in told.items():
        rules[name] = value if isinstance(value, dict) else {"threshold": value}
        if unknown := set(rules[name]) - set(RULE_COLUMNS):
            raise InputError(f"{path}, {name}: {sorted(unknown)[0]!r} is none of {', '.join(RULE_COLUMNS)}")
    return rules


def _from_csv(path: Path, text: str) -> dict[str, dict[str, Any]]:
    header = text.splitlines()[0] if text.strip() else ""
    rows = csv.DictReader(text.splitlines(), delimiter="\t" if "\t" in header else ",", skipinitialspace=True)
    columns = rows.fieldnames or ()
    name_column = next((column for column in NAME_COLUMNS if column in columns), None)
    if name_column is None or not set(RULE_COLUMNS) & set(columns):
        raise InputError(f'{path}: must have a column "class", and some of {", ".join(RULE_COLUMNS)}')
    rules: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = (row[name_column] or "").strip()
        if name in rules:
            raise InputError(f"{path}: has {name} twice")
        rules[name] = {column: row[column] for column in RULE_COLUMNS if (row.get(column) or "").strip()}
    return rules


def _numbers(where: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """The rules of a class, as numbers; the median filter, which may be in steps, as it is."""
    numbers = dict(own)
    for name, value in own.items():
        if name == "median":
            continue
        try:
            numbers[name] = float(value)
        except (TypeError, ValueError):
            raise InputError(f"{where}: {name} must be a number, not {value!r}") from None
    return numbers
