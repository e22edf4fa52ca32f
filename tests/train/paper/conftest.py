"""Runs of which nothing is there but what tables read: the options and the statistics."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from panns_jax.train.experiment import configured_model
from panns_jax.train.metrics import Scores
from panns_jax.train.options import Train
from panns_jax.train.runs import Run
from panns_jax.train.statistics import Statistics


def scores(average_precision: float, auc: float) -> Scores:
    each = np.array([average_precision - 0.01, average_precision + 0.01, np.nan])
    areas = np.array([auc, auc, np.nan])
    return Scores(clips=9, positives=np.array([1, 2, 0]), average_precision=each, auc=areas)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """A run of a preset's options in a workspace, `figures` (mAP, mAUC) of iterations 0, 2000, …"""

    def make(name: str, config: Train, *figures: tuple[float, float], workspace: str = "W", **changed: Any) -> Path:
        run = Run(tmp_path / workspace, name)
        frontend = dataclasses.asdict(configured_model(config, 527).frontend)
        known = {**dataclasses.asdict(config), **frontend, "classes": 527, "training_clips": 1_800_000}
        run.create({**known, **changed, "workspace": str(run.workspace)})
        statistics = Statistics(run.statistics, until=None)
        for number, (precision, auc) in enumerate(figures):
            statistics.add(2000 * number, {"bal": scores(0.9, 0.99), "test": scores(precision, auc)})
        return run.workspace

    return make
