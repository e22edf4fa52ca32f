"""Scoring a model on an index file, in training and as `panns-jax evaluate`."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro

from panns_jax.data.labelled.options import DataOptions, require_clip_seconds
from panns_jax.errors import InputError, require_extra
from panns_jax.files import require_parent, written_aside
from panns_jax.left_out import report_left_out
from panns_jax.train.metrics import Scores, score
from panns_jax.train.report import REPORTS, class_rows

if TYPE_CHECKING:
    from panns_jax.data.sources import ClipSource
    from panns_jax.infer.prepared import PreparedModel
    from panns_jax.labels import LabelSet
    from panns_jax.models.model import Model
    from panns_jax.train.finetune.scores import AnyScores

Predict = Callable[[np.ndarray], Any]
"""From waveforms (rows, samples) to clipwise probabilities (rows, classes)."""


class BrokenWeights(InputError):
    """A model makes predictions that are not finite of samples that are."""


def evaluate(
    predict: Predict,
    batches: Iterable[dict[str, np.ndarray]],
    *,
    clips: int,
    advance: Callable[[int], None] | None = None,
) -> Scores:
    """Scores predictions on batches of `evaluation_batches`, keeping no more than the probabilities and targets.

    Args:
      predict: the model.
      batches: "waveform", "target", "audio_name" and "valid" (rows,), False for rows that only fill a batch up.
      clips: how many there are in all of them.
      advance: told the number of clips after each batch.

    Raises:
      InputError: there are no clips, or samples that are not finite.
      BrokenWeights: the predictions are not finite.
    """
    if not clips:
        raise InputError("there are no clips to score")
    target = clipwise = np.empty((0, 0))  # filled in place: joined at the end, all of it would be there twice
    done = 0
    for batch in batches:
        valid = batch["valid"]
        predicted = np.asarray(predict(batch["waveform"]))[valid]
        _require_finite(predicted, batch)
        if not done:
            target, clipwise = (np.empty((clips, predicted.shape[1]), kind) for kind in (bool, predicted.dtype))
        rows = slice(done, done + len(predicted))
        target[rows], clipwise[rows] = batch["target"][valid] > 0, predicted
        done = rows.stop
        if advance is not None:
            advance(len(predicted))
    assert done == clips
    return score(target, clipwise)


def _require_finite(predicted: np.ndarray, batch: dict[str, np.ndarray]) -> None:
    if np.isfinite(predicted).all():
        return
    waveform, names = (batch[name][batch["valid"]] for name in ("waveform", "audio_name"))
    broken = np.flatnonzero(~np.isfinite(waveform).all(axis=1))
    if len(broken):
        raise InputError(f"{names[broken[0]]} holds samples that are not finite; pack it anew")
    raise BrokenWeights("the model's predictions are not finite; its weights are broken")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate(DataOptions):
    """Scores a checkpoint on the clips of an index file, or on labelled sounds of one's own.

    Of clips that may carry several classes (--index; --data with --multi-label, or with a model that was fine-tuned on
    such clips): average precision, ROC AUC and d', per class and mean; of clips that have one each: accuracy, balanced
    accuracy, mAP@3, and recall and precision per class.
    """

    checkpoint: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """A .pth file, a converted .safetensors file, or a folder of training checkpoints, of which the newest is taken;
    checkpoints/RUN/best stands for the one of the best test mAP."""
    index: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """The index file, such as WORKSPACE/hdf5s/indexes/eval.h5."""
    data: Annotated[str | None, tyro.conf.arg(metavar="DATA", help_behavior_hint="")] = None
    """In place of it, a folder with a folder for each class; a csv, tsv or Parquet table; or tfds:NAME. Its classes are
    found among the model's by name."""
    clip_seconds: Annotated[float | None, tyro.conf.arg(metavar="SECONDS", help_behavior_hint="")] = None
    """Of --data: length of the windows that clips are heard in, of which the mean counts; by default that of the clips
    that the model was fine-tuned on, or else the median of these, at most 10."""
    model: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Name of the model, where the checkpoint does not tell. Without a checkpoint, the released one of this model is
    downloaded the first time, and kept."""
    weights: Literal["auto", "trained", "averaged"] = "auto"
    """Which weights of a training checkpoint: auto takes the averages that --ema-decay or --swa-start made, where there
    are some, and else those that training goes on with (trained)."""
    mirror: Annotated[str | None, tyro.conf.arg(metavar="URL", help_behavior_hint="")] = None
    """Where released files are downloaded from, in place of their own record: a folder that has them under their names.
    The environment variable PANNS_JAX_MIRROR does the same."""
    precision: Literal["float32", "tf32", "bfloat16", "bf16"] = "float32"
    """What the body of the model computes in; tf32 is float32 with faster products on GPUs that have them, bf16 is
    bfloat16. Front end and head always compute in float32."""
    batch_size: int = 32
    """Clips at a time; changes the speed, not the result."""
    workers: int = 0
    """Processes that read clips; 0 reads by threads."""
    format: Literal["text", "json", "csv"] = "text"
    """How the scores are printed: a table, one JSON object, or a line per class."""
    classes: Literal["present", "all"] = "present"
    """Which classes are listed: those that some clip carries, or all."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Write the scores there instead of printing them."""

    def run(self) -> int:
        """Scores the checkpoint and prints the table."""
        require_extra("scoring", "train", "grain", "sklearn")
        if self.checkpoint is None and self.model is None:
            raise InputError("name what is to be scored: --checkpoint PATH, or --model NAME for a released checkpoint")
        if self.batch_size < 1:
            raise InputError(f"--batch-size must be at least 1, got {self.batch_size}")
        if (self.index is None) == (self.data is None):
            raise InputError("name what it is scored on: --index FILE, or --data for labelled sounds; one of them")
        if self.clip_seconds is not None:
            require_clip_seconds(self.clip_seconds)
        if self.out is not None:
            require_parent(self.out)
            given = [path for path in (self.index, self.checkpoint, self.data) if path is not None]
            read = [Path(path) for path in given if Path(path).exists() and self.out.exists()]
            if any(map(self.out.samefile, read)):
                raise InputError(f"--out {self.out} is read here, and would be replaced; name another file")
        if self.data is not None:
            return self._run_on_data(self.data)
        assert self.index is not None
        model, scores = self._scores(self.index)
        self._tell(scores, model.config.labels)
        return 0

    def _tell(self, scores: "AnyScores", labels: "LabelSet") -> None:
        from panns_jax.train.finetune.evaluation import SINGLE_LABEL_REPORTS
        from panns_jax.train.finetune.scores import SingleLabelScores

        if isinstance(scores, SingleLabelScores):
            shown = (scores.positives > 0) | (self.classes == "all")
            text = SINGLE_LABEL_REPORTS[self.format](scores, labels, shown)
        else:
            text = REPORTS[self.format](scores, class_rows(scores, labels, present=self.classes == "present"))
        if self.out is None:
            sys.stdout.write(text)
            return
        with written_aside(self.out) as path:
            path.write_text(text, encoding="utf-8")

    def _run_on_data(self, data: str) -> int:
        """Scores the checkpoint on labelled sounds; the exit code is 1 where some could not be heard."""
        from panns_jax.pretrained.load import load_model
        from panns_jax.train.finetune.evaluation import evaluate_set, takes_several

        model = load_model(
            self.model, self.checkpoint, mirror=self.mirror, precision=self.precision, weights=self.weights
        )
        several = self.multi_label or takes_several(model.config)
        labelled = dataclasses.replace(self, multi_label=several).read(data)
        scores, failures = evaluate_set(model, labelled, clip_seconds=self.clip_seconds)
        self._tell(scores, model.config.labels)
        return report_left_out(failures, len(labelled), "clips")

    def _scores(self, path: Path) -> "tuple[Model, Scores]":
        from panns_jax.data.index import read_index
        from panns_jax.data.pipeline import evaluation_batches
        from panns_jax.data.sources import ClipSource
        from panns_jax.pretrained.load import load_model
        from panns_jax.progress import progress_bar

        index = read_index(path)
        if not len(index):
            raise InputError(f"{path}: lists no clips")
        model = load_model(
            self.model, self.checkpoint, mirror=self.mirror, precision=self.precision, weights=self.weights
        )
        if index.targets.num_classes != model.config.num_classes:
            raise InputError(
                f"{path} tells of {index.targets.num_classes} classes, the model of"
                f" {self.checkpoint or 'the released checkpoint'} of {model.config.num_classes}"
            )
        source = ClipSource(index, model.config.sample_rate)
        batches = evaluation_batches(source, batch_size=self.batch_size, workers=self.workers)
        with progress_bar("clips") as bar, batches:
            task = bar.add_task("scoring", total=len(source), note="")
            predict = fastest_predictor(model, source, self.batch_size)
            advance = functools.partial(bar.advance, task)
            return model, evaluate(predict, batches, clips=len(source), advance=advance)


