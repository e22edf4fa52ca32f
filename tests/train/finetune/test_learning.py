"""That models learn, what they learn and what stays as it is, and that the same seed gives the same."""

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from small_models import FRONTEND, SMALL
from weights import arbitrary

from panns_jax import LabelSet, load_model
from panns_jax.data.labelled.clips import LabelledSet
from panns_jax.data.labelled.decoded import Decoded
from panns_jax.interruption import Stopped
from panns_jax.models.cnn import Cnn
from panns_jax.models.config import ModelConfig, Tuning
from panns_jax.models.heads import ClipHead
from panns_jax.models.model import Model
from panns_jax.models.registry import REGISTRY
from panns_jax.pretrained.native import Provenance
from panns_jax.pretrained.rules import filled_model
from panns_jax.train.finetune.beginning import with_new_layers, write_tuned
from panns_jax.train.finetune.bench import Bench
from panns_jax.train.finetune.depth import Plan, parts_of
from panns_jax.train.finetune.features import Body, Features, FeatureStore
from panns_jax.train.finetune.learner import Learner, ProbeLearner, Recipe, WholeLearner, loss_of
from panns_jax.train.finetune.loop import Tuned, Validation, fit
from panns_jax.train.finetune.options import Strategy
from panns_jax.train.finetune.step import TuneState, arrays_of

Sounds = Callable[..., LabelledSet]
KINDS = ("rising", "falling", "steady")
TUNING = Tuning(clip_seconds=0.5, multi_label=False)
NOTHING = Validation(np.zeros(0, np.int64), np.zeros((0, 3), bool), False, 0)
# Large enough to tell the kinds apart once it has learnt to, small enough to learn it in seconds.
LEARNER = ModelConfig(
    name="learner",
    frontend=FRONTEND,
    body=Cnn(channels=(8, 16), pooled_blocks=2, dropout=0.0),
    head=ClipHead(embedding_dim=16, dropout=0.0),
    labels=LabelSet("before", ("a", "b"), ("a", "b")),
    spec_augment=None,
)


def recipe(model: Model, *, frozen: int = 0, multi_label: bool = False, **options: Any) -> Recipe:
    plan = Plan(parts_of(model.config), frozen)
    given = {"batch_size": 4, "mixed": True, "spec_augment": True, "balanced": False, "weight_decay": 0.01}
    given |= {"learning_rate": 1e-2, "seed": 0}
    return Recipe(plan, loss_of(model.config, multi_label=multi_label), **{**given, **options})


def one_epoch(learner: Learner) -> TuneState:
    state = learner.begin()
    for after in learner.epoch(state):
        state = after
    return state


def begun(name: str, labelled: LabelledSet, strategy: Strategy = "fine_tune", **options: Any) -> Model:
    base = filled_model(SMALL[name], arbitrary(SMALL[name]))
    given = {"multi_label": False, "seed": 0, **options}
    return with_new_layers(base, labelled.labels, strategy=strategy, **given)


def heard(base: Model, labelled: LabelledSet, folder: Path, samples: int = 4000) -> Features:
    store = FeatureStore(folder, Body(base, samples))
    return store.features(Decoded(labelled, base.config.sample_rate), range(len(labelled)), task="hearing")[0]


