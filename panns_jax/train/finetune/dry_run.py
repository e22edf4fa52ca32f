"""One step of a fine-tuning on generated sounds: what it takes, and what data the fine-tuning itself would need."""

import dataclasses
import math
import statistics
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import jax
import numpy as np
from jaxtyping import Float

from panns_jax.data.labelled.clips import LabelledClip, LabelledSet
from panns_jax.data.labelled.decoded import Decoded
from panns_jax.errors import InputError
from panns_jax.labels import LabelSet, numbered
from panns_jax.models.model import Model
from panns_jax.train.finetune.beginning import base_model, with_new_layers
from panns_jax.train.finetune.features import Body, Features
from panns_jax.train.finetune.learner import Learner, ProbeLearner, Recipe, WholeLearner
from panns_jax.train.finetune.options import NO_DATA
from panns_jax.train.finetune.task import length_of_clips, looked_at, recipe_of
from panns_jax.train.training import memory_told

if TYPE_CHECKING:
    from panns_jax.train.finetune.options import Finetune

_CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Noise:
    """A generated sound."""

    number: int
    seconds: float

    @property
    def name(self) -> str:
        """Of the sound."""
        return f"noise {self.number}"

    def waveform(self, sample_rate: int) -> Float[np.ndarray, " samples"]:
        """Its samples."""
        random = np.random.default_rng(self.number)
        return 0.1 * random.standard_normal(round(self.seconds * sample_rate), np.float32)


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a step took.

    Attributes:
      first: seconds of the first step, compilation included; of new layers on features, of an epoch of one step.
      seconds: of a further one.
      loss: of the first step.
      learning: number of weights that change.
      embedding: seconds that the frozen body takes for a clip; None where it hears each batch anew.
    """

    first: float
    seconds: float
    loss: float
    learning: int
    embedding: float | None


def dry_run(options: "Finetune") -> None:
    """Builds what the fine-tuning would build, takes a step on generated sounds, and tells about it; writes nothing.

    The weights are fresh ones where no checkpoint is named: nothing is downloaded.

    Raises:
      InputError: an option is out of its range, data or a checkpoint that are named cannot be read, or the memory does
        not suffice.
    """
    labels, multi_label, given = numbered(_CLASSES), options.multi_label, None
    if options.data != NO_DATA:
        given = options.read(options.data)
        labels, multi_label = given.labels, given.multi_label
    base = base_model(
        options.model,
        options.checkpoint,
        strategy=options.strategy if options.checkpoint else "scratch",
        mirror=options.mirror,
        precision=options.precision,
        seed=options.seed,
    )
    model = with_new_layers(base, labels, strategy=options.strategy, multi_label=multi_label, seed=options.seed)
    recipe = recipe_of(options, model, multi_label)
    card = None if given is None else looked_at(options, Decoded(given, model.config.sample_rate))
    seconds = length_of_clips(options, card)
    for line in _about(options, model, recipe, labels, seconds):
        print(line, flush=True)
    with memory_told():
        trial = take_step(options, base, model, recipe, labels, seconds=seconds, multi_label=multi_label)
    for line in (*_told(trial, model), *_needed(options)):
        print(line)


def take_step(
    options: "Finetune",
    base: Model,
    model: Model,
    recipe: Recipe,
    labels: LabelSet,
    *,
    seconds: float,
    multi_label: bool,
) -> Trial:
    """Takes a step on noise, and another for the time.

    Args:
      options: of the fine-tuning.
      base: the model below the new layers.
      model: with them.
      recipe: how is learnt.
      labels: the classes.
      seconds: length of a clip.
      multi_label: whether a clip may carry several classes.
    """
    rate = base.config.sample_rate
    samples = max(round(seconds * rate), base.config.min_samples)
    clips = [LabelledClip(Noise(row, samples / rate), (labels[row % len(labels)],)) for row in range(recipe.batch_size)]
    labelled = LabelledSet("noise", labels, tuple(clips), multi_label)
    rows, embedding = np.arange(len(labelled)), None
    learner: Learner
    if options.keeps_embeddings:
        features, embedding = _features(base, labelled, samples)
        learner = ProbeLearner(model, recipe, features, labelled.targets(), rows)
    else:
        learner = WholeLearner(model, recipe, Decoded(labelled, rate), rows, samples)
    state, took, loss = learner.begin(), [], math.nan
    learning = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params))
    for number in range(2):
        begun = time.perf_counter()
        *_, state = jax.block_until_ready(list(learner.epoch(state)))  # of one step
        took.append(time.perf_counter() - begun)
        loss = float(state.loss) if number == 0 else loss
    return Trial(took[0], took[1], loss, learning, embedding)


def _features(base: Model, labelled: LabelledSet, samples: int) -> tuple[Features, float]:
    """Features of noise, of which the body hears a clip; and the seconds that it took, compiled."""
    body, took, heard = Body(base, samples), [], None
    for row in range(2):
        begun = time.perf_counter()
        window = labelled.clips[row].sound.waveform(base.config.sample_rate)[None, :samples]
        (heard,) = body.hear(iter([window]), expected=samples / base.config.sample_rate)
        took.append(time.perf_counter() - begun)
        if isinstance(heard, InputError):
            raise heard
    assert heard is not None
    value = np.asarray(heard[0])
    noise = np.random.default_rng(0).standard_normal((len(labelled), *value.shape), np.float32)
    features = value + 0.1 * float(value.std()) * noise
    return Features(features.astype(value.dtype), np.ones(len(labelled), np.int64)), statistics.fmean(took[1:])


def _about(options: "Finetune", model: Model, recipe: Recipe, labels: Iterable[str], seconds: float) -> Iterator[str]:
    weights = "fresh weights" if options.checkpoint is None else str(options.checkpoint)
    yield f"model: {model.config.name}, {options.strategy} from {weights}, {len(list(labels))} classes"
    blended = f"{recipe.rows} clips blended to {recipe.batch_size}" if recipe.mixed else f"{recipe.batch_size} clips"
    kind = "embeddings of " if options.keeps_embeddings else ""
    yield (
        f"batch: {kind}{blended} of {seconds:g} s at {model.config.sample_rate} Hz, noise; {options.precision} on"
        f" {jax.default_backend().upper()}"
    )


def _told(trial: Trial, model: Model) -> Iterator[str]:
    from flax import nnx

    total = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    yield f"parameters: {total:,}, of which {trial.learning:,} learn"
    if trial.embedding is not None:
        yield f"embeddings: {trial.embedding:.3f} s for a clip on its own, once; many together take less each"
    yield f"step: {trial.seconds:.3f} s; the first one {trial.first:.1f} s, with compilation"
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    if peak is not None:
        yield f"memory: the device held {peak / 2**30:.2f} GiB at most"
    yield f"loss: {trial.loss:.4f}"


def _needed(options: "Finetune") -> Iterator[str]:
    if options.data != NO_DATA:
        yield f"data: {options.data} can be read"
    else:
        yield "data: the fine-tuning would need --data: a folder with a folder for each class, a table, or tfds:NAME"
    if options.checkpoint is None and options.strategy != "scratch":
        yield f"weights: it would begin with the released checkpoint of {options.model or 'Cnn14'}"
