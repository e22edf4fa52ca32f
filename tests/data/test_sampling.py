"""Which clip is the k-th sample."""

import itertools
import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panns_jax.data.sampling import BalancedClasses, drawn_share, make_sampler, permuted
from panns_jax.data.targets import Targets
from panns_jax.errors import InputError

SEEDS = st.integers(0, 2**63)

# A change here makes every run resume with other samples than it began with.
EXPECTED_FIRSTS = {
    "none": [488, 200, 47, 941, 182, 557, 435, 422],
    "balanced": [0, 486, 720, 260, 702, 959, 315, 45],
    "alternate": [0, 486, 720, 260, 488, 200, 47, 941],
}
EXPECTED_SHARE = [68, 264, 312, 367, 539, 744, 935, 948]


def targets_of(clips: int, classes: int, *, seed: int = 0) -> np.ndarray:
    """Clips with one to three labels, some classes common and some rare, the last one without a clip."""
    rng = np.random.default_rng(seed)
    targets = np.zeros((clips, classes), bool)
    for clip in range(clips):
        targets[clip, (rng.random(rng.integers(1, 4)) ** 2 * (classes - 1)).astype(int)] = True
    return targets


def drawn(sampler, start: int, stop: int) -> np.ndarray:
    return sampler.batch(np.arange(start, stop))


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_a_permutation_takes_each_place_to_another(length, key):
    places = permuted(np.arange(length), np.array(length), np.array(key, np.uint64))
    assert sorted(places) == list(range(length))


@pytest.mark.parametrize("length", [2, 3, 4, 5])
def test_all_orders_of_a_short_list_are_equally_likely(length):
    from scipy.stats import chisquare

    keys = np.random.default_rng(7).integers(0, 2**64, 30_000, dtype=np.uint64)
    places = np.tile(np.arange(length), len(keys))
    orders = permuted(places, np.array(length), np.repeat(keys, length)).reshape(-1, length)
    counts = Counter(map(tuple, orders.tolist()))
    assert chisquare([counts[order] for order in itertools.permutations(range(length))]).pvalue > 1e-3


@pytest.mark.parametrize("length", [17, 100, 1000])
def test_in_a_long_list_any_place_may_hold_any_item(length):
    from scipy.stats import chisquare

    keys = np.random.default_rng(3).integers(0, 2**64, 200 * length // 10, dtype=np.uint64)
    for place in (0, length // 2, length - 1):
        items = permuted(np.full(len(keys), place), np.array(length), keys)
        assert chisquare(np.bincount(items, minlength=length)).pvalue > 1e-3
        following = permuted(np.full(len(keys), (place + 1) % length), np.array(length), keys)
        distance = (following - items) % length
        assert (distance > 0).all() and chisquare(np.bincount(distance, minlength=length)[1:]).pvalue > 1e-3


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 200))
def test_without_balance_every_pass_holds_every_clip_once(seed, clips):
    sampler = make_sampler("none", np.ones((clips, 1), bool), seed=seed, batch_rows=4)
    for number in range(3):
        assert sorted(drawn(sampler, number * clips, (number + 1) * clips)) == list(range(clips))


@pytest.mark.parametrize("balance", ["none", "balanced"])
def test_every_pass_and_seed_has_an_order_of_its_own(balance):
    targets = targets_of(100, 10)
    orders = {
        tuple(drawn(make_sampler(balance, targets, seed=seed, batch_rows=4), n * 900, n * 900 + 900))
        for seed in range(5)
        for n in range(4)
    }
    assert len(orders) == 20


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(2, 60), st.integers(2, 20))
def test_balanced_rounds_hold_every_class_that_has_clips_once(seed, clips, classes):
    targets = targets_of(clips, classes, seed=seed % 1000)
    sampler = make_sampler("balanced", targets, seed=seed, batch_rows=4)
    assert isinstance(sampler, BalancedClasses)
    populated = np.flatnonzero(targets.any(0))
    for number in range(4):
        ks = np.arange(number * len(populated), (number + 1) * len(populated))
        for_classes = sampler.drawn_classes(ks)
        assert sorted(for_classes) == populated.tolist()
        assert targets[sampler.batch(ks), for_classes].all()


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_each_class_walks_through_all_its_clips_before_one_comes_again(seed):
    targets = targets_of(40, 8)
    sampler = make_sampler("balanced", targets, seed=seed, batch_rows=4)
    assert isinstance(sampler, BalancedClasses)
    ks = np.arange(3000)
    clips, for_classes = sampler.batch(ks), sampler.drawn_classes(ks)
    for class_number in np.flatnonzero(targets.any(0)):
        expected = np.flatnonzero(targets[:, class_number])
        walked = clips[for_classes == class_number]
        passes = [walked[i : i + len(expected)] for i in range(0, len(walked) - len(expected) + 1, len(expected))]
        assert len(passes) >= 3
        assert all(sorted(one) == expected.tolist() for one in passes)


