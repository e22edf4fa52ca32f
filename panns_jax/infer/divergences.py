"""Kullback-Leibler divergence and inception score of logits, by the formulas of audioldm_eval."""

import itertools

import numpy as np
from jaxtyping import Float, Float64

# What audioldm_eval adds to the probabilities of what is judged before their logarithm.
_EPSILON = 1e-6

# How audioldm_eval draws the parts of the inception score.
_PARTS = 10
_SEED = 2020

Logits = Float[np.ndarray, "clips classes"]


def kullback_leibler(reference: Logits, judged: Logits) -> tuple[float, float]:
    """How far what is judged is from its reference, clip by clip, on average.

    Args:
      reference: logits.
      judged: logits of the clips with the same names, in the same order.

    Returns:
      Between the softmaxes, which are distributions over the classes; and between the sigmoids, for which only the
      probabilities of the classes are compared, not those of their absence: it may be below 0.
    """
    pairs = [(_softmax(reference), _softmax(judged)), (_sigmoid(reference), _sigmoid(judged))]
    softmax, sigmoid = (_divergence(target, prediction + _EPSILON) for target, prediction in pairs)
    return softmax, sigmoid


def inception_score(logits: Logits) -> tuple[float, float] | None:
    """How sure and how different the softmaxes of clips are: mean and standard deviation over ten parts of the clips.

    Args:
      logits: in the order of the clips' names; the parts are drawn with a fixed seed.

    Returns:
      From 1 to the number of classes; None where there are fewer clips than parts.
    """
    count = len(logits)
    if count < _PARTS:
        return None
    shuffled = _softmax(logits[np.random.RandomState(_SEED).permutation(count)])
    bounds = [part * count // _PARTS for part in range(_PARTS + 1)]
    scores = []
    for first, end in itertools.pairwise(bounds):
        part = shuffled[first:end]
        scores.append(np.exp(_divergence(part, np.broadcast_to(part.mean(axis=0), part.shape))))
    return float(np.mean(scores)), float(np.std(scores))


def _divergence(
    target: Float64[np.ndarray, "clips classes"], prediction: Float64[np.ndarray, "clips classes"]
) -> float:
    # What has no probability counts for nothing.
    parts = target * (np.log(np.where(target > 0, target, 1)) - np.log(np.where(target > 0, prediction, 1)))
    return float(parts.sum(axis=1).mean())


def _softmax(logits: Logits) -> Float64[np.ndarray, "clips classes"]:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True).astype(np.float64))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _sigmoid(logits: Logits) -> Float64[np.ndarray, "clips classes"]:
    return np.exp(-np.logaddexp(0, -logits.astype(np.float64)))
