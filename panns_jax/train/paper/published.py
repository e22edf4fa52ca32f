"""The paper's tables: which preset makes each row, and what was published of it."""

import dataclasses
from collections.abc import Mapping

from panns_jax.pretrained.paper import FIGURES, PaperFigures


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
      label: what it is called there.
      preset: the experiment's; None for systems of others.
      figures: as published.
    """

    label: str
    preset: str | None
    figures: PaperFigures


def _model(name: str, label: str | None = None) -> Row:
    return Row(label or name, name.lower(), FIGURES[name])


def _variant(label: str, preset: str, *figures: float) -> Row:
    return Row(label, preset, PaperFigures(*figures))


_SYSTEMS = (
    *("Cnn6", "Cnn10", "Cnn14", "ResNet22", "ResNet38", "ResNet54", "MobileNetV1", "MobileNetV2", "DaiNet19"),
    *("LeeNet11", "LeeNet24", "Res1dNet31", "Res1dNet51", "Wavegram_Cnn14", "Wavegram_Logmel_Cnn14"),
)
SYSTEMS = tuple(map(_model, _SYSTEMS))
"""The 15 systems of the paper."""

ABLATIONS: Mapping[str, tuple[Row, ...]] = {
    "augmentation": (
        _variant("20k clips, not balanced, no mixup", "cnn14_20k_plain", 0.224, 0.894, 1.763),
        _variant("20k clips, balanced, no mixup", "cnn14_20k_balanced", 0.221, 0.879, 1.652),
        _variant("20k clips, balanced, mixup", "cnn14_20k_mixup", 0.278, 0.905, 1.850),
        _variant("1.9M clips, not balanced, no mixup", "cnn14_plain", 0.375, 0.971, 2.690),
        _variant("1.9M clips, balanced, no mixup", "cnn14_balanced", 0.416, 0.968, 2.613),
        _model("Cnn14", "1.9M clips, balanced, mixup"),
        _model("Cnn14_mixup_time_domain", "1.9M clips, balanced, mixup of waveforms"),
    ),
    "hop": (
        _variant("1000", "cnn14_hop1000", 0.400, 0.969, 2.645),
        _variant("640", "cnn14_hop640", 0.417, 0.972, 2.711),
        _variant("500", "cnn14_hop500", 0.417, 0.971, 2.682),
        _model("Cnn14", "320"),
    ),
    "embedding": (
        _model("Cnn14_emb32", "32"),
        _model("Cnn14_emb128", "128"),
        _model("Cnn14_emb512", "512"),
        _model("Cnn14", "2048"),
    ),
    "data": (
        _variant("50 %", "cnn14_data50", 0.406, 0.964, 2.543),
        _variant("80 %", "cnn14_data80", 0.426, 0.971, 2.677),
        _model("Cnn14", "100 %"),
    ),
    "sample-rate": (
        _model("Cnn14_8k", "8000 Hz"),
        _model("Cnn14_16k", "16000 Hz"),
        _model("Cnn14", "32000 Hz"),
    ),
    "mel-bins": (
        _model("Cnn14_mel32", "32"),
        _model("Cnn14", "64"),
        _model("Cnn14_mel128", "128"),
    ),
}
"""What was changed of Cnn14, and its rows."""

PREVIOUS = (
    Row("Google CNN", None, PaperFigures(0.314, 0.959, 2.452)),
    *(
        Row(label, None, PaperFigures(score, None, None))
        for label, score in (
            ("Single-level attention", 0.337),
            ("Multi-level attention", 0.360),
            ("Large feature-level attention", 0.369),
            ("TAL Net", 0.362),
            ("DeepRes", 0.392),
        )
    ),
    _model("Cnn14"),
    _model("Wavegram_Logmel_Cnn14"),
)
"""Earlier systems, and what the paper set beside them."""

STRATEGIES = ("scratch", "fine_tune", "freeze_L1", "freeze_L3")


@dataclasses.dataclass(frozen=True)
class Task:
    """A task that the paper transferred Cnn14 to.

    Attributes:
      label: what it is called there.
      metric: what was scored: "accuracy", or "mAP@3".
      scores: by strategy, as published.
    """

    label: str
    metric: str
    scores: Mapping[str, float]


def _task(label: str, *scores: float, metric: str = "accuracy") -> Task:
    return Task(label, metric, dict(zip(STRATEGIES, scores, strict=True)))


TRANSFER: Mapping[str, Task] = {
    "esc50": _task("ESC-50", 0.833, 0.947, 0.908, 0.918),
    "dcase2019_task1": _task("DCASE 2019 Task 1", 0.691, 0.764, 0.589, 0.607),
    "dcase2018_task2": _task("DCASE 2018 Task 2", 0.902, 0.941, 0.717, 0.768, metric="mAP@3"),
    "msos": _task("MSoS", 0.760, 0.960, 0.886, 0.930),
    "gtzan": _task("GTZAN", 0.758, 0.915, 0.827, 0.858),
    "ravdess": _task("RAVDESS", 0.692, 0.721, 0.397, 0.401),
}
"""By the beginning of the presets' names, which a strategy ends."""


def published_score(preset: str) -> tuple[str, float] | None:
    """Metric and score that the paper has of a preset's experiment, or else its released file's name; None for none."""
    for name, task in TRANSFER.items():
        for strategy, score in task.scores.items():
            if preset == f"{name}_{strategy.lower()}":
                return task.metric, score
    rows = (*SYSTEMS, *(row for table in ABLATIONS.values() for row in table))
    found = next((row for row in rows if row.preset == preset), None)
    if found is not None:
        return "mAP", found.figures.mean_average_precision
    from panns_jax.pretrained.catalogue import RELEASED

    score = next((file.mean_average_precision for file in RELEASED if file.model.lower() == preset), None)
    return None if score is None else ("mAP", score)
