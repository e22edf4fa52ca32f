"""A model that hears sounds of any length: each gets what the model makes of it alone and as a whole."""

import dataclasses
import weakref
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recipe
import tolerances
from small_models import FRONTEND, SMALL
from weights import arbitrary

from panns_jax.errors import InputError
from panns_jax.infer import listener as listening
from panns_jax.infer import prepared as preparing
from panns_jax.infer import programs
from panns_jax.infer.heard import Heard
from panns_jax.infer.listener import Listener
from panns_jax.infer.prepared import PreparedModel
from panns_jax.infer.rows import Rows
from panns_jax.models.model import Model
from panns_jax.models.transfer import transfer
from panns_jax.pretrained.rules import filled_model

FAMILIES = {**SMALL, "transfer": transfer(SMALL["cnn"])}
FAMILIES["longer-hop"] = dataclasses.replace(
    SMALL["decision-attention"], frontend=dataclasses.replace(FRONTEND, hop_size=250)
)
RATE = 8000


def model_of(name: str) -> Model:
    config = FAMILIES[name]
    return filled_model(config, arbitrary(config))


def sounds_of(lengths: list[int]) -> list[np.ndarray]:
    return [recipe.waveform(1, max(length, 2), RATE, seed)[0, :length] for seed, length in enumerate(lengths)]


def alone(model: Model, sound: np.ndarray) -> dict[str, np.ndarray | None]:
    output = model(jnp.asarray(sound)[None], taps=("logits", "pooled", "frames"))
    arrays = {name: getattr(output, name) for name in ("clipwise", "embedding", "logits", "pooled", "frames")}
    return {name: None if array is None else np.asarray(array[0]) for name, array in arrays.items()}


def check(heard: Heard | InputError, expected: dict[str, np.ndarray | None]) -> None:
    assert isinstance(heard, Heard)
    for name, theirs in expected.items():
        ours = getattr(heard, name)
        assert (ours is None) == (theirs is None), name
        if theirs is not None:
            atol = tolerances.IN_A_BATCH * max(1, np.abs(theirs).max())
            assert ours is not None
            np.testing.assert_allclose(ours, theirs, atol=atol, rtol=0, err_msg=name)
    logits = expected["logits"]
    if heard.stepwise is not None and logits is not None:
        np.testing.assert_allclose(heard.stepwise, jax.nn.sigmoid(logits), atol=1e-5)


def taps_of(model: Model) -> tuple[str, ...]:
    return ("frames", "logits", "pooled", *(("stepwise",) if model.config.embedding_dim is None else ()))


