"""Which clip is the k-th sample of a training run: a pure function of (seed, k).

Nothing is kept between samples, so that a resumed run needs its step and no more, and any number of workers or hosts
draws the same samples. Shuffled lists are index permutations that are computed where they are asked for, in constant
time and without storing them: Feistel networks over a grid just larger than the list, keyed by seed, list and pass,
which step again where they land outside the list ("cycle walking"; Black and Rogaway, Ciphers with Arbitrary Finite
Domains, 2002).
"""

import dataclasses
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int, UInt64

from panns_jax.data.targets import Targets
from panns_jax.errors import InputError

Balance = Literal["none", "balanced", "alternate"]

# With fewer rounds, or rows shorter than this, the orders of short lists are not all equally likely.
_ROUNDS = 8
_LEAST_SIDE = np.array(6, np.uint64)
# Constants are arrays of no dimensions: beside short arrays, numpy takes half the time for these that it takes for
# numbers, and a batch is short.
_ONE, _HALF = np.array(1, np.uint64), np.array(32, np.uint64)
_FIRST_FACTOR, _SECOND_FACTOR = np.array(0x9E3779B97F4A7C15, np.uint64), np.array(0xD6E8FEB86659FD93, np.uint64)
_ROUND_NUMBERS = [np.array(number << 32, np.uint64) for number in range(_ROUNDS)]
# What the keys of different lists begin with, so that no two lists are shuffled alike.
_CLIPS, _CLASSES, _CLASS_CLIPS, _SHARE, _ORDER = np.arange(5, dtype=np.uint64)


