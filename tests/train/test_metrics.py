"""Metrics as scikit-learn defines them, and what is left out of the means."""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from panns_jax.train.metrics import d_prime, score


def column(*values):
    return np.array(values)[:, None]


def test_a_case_worked_by_hand():
    # By falling score: hit, miss, hit, miss. Precision at the hits: 1/1 and 2/3.
    scores = score(column(True, False, True, False), column(0.9, 0.8, 0.7, 0.1))
    assert scores.average_precision[0] == pytest.approx((1 + 2 / 3) / 2)
    assert scores.auc[0] == pytest.approx(3 / 4)  # 3 of the 4 pairs are in order
    assert scores.chance[0] == 0.5
    assert scores.clips == 4


def test_equal_scores_are_one_step_of_the_curve():
    scores = score(column(True, False, True, False), column(0.5, 0.5, 0.5, 0.5))
    assert scores.average_precision[0] == 0.5
    assert scores.auc[0] == 0.5


def test_a_class_without_positives_is_left_out_of_the_means():
    target = np.array([[True, False, True], [False, False, True]])
    clipwise = np.array([[0.9, 0.5, 0.5], [0.1, 0.6, 0.6]])
    scores = score(target, clipwise)
    assert np.isnan(scores.average_precision).tolist() == [False, True, False]
    assert np.isnan(scores.auc).tolist() == [False, True, True]  # the last class has no negatives
    assert scores.mean_average_precision == 1
    assert scores.mean_auc == 1
    assert scores.d_prime == math.inf
    assert scores.positives.tolist() == [1, 0, 2]


def test_without_any_positive_there_is_no_mean():
    scores = score(np.zeros((3, 2), bool), np.zeros((3, 2)))
    assert math.isnan(scores.mean_average_precision)
    assert math.isnan(scores.mean_auc)
    assert math.isnan(scores.d_prime)


@pytest.mark.parametrize(("auc", "want"), [(0.5, 0.0), (0.973, 2.725), (1.0, math.inf), (0.0, -math.inf)])
def test_d_prime(auc, want):
    assert d_prime(auc) == pytest.approx(want, abs=1e-3)


@hypothesis.given(data=st.data())
def test_the_auc_is_the_share_of_pairs_in_order(data):
    clips = data.draw(st.integers(2, 30))
    target = np.array(data.draw(st.lists(st.booleans(), min_size=clips, max_size=clips)))
    hypothesis.assume(target.any() and not target.all())
    values = np.array(data.draw(st.lists(st.integers(0, 5), min_size=clips, max_size=clips))) / 5
    pairs = values[target][:, None] - values[~target][None, :]
    want = np.mean((pairs > 0) + 0.5 * (pairs == 0))
    assert score(target[:, None], values[:, None]).auc[0] == pytest.approx(want)
