"""Scores of clips with one class each, and the mAP that chooses among epochs."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from panns_jax.train.finetune.scores import (
    class_figures,
    figures,
    mean_average_precision,
    score_single,
    validation_score,
)
from panns_jax.train.metrics import score


@hypothesis.given(
    arrays.arrays(bool, (9, 3)), arrays.arrays(np.float32, (9, 3), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
)
def test_the_map_of_all_classes_at_once_is_scikit_learns_with_ties_too(target, clipwise):
    expected = score(target, clipwise).mean_average_precision
    np.testing.assert_allclose(mean_average_precision(target, clipwise), expected, atol=1e-7)


def test_scores_of_one_class_each_are_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 40)
    clipwise = rng.random((40, 4))
    target = np.eye(4, dtype=bool)[true]
    scores, taken = score_single(target, clipwise), clipwise.argmax(axis=1)
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(true, taken))
    recall = metrics.recall_score(true, taken, labels=[0, 1, 2], average=None)
    assert scores.balanced_accuracy == pytest.approx(recall.mean())
    np.testing.assert_array_equal(scores.confusion, metrics.confusion_matrix(true, taken, labels=range(4)))
    f1 = metrics.f1_score(true, taken, labels=[0, 1, 2], average=None)
    np.testing.assert_allclose(class_figures(scores)["F1"][:3], f1)
    assert np.isnan(scores.recall[3])  # no clip is of this class


def test_map_at_3_counts_where_among_the_first_three_the_class_is():
    clipwise = np.array([[0.4, 0.3, 0.2, 0.1]] * 4)
    assert figures(score_single(np.eye(4, dtype=bool), clipwise))["mAP@3"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 4)


@pytest.mark.parametrize("multi_label", [False, True])
def test_of_equal_scores_the_one_with_the_smaller_loss_is_better(multi_label: bool):
    target = np.eye(2, dtype=bool)
    sure, unsure = np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([[0.6, 0.4], [0.4, 0.6]])
    better, worse = (validation_score(target, one, multi_label=multi_label) for one in (sure, unsure))
    assert better[0] == worse[0] == 1
    assert better > worse
