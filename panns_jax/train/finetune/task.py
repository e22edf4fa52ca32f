"""A fine-tuning from its options to its files."""

import dataclasses
import hashlib
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from panns_jax.data.labelled.card import DataCard, data_card
from panns_jax.data.labelled.clips import LabelledSet
from panns_jax.data.labelled.decoded import Decoded
from panns_jax.data.labelled.splits import Split, few_shot, k_folds, split
from panns_jax.errors import InputError
from panns_jax.files import cache_folder
from panns_jax.interruption import first_interruption_noted
from panns_jax.left_out import report_left_out
from panns_jax.models.config import Tuning
from panns_jax.models.model import Model
from panns_jax.train.finetune.beginning import base_model, provenance_of_base, with_new_layers, write_tuned
from panns_jax.train.finetune.bench import Bench
from panns_jax.train.finetune.depth import Plan, frozen_parts, parts_of
from panns_jax.train.finetune.evaluation import LONGEST
from panns_jax.train.finetune.features import Body, Features, FeatureStore
from panns_jax.train.finetune.learner import Learner, ProbeLearner, Recipe, WholeLearner, loss_of
from panns_jax.train.finetune.loop import Tuned, Validation, fit
from panns_jax.train.finetune.scores import AnyScores, scored

if TYPE_CHECKING:
    from panns_jax.train.finetune.options import Finetune

_NOTE = "interrupted: what is done is being kept, and the same command goes on there"


@dataclasses.dataclass(frozen=True, eq=False)
class Material:
    """What is learnt from.

    Attributes:
      card: what the data is like.
      labelled: the clips that can be used.
      decoded: their waveforms at the model's sample rate.
      samples: length of what is learnt from.
      features: of all of them, where the body is frozen and they are kept.
      failures: why the others cannot be used.
    """

    card: DataCard
    labelled: LabelledSet
    decoded: Decoded
    samples: int
    features: Features | None
    failures: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Length of what is learnt from, in seconds."""
        return self.samples / self.decoded.sample_rate


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What one training came to.

    Attributes:
      name: of the training, such as "fold 2".
      split: what was learnt from, chosen by and tested on.
      tuned: what training ended with.
      scores: on the test part; None where there is none.
    """

    name: str
    split: Split
    tuned: Tuned
    scores: AnyScores | None


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """All that the report tells.

    Attributes:
      options: as they were given.
      model: with the layers that training began with.
      material: what was learnt from.
      folds: of the cross-validation; none where there was none.
      final: the training that the file comes from.
    """

    options: "Finetune"
    model: Model
    material: Material
    folds: tuple[Outcome, ...]
    final: Outcome


def finetune(options: "Finetune") -> int:
    """Does what the options ask for, going on where it stopped; see `Finetune.run`."""
    from panns_jax.train.finetune.report import summary, write_report

    labelled = options.read(options.data)
    if len(labelled.labels) < 2 and not labelled.multi_label:
        raise InputError(f"{options.data}: there is one class alone, {labelled.labels[0]}; at least 2 are needed")
    base = base_model(
        options.model,
        options.checkpoint,
        strategy=options.strategy,
        mirror=options.mirror,
        precision=options.precision,
        seed=options.seed,
    )
    labels = labelled.labels
    model = with_new_layers(
        base, labels, strategy=options.strategy, multi_label=labelled.multi_label, seed=options.seed
    )
    recipe = recipe_of(options, model, labelled.multi_label)
    material = _material(options, base, labelled)
    bench = Bench(options.out.with_name(f"{options.out.name}.part"))
    with bench.opened(_told(options, base, material), restart=options.restart) as begun:
        if begun:
            print("going on with what an interrupted run has done", file=sys.stderr)
        with first_interruption_noted("panns-jax finetune", _NOTE) as interrupted:
            result = _Training(options, model, recipe, material, bench, interrupted).result()
        begun_with = provenance_of_base(base.config, options.checkpoint, strategy=options.strategy)
        told = f"{begun_with.file}, {options.strategy} on {labels.task}"
        provenance = dataclasses.replace(begun_with, file=told)
        write_report(result)
        tuning = Tuning(clip_seconds=material.seconds, multi_label=labelled.multi_label)
        write_tuned(options.out, model, result.final.tuned.state, provenance, tuning)
    bench.remove()
    print(summary(result))
    print(f"{options.out}: {model.config.name}, {len(labels)} classes; the report is {options.report_file}")
    return _report_failures(material)


def recipe_of(options: "Finetune", model: Model, multi_label: bool) -> Recipe:
    """How the options have the model learn."""
    parts = parts_of(model.config)
    frozen = len(parts) - 1 if options.freezes else frozen_parts(parts, options.freeze_depth, model.config.name)
    return Recipe(
        Plan(parts, frozen, options.gradual_unfreezing, options.lr_decay_by_depth),
        loss_of(model.config, multi_label=multi_label),
        options.batch_size,
        mixed=bool(options.augmentation & {"mixup", "embedding-mixup"}),
        spec_augment="spec-augment" in options.augmentation,
        balanced=options.balance == "classes",
        learning_rate=options.step_size,
        weight_decay=options.weight_decay,
        seed=options.seed,
    )