_QUICK = ("cnn", "decision-attention")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*_QUICK, *(pytest.param(n, marks=pytest.mark.long) for n in SMALL if n not in _QUICK)]
)
def test_every_family_learns_but_for_its_frozen_blocks_and_is_read_again(
    name: str, sounds: Sounds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    labelled = sounds(KINDS, 2)
    model = begun(name, labelled)
    learner = WholeLearner(model, recipe(model, frozen=1), Decoded(labelled, 8000), np.arange(6), 4000)
    state = one_epoch(learner)
    first = parts_of(model.config)[0]
    for path, before in {**arrays_of(model, nnx.Param), **arrays_of(model, nnx.BatchStat)}.items():
        learnt = {**state.statistics, **{p: x for part in state.params.values() for p, x in part.items()}}
        if first.holds(path):
            np.testing.assert_array_equal(learnt.get(path, before), before)
    new = state.params["new layers"]
    assert any((np.asarray(x) != arrays_of(model, nnx.Param)[path]).any() for path, x in new.items())
    write_tuned(tmp_path / "tuned.safetensors", model, state, Provenance("test", "", "none"), TUNING)
    monkeypatch.setitem(REGISTRY, name, SMALL[name])
    read = load_model(checkpoint=tmp_path / "tuned.safetensors")
    assert list(read.config.labels) == list(KINDS) and read.config.tuning == TUNING
    waveform = Decoded(labelled, 8000).waveform(0)[None]
    np.testing.assert_allclose(read(waveform).clipwise, learner.predict(state, np.arange(1)), atol=1e-5)


@pytest.mark.parametrize("name", ["cnn", "decision-attention", "decision-max", "leenet", "wavegram-logmel"])
def test_what_is_learnt_on_kept_features_is_what_the_whole_model_computes(name: str, sounds: Sounds, tmp_path: Path):
    labelled = sounds(KINDS, 3, seconds=1.2)  # three windows each
    model = begun(name, labelled, "freeze_L1")
    base = filled_model(SMALL[name], arbitrary(SMALL[name]))
    features = heard(base, labelled, tmp_path)
    np.testing.assert_array_equal(features.counts, 3)
    plan = recipe(model, frozen=len(parts_of(model.config)) - 1)
    probe = ProbeLearner(model, plan, features, labelled.targets(), np.arange(9))
    whole = WholeLearner(model, plan, Decoded(labelled, 8000), np.arange(9), 4000)
    state = one_epoch(probe)
    rows = np.array([0, 4, 8])
    expected = whole.predict(dataclasses.replace(state, statistics=whole.begin().statistics), rows)
    np.testing.assert_allclose(probe.predict(state, rows), expected, atol=1e-5)


def test_features_are_kept_until_a_sound_or_the_model_changes(sounds: Sounds, tmp_path: Path):
    labelled = sounds(KINDS, 2)
    base = filled_model(SMALL["cnn"], arbitrary(SMALL["cnn"]))
    first = heard(base, labelled, tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    np.testing.assert_array_equal(heard(base, labelled.take(np.array([4, 1])), tmp_path).values, first.values[[4, 1]])
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    heard(base, sounds(KINDS, 2, seed=1), tmp_path)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    changed = arbitrary(SMALL["cnn"])
    changed["fc1.kernel"] *= 2
    other = heard(filled_model(SMALL["cnn"], changed), labelled, tmp_path)
    assert (other.values != first.values).any()


def trained(
    labelled: LabelledSet, base: Model | None, strategy: Strategy, folder: Path, *, epochs: int, seed: int = 0
) -> tuple[Model, Tuned, Learner]:
    """Trains on all clips of a set; without a base, on one with fresh weights."""
    if base is None:
        base = Model(LEARNER, rngs=nnx.Rngs(seed))
        base.eval()
    model = with_new_layers(base, labelled.labels, strategy=strategy, multi_label=False, seed=seed)
    rows = np.arange(len(labelled))
    if strategy == "freeze_L1":
        plan = recipe(model, frozen=len(parts_of(model.config)) - 1, mixed=False, batch_size=16, seed=seed)
        learner: Learner = ProbeLearner(model, plan, heard(base, labelled, folder / "kept"), labelled.targets(), rows)
    else:
        rate = 3e-3 if strategy == "fine_tune" else 1e-2
        plan = recipe(model, mixed=False, batch_size=16, learning_rate=rate, seed=seed)
        learner = WholeLearner(model, plan, Decoded(labelled, 8000), rows, 4000)
    tuned = fit(learner, NOTHING, epochs=epochs, bench=opened(folder), name=strategy)
    return model, tuned, learner


def opened(folder: Path) -> Bench:
    folder.mkdir(exist_ok=True)
    return Bench(folder)


def accuracy(model: Model, tuned: Tuned, test: LabelledSet, folder: Path) -> float:
    """On another set, by the whole model as it is written and read again."""
    learner = WholeLearner(model, recipe(model), Decoded(test, 8000), np.arange(len(test)), 4000)
    state = learner.begin()
    params = {**state.params, **tuned.state.params}
    statistics = {**state.statistics, **tuned.state.statistics}
    state = dataclasses.replace(state, params=params, statistics=statistics)
    clipwise = learner.predict(state, np.arange(len(test)))
    return float((clipwise.argmax(1) == test.targets().argmax(1)).mean())


@pytest.fixture(scope="module")
def pretrained(sounds: Sounds, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A body that has learnt to tell other kinds of sounds apart, from scratch."""
    folder = tmp_path_factory.mktemp("pretrained")
    labelled = sounds(("rising", "falling", "steady", "noise", "beats", "hiss"), 24)
    model, tuned, _ = trained(labelled, None, "scratch", folder, epochs=16)
    assert accuracy(model, tuned, sounds(labelled.labels.names, 10, seed=7), folder) > 0.8
    write_tuned(folder / "body.safetensors", model, tuned.state, Provenance("test", "", "none"), TUNING)
    arrays = {**arrays_of(model, nnx.Param), **arrays_of(model, nnx.BatchStat)}
    for part in (*tuned.state.params.values(), tuned.state.statistics):
        arrays |= part
    own = {".".join(path[1:]): np.asarray(x) for path, x in arrays.items() if path[0] == "base"}
    return filled_model(LEARNER, own)


@pytest.mark.slow
def test_a_pretrained_body_learns_new_sounds_from_few_clips_better_than_from_scratch(
    pretrained: Model, sounds: Sounds, tmp_path: Path
):
    # The pitches and the clips are new: sounds of other seeds, two of each kind to learn from.
    kinds = ("rising", "falling", "beats", "hiss")
    few, test = sounds(kinds, 2, seed=13), sounds(kinds, 15, seed=4)
    reached: dict[Strategy, float] = {}
    runs: tuple[tuple[Strategy, int], ...] = (("scratch", 25), ("freeze_L1", 60), ("fine_tune", 25))
    for strategy, epochs in runs:
        base = None if strategy == "scratch" else pretrained
        model, tuned, _ = trained(few, base, strategy, tmp_path, epochs=epochs)
        reached[strategy] = accuracy(model, tuned, test, tmp_path)
    assert reached["freeze_L1"] > reached["scratch"] + 0.1, reached
    assert reached["fine_tune"] > reached["scratch"] + 0.1, reached
    assert min(reached["freeze_L1"], reached["fine_tune"]) > 0.85, reached


def test_shuffled_labels_teach_nothing(pretrained: Model, sounds: Sounds, tmp_path: Path):
    labelled, test = sounds(KINDS, 20, seed=5), sounds(KINDS, 40, seed=6)
    order = np.random.default_rng(0).permutation(len(labelled))
    shuffled = tuple(
        dataclasses.replace(clip, labels=labelled.clips[other].labels)
        for clip, other in zip(labelled.clips, order, strict=True)
    )
    model, tuned, _ = trained(
        dataclasses.replace(labelled, clips=shuffled), pretrained, "freeze_L1", tmp_path, epochs=10
    )
    # Chance is 1/3; whole kinds may be taken for one class, so that accuracy comes in steps.
    assert accuracy(model, tuned, test, tmp_path) < 0.7
    model, tuned, _ = trained(labelled, pretrained, "freeze_L1", tmp_path / "true", epochs=10)
    assert accuracy(model, tuned, test, tmp_path) > 0.9


def leaves(tuned: Tuned) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves((tuned.state.params, tuned.state.statistics))]


@pytest.mark.parametrize("strategy", ["freeze_L1", "fine_tune"])
def test_the_same_seed_gives_the_same_bits_and_another_one_others(
    strategy: Strategy, pretrained: Model, sounds: Sounds, tmp_path: Path
):
    labelled = sounds(KINDS, 4)

    def run(name: str, seed: int) -> list[np.ndarray]:
        return leaves(trained(labelled, pretrained, strategy, tmp_path / name, epochs=2, seed=seed)[1])

    once, again, other = run("once", 0), run("again", 0), run("other", 1)
    assert all((a == b).all() for a, b in zip(once, again, strict=True))
    assert any((a != b).any() for a, b in zip(once, other, strict=True))


class _After(threading.Event):
    """Is set when it has been asked for so often."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._left = times

    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0


@pytest.mark.slow
def test_a_run_that_was_interrupted_amidst_an_epoch_ends_as_one_that_was_not(sounds: Sounds, tmp_path: Path):
    labelled = sounds(KINDS, 4)
    model = begun("cnn", labelled)
    rows, targets = np.arange(12), labelled.targets()
    validation = Validation(rows[9:], targets[9:], False, 0)

    def run(folder: Path, interrupted: threading.Event | None = None) -> Tuned:
        learner = WholeLearner(model, recipe(model), Decoded(labelled, 8000), rows[:9], 4000)
        return fit(learner, validation, epochs=3, bench=opened(folder), name="run", interrupted=interrupted)

    unbroken = run(tmp_path / "unbroken")
    for steps in (4, 1):
        with pytest.raises(Stopped):
            run(tmp_path / "broken", _After(steps))
    resumed = run(tmp_path / "broken")
    assert resumed.history == unbroken.history and resumed.best == unbroken.best
    assert all((a == b).all() for a, b in zip(leaves(resumed), leaves(unbroken), strict=True))


def test_training_ends_where_the_validation_score_gets_no_better(sounds: Sounds, tmp_path: Path):
    labelled = sounds(KINDS, 4)
    model = begun("cnn", labelled, "freeze_L1")
    features = Features(np.zeros((12, 7), np.float32), np.ones(12, np.int64))  # nothing to learn from
    plan = recipe(model, frozen=len(parts_of(model.config)) - 1, learning_rate=1e-9, mixed=False, weight_decay=0.0)
    learner = ProbeLearner(model, plan, features, labelled.targets(), np.arange(12))
    validation = Validation(np.arange(12), labelled.targets(), False, 3)
    tuned = fit(learner, validation, epochs=50, bench=opened(tmp_path), name="run")
    assert len(tuned.history) == tuned.best + 3 < 50


def test_balanced_classes_take_turns(sounds: Sounds):
    from panns_jax.train.finetune.learner import sampler_of

    labelled = sounds(KINDS, 6).take(np.array([0, 1, 2, 3, 4, 5, 6, 12]))
    model = begun("cnn", labelled)
    drawn = sampler_of(labelled.targets(), recipe(model, balanced=True)).batch(np.arange(30))
    np.testing.assert_array_equal(labelled.targets()[drawn].sum(0), 10)