def test_alternate_takes_batches_from_the_two_in_turn_balanced_first():
    targets = targets_of(50, 6)
    samplers = {name: make_sampler(name, targets, seed=5, batch_rows=8) for name in ("none", "balanced", "alternate")}
    for batch in range(10):
        own = batch // 2 * 8
        expected = drawn(samplers["none" if batch % 2 else "balanced"], own, own + 8)
        np.testing.assert_array_equal(drawn(samplers["alternate"], batch * 8, batch * 8 + 8), expected)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["none", "balanced", "alternate"]), SEEDS, st.lists(st.integers(0, 2**40), min_size=1, max_size=30)
)
def test_a_sample_depends_on_seed_and_number_alone(balance, seed, ks):
    targets = targets_of(70, 9)
    sampler = make_sampler(balance, targets, seed=seed, batch_rows=8)
    together = sampler.batch(np.array(ks))
    again = pickle.loads(pickle.dumps(make_sampler(balance, Targets.from_dense(targets), seed=seed, batch_rows=8)))
    assert [again[k] for k in reversed(ks)] == together[::-1].tolist()


@pytest.mark.parametrize("balance", ["none", "balanced", "alternate"])
def test_excluded_clips_are_never_sampled(balance):
    targets = targets_of(60, 8)
    excluded = np.arange(60) % 3 == 0
    clips = drawn(make_sampler(balance, targets, seed=1, batch_rows=8, excluded=excluded), 0, 5000)
    assert set(clips) == set(np.flatnonzero(~excluded))


def test_a_class_whose_clips_are_all_excluded_is_passed_over():
    targets = np.eye(4, dtype=bool)
    excluded = np.array([False, True, False, False])
    assert set(drawn(make_sampler("balanced", targets, seed=1, batch_rows=8, excluded=excluded), 0, 100)) == {0, 2, 3}


@given(SEEDS, st.integers(1, 400), st.floats(1e-6, 1), st.floats(1e-6, 1))
def test_a_larger_share_of_the_clips_holds_the_smaller(seed, clips, one, other):
    small, large = (drawn_share(clips, fraction, seed=seed) for fraction in sorted((one, other)))
    assert not (small & ~large).any()
    assert small.sum() == max(1, round(clips * min(one, other)))
    assert drawn_share(clips, 1.0, seed=seed).all()


def test_each_seed_draws_a_share_of_its_own_from_all_over():
    shares = np.array([drawn_share(10_000, 0.2, seed=seed) for seed in range(5)])
    parts = shares.reshape(5, 10, 1000).sum(axis=2)
    assert (np.abs(parts - 200) < 80).all()  # six standard deviations
    both = shares[0] & shares[1:]
    assert (np.abs(both.sum(axis=1) - 400) < 120).all()


def test_the_samples_of_a_seed_never_change():
    targets = np.arange(1000)[:, None] % np.arange(2, 22) == 0
    firsts = {
        balance: drawn(make_sampler(balance, targets, seed=0, batch_rows=4), 0, 8).tolist()
        for balance in ("none", "balanced", "alternate")
    }
    assert firsts == EXPECTED_FIRSTS
    assert np.flatnonzero(drawn_share(1000, 0.008, seed=0)).tolist() == EXPECTED_SHARE


def test_samplers_without_clips_are_refused():
    with pytest.raises(InputError, match="no clips to train on"):
        make_sampler("none", np.zeros((3, 2), bool), seed=0, batch_rows=4, excluded=np.ones(3, bool))
    with pytest.raises(InputError, match="no labelled clips to balance"):
        make_sampler("balanced", np.zeros((3, 2), bool), seed=0, batch_rows=4)
