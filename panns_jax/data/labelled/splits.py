"""Which clips are learnt from, which choose the model and which score it: splits, folds, few shots, balanced orders."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from panns_jax.data.labelled.clips import LabelledSet
from panns_jax.data.labelled.recordings import copies, recordings
from panns_jax.data.labelled.stratification import Items, stratified
from panns_jax.data.sampling import Sampler, make_sampler, shuffled_order
from panns_jax.errors import InputError

Rows = Int[np.ndarray, "_"]
Origins = Int[np.ndarray, " clips"]

_SIDES = ("train", "validation", "test")


def _none() -> Rows:
    return np.zeros(0, np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Rows of a labelled set, ascending; no row is in two of them.

    Attributes:
      train: what is learnt from.
      validation: what chooses among models.
      test: what scores them.
      left_out: training clips that the makers of the data set have in validation or test, too.
    """

    train: Rows
    validation: Rows = dataclasses.field(default_factory=_none)
    test: Rows = dataclasses.field(default_factory=_none)
    left_out: Rows = dataclasses.field(default_factory=_none)


def split(labelled: LabelledSet, *, validation: float, test: float, seed: int) -> Split:
    """Splits a set so that every side has its share of every class.

    What the makers chose is kept: their split, and where they chose folds alone, whole folds. A side that they did not
    choose is drawn from what they train on. What is drawn keeps the clips of one recording together, be they parts of
    a file or copies of it; and a class of which there are any clips is in training.

    Where clips have one class and are recordings of their own, each side that is drawn is within one clip of its
    share of every class, but that a side which would get nothing gets one of training's. Where clips have several
    classes, no such bound can be kept for all; of 10,000 random clips with 527 classes, sides are half a clip away on
    average, and 3 at most.

    Args:
      labelled: the clips.
      validation: share of the clips for validation, at least 0; it counts where the makers chose none.
      test: share for the test, likewise.
      seed: of what is drawn.

    Raises:
      InputError: the shares leave nothing to train on, or there are too few folds.
    """
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise InputError(f"shares of {validation:g} for validation and {test:g} for the test leave nothing to train on")
    origins = recordings(labelled)
    chosen = [clip.split for clip in labelled.clips]
    shares = {"validation": validation, "test": test}
    if any(chosen):
        sides = np.array([_SIDES.index(name or "train") for name in chosen])
        free = sides == 0
        shares = {side: share for side, share in shares.items() if side not in chosen}
    elif any(clip.fold is not None for clip in labelled.clips):
        return _without_copies(labelled, _by_folds(labelled, validation, test, seed), origins)
    else:
        sides, free = np.zeros(len(labelled), np.int64), np.ones(len(labelled), bool)
    rows = np.flatnonzero(free)
    wanted = [(_SIDES.index(side), share) for side, share in shares.items() if share]
    if wanted and len(rows):
        parts = [1 - sum(share for _, share in wanted), *(share for _, share in wanted)]
        numbers = np.array([0, *(side for side, _ in wanted)])
        sides[rows] = numbers[_drawn(labelled, rows, origins, parts, seed=seed, learnt_from=0)]
    if not (sides == 0).any():
        raise InputError(f"{labelled.origin}: all clips are in validation or test, and none is to be trained on")
    return _without_copies(labelled, sides, origins)


def k_folds(labelled: LabelledSet, k: int, *, seed: int, validation: float = 0.0) -> list[Split]:
    """Splits a set k times, so that each clip is in the test of one and in the training of the others.

    The makers' folds are kept where there are some. Folds that are drawn are stratified, and keep the clips of a
    recording together. Where each clip has one class, every training part has each class of at least two recordings;
    where clips are recordings of their own, too, the tests differ by one clip of each class at most.

    Args:
      labelled: the clips.
      k: number of folds, at least 2; that of the makers' where they chose folds.
      seed: of what is drawn.
      validation: share of each training part that is set aside for validation.

    Returns:
      A split for each fold, in the order of the folds' numbers.

    Raises:
      InputError: there are other folds than `k`, or fewer recordings.
    """
    if k < 2:
        raise InputError(f"there must be at least 2 folds, not {k}")
    if not 0 <= validation < 1:
        raise InputError(f"a share of {validation:g} for validation leaves nothing to train on")
    origins = recordings(labelled)
    makers = _makers_folds(labelled)
    if makers is None:
        folds = _drawn(labelled, np.arange(len(labelled)), origins, [1 / k] * k, seed=seed, learnt_from=None)
        if len(np.unique(folds)) < k:
            raise InputError(f"{labelled.origin}: there are too few recordings for {k} folds")
    else:
        numbers = np.unique(makers)
        if len(numbers) != k:
            raise InputError(f"{labelled.origin}: its makers chose {len(numbers)} folds, and not {k}")
        folds = np.searchsorted(numbers, makers)
    return [_fold(labelled, folds == number, origins, validation, seed) for number in range(k)]


