"""A prepared model answers as the model does, in the memory that it says."""

import concurrent.futures
import dataclasses
import functools
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import recipe
import tolerances
from extremes import extremes
from flax import nnx
from small_models import SMALL
from weights import arbitrary

import panns_jax
from panns_jax import InputError
from panns_jax.infer import prepared
from panns_jax.infer.prepared import MOST, PreparedModel
from panns_jax.kernels import choice
from panns_jax.kernels.choice import Choice
from panns_jax.kernels.kernel import DIRECT, KERNELS, Kernel
from panns_jax.kernels.shape import ConvShape
from panns_jax.models.cnn import Cnn
from panns_jax.models.config import Output, Precision
from panns_jax.models.model import Model
from panns_jax.models.transfer import transfer
from panns_jax.pretrained.rules import filled_model

TAPS = ("logits", "pooled", "frames")
# As wide as it takes for most kernels to come into question.
WIDE = dataclasses.replace(SMALL["cnn"], name="wide", body=Cnn(channels=(16, 24), pooled_blocks=1))
FIVES = dataclasses.replace(SMALL["cnn"], name="5x5", body=Cnn(channels=(8, 16), pooled_blocks=1, block="5x5"))
FAMILIES = {**SMALL, "wide": WIDE, "5x5": FIVES, "transfer": transfer(SMALL["cnn"])}
DISTINCT = (
    *("wide", "5x5", "decision-max", "decision-mean", "decision-attention", "bottleneck", "mobilenet2", "leenet2"),
    *("dainet", "res1dnet", "wavegram-logmel", "transfer"),
)
RATE = WIDE.sample_rate


@functools.cache
def drawn_weights(name: str) -> dict[str, np.ndarray]:
    """Random weights and random batch statistics."""
    rng = np.random.default_rng(1)
    arrays = arbitrary(FAMILIES[name])
    for path, array in arrays.items():
        match path.rpartition(".")[2]:
            case "scale" | "var":
                arrays[path] = array * rng.uniform(0.5, 1.5, array.shape).astype(np.float32)
            case "mean" | "bias":
                arrays[path] = array + rng.normal(0, 0.2, array.shape).astype(np.float32)
    return arrays


def drawn(name: str) -> Model:
    return filled_model(FAMILIES[name], drawn_weights(name))


def sound(batch: int = 3, samples: int = 8000) -> np.ndarray:
    return recipe.waveform(batch, samples, RATE, 1)


@nnx.jit
def plain(model: Model, waveform: np.ndarray, lengths: Any = None) -> Output:
    return model(waveform, lengths=lengths, taps=TAPS)


def check(answer: Output, expected: Output) -> None:
    for field in dataclasses.fields(Output):
        ours, theirs = getattr(answer, field.name), getattr(expected, field.name)
        assert (ours is None) == (theirs is None), field.name
        if theirs is not None:
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
            atol = tolerances.PREPARED * max(1, np.abs(theirs).max())
            np.testing.assert_allclose(ours, theirs, atol=atol, rtol=0, err_msg=field.name)


@pytest.fixture(scope="module")
def small() -> Model:
    return drawn("cnn")


@pytest.fixture(scope="module")
def ready(small: Model) -> PreparedModel:
    return panns_jax.prepare(small)


@pytest.mark.parametrize("name", DISTINCT)
def test_all_that_a_model_answers_a_prepared_one_answers_too(name: str):
    model = drawn(name)
    ready = panns_jax.prepare(model)
    assert ready.config == model.config
    check(ready(sound(), taps=TAPS), plain(model, sound()))


@pytest.mark.parametrize("name", ["cnn", "decision-max", "res1dnet", "wavegram-logmel"])
def test_clips_of_different_lengths_get_what_the_model_gives_them(name: str):
    model = drawn(name)
    # One of them is shorter than the shortest, and values beyond their ends mean nothing.
    waveform, lengths = sound(), [1, 5083, 8000]
    for i, length in enumerate(lengths):
        waveform[i, length:] = (np.nan, 7.0, np.inf)[i]
    check(panns_jax.prepare(model)(waveform, lengths=lengths, taps=TAPS), plain(model, waveform, np.array(lengths)))


