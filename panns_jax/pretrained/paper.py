"""What the paper tells of its models: figures on AudioSet's evaluation set, and how they were trained.

A released file has an mAP of its own in its name, which differs from the paper's for the 16 and 8 kHz models.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

PAPER = "https://arxiv.org/abs/1912.10211"
DOI = "10.1109/TASLP.2020.3030497"
CITATION = (
    "Q. Kong, Y. Cao, T. Iqbal, Y. Wang, W. Wang, M. D. Plumbley: PANNs: Large-Scale Pretrained Audio Neural Networks"
    " for Audio Pattern Recognition. IEEE/ACM Transactions on Audio, Speech, and Language Processing 28 (2020),"
    f" 2880–2894, doi:{DOI}"
)


@dataclasses.dataclass(frozen=True)
class PaperFigures:
    """A model's row in the paper's tables.

    Attributes:
      mean_average_precision: mAP, in [0, 1].
      mean_auc: mean area under the ROC curves, in [0, 1]; None where an earlier system was published without.
      d_prime: d′; None where it is not told, or as printed cannot be.
      giga_operations: 10⁹ operations per clip of 10 s, 2 for each multiply-add; None for the models of the ablations.
    """

    mean_average_precision: float
    mean_auc: float | None
    d_prime: float | None
    giga_operations: float | None = None


FIGURES: Mapping[str, PaperFigures] = {
    "Cnn6": PaperFigures(0.343, 0.965, 2.568, 21.986),
    "Cnn10": PaperFigures(0.380, 0.971, 2.678, 28.166),
    "Cnn14": PaperFigures(0.431, 0.973, 2.732, 42.220),
    "Cnn14_16k": PaperFigures(0.427, 0.973, 2.719),
    "Cnn14_8k": PaperFigures(0.406, 0.970, 2.654),
    "Cnn14_emb512": PaperFigures(0.420, 0.971, 2.689),
    "Cnn14_emb128": PaperFigures(0.412, 0.969, 2.634),
    "Cnn14_emb32": PaperFigures(0.364, 0.958, 2.437),
    "Cnn14_mel32": PaperFigures(0.413, 0.971, 2.691),
    "Cnn14_mel128": PaperFigures(0.442, 0.973, 2.735),
    "Cnn14_mixup_time_domain": PaperFigures(0.425, 0.973, 2.720),
    "ResNet22": PaperFigures(0.430, 0.973, None, 30.081),
    "ResNet38": PaperFigures(0.434, 0.974, 2.737, 48.962),
    "ResNet54": PaperFigures(0.429, 0.971, 2.675, 54.563),
    "MobileNetV1": PaperFigures(0.389, 0.970, 2.653, 3.614),
    "MobileNetV2": PaperFigures(0.383, 0.968, 2.624, 2.810),
    "DaiNet19": PaperFigures(0.295, 0.958, 2.437, 30.395),
    "LeeNet11": PaperFigures(0.266, 0.953, 2.371, 4.741),
    "LeeNet24": PaperFigures(0.336, 0.963, 2.525, 26.369),
    "Res1dNet31": PaperFigures(0.365, 0.958, 2.444, 32.688),
    "Res1dNet51": PaperFigures(0.355, 0.948, 2.295, 61.833),
    "Wavegram_Cnn14": PaperFigures(0.389, 0.968, 2.612, 44.234),
    "Wavegram_Logmel_Cnn14": PaperFigures(0.439, 0.973, 2.720, 53.510),
}
"""By model; the systems table first of all, and for the variants of Cnn14 the ablations."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """How the paper's models were trained, with Adam (0.9, 0.999, 1e-8, AMSGrad, no weight decay).

    The front end's settings (window, hop, mel bins, frequencies), SpecAugment and what mixup blends are those of the
    model's row in the registry.

    Attributes:
      data: balanced and unbalanced training set together.
      balanced: sampling by class.
      augmentation: mixup of pairs, of which `batch_size` come out; twice as many clips go in.
      batch_size: clips per iteration.
      learning_rate: constant.
      iterations: number of batches.
      decimation: the model heard every so manieth sample of 32 kHz audio, without a low-pass before.
    """

    data: Literal["full_train"] = "full_train"
    balanced: Literal["balanced"] = "balanced"
    augmentation: Literal["mixup"] = "mixup"
    batch_size: int = 32
    learning_rate: float = 1e-3
    iterations: int = 600_000
    decimation: int = 1
