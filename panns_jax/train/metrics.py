"""How good scores are: average precision, ROC AUC and d′, per class and mean."""

import dataclasses
import math
import statistics

import numpy as np
from jaxtyping import Bool, Float, Int

from panns_jax.errors import require_extra


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Figures of merit per class; NaN where a class has none.

    Attributes:
      clips: number of clips scored.
      positives: number of clips that carry each class.
      average_precision: area under each class's precision-recall curve, by steps; NaN without positives.
      auc: area under each class's ROC curve; NaN without positives or without negatives.
    """

    clips: int
    positives: Int[np.ndarray, " classes"]
    average_precision: Float[np.ndarray, " classes"]
    auc: Float[np.ndarray, " classes"]

    @property
    def mean_average_precision(self) -> float:
        """mAP: mean over the classes that have positives; NaN where none has."""
        return _mean(self.average_precision)

    @property
    def mean_auc(self) -> float:
        """mAUC: mean over the classes that have an AUC; NaN where none has."""
        return _mean(self.auc)

    @property
    def d_prime(self) -> float:
        """d′ of the mean AUC, as the paper's tables give it."""
        return d_prime(self.mean_auc)

    @property
    def chance(self) -> Float[np.ndarray, " classes"]:
        """What random scores reach on average as average precision: the share of clips that carry the class."""
        return self.positives / self.clips


def score(target: Bool[np.ndarray, "clips classes"], clipwise: Float[np.ndarray, "clips classes"]) -> Scores:
    """Scores clipwise probabilities as scikit-learn's `average_precision_score` and `roc_auc_score` do.

    Args:
      target: which classes each clip carries; at least one clip.
      clipwise: probability, or any score that rises with it, of each class in each clip; finite.

    Raises:
      InputError: scikit-learn is not installed.
    """
    average_precision_score, roc_auc_score = _scikit_learn()
    clips, classes = target.shape
    positives = target.sum(axis=0)
    average_precision = np.full(classes, np.nan)
    auc = np.full(classes, np.nan)
    for i in np.flatnonzero(positives):
        average_precision[i] = average_precision_score(target[:, i], clipwise[:, i])
        if positives[i] < clips:
            auc[i] = roc_auc_score(target[:, i], clipwise[:, i])
    return Scores(clips, positives, average_precision, auc)


def d_prime(auc: float) -> float:
    """d′ = √2 · Φ⁻¹(AUC): how many standard deviations apart two normal distributions have this AUC.

    Args:
      auc: in [0, 1]; at its ends d′ is infinite. NaN gives NaN.
    """
    if math.isnan(auc):
        return math.nan
    if auc in (0.0, 1.0):
        return math.copysign(math.inf, auc - 0.5)
    return math.sqrt(2) * statistics.NormalDist().inv_cdf(auc)


def _mean(values: Float[np.ndarray, " classes"]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _scikit_learn():
    require_extra("scoring", "train", "sklearn")
    from sklearn.metrics import average_precision_score, roc_auc_score

    return average_precision_score, roc_auc_score
