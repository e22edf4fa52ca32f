"""Kullback-Leibler divergence and inception score."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panns_jax.infer.divergences import inception_score, kullback_leibler


def logits_of(probabilities: list[list[float]]) -> np.ndarray:
    return np.log(np.array(probabilities)).astype(np.float32)


def test_divergences_are_those_of_the_definition():
    reference, judged = logits_of([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]), logits_of([[0.25, 0.5, 0.25], [0.2, 0.2, 0.6]])
    softmax, sigmoid = kullback_leibler(reference, judged)
    assert softmax == pytest.approx(0.5 * (0.5 * math.log(2) - 0.25 * math.log(2)), abs=1e-5)
    # Of logits log p, the sigmoid is p / (1 + p): 1/3 and 1/5 here.
    assert sigmoid == pytest.approx(0.5 * (1 / 3 * math.log(5 / 3) + 1 / 5 * math.log(3 / 5)), abs=1e-5)


def test_a_class_that_is_never_heard_is_no_infinity():
    reference, judged = np.array([[50.0, -900.0]], np.float32), np.array([[-900.0, 50.0]], np.float32)
    softmax, sigmoid = kullback_leibler(reference, judged)
    assert softmax == pytest.approx(-math.log(1e-6), rel=1e-4)  # what audioldm_eval adds to the prediction
    assert sigmoid == pytest.approx(-math.log(1e-6), rel=1e-4)


@given(st.integers(0, 1000))
def test_divergences_are_those_of_another_way_to_write_them(seed):
    special = pytest.importorskip("scipy.special", reason="SciPy is not installed")
    reference, judged = np.random.default_rng(seed).normal(0, 4, (2, 7, 11)).astype(np.float32)
    expected = []
    for activation in (lambda x: special.softmax(x.astype(float), axis=1), lambda x: special.expit(x.astype(float))):
        target, prediction = activation(reference), activation(judged) + 1e-6
        expected.append((special.rel_entr(target, prediction)).sum() / 7)
    assert kullback_leibler(reference, judged) == pytest.approx(expected, rel=1e-9)


def test_clips_that_are_sure_of_different_classes_score_their_number_and_equal_ones_1():
    everything_once = np.where(np.eye(4), 50.0, -50.0).astype(np.float32)
    score = inception_score(np.tile(everything_once, (1000, 1)))
    assert score is not None
    assert score[0] == pytest.approx(4, rel=0.01)
    assert inception_score(np.zeros((40, 4), np.float32)) == pytest.approx((1, 0))


def test_the_parts_are_those_that_audioldm_eval_draws():
    """Each clip of its own class: a part of n clips scores n, and 23 clips make parts of 2 and 3."""
    clips = np.where(np.eye(23), 80.0, -80.0).astype(np.float32)
    sizes = [(part + 1) * 23 // 10 - part * 23 // 10 for part in range(10)]
    assert inception_score(clips) == pytest.approx((np.mean(sizes), np.std(sizes)), rel=1e-6)
    # Which clips make a part follows from the fixed seed: here the second half is sure of one class.
    clips[12:] = clips[12]
    order = np.random.RandomState(2020).permutation(23)
    scores = []
    for part in range(10):
        rows = order[part * 23 // 10 : (part + 1) * 23 // 10]
        classes = np.minimum(rows, 12)
        _, counts = np.unique(classes, return_counts=True)
        shares = counts / counts.sum()
        scores.append(np.exp(-(shares * np.log(shares)).sum()))
    assert inception_score(clips) == pytest.approx((np.mean(scores), np.std(scores)), rel=1e-6)


def test_fewer_clips_than_parts_have_no_score():
    assert inception_score(np.zeros((9, 4), np.float32)) is None
