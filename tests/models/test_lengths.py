"""Clips of different lengths in one batch: each gets what it gets alone."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recipe
import tolerances
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import SMALL
from weights import arbitrary

from panns_jax.models.clips import Window
from panns_jax.models.config import Output
from panns_jax.models.model import Model
from panns_jax.models.registry import list_models
from panns_jax.models.transfer import transfer
from panns_jax.pretrained.rules import filled_model

TAPS = ("logits", "pooled", "frames")
FAMILIES = {**SMALL, "transfer": transfer(SMALL["cnn"])}


@nnx.jit
def together(model: Model, waveform: jax.Array, lengths: jax.Array) -> Output:
    return model(waveform, lengths=lengths, taps=TAPS)


@nnx.jit
def alone(model: Model, waveform: jax.Array) -> Output:
    return model(waveform, taps=TAPS)


def padded(clips: np.ndarray, lengths: list[int]) -> np.ndarray:
    """The clips with what must not be read beyond their ends."""
    batch = clips.copy()
    for i, length in enumerate(lengths):
        batch[i, length:] = (np.nan, 7.0, np.inf)[i % 3]
    return batch


def check(model: Model, clips: np.ndarray, lengths: list[int]) -> None:
    batched = together(model, jnp.asarray(padded(clips, lengths)), jnp.asarray(lengths))
    for i, length in enumerate(lengths):
        single = alone(model, jnp.asarray(clips[i : i + 1, :length]))
        for field in dataclasses.fields(Output):
            ours, expected = getattr(batched, field.name), getattr(single, field.name)
            assert (ours is None) == (expected is None), field.name
            if expected is not None:
                check_clip(np.asarray(ours[i]), np.asarray(expected[0]), f"{field.name} of {length} samples")


def check_clip(ours: np.ndarray, expected: np.ndarray, what: str) -> None:
    own = ours[: len(expected)]
    assert own.shape == expected.shape, what
    atol = tolerances.IN_A_BATCH * max(1, np.abs(expected).max())
    np.testing.assert_allclose(own, expected, atol=atol, rtol=0, err_msg=what)
    if len(ours) > len(expected):
        np.testing.assert_array_equal(ours[len(expected) :], 0, err_msg=what)


@pytest.mark.parametrize("name", FAMILIES)
def test_in_a_batch_every_clip_gets_what_it_gets_alone(name: str):
    config = FAMILIES[name]
    model = filled_model(config, arbitrary(config))
    least = config.min_samples
    # Shorter than the shortest, nothing that pools evenly, and the whole of the batch.
    lengths = [1, 4 * least + 83, 6 * least]
    check(model, recipe.waveform(len(lengths), lengths[-1], config.sample_rate, 1), lengths)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    size=st.integers(1, 11),
    stride=st.integers(1, 5),
    padding=st.integers(0, 5),
    dilation=st.integers(1, 3),
    time=st.integers(1, 60),
)
def test_a_window_has_as_many_places_as_a_convolution_gives(
    size: int, stride: int, padding: int, dilation: int, time: int
):
    window = Window(size, stride=stride, padding=padding, dilation=dilation)
    shape = jax.eval_shape(
        lambda x, kernel: jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride,),
            ((padding, padding),),
            rhs_dilation=(dilation,),
            dimension_numbers=("NWC", "WIO", "NWC"),
        ),
        jax.ShapeDtypeStruct((1, time, 1), jnp.float32),
        jax.ShapeDtypeStruct((size, 1, 1), jnp.float32),
    ).shape
    assert max(0, window.steps(time)) == shape[1]


@pytest.mark.long
@pytest.mark.parametrize("name", list_models())
def test_in_every_published_model_too(name: str, published_model: Callable[[str], Model]):
    model = published_model(name)
    rate, least = model.config.sample_rate, model.config.min_samples
    lengths = [1, 777, max(1, least - 1), least + 1, rate + 123, 2 * rate - 1, 2 * rate]
    check(model, recipe.waveform(len(lengths), 2 * rate, rate, 5), lengths)


def test_lengths_may_be_of_any_whole_type_also_where_it_can_not_hold_the_samples():
    config = SMALL["leenet"]
    model = filled_model(config, arbitrary(config))
    batch = recipe.waveform(1, 70000, config.sample_rate, 1)
    run = nnx.jit(lambda model, waveform, lengths: model(waveform, lengths=lengths).clipwise)
    wanted = run(model, batch, np.array([30000], np.int32))
    for kind in (np.int16, np.uint16, np.int64):
        np.testing.assert_array_equal(run(model, batch, np.array([30000], kind)), wanted)
    np.testing.assert_allclose(model(batch, lengths=np.array([30000], np.uint16)).clipwise, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([3000], r"lengths must be \(batch,\) = \(2,\) whole numbers, got shape \(1,\) of int"),
        ([[3000, 3000]], r"got shape \(1, 2\)"),
        ([3000.0, 4000.0], "of float32"),
        ([0, 3000], r"lengths must be from 1 to 4000, the samples of waveform, got \[0, 3000\]"),
        ([3000, 4001], "from 1 to 4000"),
    ],
)
def test_lengths_that_can_not_be_are_refused(lengths: Any, message: str):
    config = SMALL["cnn"]
    with pytest.raises(ValueError, match=message):
        filled_model(config, arbitrary(config))(np.zeros((2, 4000), np.float32), lengths=np.asarray(lengths))


def test_lengths_are_for_evaluation_mode():
    config = SMALL["leenet"]
    model = filled_model(config, arbitrary(config))
    model.train()
    with pytest.raises(ValueError, match="lengths are for evaluation mode"):
        model(np.zeros((2, 4000), np.float32), lengths=[10, 20], rngs=nnx.Rngs(0))
