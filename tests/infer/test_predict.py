"""Who hears much prepares: lengths that come often are heard by the prepared model, others by the plain one."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import recipe
import soundfile

from panns_jax import InputError, load_model
from panns_jax.infer import predict, prepared
from panns_jax.infer.heard import Heard
from panns_jax.infer.predict import Predictor
from panns_jax.infer.prepared import PreparedModel

RATE = 32000


@pytest.fixture
def by_prepared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The samples of each clip that a prepared model heard."""
    heard: list[int] = []
    call = PreparedModel.__call__

    def watched(self: PreparedModel, waveform: np.ndarray, **options: Any) -> Any:
        heard.append(waveform.shape[1])
        return call(self, waveform, **options)

    monkeypatch.setattr(PreparedModel, "__call__", watched)
    return heard


def clip(seconds: float = 1, seed: int = 1) -> np.ndarray:
    return recipe.waveform(1, round(seconds * RATE), RATE, seed)[0]


def check_same(one: Heard, other: Heard) -> None:
    np.testing.assert_allclose(one.clipwise, other.clipwise, atol=1e-6, rtol=0)
    assert one.embedding is not None and other.embedding is not None
    np.testing.assert_allclose(one.embedding, other.embedding, atol=1e-5, rtol=0)


def test_a_length_is_heard_by_the_prepared_model_once_it_has_been_heard_often(
    checkpoint: Path, by_prepared: list[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(predict, "REPAYS", 3.0)
    model = load_model(checkpoint=checkpoint)
    predictor = Predictor(model)
    for seed in range(3):
        predictor.hear(clip(1, seed))
    assert by_prepared == []
    for seed in range(2):
        predictor.hear(clip(1, seed))
        predictor.hear(clip(2, seed))  # each length counts for itself
    assert by_prepared == [RATE, RATE]
    predictor.hear(clip(2))
    assert by_prepared == [RATE, RATE, 2 * RATE]


def test_what_a_clip_gets_does_not_depend_on_how_many_came_before(
    checkpoint: Path, by_prepared: list[int], monkeypatch: pytest.MonkeyPatch
):
    model = load_model(checkpoint=checkpoint)
    plain = Predictor(model)
    answers = [plain.hear(clip(1, seed)) for seed in range(3)]
    assert by_prepared == []
    monkeypatch.setattr(predict, "REPAYS", 0.0)
    preparing = Predictor(model)
    for seed, expected in enumerate(answers):
        check_same(preparing.hear(clip(1, seed)), expected)
    assert len(by_prepared) == 3


def test_short_clips_of_all_lengths_count_as_one_length(
    checkpoint: Path, by_prepared: list[int], monkeypatch: pytest.MonkeyPatch
):
    model = load_model(checkpoint=checkpoint)
    least = model.config.min_samples
    monkeypatch.setattr(predict, "REPAYS", 2 * least / RATE)
    predictor = Predictor(model)
    for samples in (1, 10, 100, least):
        predictor.hear(clip()[:samples])
    assert by_prepared == [least, least]


def test_clips_whose_programs_would_take_much_memory_are_heard_by_the_plain_model(
    checkpoint: Path, by_prepared: list[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(predict, "REPAYS", 0.0)
    monkeypatch.setattr(predict, "LONGEST", 1.0)
    predictor = Predictor(load_model(checkpoint=checkpoint))
    predictor.hear(clip(1))
    predictor.hear(clip(1.5))
    assert by_prepared == [RATE]


def test_few_clips_do_not_prepare_the_model(checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(predict, "prepare", None)  # would fail if it were called
    predictor = Predictor(load_model(checkpoint=checkpoint))
    for seed in range(5):
        predictor.hear(clip(0.5, seed))


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_on_other_platforms_nothing_is_prepared(
    platform: str, checkpoint: Path, by_prepared: list[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(predict, "REPAYS", 0.0)
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    Predictor(load_model(checkpoint=checkpoint)).hear(clip())
    assert by_prepared == []


@pytest.mark.parametrize("able", [False, True])
def test_in_bfloat16_only_a_processor_that_is_faster_in_it_prepares(
    able: bool, checkpoint: Path, by_prepared: list[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(prepared, "multiplies_bfloat16", lambda: able)
    monkeypatch.setattr(prepared, "gain", lambda dtype: 2.0)
    model = load_model(checkpoint=checkpoint, precision="bfloat16")
    expected = Predictor(model).hear(clip())
    monkeypatch.setattr(predict, "REPAYS", 0.0)
    heard = Predictor(model).hear(clip())
    assert len(by_prepared) == able
    np.testing.assert_allclose(heard.clipwise, expected.clipwise, atol=2e-2)


def test_where_memory_is_short_the_prepared_model_says_the_same(checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    def without_memory(self: PreparedModel, waveform: np.ndarray) -> Any:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nMore of it.")

    monkeypatch.setattr(predict, "REPAYS", 0.0)
    monkeypatch.setattr(PreparedModel, "__call__", without_memory)
    predictor = Predictor(load_model(checkpoint=checkpoint))
    with pytest.raises(InputError, match=r"1.0 s of sound could not be heard, .* \(RESOURCE_EXHAUSTED: Out of"):
        predictor.hear(clip())


def test_a_folder_of_equal_lengths_prepares_and_prints_the_same(
    main: Any, checkpoint: Path, by_prepared: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    files = [tmp_path / f"{seed}.wav" for seed in range(5)]
    for seed, file in enumerate(files):
        soundfile.write(file, clip(0.5, seed), RATE, subtype="FLOAT")
    arguments = ("tag", *files, "--checkpoint", checkpoint)
    plain = main(*arguments)
    assert plain.returncode == 0 and by_prepared == []
    monkeypatch.setattr(predict, "REPAYS", 1.0)
    preparing = main(*arguments)
    assert by_prepared == [RATE // 2] * 3
    assert preparing.stdout == plain.stdout
