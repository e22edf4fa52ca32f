"""`panns-jax evaluate --data`: a model on labelled sounds of one's own."""

import csv
import io
import json
import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float

from panns_jax.data.labelled.batches import evaluation_windows
from panns_jax.data.labelled.card import data_card
from panns_jax.data.labelled.clips import LabelledSet
from panns_jax.data.labelled.decoded import Decoded, ahead
from panns_jax.errors import InputError
from panns_jax.infer.listener import Listener
from panns_jax.labels import LabelSet
from panns_jax.models.config import ModelConfig
from panns_jax.models.model import Model
from panns_jax.models.transfer import TransferHead
from panns_jax.progress import progress_bar
from panns_jax.train.finetune.features import mean_of_windows
from panns_jax.train.finetune.scores import AnyScores, SingleLabelScores, class_figures, figures, scored, to_json

LONGEST = 10.0
"""Seconds of a clip beyond which it is heard in windows, where nothing else is said."""


def takes_several(config: ModelConfig) -> bool:
    """Whether a model was made for clips that may carry several of its classes, or none, as far as it tells."""
    if config.tuning is not None:
        return config.tuning.multi_label
    return isinstance(config.head, TransferHead) and config.head.multi_label


def evaluate_set(
    model: Model, labelled: LabelledSet, *, clip_seconds: float | None = None
) -> tuple[AnyScores, tuple[str, ...]]:
    """Scores a model on labelled sounds; the probabilities of a clip are means over its windows.

    Args:
      model: in evaluation mode.
      labelled: its classes are found among the model's by their names.
      clip_seconds: length of the windows; by default that of the clips that the model was fine-tuned on, or else the
        median of these, at most 10 s.

    Returns:
      The scores, of the model's classes, and why clips were left out.

    Raises:
      InputError: the set has a class that the model has not, or no clip can be heard.
    """
    columns = [model.config.labels.index(name) for name in labelled.labels]
    decoded = Decoded(labelled, model.config.sample_rate)
    card = data_card(labelled, sample_rate=model.config.sample_rate, decoded=decoded)
    failures = [*card.unreadable.values()]
    rows = [int(row) for row in card.usable]
    if not rows:
        raise InputError("\n  ".join(["no clip can be read:", *failures]))
    learnt = model.config.tuning.clip_seconds if model.config.tuning else None
    seconds = clip_seconds or learnt or min(LONGEST, float(np.median(card.seconds)))
    samples = max(round(seconds * model.config.sample_rate), model.config.min_samples)
    clipwise, unheard = _heard(model, decoded, rows, samples, float(card.seconds.sum()))
    failures += unheard.values()
    known = [row for row in rows if row not in unheard]
    if not known:
        raise InputError("\n  ".join(["no clip can be heard:", *failures]))
    target = np.zeros((len(known), model.config.num_classes), bool)
    target[:, columns] = labelled.take(np.array(known)).targets()
    return scored(target, clipwise, multi_label=labelled.multi_label), tuple(failures)


def _heard(
    model: Model, decoded: Decoded, rows: list[int], samples: int, seconds: float
) -> tuple[Float[np.ndarray, "clips classes"], dict[int, str]]:
    """Probabilities of the clips that can be heard, and why the others cannot, by row."""
    counts: list[int] = []

    def windows() -> Iterator[np.ndarray]:
        for clip in ahead(lambda row: evaluation_windows(decoded.waveform(row), samples), rows):
            counts.append(len(clip))
            yield from clip

    with progress_bar("windows") as bar:
        task = bar.add_task("scoring", total=None, note="")
        answers = []
        for answer in Listener(model).hear(windows(), expected=seconds):
            answers.append(answer)
            bar.advance(task)
        bar.update(task, total=len(answers))
    found, unheard, kept, first = [], {}, [], 0
    for row, count in zip(rows, counts, strict=True):
        own = answers[first : first + count]
        first += count
        failed = next((answer for answer in own if isinstance(answer, InputError)), None)
        if failed is not None:
            unheard[row] = f"{decoded.labelled.clips[row].sound.name}: {failed}"
            continue
        kept.append(count)
        found += [answer.clipwise for answer in own if not isinstance(answer, InputError)]
    if not found:
        return np.zeros((0, model.config.num_classes), np.float32), unheard
    return mean_of_windows(np.stack(found), np.array(kept)), unheard


def single_label_text(scores: SingleLabelScores, labels: LabelSet, shown: Bool[np.ndarray, " classes"]) -> str:
    """The scores for people."""
    each = class_figures(scores)
    width = max([len(name) for name, is_shown in zip(labels, shown, strict=True) if is_shown] + [len("class")])
    lines = [f"{'class':<{width}}" + "".join(f"  {name:>9}" for name in each) + f"  {'clips':>6}"]
    for number in np.flatnonzero(shown):
        told = "".join(f"  {'-' if math.isnan(of[number]) else f'{of[number]:.3f}':>9}" for of in each.values())
        lines.append(f"{labels[int(number)]:<{width}}{told}  {scores.positives[number]:>6}")
    lines += ["", f"clips {scores.clips}", *(f"{name} {value:.3f}" for name, value in figures(scores).items())]
    return "\n".join(lines) + "\n"


def single_label_json(scores: SingleLabelScores, labels: LabelSet, shown: Bool[np.ndarray, " classes"]) -> str:
    """The scores for programs."""
    whole = {**to_json(scores), "labels": list(labels), "classes": list(_class_rows(scores, labels, shown))}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def single_label_csv(scores: SingleLabelScores, labels: LabelSet, shown: Bool[np.ndarray, " classes"]) -> str:
    """A line for each class."""
    text = io.StringIO()
    rows = list(_class_rows(scores, labels, shown))
    lines = csv.DictWriter(text, ["name", *class_figures(scores), "positives"], lineterminator="\n")
    lines.writeheader()
    lines.writerows(rows)
    return text.getvalue()


SINGLE_LABEL_REPORTS = {"text": single_label_text, "json": single_label_json, "csv": single_label_csv}
"""How the scores of classes that exclude each other are told, by the name of the format."""


def _class_rows(
    scores: SingleLabelScores, labels: LabelSet, shown: Bool[np.ndarray, " classes"]
) -> Iterator[dict[str, str | int | float | None]]:
    each = class_figures(scores)
    for number in np.flatnonzero(shown):
        told = {name: None if math.isnan(of[number]) else float(of[number]) for name, of in each.items()}
        yield {"name": labels[int(number)], **told, "positives": int(scores.positives[number])}
