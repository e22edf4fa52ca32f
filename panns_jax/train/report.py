"""Scores as tables: for people, for programs, for spreadsheets."""

import csv
import dataclasses
import io
import json
import math
from typing import Any

import numpy as np

from panns_jax.labels import LabelSet
from panns_jax.train.metrics import Scores, d_prime


@dataclasses.dataclass(frozen=True)
class ClassRow:
    """A line of the table; None where the class has no such figure.

    Attributes:
      name: of the class.
      average_precision: in [0, 1].
      chance: what random scores reach as average precision: the share of clips that carry the class.
      auc: in [0, 1].
      d_prime: of this AUC; infinite at its ends, which JSON shows as None.
      positives: number of clips that carry the class.
    """

    name: str
    average_precision: float | None
    chance: float
    auc: float | None
    d_prime: float | None
    positives: int


def class_rows(scores: Scores, labels: LabelSet, *, present: bool) -> list[ClassRow]:
    """The scores class by class, in the order of the labels; with `present`, of the classes with positives alone."""
    return [
        ClassRow(
            name=name,
            average_precision=_known(scores.average_precision[i]),
            chance=float(scores.chance[i]),
            auc=_known(scores.auc[i]),
            d_prime=_known(d_prime(float(scores.auc[i]))),
            positives=int(scores.positives[i]),
        )
        for i, name in enumerate(labels)
        if scores.positives[i] or not present
    ]


def extreme_classes(scores: Scores, labels: LabelSet, *, most: int = 5) -> tuple[dict[str, float], dict[str, float]]:
    """The classes of the greatest and of the smallest average precision, with it; the extreme ones come first.

    Args:
      scores: of all classes; those without an average precision are left out.
      labels: their names.
      most: how many of each; fewer where a class would be among both.
    """
    known = np.flatnonzero(~np.isnan(scores.average_precision))
    ranked = known[np.argsort(-scores.average_precision[known], kind="stable")]
    count = min(most, (len(ranked) + 1) // 2)

    def told(classes: np.ndarray) -> dict[str, float]:
        return {labels[int(i)]: float(scores.average_precision[i]) for i in classes}

    return told(ranked[:count]), told(ranked[::-1][:count])


def means(scores: Scores) -> list[tuple[str, float | int]]:
    """The mean figures by their names in the paper, and the number of clips."""
    return [
        ("clips", scores.clips),
        ("mAP", scores.mean_average_precision),
        ("mAUC", scores.mean_auc),
        ("d_prime", scores.d_prime),
    ]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _text(scores: Scores, rows: list[ClassRow]) -> str:
    width = max([len(row.name) for row in rows] + [len("class")])
    lines = [f"{'class':<{width}}      AP  chance     AUC      d'   clips"]
    for row in rows:
        figures = (row.average_precision, row.chance, row.auc, row.d_prime)
        told = "  ".join(f"{'-' if figure is None else f'{figure:.3f}':>6}" for figure in figures)
        lines.append(f"{row.name:<{width}}  {told}  {row.positives:>6}")
    lines.append("")
    lines += [f"{name} {value}" if isinstance(value, int) else f"{name} {value:.3f}" for name, value in means(scores)]
    return "\n".join(lines) + "\n"


def _json(scores: Scores, rows: list[ClassRow]) -> str:
    whole = {**dict(means(scores)), "classes": [dataclasses.asdict(row) for row in rows]}
    return json.dumps(_without_infinities(whole), indent=2, ensure_ascii=False) + "\n"


def _csv(scores: Scores, rows: list[ClassRow]) -> str:
    del scores  # the means follow from the lines
    text = io.StringIO()
    lines = csv.DictWriter(text, [field.name for field in dataclasses.fields(ClassRow)], lineterminator="\n")
    lines.writeheader()
    lines.writerows(dataclasses.asdict(row) for row in rows)
    return text.getvalue()


REPORTS = {"text": _text, "json": _json, "csv": _csv}
"""How scores are told, by the name of the format."""


def _without_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_infinities(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_infinities(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
