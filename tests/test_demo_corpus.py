"""The demo's corpus: as AudioSet's in form, reproducible, and not to be told apart by any one number."""

import demo_corpus
import numpy as np
import pytest
import soundfile
from sklearn.metrics import roc_auc_score

from panns_jax.data.metadata import read_segments
from panns_jax.labels import audioset

CLIPS = 200


@pytest.fixture(scope="module")
def clips() -> list[demo_corpus.Clip]:
    return [demo_corpus.draw_clip(0, "balanced_train", number) for number in range(CLIPS)]


def test_the_classes_are_audiosets_and_at_least_eight():
    assert len(demo_corpus.CLASSES) >= 8
    assert all(audioset().index(name) >= 0 for name in demo_corpus.CLASSES)


def test_clips_carry_one_to_three_labels_and_no_class_is_rare(clips):
    assert {len(clip.labels) for clip in clips} == {1, 2, 3}
    counts = [sum(name in clip.labels for clip in clips) for name in demo_corpus.CLASSES]
    assert min(counts) >= 0.05 * CLIPS


def test_clips_differ_in_rate_length_and_level(clips):
    assert len({clip.rate for clip in clips}) >= 3
    seconds = [len(clip.waveform) / clip.rate for clip in clips]
    assert max(seconds) - min(seconds) > 0.2
    levels = [10 * np.log10(np.mean(clip.waveform**2)) for clip in clips]
    assert np.std(levels) > 5
    assert all(np.isfinite(clip.waveform).all() and np.abs(clip.waveform).max() <= 1 for clip in clips)


def features(clip: demo_corpus.Clip) -> list[float]:
    """Level, peak, crest factor, spectral centroid, zero crossings, spectral flatness and the strongest frequency."""
    wave = clip.waveform
    power = np.abs(np.fft.rfft(wave)) ** 2 + 1e-20
    hertz = np.fft.rfftfreq(len(wave), 1 / clip.rate)
    level, peak = float(np.sqrt(np.mean(wave**2))), float(np.abs(wave).max())
    crossings = float(np.mean(np.diff(np.sign(wave)) != 0) * clip.rate)
    flatness = float(np.exp(np.log(power).mean()) / power.mean())
    return [level, peak, peak / level, float(hertz @ power / power.sum()), crossings, flatness, hertz[power.argmax()]]


def test_no_single_feature_tells_the_classes_apart(clips):
    values = np.array([features(clip) for clip in clips])
    carried = np.array([[name in clip.labels for name in demo_corpus.CLASSES] for clip in clips])
    areas = np.array([[roc_auc_score(carries, feature) for feature in values.T] for carries in carried.T])
    best = np.maximum(areas, 1 - areas).max(axis=1)
    # White noise is flat by definition, and a silent clip is quiet: neither is a class of its own kind alone.
    assert best.max() < 0.98, dict(zip(demo_corpus.CLASSES, best, strict=True))
    assert best.mean() < 0.85


def test_a_clip_follows_from_seed_split_and_number(clips):
    np.testing.assert_array_equal(demo_corpus.draw_clip(0, "balanced_train", 5).waveform, clips[5].waveform)
    for other in (demo_corpus.draw_clip(1, "balanced_train", 5), demo_corpus.draw_clip(0, "eval", 5)):
        assert other.waveform.shape != clips[5].waveform.shape or (other.waveform != clips[5].waveform).any()


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_written_is_audioset_in_form(tmp_path, workers, clips):
    demo_corpus.write_split(tmp_path, "balanced_train", 20, 0, workers=workers)
    segments = read_segments(tmp_path / "metadata" / "balanced_train_segments.csv")
    assert len(segments) == 20 and any(segment.clip_id.startswith("-") for segment in segments)
    for segment, clip in zip(segments, clips, strict=False):
        assert {audioset()[label] for label in segment.labels} == set(clip.labels)
        path = tmp_path / "audios" / "balanced_train_segments" / segment.audio_name
        assert soundfile.info(path).samplerate == clip.rate


def test_shuffled_labels_are_the_same_labels_on_other_clips(tmp_path):
    told = []
    for name, shuffled in (("true", False), ("shuffled", True)):
        demo_corpus.write_split(tmp_path / name, "balanced_train", 60, 0, shuffle_labels=shuffled)
        segments = read_segments(tmp_path / name / "metadata" / "balanced_train_segments.csv")
        told.append([tuple(segment.labels) for segment in segments])
    assert told[0] != told[1] and sorted(told[0]) == sorted(told[1])