def few_shot(labelled: LabelledSet, rows: Rows, shots: int, *, seed: int) -> Rows:
    """Draws clips until each class has some.

    Args:
      labelled: the clips.
      rows: those that may be drawn.
      shots: clips of each class, at least 1; all where there are fewer. Where clips carry several classes, common ones
        get more.
      seed: of what is drawn.

    Returns:
      Rows, ascending; those of a smaller number of shots are among them.
    """
    if shots < 1:
        raise InputError(f"there must be at least 1 shot, not {shots}")
    targets = labelled.targets()[rows]
    order = shuffled_order(len(rows), seed=seed)
    counts = targets.sum(axis=0)
    drawn = np.zeros(len(rows), bool)
    # One of each class in turn, the rarest first, so that a smaller number of shots draws the beginning of the same.
    for shot in range(1, shots + 1):
        for number in np.lexsort((np.arange(len(counts)), counts)):
            if targets[drawn, number].sum() < min(shot, counts[number]):
                drawn[next(place for place in order if targets[place, number] and not drawn[place])] = True
    return np.sort(np.asarray(rows)[drawn])


def balanced_order(targets: Bool[np.ndarray, "clips classes"], seed: int) -> Sampler:
    """Endless samples in which each class has its turn as often as any other; the k-th is a function of (seed, k).

    Args:
      targets: the classes of each clip.
      seed: of the order.

    Returns:
      Its `batch(ks)` are the clips that are the samples `ks`.

    Raises:
      InputError: no clip has a class.
    """
    return make_sampler("balanced", targets, seed=seed, batch_rows=1)


def _drawn(
    labelled: LabelledSet,
    rows: Rows,
    origins: Origins,
    shares: Sequence[float],
    *,
    seed: int,
    learnt_from: int | None,
) -> Int[np.ndarray, " rows"]:
    """The side of each of the rows, where clips of a recording are of one side."""
    subset = labelled.take(rows)
    numbers, places = np.unique(origins[rows], return_inverse=True)
    targets = subset.targets()
    classes = np.zeros((len(numbers), targets.shape[1]), np.int64)
    np.add.at(classes, places, targets)
    items = Items(np.bincount(places, minlength=len(numbers)), classes)
    return stratified(items, shares, seed=seed, learnt_from=learnt_from)[places]


def _makers_folds(labelled: LabelledSet) -> Int[np.ndarray, " clips"] | None:
    """The makers' fold of each clip; None where they chose none.

    Raises:
      InputError: they did so for some clips alone.
    """
    folds = [clip.fold for clip in labelled.clips]
    there = [fold for fold in folds if fold is not None]
    if not there:
        return None
    if len(there) < len(folds):
        name = labelled.clips[folds.index(None)].sound.name
        raise InputError(f"{labelled.origin}: {name} has no fold, and others have")
    return np.array(there)


def _by_folds(labelled: LabelledSet, validation: float, test: float, seed: int) -> Int[np.ndarray, " clips"]:
    """The side of each clip, by whole folds of the makers."""
    folds = _makers_folds(labelled)
    assert folds is not None
    numbers = np.unique(folds)
    wanted = [0 if not share else max(1, round(share * len(numbers))) for share in (validation, test)]
    if sum(wanted) >= len(numbers):
        told = f"{wanted[0]} for validation, {wanted[1]} for the test"
        raise InputError(f"{labelled.origin}: its {len(numbers)} folds are too few to train on others than {told}")
    order = numbers[shuffled_order(len(numbers), seed=seed)]
    sides = np.zeros(len(labelled), np.int64)
    sides[np.isin(folds, order[: wanted[0]])] = 1
    sides[np.isin(folds, order[wanted[0] : sum(wanted)])] = 2
    return sides


def _fold(
    labelled: LabelledSet, is_test: Bool[np.ndarray, " clips"], origins: Origins, validation: float, seed: int
) -> Split:
    sides = np.where(is_test, 2, 0)
    if validation:
        rows = np.flatnonzero(~is_test)
        sides[rows] = _drawn(labelled, rows, origins, [1 - validation, validation], seed=seed, learnt_from=0)
    return _without_copies(labelled, sides, origins)


def _without_copies(labelled: LabelledSet, sides: Int[np.ndarray, " clips"], origins: Origins) -> Split:
    """The split in which training has no copy of a clip of validation or test, and validation none of one of test."""
    left_out = np.zeros(len(sides), bool)
    for same in copies(labelled, origins):
        rows = np.array(same)
        left_out[rows] = sides[rows] < sides[rows].max()
    train, held, test = (np.flatnonzero((sides == side) & ~left_out) for side in range(3))
    return Split(train, held, test, np.flatnonzero(left_out))