def test_any_length_and_number_of_clips_is_answered(small: Model, ready: PreparedModel):
    for batch, samples in ((1, 1), (1, 777), (5, 4000)):
        waveform = sound(batch)[:, :samples]
        check(ready(waveform, taps=TAPS), plain(small, waveform))


def test_taps_are_answered_where_they_are_asked_for(small: Model, ready: PreparedModel):
    assert ready(sound()).logits is None
    logits = ready(sound(), taps="logits")
    assert logits.logits is not None and logits.pooled is None
    check(ready(sound(), taps={"frames", "pooled", "logits"}), plain(small, sound()))


@pytest.mark.parametrize("name", ["wide", "res1dnet", "wavegram-logmel"])
def test_extreme_sounds_are_answered_as_nearly(name: str):
    model = drawn(name)
    sounds = extremes(4000, RATE)
    answer = panns_jax.prepare(model)(sounds).clipwise
    np.testing.assert_allclose(answer, plain(model, sounds).clipwise, atol=tolerances.CLIPWISE, rtol=0)


def plans_of(ready: PreparedModel) -> Iterator[tuple[Any, str]]:
    """Which layers are done by which kernels that hold weights of their own, over all shapes that came."""
    for plan in ready._plans.values():
        yield from ((path, choice.kernel.name) for path, choice in plan.items() if choice.nbytes)