@pytest.fixture
def short_tapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tapes of about a second."""
    monkeypatch.setattr(listening, "_TAPE", 1.0)
    monkeypatch.setattr(listening, "_OVERLAP", 1.0)


@pytest.mark.parametrize("name", FAMILIES)
def test_sounds_of_all_lengths_side_by_side_get_what_each_gets_alone(name: str, short_tapes: None):
    model = model_of(name)
    least, step = model.config.min_samples, Listener(model).step
    random = np.random.default_rng(1)
    lengths = [1, least, step, step + 1, RATE - 7, *map(int, random.integers(1, RATE // 2, 4))]
    sounds = sounds_of(lengths)
    for heard, sound in zip(Listener(model).hear(sounds, taps=taps_of(model)), sounds, strict=True):
        check(heard, alone(model, sound))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_long_sound_gets_what_one_pass_gives_wherever_its_parts_are_cut(
    name: str, short_tapes: None, monkeypatch: pytest.MonkeyPatch
):
    model = model_of(name)
    (sound,) = sounds_of([3 * RATE + 17])
    expected = alone(model, sound)
    for tape in (1.0, 1.3):
        monkeypatch.setattr(listening, "_TAPE", tape)
        blocks = iter(np.split(sound, [1, 1000, 9999]))
        (heard,) = Listener(model).hear([blocks], taps=taps_of(model))
        check(heard, expected)


def heard_of(model: Model, sounds: list[np.ndarray], **options: Any) -> list[Heard]:
    answers = list(Listener(model).hear(sounds, **options))
    assert all(isinstance(answer, Heard) for answer in answers)
    return answers  # type: ignore[return-value]


def check_same(ones: list[Heard], others: list[Heard]) -> None:
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_allclose(one.clipwise, other.clipwise, atol=1e-6, rtol=0)
        assert one.embedding is not None and other.embedding is not None
        np.testing.assert_allclose(one.embedding, other.embedding, atol=1e-5, rtol=0)


@pytest.fixture
def rows_seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...]]]:
    """Which model ran, the plain or the prepared one, and the shape of the rows that it ran on."""
    seen: list[tuple[str, tuple[int, ...]]] = []
    plain, prepared = programs._steps, PreparedModel.steps

    def watched(graph: Any, state: Any, rows: Rows, names: tuple[str, ...]) -> Any:
        seen.append(("plain", rows.waveform.shape))
        return plain(graph, state, rows, names)

    def watched_too(self: PreparedModel, rows: Rows, names: Any) -> Any:
        seen.append(("prepared", rows.waveform.shape))
        return prepared(self, rows, names)

    monkeypatch.setattr(programs, "_steps", watched)
    monkeypatch.setattr(PreparedModel, "steps", watched_too)
    return seen


def test_a_thousand_lengths_take_ten_programs_at_most(rows_seen: list[Any], short_tapes: None):
    model = model_of("cnn")
    random = np.random.default_rng(2)
    lengths = random.permutation(np.arange(100, 20_100, 20))
    sounds = [np.zeros(length, np.float32) for length in lengths]
    listener = Listener(model)
    for sound in sounds[:150]:  # one by one, as by calls of an interface
        list(listener.hear([sound]))
    for first in range(150, 300, 5):
        list(listener.hear(sounds[first : first + 5]))
    list(listener.hear(sounds[300:]))
    assert len(set(rows_seen)) <= 10


def test_sounds_of_one_length_are_heard_side_by_side_in_rows_of_that_length(rows_seen: list[Any], short_tapes: None):
    model = model_of("cnn")
    sounds = sounds_of([990] * 20)
    ours = heard_of(model, sounds)
    assert set(rows_seen) == {("plain", (8, 990)), ("plain", (1, 990))}
    check_same(ours, [heard for sound in sounds for heard in heard_of(model, [sound])])


def test_a_single_sound_is_heard_as_long_as_it_is(rows_seen: list[Any]):
    heard_of(model_of("cnn"), sounds_of([5001]))
    assert rows_seen == [("plain", (1, 5001))]


def test_the_model_is_prepared_once_that_repays(rows_seen: list[Any], monkeypatch: pytest.MonkeyPatch):
    model = model_of("cnn")
    sounds = sounds_of([RATE] * 4)
    listener = Listener(model)
    plain = [heard for sound in sounds for heard in listener.hear([sound])]
    monkeypatch.setattr(programs, "REPAYS", 4.0)
    prepared = [heard for sound in sounds for heard in listener.hear([sound])]
    assert [kind for kind, _ in rows_seen] == ["plain"] * 4 + ["prepared"] * 4
    check_same(prepared, plain)  # type: ignore[arg-type]


def test_the_model_is_prepared_at_once_where_much_is_expected(rows_seen: list[Any]):
    sounds = sounds_of([RATE])
    expecting = heard_of(model_of("cnn"), sounds, expected=600.0)
    check_same(expecting, heard_of(model_of("cnn"), sounds, expected=599.0))
    assert [kind for kind, _ in rows_seen] == ["prepared", "plain"]


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_on_other_platforms_nothing_is_prepared_and_tapes_are_heard_side_by_side(
    platform: str, rows_seen: list[Any], short_tapes: None, monkeypatch: pytest.MonkeyPatch
):
    model = model_of("cnn")
    sounds = sounds_of([3000] * 3 + [500, 1700, 40, 8001])
    here = heard_of(model, sounds)
    rows_seen.clear()
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    check_same(heard_of(model, sounds, expected=1e6), here)
    assert {kind for kind, _ in rows_seen} == {"plain"}
    assert {shape[0] for _, shape in rows_seen} == {8}


@pytest.mark.parametrize("able", [False, True])
def test_in_bfloat16_only_a_processor_that_is_faster_in_it_prepares(
    able: bool, rows_seen: list[Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(preparing, "multiplies_bfloat16", lambda: able)
    monkeypatch.setattr(preparing, "gain", lambda dtype: 2.0)
    model = model_of("cnn")
    model.set_precision("bfloat16")
    (heard,) = heard_of(model, sounds_of([RATE]), expected=1e6)
    assert [kind for kind, _ in rows_seen] == ["prepared" if able else "plain"]
    (expected,) = heard_of(model_of("cnn"), sounds_of([RATE]))
    assert 0 < np.abs(heard.clipwise - expected.clipwise).max() < 2e-2


def test_sounds_that_cannot_be_heard_stop_nothing_and_keep_their_places():
    def breaks() -> Iterator[np.ndarray]:
        yield np.zeros(500, np.float32)
        raise InputError("b.wav: is broken")

    model = model_of("cnn")
    good = sounds_of([3000, 4000])
    with_nan = np.where(np.arange(3000) == 7, np.nan, good[0]).astype(np.float32)
    none = np.zeros(0, np.float32)
    loudest = np.full(3000, 3e9, np.float32)
    answers = list(Listener(model).hear([none, good[0], breaks(), with_nan, loudest, good[1]]))
    told = [str(answer) for answer in answers if isinstance(answer, InputError)]
    assert told == [
        "there are no samples",
        "b.wav: is broken",
        "there are samples that are no finite numbers",
        "the samples reach 3e+09, where 1 is full scale",
    ]
    check(answers[1], alone(model, good[0]) | {"logits": None, "pooled": None, "frames": None})
    check(answers[5], alone(model, good[1]) | {"logits": None, "pooled": None, "frames": None})


@pytest.mark.parametrize("name", ["cnn", "res1dnet", "leenet", "wavegram"])
def test_a_sound_far_beyond_full_scale_does_not_blur_its_neighbours(name: str):
    model = model_of(name)
    quiet = sounds_of([3000, 3100, 3200])
    loud = [sound * np.float32(1e9) for sound in quiet]
    expected = heard_of(model, quiet)
    among = heard_of(model, [sound for pair in zip(loud, quiet, strict=True) for sound in pair])[1::2]
    check_same(among, expected)


def test_where_memory_is_short_it_is_said_and_the_next_sound_is_heard(monkeypatch: pytest.MonkeyPatch):
    model = model_of("cnn")
    plain = programs._steps

    def in_little_memory(graph: Any, state: Any, rows: Rows, names: tuple[str, ...]) -> Any:
        if rows.waveform.shape[1] > RATE:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nMore of it.")
        return plain(graph, state, rows, names)

    monkeypatch.setattr(programs, "_steps", in_little_memory)
    listener = Listener(model)
    (failed,) = listener.hear(sounds_of([2 * RATE]))
    assert str(failed) == (
        "2.0 s of sound could not be heard, as where memory is short (RESOURCE_EXHAUSTED: Out of memory allocating 9"
        " bytes.)"
    )
    assert isinstance(next(listener.hear(sounds_of([RATE]))), Heard)


def test_damaged_weights_are_told_of():
    config = SMALL["cnn"]
    arrays = arbitrary(config)
    model = filled_model(config, {path: np.full_like(array, np.nan) for path, array in arrays.items()})
    (failed,) = Listener(model).hear(sounds_of([3000]))
    assert str(failed) == "cnn answers with values that are no numbers: its weights may be damaged"


def test_of_a_long_sound_no_more_is_held_than_some_tapes(short_tapes: None):
    listener, held = Listener(model_of("cnn")), []

    def blocks() -> Iterator[np.ndarray]:
        for _ in range(200):
            block = np.zeros(RATE, np.float32)
            held.append(weakref.ref(block))
            yield block
            assert sum(ref() is not None for ref in held) < 20

    (heard,) = listener.hear([blocks()])
    assert isinstance(heard, Heard)
    assert len(held) == 200


def test_a_tap_that_there_is_not_is_named():
    with pytest.raises(ValueError, match="there is no tap 'frame'; there are stepwise, logits, pooled, frames"):
        Listener(model_of("cnn")).hear([], taps="frame")


def test_the_end_of_a_long_sound_takes_no_program_of_its_own(rows_seen: list[Any], short_tapes: None):
    heard_of(model_of("cnn"), sounds_of([5 * RATE + 4321]))
    assert len(rows_seen) > 2
    assert len(set(rows_seen)) == 1


def test_a_shorter_tape_is_compiled_once_it_would_have_been_of_use_for_long(
    rows_seen: list[Any], short_tapes: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(programs, "_SHORT_TAPES", (0.4,))
    monkeypatch.setattr(programs, "_IN_VAIN", 3.0)
    listener = Listener(model_of("cnn"))
    for length in (500, 501, 502):  # lengths that have rows of their own
        list(listener.hear(sounds_of([length])))
    list(listener.hear(sounds_of([5 * RATE])))
    (_, (_, tape)) = rows_seen[-1]
    rows_seen.clear()
    for length in range(1000, 1010):
        list(listener.hear(sounds_of([length])))
    samples = [shape[1] for _, shape in rows_seen]
    least = min(samples)
    assert set(samples) == {least, tape}
    longer = samples.count(tape)
    assert samples == [tape] * longer + [least] * (10 - longer)
    assert longer == int(3.0 * RATE / (tape - least))


@pytest.fixture
def given_back(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The process's memory each time that what is free is given back; tests have it grow by 100 MiB a tape."""
    used, times = [0], []

    def grown() -> int:
        used[0] += 100 << 20
        return used[0]

    monkeypatch.setattr(programs, "memory_in_use", grown)
    monkeypatch.setattr(programs, "give_back_memory", lambda: times.append(used[0]))
    return times


def test_memory_is_given_back_as_the_process_grows(given_back: list[int], short_tapes: None, rows_seen: list[Any]):
    heard_of(model_of("cnn"), sounds_of([7 * RATE]))
    assert len(given_back) == len(rows_seen) // 3 >= 2


def test_memory_is_given_back_once_weights_are_transformed(
    given_back: list[int], short_tapes: None, rows_seen: list[Any]
):
    heard_of(model_of("cnn"), sounds_of([7 * RATE]), expected=600.0)
    assert len(given_back) == 1 + (len(rows_seen) - 1) // 3 >= 3


def test_where_memory_is_to_be_low_it_is_given_back_after_each_tape(
    given_back: list[int], short_tapes: None, rows_seen: list[Any]
):
    list(Listener(model_of("cnn"), memory="low").hear(sounds_of([4 * RATE])))
    assert len(given_back) == len(rows_seen) >= 4