@runtime_checkable
class Sampler(Protocol):
    """The samples of a training run."""

    def __getitem__(self, k: int) -> int:
        """Number of the clip that is the k-th sample."""
        ...

    def batch(self, ks: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Numbers of the clips that are the samples `ks`, in any order, all at once."""
        ...


def make_sampler(
    balance: Balance,
    targets: Targets | Bool[np.ndarray, "clips classes"],
    *,
    seed: int,
    batch_rows: int,
    excluded: Bool[np.ndarray, " clips"] | None = None,
) -> Sampler:
    """The sampler of the option `--balanced`.

    Args:
      balance: "none" passes over all clips in shuffled order again and again; "balanced" takes classes in shuffled
        rounds, each class once a round, and from each class its clips in shuffled order, shuffled anew at the end;
        "alternate" takes batches from the two in turn, balanced first.
      targets: the classes of each clip.
      seed: of all shuffling.
      batch_rows: samples in a batch; only "alternate" depends on it.
      excluded: clips that are never sampled, as those of a black list.

    Raises:
      InputError: there are no clips to sample, or, where classes are balanced, none that carries a class.
    """
    if balance not in ("none", "balanced", "alternate"):
        raise InputError(f"--balanced must be none, balanced or alternate, not {balance!r}")
    if isinstance(targets, np.ndarray):
        targets = Targets.from_dense(targets)
    eligible = np.flatnonzero(np.ones(len(targets), bool) if excluded is None else ~excluded).astype(np.int32)
    if not len(eligible):
        raise InputError("there are no clips to train on: all are on the black list, or left out by --data-fraction")
    key = _key(seed)
    if balance == "none":
        return ShuffledPasses(key, eligible)
    balanced = _balanced(key, targets, eligible)
    if balance == "balanced":
        return balanced
    return Alternating(balanced, ShuffledPasses(key, eligible), batch_rows)


def drawn_share(clips: int, fraction: float, *, seed: int) -> Bool[np.ndarray, " clips"]:
    """Which clips belong to a share of them that is drawn at random; larger shares of one seed hold the smaller ones.

    Args:
      clips: how many there are.
      fraction: how large the share is, above 0 and at most 1; rounded to whole clips, but at least one.
      seed: of what is drawn.
    """
    ranks = permuted(np.arange(clips), np.array(clips), _mixed(_key(seed), _SHARE))
    return ranks < max(1, round(clips * fraction))


def shuffled_order(count: int, *, seed: int) -> Int[np.ndarray, " count"]:
    """The numbers 0 … count - 1 in an order that the seed tells."""
    return permuted(np.arange(count), np.array(count), _mixed(_key(seed), _ORDER))


@dataclasses.dataclass(frozen=True, eq=False)
class ShuffledPasses:
    """All clips in shuffled order, again and again, each pass shuffled anew."""

    key: UInt64[np.ndarray, " 1"]
    clips: Int[np.ndarray, " clips"]

    def __getitem__(self, k: int) -> int:
        """See `Sampler`."""
        return int(self.batch(np.array([k]))[0])

    def batch(self, ks: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """See `Sampler`."""
        passes, places = np.divmod(ks, len(self.clips))
        keys = _mixed(self.key, _CLIPS, passes)
        return self.clips[permuted(places, np.array(len(self.clips)), keys)]


@dataclasses.dataclass(frozen=True, eq=False)
class BalancedClasses:
    """Classes in shuffled rounds; the clips of each class in shuffled order, again and again.

    In round r every class is drawn for the r-th time: that is what makes the place in its list known without state.

    Attributes:
      classes: the classes that have clips.
      clips: the clips of each class, one class after another.
      starts: where the clips of each of `classes` begin in `clips`.
      counts: how many there are.
    """

    key: UInt64[np.ndarray, " 1"]
    classes: Int[np.ndarray, " classes"]
    clips: Int[np.ndarray, " labels"]
    starts: Int[np.ndarray, " classes"]
    counts: Int[np.ndarray, " classes"]

    def __getitem__(self, k: int) -> int:
        """See `Sampler`."""
        return int(self.batch(np.array([k]))[0])

    def batch(self, ks: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """See `Sampler`."""
        rounds, drawn = self._draw(ks)
        passes, places = np.divmod(rounds, self.counts[drawn])
        keys = _mixed(self.key, _CLASS_CLIPS, self.classes[drawn], passes)
        return self.clips[self.starts[drawn] + permuted(places, self.counts[drawn], keys)]

    def drawn_classes(self, ks: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """The classes for whose sake the samples `ks` are drawn."""
        return self.classes[self._draw(ks)[1]]

    def _draw(self, ks: Int[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        rounds, places = np.divmod(ks, len(self.classes))
        return rounds, permuted(places, np.array(len(self.classes)), _mixed(self.key, _CLASSES, rounds))


@dataclasses.dataclass(frozen=True, eq=False)
class Alternating:
    """Batches from two samplers in turn."""

    first: Sampler
    second: Sampler
    batch_rows: int

    def __getitem__(self, k: int) -> int:
        """See `Sampler`."""
        return int(self.batch(np.array([k]))[0])

    def batch(self, ks: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """See `Sampler`."""
        batches, places = np.divmod(ks, self.batch_rows)
        own = batches // 2 * self.batch_rows + places
        is_first = batches % 2 == 0
        clips = np.empty(ks.shape, np.int32)
        for sampler, chosen in ((self.first, is_first), (self.second, ~is_first)):
            if chosen.any():
                clips[chosen] = sampler.batch(own[chosen])
        return clips


def permuted(
    places: Int[np.ndarray, " n"], lengths: Int[np.ndarray, "..."], keys: UInt64[np.ndarray, "..."]
) -> Int[np.ndarray, " n"]:
    """Where the permutations of `lengths` items with the `keys` take the `places`; lengths and keys broadcast.

    For one key and length, the places 0 … length - 1 are taken to 0 … length - 1, each to another.
    """
    keys = np.broadcast_to(keys, places.shape)
    lengths = np.broadcast_to(lengths, places.shape).astype(np.uint64)
    result = _grid_permuted(places.astype(np.uint64), lengths, keys)
    while len(outside := np.flatnonzero(result >= lengths)):
        result[outside] = _grid_permuted(result[outside], lengths[outside], keys[outside])
    return result.astype(np.int64)


def _key(seed: int) -> UInt64[np.ndarray, " 1"]:
    return _mixed(np.uint64(seed % 2**64), np.uint64(0x5EED))


def _balanced(key: UInt64[np.ndarray, " 1"], targets: Targets, eligible: Int[np.ndarray, " clips"]) -> BalancedClasses:
    labels, starts = targets.take(eligible).by_class()
    counts = np.diff(starts)
    # A class without clips has nothing to give: it has no place in the rounds.
    classes = np.flatnonzero(counts)
    if not len(classes):
        raise InputError("there are no labelled clips to balance; train with --balanced none")
    return BalancedClasses(key, classes, eligible[labels], starts[classes], counts[classes])


def _grid_permuted(
    places: UInt64[np.ndarray, " n"], lengths: UInt64[np.ndarray, " n"], keys: UInt64[np.ndarray, " n"]
) -> UInt64[np.ndarray, " n"]:
    """A permutation of a grid of nearly square shape with at least `lengths` cells."""
    height = np.maximum(np.ceil(np.sqrt(lengths.astype(np.float64))).astype(np.uint64), _LEAST_SIDE)
    width = np.maximum((lengths + height - _ONE) // height, _LEAST_SIDE)
    row, column = np.divmod(places, width)
    for number in range(_ROUNDS):
        if number % 2:
            column = (column + _hash(row, keys, number)) % width
        else:
            row = (row + _hash(column, keys, number)) % height
    return row * width + column


def _hash(values: UInt64[np.ndarray, " n"], keys: UInt64[np.ndarray, " n"], number: int) -> UInt64[np.ndarray, " n"]:
    """32 random-looking bits of each value and key."""
    state = (values + _ROUND_NUMBERS[number]) * _FIRST_FACTOR ^ keys
    state = (state ^ state >> _HALF) * _SECOND_FACTOR
    state = (state ^ state >> _HALF) * _SECOND_FACTOR
    return state >> _HALF


def _mixed(*parts: np.uint64 | Int[np.ndarray, "..."] | UInt64[np.ndarray, "..."]) -> UInt64[np.ndarray, " n"]:
    """One 64-bit key of several numbers (the finalizer of SplitMix64, chained)."""
    state = np.zeros(1, np.uint64)
    for part in parts:
        state = (state ^ np.asarray(part).astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ state >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ state >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        state = state ^ state >> np.uint64(31)
    return state
