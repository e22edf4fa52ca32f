"""The scores of a fine-tuning as a file for programs, beside its report."""

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panns_jax.errors import InputError
from panns_jax.files import require_file
from panns_jax.train.finetune.scores import figures

if TYPE_CHECKING:
    from panns_jax.train.finetune.task import Result


def figures_text(result: "Result") -> str:
    """JSON with "strategy", "model", "classes", "clips", and "scores" of the test part by the metrics' names, with
    "folds" their means; and, where there are folds, "deviations", their standard deviations."""
    tested = [outcome.scores for outcome in (result.folds or (result.final,)) if outcome.scores is not None]
    each = [figures(scores) for scores in tested]
    values = {name: [of[name] for of in each] for name in (each[0] if each else ())}
    told: dict[str, Any] = {
        "model": result.model.config.name,
        "strategy": result.options.strategy,
        "data": result.options.data,
        "classes": len(result.material.labelled.labels),
        "clips": len(result.material.labelled),
        "folds": len(result.folds),
        "test_clips": sum(scores.clips for scores in tested),
        "scores": {name: _mean(of) for name, of in values.items()},
    }
    if result.folds:
        told["deviations"] = {name: _deviation(of) for name, of in values.items()}
    return json.dumps(told, indent=2) + "\n"


def read_figures(path: Path) -> dict[str, Any]:
    """What `figures_text` wrote.

    Raises:
      InputError: the file is missing, or is none of that kind.
    """
    require_file(path, "the figures of a fine-tuning")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        scores = told["scores"]
        if not all(value is None or isinstance(value, int | float) for value in scores.values()):
            raise TypeError
        texts = {name: str(told[name]) for name in ("model", "strategy", "data")}
        return {**texts, **{name: int(told[name]) for name in ("clips", "folds", "test_clips")}, "scores": scores}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is not the .json that panns-jax finetune writes beside its report") from error


def _known(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(_known(values)) if _known(values) else None


def _deviation(values: Sequence[float]) -> float | None:
    return statistics.stdev(_known(values)) if len(_known(values)) > 1 else None