# Seconds of sound up to which a program of a prepared model is worth its memory: that of Cnn14 takes 8 MB per second,
# a plain one 2.5 MB.
_LONGEST = 60.0


def fastest_predictor(model: "Model", source: "ClipSource", batch_size: int) -> Predict:
    """The forward pass for all clips of a source: of the prepared model where there are enough for that to repay."""
    from panns_jax.infer.programs import REPAYS, prepared_where_faster

    seconds = source.samples / source.sample_rate
    often = seconds * len(source) >= REPAYS
    prepared = prepared_where_faster(model) if often and seconds <= _LONGEST else None
    if prepared is None:
        return predictor(model)
    rows = max(n for n in range(1, int(_LONGEST / seconds) + 1) if batch_size % n == 0)
    return prepared_predictor(prepared, rows)


def prepared_predictor(model: "PreparedModel", rows: int) -> Predict:
    """The forward pass of a prepared model, `rows` clips at a time, of which a batch holds a multiple."""
    from panns_jax.data.pipeline import to_float

    def predict(waveform: np.ndarray) -> np.ndarray:
        parts = np.split(waveform, len(waveform) // rows)
        return np.concatenate([np.asarray(model(to_float(part)).clipwise) for part in parts])

    return predict


def predictor(model: "Model") -> Predict:
    """Compiles the forward pass of a model, on the first device."""
    import jax
    from flax import nnx

    from panns_jax.train.step import data_mesh, make_predict, place

    graph, params, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    mesh = data_mesh(jax.devices()[:1])
    predict = make_predict(graph, mesh)
    weights, statistics = nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats)
    return lambda waveform: predict(weights, statistics, place({"waveform": waveform}, mesh)["waveform"])
