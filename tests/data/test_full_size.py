"""An index of the size of AudioSet: two million clips, with the class frequencies that they have there."""

import subprocess
import sys
from pathlib import Path

import make_workspace
import numpy as np
import pytest

from panns_jax.data.index import ClipIndex
from panns_jax.data.metadata import PUBLISHED_BLACK_LIST, read_black_list
from panns_jax.data.sampling import BalancedClasses, drawn_share, make_sampler
from panns_jax.labels import audioset_train_clips

ROUNDS = 2000
CLASSES = 527

OPEN = """
import sys
from pathlib import Path
from panns_jax.data.index import read_index
from panns_jax.data.sources import ClipSource

source = ClipSource(read_index(sys.argv[1]), 32000)
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(len(source), len(source.index.files), len(source.index.targets.classes), int(peak.split()[1]) // 1024)
"""


@pytest.fixture(scope="module")
def index() -> ClipIndex:
    return make_workspace.generated_index(Path("full_train.h5"), make_workspace.CLIPS, [Path("x.h5")])


@pytest.mark.slow
def test_the_index_has_audiosets_class_frequencies(index):
    assert len(index) == 2_063_839
    assert len(np.unique(index.audio_name)) == len(index)
    assert tuple(np.bincount(index.targets.classes)) == audioset_train_clips()
    per_clip = np.diff(index.targets.starts)
    assert per_clip.min() == 1
    clips = np.repeat(np.arange(len(index)), per_clip)
    assert len(np.unique(clips * CLASSES + index.targets.classes)) == len(clips)  # no clip carries a class twice


@pytest.mark.slow
def test_classes_are_balanced_exactly_and_the_black_list_is_never_sampled(index):
    excluded = index.listed(read_black_list(PUBLISHED_BLACK_LIST))
    assert excluded.sum() == 1591
    sampler = make_sampler("balanced", index.targets, seed=5, batch_rows=64, excluded=excluded)
    assert isinstance(sampler, BalancedClasses)
    ks = np.arange(CLASSES * ROUNDS)
    drawn, clips = sampler.drawn_classes(ks), sampler.batch(ks)
    assert (np.bincount(drawn, minlength=CLASSES) == ROUNDS).all()
    assert not excluded[clips].any()
    labels, starts = index.targets.by_class()
    for number in range(CLASSES):
        of_class = labels[starts[number] : starts[number + 1]]
        of_class = of_class[~excluded[of_class]]
        times = np.unique(clips[drawn == number], return_counts=True)
        assert np.isin(times[0], of_class).all()
        # A clip comes again when all of its class have come, and no sooner.
        whole_passes = ROUNDS // len(of_class)
        assert set(times[1]) <= {whole_passes, whole_passes + 1}
        assert len(times[0]) == min(ROUNDS, len(of_class))


@pytest.mark.slow
@pytest.mark.parametrize("balance", ["none", "alternate"])
def test_a_pass_holds_every_clip_of_a_share_once(index, balance):
    share = drawn_share(len(index), 0.25, seed=3)
    sampler = make_sampler(balance, index.targets, seed=3, batch_rows=64, excluded=~share)
    clips = int(share.sum())
    assert clips == round(len(index) / 4)
    ks = np.arange(clips)
    if balance == "alternate":  # batches of the pass are every second one
        ks = (ks // 64 * 2 + 1) * 64 + ks % 64
    counts = np.bincount(sampler.batch(ks), minlength=len(index))
    assert (counts == share).all()


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc")
@pytest.mark.parametrize("chunked", [False, True], ids=["as published", "as packed"])
def test_it_opens_in_little_memory(tmp_path, chunked):
    index = make_workspace.make_full(tmp_path, chunked=chunked)
    done = subprocess.run([sys.executable, "-c", OPEN, index.path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    clips, files, labels, peak = map(int, done.stdout.split())
    assert (clips, files, labels) == (2_063_839, 42, sum(audioset_train_clips()))
    assert peak < 1000  # megabytes; the matrix of targets alone has a thousand
