"""What runs of one's own reached, found in workspaces, and which of the paper's experiments each of them is."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from panns_jax.errors import InputError
from panns_jax.models.config import require_precision
from panns_jax.pretrained.paper import PaperFigures
from panns_jax.train.experiment import configured_model
from panns_jax.train.metrics import d_prime
from panns_jax.train.options import DEFAULTS, FREE, Train
from panns_jax.train.runs import Run
from panns_jax.train.statistics import read_statistics

_CLASSES = 527
_FRONTEND = ("sample_rate", "window_size", "hop_size", "mel_bins", "fmin", "fmax")
# What an experiment is about. What else a run does in another way is told beside its figures.
_IDENTITY = ("model_type", "data_type", "data_fraction", "balanced", "augmentation", *_FRONTEND)
_UNTOLD = FREE | {"seed", *_IDENTITY}


@dataclasses.dataclass(frozen=True)
class LocalResult:
    """The best evaluation of a run, by mAP on the evaluation set.

    Attributes:
      run: the run's name.
      workspace: that it lies in.
      iteration: of the evaluation.
      clips: that the run trains on; None where it does not tell.
      figures: as the paper's tables have them.
      differs: what the run does in another way than the experiment, such as "batch_size 16".
    """

    run: str
    workspace: Path
    iteration: int
    clips: int | None
    figures: PaperFigures
    differs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class ScoredRun:
    """A run that was evaluated.

    Attributes:
      options: that it was started with, resolved.
      result: its best evaluation.
    """

    options: Mapping[str, Any]
    result: LocalResult


def scored_runs(workspaces: Iterable[Path]) -> tuple[list[ScoredRun], list[str]]:
    """The runs of some workspaces that were evaluated after their beginning, and a sentence for each damaged one.

    Raises:
      InputError: there is no such workspace.
    """
    found, faults = [], []
    for workspace in workspaces:
        if not workspace.is_dir():
            raise InputError(
                f"--workspace {workspace}: there is no such folder; name a folder that runs were trained in"
            )
        for config in sorted(workspace.glob("checkpoints/*/config.json")):
            run = Run(workspace, config.parent.name)
            try:
                scored = _scored(run)
            except InputError as error:
                faults.append(str(error))
                continue
            if scored is not None:
                found.append(scored)
    return found, faults


def _scored(run: Run) -> ScoredRun | None:
    options, path = run.saved_options(), run.statistics / "statistics.npz"
    if options is None or not path.exists():
        return None
    entries = [
        (float(np.nanmean(entry["average_precision"])), entry)
        for entry in read_statistics(path)["test"]
        if entry["iteration"] > 0 and not np.isnan(entry["average_precision"]).all()
    ]
    if not entries:
        return None
    score, entry = max(entries, key=lambda one: one[0])
    auc = float("nan") if np.isnan(entry["auc"]).all() else float(np.nanmean(entry["auc"]))
    figures = PaperFigures(score, _finite(auc), _finite(d_prime(auc)))
    clips = options.get("training_clips")
    return ScoredRun(options, LocalResult(run.name, run.workspace, entry["iteration"], clips, figures))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def best_result(runs: Sequence[ScoredRun], preset: Train) -> LocalResult | None:
    """The best of the runs that are a preset's experiment; None where none is."""
    wanted = _resolved(preset)
    same = [run for run in runs if all(_value(run.options, name) == wanted[name] for name in _IDENTITY)]
    if not same:
        return None
    best = max(same, key=lambda run: run.result.figures.mean_average_precision)
    return dataclasses.replace(best.result, differs=tuple(_differences(best.options, wanted)))


def _resolved(preset: Train) -> dict[str, Any]:
    frontend = configured_model(preset, _CLASSES).frontend
    given = {**dataclasses.asdict(preset), **dataclasses.asdict(frontend)}
    return {**given, "precision": require_precision(preset.precision)}


def _value(options: Mapping[str, Any], name: str) -> Any:
    return options.get(name, DEFAULTS.get(name))


def _differences(options: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterable[str]:
    for name in sorted(wanted.keys() - _UNTOLD):
        if _value(options, name) != wanted[name]:
            yield f"{name} {_value(options, name)}"
    if options.get("classes", _CLASSES) != _CLASSES:
        yield f"{options['classes']} classes"
