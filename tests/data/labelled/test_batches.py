"""Clips of any length to batches of one."""

import itertools

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from panns_jax.data.labelled.batches import clip_waveform, evaluation_windows, training_clips
from panns_jax.data.labelled.decoded import Decoded, ahead
from panns_jax.data.labelled.read import read_labelled
from panns_jax.errors import InputError


@pytest.fixture
def labelled(tmp_path, write_sounds):
    write_sounds("a/1.wav", "a/2.wav", "b/3.wav", "b/4.wav", "b/5.wav")
    soundfile.write(tmp_path / "a" / "6.wav", np.linspace(-0.5, 0.5, 3000), 8000, subtype="FLOAT")
    return read_labelled(str(tmp_path))


def test_a_longer_clip_is_cut_in_the_middle_and_a_shorter_one_padded_at_its_end():
    waveform = np.arange(10, dtype=np.float32)
    assert clip_waveform(waveform, 4).tolist() == [3, 4, 5, 6]
    assert clip_waveform(waveform, 12).tolist() == [*range(10), 0, 0]
    assert clip_waveform(waveform, 10).tolist() == [*range(10)]


def test_training_cuts_anywhere():
    waveform = np.arange(6, dtype=np.float32)
    starts = {clip_waveform(waveform, 4, rng=np.random.default_rng(seed))[0] for seed in range(50)}
    assert starts == {0, 1, 2}


@given(st.integers(1, 60), st.integers(1, 20))
def test_windows_cover_the_whole_clip(length, samples):
    waveform = np.arange(1, length + 1, dtype=np.float32)
    windows = evaluation_windows(waveform, samples)
    assert windows.shape == (max(1, -(-length // samples)), samples)
    assert set(windows.ravel().tolist()) - {0.0} == set(waveform.tolist())


def test_a_batch_is_a_function_of_the_seed_and_its_number(labelled):
    def batches(seed: int, **options):
        return training_clips(
            labelled, np.arange(6), clip_seconds=0.08, sample_rate=8000, seed=seed, batch_size=4, **options
        )

    batch = batches(0)[7]
    assert batch["waveform"].shape == (4, 640) and batch["waveform"].dtype == np.float32
    assert batch["target"].shape == (4, 2) and batch["target"].dtype == np.float32
    np.testing.assert_array_equal(batch["target"], labelled.targets()[batch["row"]])
    resumed = next(batches(0).batches(7, workers=3))
    without_cache = batches(0, cache_bytes=0)[7]
    for other in (resumed, without_cache):
        np.testing.assert_array_equal(other["waveform"], batch["waveform"])
        np.testing.assert_array_equal(other["row"], batch["row"])
    assert (batches(1)[7]["waveform"] != batch["waveform"]).any()


def test_batches_follow_each_other_and_pass_over_all_clips(labelled):
    source = training_clips(labelled, np.array([0, 2, 4]), clip_seconds=0.05, sample_rate=8000, seed=0, batch_size=3)
    batches = source.batches(workers=2)
    rows = [next(batches)["row"] for _ in range(4)]
    batches.close()
    assert [sorted(one.tolist()) for one in rows] == [[0, 2, 4]] * 4


def test_balanced_batches_have_each_class_alike(labelled):
    source = training_clips(
        labelled, np.array([0, 3, 4, 5]), clip_seconds=0.05, sample_rate=8000, seed=0, batch_size=8, balanced=True
    )
    assert source[3]["target"].sum(axis=0).tolist() == [4, 4]


def test_clips_are_decoded_once_where_they_fit(labelled, monkeypatch):
    from panns_jax.data.labelled.sounds import FileSound

    read: list[str] = []
    original = FileSound.waveform
    monkeypatch.setattr(FileSound, "waveform", lambda self, rate: (read.append(self.name), original(self, rate))[1])
    decoded = Decoded(labelled, 8000, cache_bytes=2 * 800 * 4)
    for _ in range(3):
        waveforms = decoded.each(np.arange(6), workers=1)
        assert [len(waveform) for waveform in waveforms] == [800, 800, 3000, 800, 800, 800]
    assert len(read) == 6 + 2 * 4 and len(set(read)) == 6
    with pytest.raises(ValueError, match="read-only"):
        decoded.waveform(0)[0] = 1


def test_a_clip_that_cannot_be_read_is_named_in_its_turn(labelled, tmp_path):
    (tmp_path / "b" / "3.wav").write_bytes(b"nonsense")
    waveforms = Decoded(labelled, 8000).each(np.arange(6))
    assert len(list(itertools.islice(waveforms, 3))) == 3
    with pytest.raises(InputError, match=r"3\.wav: cannot be read as sound"):
        next(waveforms)


def test_results_ahead_come_in_order_and_bounded_in_number():
    taken = 0

    def items():
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield number

    results = ahead(lambda number: -number, items(), workers=3)
    assert list(itertools.islice(results, 50)) == [-number for number in range(50)]
    results.close()
    assert taken < 60


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"clip_seconds": 0.0}, "at least one sample long"),
        ({"batch_size": 0}, "at least 1 clip"),
        ({"rows": np.zeros(0, np.int64)}, "no clips to train on"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(labelled, options, sentence):
    rows = options.pop("rows", np.arange(2))
    with pytest.raises(InputError, match=sentence):
        training_clips(labelled, rows, **{"clip_seconds": 0.1, "sample_rate": 8000, "seed": 0, **options})
