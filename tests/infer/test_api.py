"""Tagger and Embedder: arrays and files in, arrays and records out."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import recipe

import panns_jax
from panns_jax import Embedder, InputError, Tagger
from panns_jax.audio import read_waveform, resample
from panns_jax.infer.api import Tags
from panns_jax.infer.ears import Failure, checked_waveforms
from panns_jax.infer.heard import Heard

RATE = 32000


@pytest.fixture(scope="module")
def tagger(checkpoint: Path) -> Tagger:
    return Tagger(checkpoint=checkpoint)


@pytest.fixture(scope="module")
def embedder(tagger: Tagger) -> Embedder:
    return Embedder(tagger.listener)


def test_an_array_gives_what_the_file_gives(tagger: Tagger, embedder: Embedder, sound: Path, by_hand: Callable):
    waveform, heard = read_waveform(sound, RATE), by_hand(sound)
    np.testing.assert_allclose(tagger(waveform), heard.clipwise, atol=1e-5)
    np.testing.assert_allclose(embedder(waveform), heard.embedding, rtol=1e-5, atol=1e-5)
    tags = tagger.tag(sound, top=3)
    np.testing.assert_allclose(tags.clipwise, heard.clipwise, atol=1e-5)
    assert tags.name == str(sound) and tags.duration == pytest.approx(1, abs=0.001) and len(tags.tags) == 3
    assert tags.tags[0].label == tagger.labels[int(heard.clipwise.argmax())]
    np.testing.assert_allclose(embedder.embed(sound).embedding, heard.embedding, rtol=1e-5, atol=1e-5)


def test_a_batch_gives_a_row_for_each_sound(tagger: Tagger, embedder: Embedder):
    batch = recipe.waveform(3, 16000, RATE, 5)
    assert tagger(batch).shape == (3, 527) and embedder(batch).shape == (3, embedder.embedding_dim)
    np.testing.assert_allclose(tagger(batch)[1], tagger(batch[1]), atol=1e-6)


def test_an_array_of_another_rate_is_resampled(tagger: Tagger):
    waveform = recipe.waveform(1, 22050, 22050, 2)[0]
    wanted = tagger(resample(waveform, 22050, RATE))
    np.testing.assert_array_equal(tagger(waveform, sample_rate=22050), wanted)
    np.testing.assert_array_equal(tagger.tag(waveform, sample_rate=22050).clipwise, wanted)


def test_windows_are_heard_one_by_one(tagger: Tagger, embedder: Embedder):
    waveform = recipe.waveform(1, 3 * 16000, RATE, 4)[0]
    results = tagger.tag_windows(waveform, window=0.5, hop=0.25)
    assert [(result.start, result.duration) for result in results] == [(0.25 * i, 0.5) for i in range(5)]
    np.testing.assert_array_equal(results[1].clipwise, tagger(waveform[8000:24000]))
    assert [part.start for part in embedder.embed_windows(waveform, window=0.5)] == [0.0, 0.5, 1.0]


def test_a_bad_sound_among_many_fails_in_its_place_and_stops_nothing(
    tagger: Tagger, embedder: Embedder, sound: Path, tmp_path: Path
):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF")
    sounds = [sound, bad, np.zeros(RATE, np.int16), np.zeros(0, np.float32), recipe.waveform(1, RATE, RATE, 1)[0]]
    for results in (list(tagger.tag_all(sounds)), list(embedder.embed_all(sounds))):
        assert [isinstance(result, Failure) for result in results] == [False, True, True, True, False]
        assert [result.name for result in results] == [str(sound), str(bad), *["array"] * 3]
        reasons = [str(result.error) for result in results if isinstance(result, Failure)]
        assert "bad.wav" in reasons[0] and "int16" in reasons[1]


def test_results_come_while_sounds_still_arrive(tagger: Tagger):
    endless = itertools.repeat(recipe.waveform(1, 16000, RATE, 1)[0])
    assert [isinstance(result, Tags) for result in itertools.islice(tagger.tag_all(endless), 3)] == [True] * 3


@pytest.mark.parametrize("name", ["street.flac", Path("street.flac")])
def test_the_name_of_a_file_in_the_place_of_an_array_is_told_as_such(name: str | Path):
    with pytest.raises(InputError, match=r"^'street.flac' is the name of a file.*files are taken by tag"):
        checked_waveforms(name)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(100, np.int16), "floating point in .-1, 1., got int16: divide"),
        (np.zeros((1, 2, 3), np.float32), r"\(samples,\) or \(batch, samples\), got shape \(1, 2, 3\)"),
        (np.zeros((2, 0), np.float32), r"got shape \(2, 0\)"),
        (np.full(100, np.nan, np.float32), "no finite numbers"),
        (np.full(100, 1e20, np.float32), "full scale"),
    ],
)
def test_an_array_that_is_no_sound_is_refused_in_a_sentence(tagger: Tagger, array: np.ndarray, message: str):
    with pytest.raises(InputError, match=message):
        tagger(array)


def test_float64_is_taken(tagger: Tagger):
    waveform = recipe.waveform(1, 16000, RATE, 1)[0]
    np.testing.assert_array_equal(tagger(waveform.astype(np.float64)), tagger(waveform))


def test_a_loaded_model_is_shared_and_takes_no_options(checkpoint: Path, by_hand: Callable[[Path], Heard], sound: Path):
    model = panns_jax.load_model(checkpoint=checkpoint)
    np.testing.assert_allclose(Tagger(model).tag(sound).clipwise, by_hand(sound).clipwise, atol=1e-5)
    with pytest.raises(InputError, match="loaded already"):
        Tagger(model, checkpoint=checkpoint)


def test_an_embedder_needs_a_model_with_embeddings():
    from small_models import SMALL
    from weights import arbitrary

    from panns_jax.pretrained.rules import filled_model

    with pytest.raises(InputError, match="makes no embedding"):
        Embedder(filled_model(SMALL["decision-max"], arbitrary(SMALL["decision-max"])))
