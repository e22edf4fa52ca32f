"""Clips are scored as they come, batch by batch, and the scores are told."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from panns_jax.data.pipeline import evaluation_batches
from panns_jax.data.sources import ClipSource
from panns_jax.errors import InputError
from panns_jax.labels import numbered
from panns_jax.train.evaluation import evaluate
from panns_jax.train.metrics import Scores, score
from panns_jax.train.report import extreme_classes

pytest.importorskip("grain")


def test_padding_is_not_scored():
    rng = np.random.default_rng(0)
    target, clipwise = rng.random((10, 3)) < 0.5, rng.random((10, 3)).astype(np.float32)

    def batches():
        for first in range(0, 12, 4):
            rows = np.arange(first, first + 4)
            there = rows < 10
            kept = np.minimum(rows, 9)
            yield {"waveform": kept, "target": target[kept].astype(np.float32), "valid": there}

    advanced = []
    got = evaluate(lambda rows: clipwise[rows], batches(), clips=10, advance=advanced.append)
    want = score(target, clipwise)
    np.testing.assert_array_equal(got.average_precision, want.average_precision)
    np.testing.assert_array_equal(got.auc, want.auc)
    assert advanced == [4, 4, 2]


class Silence(ClipSource):
    """So many clips, which are made when they are read."""

    def __init__(self, clips: int) -> None:
        self.clips = clips
        self.samples, self.dtype = 8000, np.dtype(np.int16)

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __len__(self) -> int:
        return self.clips

    def labels(self, clips: np.ndarray) -> dict[str, np.ndarray]:
        target = np.zeros((len(clips), 527), bool)
        target[:, 0] = clips % 7 == 0  # one class is scored, so that this test takes no minute
        return {"audio_name": np.array([f"Y{clip}" for clip in clips]), "target": target}

    def waveforms(self, clips: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
        rows = np.empty((len(clips), self.samples), self.dtype) if out is None else out
        rows[:] = 0
        return rows


@pytest.mark.slow
def test_an_evaluation_needs_no_more_memory_than_its_scores_take():
    clipwise = np.random.default_rng(0).random((64, 527)).astype(np.float32)

    def peak(clips: int) -> int:
        tracemalloc.start()
        with evaluation_batches(Silence(clips), batch_size=64) as batches:
            scores = evaluate(lambda waveform: clipwise, batches, clips=clips)
        assert scores.positives[0] == -(-clips // 7)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few, many = 1000, 18887
    peak(few)  # what is imported and kept for good
    scores = (many - few) * 527 * (4 + 1)  # probabilities and targets
    assert peak(many) - peak(few) < scores + 4e6  # scikit-learn sorts a class at a time: some arrays of `many` numbers


def test_the_best_and_worst_classes_are_named():
    scores = Scores(9, np.ones(5, int), np.array([0.5, np.nan, 0.9, 0.1, 0.7]), np.full(5, 0.5))
    best, worst = extreme_classes(scores, numbered(5))
    assert list(best.items()) == [("class 2", 0.9), ("class 4", 0.7)]
    assert list(worst.items()) == [("class 3", 0.1), ("class 0", 0.5)]
    assert [list(some) for some in extreme_classes(scores, numbered(5), most=1)] == [["class 2"], ["class 3"]]


@pytest.mark.parametrize(("spoilt", "told"), [(7, "Y7.wav holds samples that are not finite"), (None, "are broken")])
def test_what_is_not_finite_in_an_evaluation_is_named(spoilt, told):
    waveform = np.zeros((9, 5), np.float32)
    if spoilt is not None:
        waveform[spoilt, 3] = np.nan
    batch = {
        "waveform": waveform,
        "target": np.zeros((9, 2), np.float32),
        "audio_name": np.array([f"Y{i}.wav" for i in range(9)]),
        "valid": np.arange(9) > 1,
    }
    broken = np.where(np.arange(9)[:, None] == 7, np.nan, np.zeros((9, 2), np.float32))
    with pytest.raises(InputError, match=told):
        evaluate(lambda waveform: broken, [batch], clips=7)
