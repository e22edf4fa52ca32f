"""How well clips are classified: where classes exclude each other, and where a clip may carry several."""

import dataclasses
import functools
import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from panns_jax.train.metrics import Scores, d_prime, score


@dataclasses.dataclass(frozen=True, eq=False)
class SingleLabelScores:
    """Figures of merit where each clip has one class.

    Attributes:
      confusion: number of clips of each class (row) that were taken for each class (column).
      average_precision_at_3: of each clip: 1, 1/2 or 1/3 where its class is the first, second or third in probability,
        else 0.
    """

    confusion: Int[np.ndarray, "classes classes"]
    average_precision_at_3: Float[np.ndarray, " clips"]

    @property
    def clips(self) -> int:
        """Number of clips scored."""
        return int(self.confusion.sum())

    @property
    def positives(self) -> Int[np.ndarray, " classes"]:
        """Number of clips of each class."""
        return self.confusion.sum(axis=1)

    @property
    def accuracy(self) -> float:
        """Share of the clips that are taken for what they are."""
        return float(np.trace(self.confusion) / self.clips)

    @property
    def recall(self) -> Float[np.ndarray, " classes"]:
        """The same of the clips of each class; NaN where there are none."""
        return _shares(np.diag(self.confusion), self.positives)

    @property
    def precision(self) -> Float[np.ndarray, " classes"]:
        """Share of the clips taken for a class that are of it; NaN where there are none."""
        return _shares(np.diag(self.confusion), self.confusion.sum(axis=0))

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that have clips."""
        return float(np.nanmean(self.recall))

    @property
    def map_at_3(self) -> float:
        """mAP@3, the mean of `average_precision_at_3`."""
        return float(self.average_precision_at_3.mean())


def score_single(
    target: Bool[np.ndarray, "clips classes"], clipwise: Float[np.ndarray, "clips classes"]
) -> SingleLabelScores:
    """Scores probabilities of classes that exclude each other.

    Args:
      target: the class of each clip, at least one clip.
      clipwise: probability of each class; of equal ones the first counts as higher.
    """
    classes = target.shape[1]
    true = target.argmax(axis=1)
    order = np.argsort(-clipwise, axis=1, kind="stable")
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (true, order[:, 0]), 1)
    rank = (order == true[:, None]).argmax(axis=1)
    return SingleLabelScores(confusion, np.where(rank < 3, 1 / (rank + 1), 0.0))


AnyScores = SingleLabelScores | Scores


def scored(
    target: Bool[np.ndarray, "clips classes"], clipwise: Float[np.ndarray, "clips classes"], *, multi_label: bool
) -> AnyScores:
    """Scores probabilities; of `multi_label` by scikit-learn.

    Raises:
      InputError: scikit-learn is not installed.
    """
    return score(target, clipwise) if multi_label else score_single(target, clipwise)


def figures(scores: AnyScores) -> dict[str, float]:
    """The mean figures by their names."""
    if isinstance(scores, SingleLabelScores):
        return {
            "accuracy": scores.accuracy,
            "balanced_accuracy": scores.balanced_accuracy,
            "mAP@3": scores.map_at_3,
        }
    return {"mAP": scores.mean_average_precision, "mAUC": scores.mean_auc, "d_prime": scores.d_prime}


def class_figures(scores: AnyScores) -> dict[str, Float[np.ndarray, " classes"]]:
    """The figures of each class by their names; NaN where a class has none."""
    if isinstance(scores, SingleLabelScores):
        recall, precision = scores.recall, scores.precision
        whole = np.maximum(scores.positives + scores.confusion.sum(axis=0), 1)
        f1 = np.where(scores.positives > 0, 2 * np.diag(scores.confusion) / whole, np.nan)
        return {"recall": recall, "precision": precision, "F1": f1}
    d_primes = np.array([d_prime(float(auc)) for auc in scores.auc])
    return {"AP": scores.average_precision, "AUC": scores.auc, "d_prime": d_primes}


def validation_score(
    target: Bool[np.ndarray, "clips classes"], clipwise: Float[np.ndarray, "clips classes"], *, multi_label: bool
) -> tuple[float, float]:
    """What tells which epoch was the best: accuracy, or mAP; and, where that is equal, minus the loss.

    Args:
      target: the classes of each clip, at least one clip.
      clipwise: their probabilities.
      multi_label: whether a clip may carry several.
    """
    p = np.clip(clipwise.astype(np.float64), 1e-12, 1 - 1e-12)
    if not multi_label:
        accuracy = float((clipwise.argmax(axis=1) == target.argmax(axis=1)).mean())
        return accuracy, float(np.log(p)[target].sum() / len(target))
    likelihood = np.where(target, np.log(p), np.log1p(-p)).mean()
    return mean_average_precision(target, clipwise), float(likelihood)


def mean_average_precision(
    target: Bool[np.ndarray, "clips classes"], clipwise: Float[np.ndarray, "clips classes"]
) -> float:
    """mAP as scikit-learn computes it, of all classes at once: as often as epochs end, one by one takes too long."""
    order = np.argsort(-clipwise, axis=0, kind="stable")
    ranked, hits = np.take_along_axis(clipwise, order, axis=0), np.take_along_axis(target, order, axis=0)
    found = np.cumsum(hits, axis=0)
    # Clips of equal probability count together: each looks at the last of them.
    place = np.arange(len(target))[:, None]
    is_last = np.concatenate([ranked[:-1] != ranked[1:], np.ones((1, target.shape[1]), bool)])
    last = np.minimum.accumulate(np.where(is_last, place, len(target))[::-1], axis=0)[::-1]
    precision = np.take_along_axis(found, last, axis=0) / (last + 1)
    positives = found[-1]
    known = positives > 0
    return float(((hits * precision).sum(axis=0)[known] / positives[known]).mean()) if known.any() else math.nan


@functools.singledispatch
def to_json(scores: Any) -> dict[str, Any]:
    """The figures for programs; None where there are none."""
    raise TypeError(type(scores).__name__)


@to_json.register
def _(scores: SingleLabelScores) -> dict[str, Any]:
    return {"clips": scores.clips, **figures(scores), "confusion": scores.confusion.tolist()}


@to_json.register
def _(scores: Scores) -> dict[str, Any]:
    known = {name: value if math.isfinite(value) else None for name, value in figures(scores).items()}
    return {"clips": scores.clips, **known}


def _shares(parts: Int[np.ndarray, " n"], wholes: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return np.where(wholes > 0, parts / np.maximum(wholes, 1), np.nan)