@pytest.fixture
def every_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all kernels that suit a shape, one or the other is the fastest, according to the length of the clip."""

    def ranked(shape: ConvShape) -> tuple[Kernel, ...]:
        kernels = [kernel for kernel in KERNELS.values() if kernel.suits(shape) and kernel is not DIRECT]
        first = shape.space[0] % max(1, len(kernels))
        return (*kernels[first:], *kernels[:first], DIRECT)

    monkeypatch.setattr(choice, "ranked", ranked)


@pytest.mark.usefixtures("every_kernel")
def test_whatever_comes_one_after_the_other_the_weights_keep_to_three_times_their_size(
    monkeypatch: pytest.MonkeyPatch,
):
    model = drawn("wide")
    ready = panns_jax.prepare(model)
    own = sum(leaf.nbytes for leaf in jax.tree.leaves(nnx.state(model)))
    assert ready.nbytes == own
    transform, held = Choice.transform, []

    def watched(choice: Choice, kernel: jax.Array) -> tuple[jax.Array, ...]:
        made = transform(choice, kernel)
        held.append(ready.nbytes + sum(array.nbytes for array in made))
        return made

    monkeypatch.setattr(Choice, "transform", watched)
    shapes = [(batch, samples) for samples in range(4000, 4800, 80) for batch in (1, 3)]
    for batch, samples in (*shapes, *shapes):
        jax.eval_shape(lambda x: ready(x).clipwise, sound(batch, samples))  # compiles nothing
        assert own < ready.nbytes <= MOST * own
    assert own < max(held) <= MOST * own
    assert len(held) > len(set(plans_of(ready)))  # something had to give way, and was made again
    check(ready(sound(), taps=TAPS), plain(model, sound()))
    assert ready.nbytes <= MOST * own


@pytest.mark.usefixtures("every_kernel")
def test_lengths_in_turns_soon_transform_no_more_weights(monkeypatch: pytest.MonkeyPatch):
    model = drawn("wide")
    ready = panns_jax.prepare(model)
    transform, made = Choice.transform, []

    def watched(choice: Choice, kernel: jax.Array) -> tuple[jax.Array, ...]:
        made.append(choice)
        return transform(choice, kernel)

    monkeypatch.setattr(Choice, "transform", watched)
    counts = []
    for _ in range(6):
        for samples in (4000, 4160, 4320, 4480):
            jax.eval_shape(lambda x: ready(x).clipwise, sound(1, samples))
        counts.append(len(made))
    assert counts[1] > counts[0]  # they had to give way to each other
    assert counts[-1] == counts[-2] == counts[-3]
    check(ready(sound(1, 4160), taps=TAPS), plain(model, sound(1, 4160)))
    assert ready.nbytes <= MOST * ready._own


@pytest.mark.usefixtures("every_kernel")
def test_many_threads_may_call_at_once():
    model = drawn("wide")
    ready = panns_jax.prepare(model)
    lengths = [4000, 4160] * 4
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda samples: ready(sound(1, samples)).clipwise, lengths))
    assert ready.nbytes <= MOST * ready._own
    for samples, answer in zip(lengths, answers, strict=True):
        expected = plain(model, sound(1, samples)).clipwise
        np.testing.assert_allclose(answer, expected, atol=tolerances.PREPARED, rtol=0)


def test_a_prepared_model_is_exported_for_any_number_of_clips():
    model = drawn("wide")
    ready = panns_jax.prepare(model)
    (batch,) = jax.export.symbolic_shape("batch")
    given = jax.ShapeDtypeStruct((batch, 8000), jnp.float32)
    exported = jax.export.export(jax.jit(lambda x: ready(x).clipwise))(given)
    for clips in (1, 3):
        answer = exported.call(sound(clips))
        np.testing.assert_allclose(answer, plain(model, sound(clips)).clipwise, atol=tolerances.PREPARED, rtol=0)


@pytest.mark.parametrize("name", ["wide", "resnet"])
def test_with_low_memory_nothing_is_held_beside_the_weights(name: str):
    model = drawn(name)
    ready = panns_jax.prepare(model, memory="low")
    own = sum(leaf.nbytes for leaf in jax.tree.leaves(nnx.state(model)))
    check(ready(sound(), taps=TAPS), plain(model, sound()))
    assert ready.nbytes == own


def test_the_weights_are_shared_and_later_changes_to_them_not_seen():
    model: Any = drawn("cnn")
    expected = plain(model, sound())
    ready = panns_jax.prepare(model)
    kernel = model.conv_block1.conv1.kernel
    assert ready._weights._kernels["conv_block1", "conv1"] is kernel.get_value()
    kernel.set_value(kernel.get_value() * 2)
    check(ready(sound(), taps=TAPS), expected)


def test_the_model_itself_is_not_changed():
    model = drawn("cnn")
    before = nnx.split(model)
    panns_jax.prepare(model)(sound(1))
    graph, state = nnx.split(model)
    assert graph == before[0]
    for ours, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(before[1]), strict=True):
        assert ours is theirs


@pytest.mark.parametrize("name", ["cnn", "transfer"])
def test_a_model_that_trains_is_prepared_in_evaluation_mode_and_goes_on_training(name: str):
    model = drawn(name)
    expected = plain(model, sound())
    model.train()
    check(panns_jax.prepare(model)(sound(), taps=TAPS), expected)
    with pytest.raises(ValueError, match="is in training mode"):
        model(sound())


def test_a_bias_before_a_normalisation_counts():
    model: Any = drawn("wide")
    model.conv_block1.conv1.bias = nnx.Param(jnp.linspace(-1, 1, 16))
    model.conv_block2.conv1.bias = nnx.Param(jnp.linspace(1, -1, 24))
    check(panns_jax.prepare(model)(sound(), taps=TAPS), plain(model, sound()))


def test_a_prepared_model_can_be_part_of_what_is_compiled_and_differentiated():
    model = drawn("cnn")
    ready = panns_jax.prepare(model)
    expected = plain(model, sound())
    np.testing.assert_allclose(jax.jit(lambda x: ready(x).clipwise)(sound()), expected.clipwise, atol=1e-6)
    check(ready(sound(), taps=TAPS), expected)  # nothing of that compilation is left in it

    def gradient(model: Any) -> jax.Array:
        return jax.jit(jax.grad(lambda x: model(x).clipwise.sum()))(sound())

    theirs = gradient(model)
    np.testing.assert_allclose(gradient(ready), theirs, atol=1e-4 * np.abs(theirs).max())


@pytest.fixture
def compilations(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], int]]:
    """How many programs were compiled since it was last asked."""

    def count() -> int:
        compiled = [record for record in caplog.records if record.getMessage().startswith("Compiling")]
        caplog.clear()
        return len(compiled)

    with caplog.at_level(logging.WARNING), jax.log_compiles():
        yield count


def test_what_comes_in_the_same_shape_again_compiles_nothing(compilations: Callable[[], int]):
    ready = panns_jax.prepare(drawn("cnn"))
    ready(sound())
    ready(sound(), lengths=[3000, 4000, 8000], taps="logits")
    assert compilations() > 0
    ready(sound() / 2)
    ready(jnp.asarray(sound()))
    ready(sound(), lengths=[10, 20, 30], taps=["logits"])
    assert compilations() == 0


@pytest.mark.parametrize("memory", ["much", "", "FAST", None, 3])
def test_a_wrong_memory_is_named(memory: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as where types are not checked at run time
    with pytest.raises(InputError, match=re.escape(f'memory must be "fast" or "low", got {memory!r}')):
        panns_jax.prepare(drawn("cnn"), memory=memory)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((np.zeros(8000, np.float32),), {}),
        ((np.zeros((1, 8000), np.int16),), {}),
        ((np.zeros((1, 0), np.float32),), {}),
        ((np.zeros((2, 4000), np.float32),), {"lengths": [3000]}),
        ((np.zeros((2, 4000), np.float32),), {"lengths": [0, 4001]}),
        ((np.zeros((2, 4000), np.float32),), {"lengths": np.array([1.0, 2.0])}),
        ((np.zeros((1, 4000), np.float32),), {"taps": "logit"}),
        ((np.zeros((1, 4000), np.float32),), {"taps": ["logits", "middle"]}),
    ],
)
def test_what_the_model_refuses_is_refused_in_the_same_words_and_leaves_no_trace(
    arguments: tuple[Any, ...], options: dict[str, Any], small: Model, ready: PreparedModel
):
    with pytest.raises(ValueError) as told:
        small(*arguments, **options)
    for _ in range(2):
        with pytest.raises(ValueError) as ours:
            ready(*arguments, **options)
        assert (str(ours.value), type(ours.value)) == (str(told.value), type(told.value))
    assert ready.nbytes <= MOST * ready._own
    check(ready(sound(), taps=TAPS), plain(small, sound()))


def test_on_a_gpu_convolutions_multiply_in_the_precision_of_the_model(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prepared, "_platform", lambda state: "cuda")
    model = drawn("cnn")
    precisions: dict[Precision, str] = {"float32": "HIGHEST", "tf32": "DEFAULT"}
    for precision, asked in precisions.items():
        model.set_precision(precision)
        told = str(jax.make_jaxpr(panns_jax.prepare(model))(sound()))
        convolutions = re.findall(r"conv_general_dilated\[.*?\]", told, re.DOTALL)
        assert len(convolutions) == 4
        assert all(f"Precision.{asked}" in convolution for convolution in convolutions)


def test_bfloat16_is_refused_where_the_processor_is_slower_in_it(monkeypatch: pytest.MonkeyPatch):
    model = drawn("wide")
    model.set_precision("bfloat16")
    monkeypatch.setattr(prepared, "multiplies_bfloat16", lambda: False)
    with pytest.raises(InputError, match="slower in it than in float32: prepare the model in float32"):
        panns_jax.prepare(model)


@pytest.mark.parametrize("measured", [None, 0.9])
def test_bfloat16_is_refused_where_nothing_shows_that_it_is_faster(measured: Any, monkeypatch: pytest.MonkeyPatch):
    model = drawn("wide")
    model.set_precision("bfloat16")
    monkeypatch.setattr(prepared, "multiplies_bfloat16", lambda: True)
    monkeypatch.setattr(prepared, "gain", lambda dtype: measured)
    with pytest.raises(InputError, match=r"no measurement by which this processor is faster in bfloat16 .*tune\.py"):
        panns_jax.prepare(model)


def test_bfloat16_stays_near_float32_where_the_processor_is_fast_in_it(monkeypatch: pytest.MonkeyPatch):
    model = drawn("wide")
    whole = plain(model, sound()).clipwise
    model.set_precision("bfloat16")
    monkeypatch.setattr(prepared, "multiplies_bfloat16", lambda: True)
    monkeypatch.setattr(prepared, "gain", lambda dtype: 2.0)
    ready = panns_jax.prepare(model)
    answer = ready(sound())
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(answer))
    assert 0 < np.abs(answer.clipwise - whole).max() < tolerances.BFLOAT16
    assert ready.nbytes <= MOST * ready._own
    model.set_precision("float32")  # what was prepared stays as it was
    np.testing.assert_array_equal(ready(sound()).clipwise, answer.clipwise)