def _material(options: "Finetune", base: Model, labelled: LabelledSet) -> Material:
    rate = base.config.sample_rate
    decoded = Decoded(labelled, rate)
    card = looked_at(options, decoded)
    seconds = length_of_clips(options, card)
    samples = max(round(seconds * rate), base.config.min_samples)
    failures = [*card.unreadable.values()]
    rows, features = [int(row) for row in card.usable], None
    if options.keeps_embeddings:
        store = FeatureStore(options.cache or cache_folder() / "embeddings", Body(base, samples))
        features, unheard = store.features(decoded, rows, task="embedding clips")
        rows = [row for row in rows if row not in unheard]
        failures += unheard.values()
    elif options.freezes:
        print(
            f"--augment {' '.join(sorted(options.augmentation))}: embeddings are computed anew for each step, not kept"
        )
    if len(rows) < len(labelled):
        labelled = labelled.take(np.array(rows))
        decoded = _Some(decoded, rows, labelled)
    return Material(card, labelled, decoded, samples, features, tuple(failures))


def looked_at(options: "Finetune", decoded: Decoded) -> DataCard:
    """The card of what is learnt from, printed.

    Raises:
      InputError: no clip can be read.
    """
    card = data_card(decoded.labelled, sample_rate=decoded.sample_rate, decoded=decoded)
    print(card.text(), flush=True)
    if not len(card.usable):
        raise InputError("\n  ".join([f"{options.data}: no clip can be read:", *card.unreadable.values()]))
    return card


def length_of_clips(options: "Finetune", card: DataCard | None) -> float:
    """Seconds that clips are cut or padded to: what the options say, else the median of those there are."""
    median = LONGEST if card is None else float(np.median(card.seconds))
    return options.clip_seconds or min(LONGEST, median)


class _Some(Decoded):
    """Some of the rows of another one."""

    def __init__(self, whole: Decoded, rows: list[int], labelled: LabelledSet) -> None:
        super().__init__(labelled, whole.sample_rate, cache_bytes=0)
        self._whole, self._rows = whole, rows

    def waveform(self, row: int) -> Float[np.ndarray, " samples"]:
        return self._whole.waveform(self._rows[row])


def _told(options: "Finetune", base: Model, material: Material) -> dict[str, Any]:
    """What decides the result."""
    clips = hashlib.sha256()
    for clip in material.labelled.clips:
        clips.update(f"{clip.sound.name}\t{clip.labels}\t{clip.fold}\t{clip.split}\n".encode("utf-8", "replace"))
    return {**options.deciding(), "the clips": clips.hexdigest(), "the weights": Body(base, material.samples).key}


class _Training:
    """The trainings that the options ask for: the folds, and that of the file."""

    def __init__(
        self,
        options: "Finetune",
        model: Model,
        recipe: Recipe,
        material: Material,
        bench: Bench,
        interrupted: threading.Event,
    ) -> None:
        self._options = options
        self._model = model
        self._recipe = recipe
        self._material = material
        self._bench = bench
        self._interrupted = interrupted
        self._targets = material.labelled.targets()

    def result(self) -> Result:
        options, labelled = self._options, self._material.labelled
        if not options.folds:
            parts = split(labelled, validation=options.validation, test=options.test, seed=options.seed)
            final = self._trained("training", parts, options.most_epochs)
            return Result(options, self._model, self._material, (), final)
        splits = k_folds(labelled, options.folds, seed=options.seed, validation=options.validation)
        folds = tuple(
            self._trained(f"fold {number}", parts, options.most_epochs) for number, parts in enumerate(splits, start=1)
        )
        # On all clips nothing is left to choose the epoch by: as many as were best in the folds.
        epochs = max(1, round(float(np.mean([fold.tuned.best for fold in folds]))))
        final = self._trained("training on all clips", Split(np.arange(len(labelled))), epochs)
        return Result(options, self._model, self._material, folds, final)

    def _trained(self, name: str, parts: Split, epochs: int) -> Outcome:
        options = self._options
        if options.shots:
            train = few_shot(self._material.labelled, parts.train, options.shots, seed=options.seed)
            parts = dataclasses.replace(parts, train=train)
        if not len(parts.train):
            raise InputError(f"{options.data}: there is no clip to train on; lower --validation and --test")
        learner = self._learner(parts.train)
        validation = Validation(
            parts.validation, self._targets[parts.validation], self._material.labelled.multi_label, options.patience
        )
        tuned = fit(
            learner,
            validation,
            epochs=epochs,
            bench=self._bench,
            name=name,
            interrupted=self._interrupted,
            keep_end=bool(options.folds),
        )
        return Outcome(name, parts, tuned, self._scores(learner, tuned, parts.test))

    def _learner(self, train: Int[np.ndarray, " rows"]) -> Learner:
        material = self._material
        if material.features is not None:
            return ProbeLearner(self._model, self._recipe, material.features, self._targets, train)
        return WholeLearner(self._model, self._recipe, material.decoded, train, material.samples)

    def _scores(self, learner: Learner, tuned: Tuned, rows: Int[np.ndarray, " rows"]) -> AnyScores | None:
        if not len(rows):
            return None
        clipwise = learner.predict(tuned.state, rows)
        return scored(self._targets[rows], clipwise, multi_label=self._material.labelled.multi_label)


def _report_failures(material: Material) -> int:
    """Names the clips that were left out on standard error, and gives the exit code."""
    return report_left_out(material.failures, material.card.clips, "clips", told_in="the report")
