"""Splits, folds and few shots."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from panns_jax.audio import Reading
from panns_jax.data.labelled.clips import LabelledClip, LabelledSet
from panns_jax.data.labelled.labels import label_set
from panns_jax.data.labelled.recordings import recordings
from panns_jax.data.labelled.sounds import FileSound
from panns_jax.data.labelled.splits import balanced_order, few_shot, k_folds, split
from panns_jax.data.labelled.stratification import Items, stratified
from panns_jax.errors import InputError

LETTERS = "abcdefgh"


def labelled_set(labels, *, files=None, folds=None, splits=None, multi_label=False) -> LabelledSet:
    """A set of files that are not there, which nothing here reads; `files` are their numbers, whose parts clips are."""
    files = range(len(labels)) if files is None else files
    clips = tuple(
        LabelledClip(
            FileSound(Path(f"/nowhere/{file}.wav"), Reading(start=float(number), end=number + 1.0)),
            tuple(names),
            None if folds is None else folds[number],
            None if splits is None else splits[number],
        )
        for number, (names, file) in enumerate(zip(labels, files, strict=True))
    )
    return LabelledSet("mine", label_set("mine", LETTERS), clips, multi_label)


told_clips = st.lists(
    st.tuples(st.sets(st.sampled_from(LETTERS), max_size=3), st.integers(0, 20)), min_size=3, max_size=40
)


def made(told) -> LabelledSet:
    """Outside of the strategy, in which nothing may be drawn by other means, as type checks at run time do."""
    return labelled_set([sorted(names) for names, _ in told], files=[file for _, file in told])


shares = st.sampled_from([0.0, 0.1, 0.25, 0.4])
seeds = st.integers(0, 100)


def file_numbers(labelled: LabelledSet, rows) -> set[str]:
    return {str(labelled.clips[row].sound.path) for row in rows}


@given(told_clips, shares, shares, seeds)
def test_every_clip_is_on_one_side_and_no_file_on_two(told, validation, test, seed):
    labelled = made(told)
    sides = split(labelled, validation=validation, test=test, seed=seed)
    rows = np.concatenate([sides.train, sides.validation, sides.test])
    assert sorted(rows.tolist()) == list(range(len(labelled))) and not len(sides.left_out)
    files = [file_numbers(labelled, side) for side in (sides.train, sides.validation, sides.test)]
    assert sum(map(len, files)) == len(set().union(*files))


@given(told_clips, shares, shares, seeds)
def test_training_has_every_class_that_there_is(told, validation, test, seed):
    labelled = made(told)
    targets = labelled.targets()
    sides = split(labelled, validation=validation, test=test, seed=seed)
    assert (targets[sides.train].any(axis=0) == targets.any(axis=0)).all()


@given(told_clips, seeds)
def test_a_seed_gives_one_split(told, seed):
    labelled = made(told)
    first, second = (split(labelled, validation=0.2, test=0.2, seed=seed) for _ in range(2))
    for field in dataclasses.fields(first):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))


def test_another_seed_gives_another_split():
    labelled = labelled_set([["a"], ["b"]] * 20)
    first, second = (split(labelled, validation=0, test=0.25, seed=seed) for seed in (0, 1))
    assert first.test.tolist() != second.test.tolist()


@pytest.mark.parametrize("per_class", [4, 5, 10, 40])
def test_every_side_has_its_share_of_every_class(per_class):
    labelled = labelled_set([[name] for name in LETTERS] * per_class)
    sides = split(labelled, validation=0.2, test=0.2, seed=3)
    for rows, share in ((sides.train, 0.6), (sides.validation, 0.2), (sides.test, 0.2)):
        counts = labelled.targets()[rows].sum(axis=0)
        assert (abs(counts - share * per_class) <= 1).all(), counts
        assert abs(len(rows) - share * len(labelled)) <= 4


def test_small_sets_have_some_of_each_side():
    sides = split(labelled_set([["a"]] * 3 + [["b"]] * 3), validation=0.1, test=0.1, seed=0)
    assert len(sides.validation) and len(sides.test) and len(sides.train) == 4


def test_the_share_of_several_classes_to_a_clip_is_kept():
    rng = np.random.default_rng(0)
    labelled = labelled_set([[n for n in LETTERS if rng.random() < 0.3] for _ in range(400)], multi_label=True)
    test = split(labelled, validation=0, test=0.25, seed=0).test
    counts, all_counts = labelled.targets()[test].sum(axis=0), labelled.targets().sum(axis=0)
    assert (abs(counts / all_counts - 0.25) < 0.03).all()


def test_the_makers_split_is_kept_and_what_lacks_is_drawn_from_their_training():
    labelled = labelled_set([["a"], ["b"]] * 10, splits=["test"] * 4 + ["train"] * 16)
    sides = split(labelled, validation=0.25, test=0.5, seed=0)
    assert sides.test.tolist() == [0, 1, 2, 3]
    assert len(sides.validation) == 4 and len(sides.train) == 12


def test_a_set_that_the_makers_only_test_on_is_refused():
    with pytest.raises(InputError, match="none is to be trained on"):
        split(labelled_set([["a"]] * 3, splits=["test"] * 3), validation=0, test=0, seed=0)


def test_the_makers_folds_stay_whole():
    folds = [number % 5 for number in range(20)]
    labelled = labelled_set([["a"], ["b"]] * 10, folds=folds)
    sides = split(labelled, validation=0.2, test=0.2, seed=0)
    for rows, count in ((sides.train, 3), (sides.validation, 1), (sides.test, 1)):
        used = {folds[row] for row in rows}
        assert len(used) == count and len(rows) == 4 * count
    splits = k_folds(labelled, 5, seed=0)
    assert [{folds[row] for row in one.test} for one in splits] == [{0}, {1}, {2}, {3}, {4}]
    with pytest.raises(InputError, match="its makers chose 5 folds, and not 10"):
        k_folds(labelled, 10, seed=0)


def test_a_clip_without_a_fold_among_others_is_refused():
    with pytest.raises(InputError, match="has no fold, and others have"):
        k_folds(labelled_set([["a"]] * 3, folds=[1, None, 2]), 2, seed=0)


@given(st.lists(st.sampled_from(LETTERS), min_size=6, max_size=40), st.integers(2, 6), seeds)
def test_folds_test_every_clip_once_and_leave_no_class_untrained(names, k, seed):
    labelled = labelled_set([[name] for name in names])
    splits = k_folds(labelled, k, seed=seed)
    assert sorted(np.concatenate([one.test for one in splits]).tolist()) == list(range(len(names)))
    targets = labelled.targets()
    repeated = targets.sum(axis=0) > 1
    for one in splits:
        assert targets[one.train][:, repeated].any(axis=0).all()
        assert sorted([*one.train, *one.test]) == list(range(len(names)))


def test_part_of_every_training_fold_may_validate():
    for one in k_folds(labelled_set([["a"], ["b"]] * 20), 4, seed=0, validation=0.2):
        assert (len(one.train), len(one.validation), len(one.test)) == (24, 6, 10)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda labelled: split(labelled, validation=0.5, test=0.5, seed=0), "leave nothing to train on"),
        (lambda labelled: split(labelled, validation=-0.1, test=0.5, seed=0), "leave nothing to train on"),
        (lambda labelled: k_folds(labelled, 1, seed=0), "at least 2 folds"),
        (lambda labelled: k_folds(labelled, 9, seed=0), "too few recordings for 9 folds"),
        (lambda labelled: few_shot(labelled, np.arange(4), 0, seed=0), "at least 1 shot"),
    ],
)
def test_what_cannot_be_split_so_is_refused(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call(labelled_set([["a"], ["b"], ["a"], ["b"]]))


@pytest.fixture
def with_copy(tmp_path, write_sounds):
    """Six files, the second of which is a copy of the first."""

    def make(splits=None, folds=None) -> LabelledSet:
        paths = write_sounds(*(f"{number}.wav" for number in range(6)))
        shutil.copy(paths[0], paths[1])
        splits, folds = splits or [None] * 6, folds or [None] * 6
        clips = tuple(
            LabelledClip(FileSound(path), ("a",), fold, side)
            for path, side, fold in zip(paths, splits, folds, strict=True)
        )
        return LabelledSet("mine", label_set("mine", ["a"]), clips)

    return make


def test_copies_of_a_file_are_on_one_side(with_copy):
    labelled = with_copy()
    for seed in range(20):
        sides = split(labelled, validation=0.3, test=0.3, seed=seed)
        assert any({0, 1} <= set(rows.tolist()) for rows in (sides.train, sides.validation, sides.test))
        for one in k_folds(labelled, 3, seed=seed):
            assert len({0, 1} & set(one.test.tolist())) != 1


@pytest.mark.parametrize("copied", [{"file": "1.flac"}, {"file": "1.wav", "subtype": "FLOAT"}, {"file": "1.aiff"}])
def test_the_same_samples_in_another_format_are_on_one_side(tmp_path, write_sounds, copied):
    paths = write_sounds(*(f"{number}.wav" for number in range(6)))
    samples, rate = soundfile.read(paths[0], dtype="float32")
    paths[1] = tmp_path / copied["file"]
    soundfile.write(paths[1], samples, rate, subtype=copied.get("subtype"))
    clips = tuple(LabelledClip(FileSound(path), ("a",)) for path in paths)
    labelled = LabelledSet("mine", label_set("mine", ["a"]), clips)
    assert recordings(labelled).tolist() == [0, 0, 1, 2, 3, 4]
    for seed in range(10):
        sides = split(labelled, validation=0.3, test=0.3, seed=seed)
        assert any({0, 1} <= set(rows.tolist()) for rows in (sides.train, sides.validation, sides.test))


def test_sounds_that_only_begin_alike_are_no_copies(tmp_path):
    samples = np.zeros((3, 16000))
    samples[1, -1] = samples[2, 0] = 0.5
    paths = [tmp_path / f"{number}.wav" for number in range(3)]
    for path, sound in zip(paths, samples, strict=True):
        soundfile.write(path, sound, 16000)
    clips = tuple(LabelledClip(FileSound(path), ("a",)) for path in paths)
    assert recordings(LabelledSet("mine", label_set("mine", ["a"]), clips)).tolist() == [0, 1, 2]


def test_training_has_no_copy_of_what_the_makers_test_on(with_copy):
    sides = split(with_copy(splits=["test"] + ["train"] * 5), validation=0, test=0, seed=0)
    assert sides.test.tolist() == [0] and sides.left_out.tolist() == [1] and sides.train.tolist() == [2, 3, 4, 5]
    first = k_folds(with_copy(folds=[1, 2, 1, 2, 1, 2]), 2, seed=0)[0]
    assert first.test.tolist() == [0, 2, 4] and first.left_out.tolist() == [1]


@given(told_clips, st.integers(1, 4), seeds)
def test_few_shots_are_some_of_each_class(told, shots, seed):
    labelled = made(told)
    rows = np.arange(len(labelled))[::2]
    drawn = few_shot(labelled, rows, shots, seed=seed)
    assert set(drawn.tolist()) <= set(rows.tolist()) and (np.diff(drawn) > 0).all()
    targets = labelled.targets()
    assert (targets[drawn].sum(axis=0) >= np.minimum(targets[rows].sum(axis=0), shots)).all()
    assert set(few_shot(labelled, rows, 1, seed=seed)) <= set(drawn)


def test_few_shots_of_one_class_to_a_clip_are_exact():
    labelled = labelled_set([["a"]] * 30 + [["b"]] * 5 + [["c"]] * 2)
    counts = labelled.targets()[few_shot(labelled, np.arange(37), 4, seed=0)].sum(axis=0)
    assert counts[:3].tolist() == [4, 4, 2]


def test_classes_take_turns_in_a_balanced_order():
    targets = labelled_set([["a"]] * 90 + [["b"]] * 10).targets()
    clips = balanced_order(targets, 0).batch(np.arange(200))
    assert targets[clips].sum(axis=0)[:2].tolist() == [100, 100]
    assert balanced_order(targets, 0).batch(np.arange(150, 200)).tolist() == clips[150:].tolist()


# Of fewer clips, a side that would get nothing gets one of training's.
@given(st.lists(st.sampled_from(LETTERS), min_size=30, max_size=80), shares, shares, seeds)
def test_each_side_is_within_one_clip_of_its_share_of_each_class(names, validation, test, seed):
    labelled = labelled_set([[name] for name in names])
    sides = split(labelled, validation=validation, test=test, seed=seed)
    targets = labelled.targets()
    for rows, share in ((sides.train, 1 - validation - test), (sides.validation, validation), (sides.test, test)):
        assert (abs(targets[rows].sum(axis=0) - share * targets.sum(axis=0)) <= 1 + 1e-6).all()


def test_a_share_that_is_no_whole_number_of_clips_is_so_altogether():
    labelled = labelled_set([[name] for name in "abcd"] * 30)
    for seed in range(10):
        test = split(labelled, validation=0, test=0.15, seed=seed).test
        assert len(test) == 18 and set(labelled.targets()[test].sum(axis=0)[:4]) == {4, 5}


@given(st.lists(st.sampled_from(LETTERS), min_size=8, max_size=80), st.integers(2, 6), seeds)
def test_folds_differ_by_one_clip_of_each_class_at_most(names, k, seed):
    labelled = labelled_set([[name] for name in names])
    counts = np.array([labelled.targets()[one.test].sum(axis=0) for one in k_folds(labelled, k, seed=seed)])
    assert (np.ptp(counts, axis=0) <= 1).all()


@given(st.lists(st.tuples(st.sampled_from(LETTERS), st.integers(1, 5)), min_size=3, max_size=30), shares, seeds)
def test_parts_of_recordings_are_within_the_longest_recording_of_a_share(told, test, seed):
    names = [[name] for name, count in told for _ in range(count)]
    files = [number for number, (_, count) in enumerate(told) for _ in range(count)]
    labelled = labelled_set(names, files=files)
    targets = labelled.targets()
    rows = split(labelled, validation=0, test=test, seed=seed).test
    longest = np.zeros(targets.shape[1])
    for name, count in told:
        longest[LETTERS.index(name)] = max(longest[LETTERS.index(name)], count)
    assert (abs(targets[rows].sum(axis=0) - test * targets.sum(axis=0)) <= longest + 1e-6).all()


def test_many_classes_to_a_clip_have_their_shares_within_a_few_clips():
    rng = np.random.default_rng(0)
    frequencies = 0.3 / np.arange(1, 101)
    classes = (rng.random((2000, 100)) < frequencies).astype(np.int64)
    items = Items(np.ones(2000, np.int64), classes)
    for shares, learnt_from in (([0.8, 0.1, 0.1], 0), ([0.2] * 5, None)):
        sides = stratified(items, shares, seed=0, learnt_from=learnt_from)
        for side, share in enumerate(shares):
            away = abs(classes[sides == side].sum(axis=0) - share * classes.sum(axis=0))
            assert away.max() < 4 and away.mean() < 0.6
