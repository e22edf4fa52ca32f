"""What is said of models without their weights."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from small_models import SMALL
from weights import arbitrary

from panns_jax.models.clips import Clips, View, Window
from panns_jax.models.config import Features
from panns_jax.models.registry import model_config
from panns_jax.models.summary import summary
from panns_jax.models.transfer import transfer
from panns_jax.pretrained.rules import filled_model


def test_operations_are_two_for_every_product_of_a_layer():
    config = SMALL["cnn"]
    frames, mels, (first, second), classes, embedding = 51, 16, (4, 6), 5, 7
    convolutions = frames * mels * 9 * (first + first**2) + (frames // 2) * (mels // 2) * 9 * (
        first * second + second**2
    )
    linear = second * embedding + embedding * classes
    fourier = frames * 2 * 129 * 256
    assert summary(config, 0.5).operations == 2 * (convolutions + linear + fourier)


@pytest.mark.parametrize("name", ["cnn", "resnet", "mobilenet1", "leenet2", "dainet", "res1dnet", "wavegram"])
def test_the_receptive_field_and_the_step_are_those_of_an_infinity_on_its_way(name: str):
    config = SMALL[name]
    # With weights above 0, infinity comes out wherever it is seen.
    model = filled_model(config, {path: np.abs(array) + 1e-3 for path, array in arbitrary(config).items()})

    def body(x: Clips) -> Clips:
        features = Features(x, x) if config.body.reads_logmel else Features(x, None)
        return config.body(model, features, rngs=None)

    mels = (config.frontend.mel_bins,) if config.body.reads_logmel else ()
    view = body(Clips(jnp.ones((1, 2000, *mels)))).view
    time = 3 * view.receptive_field + 2 * view.step
    places = time // 2 + np.arange(view.step)
    waveform = np.ones((view.step, time, *mels), np.float32)
    waveform[np.arange(view.step), places] = np.inf
    seen = np.isinf(body(Clips(jnp.asarray(waveform))).values).all(axis=-1)
    # Over as many places as one step is long, far from the ends, each place of the receptive field is seen once.
    assert seen.sum() == view.receptive_field
    row, step = np.nonzero(seen)
    from_its_place = places[row] - step * view.step
    assert (from_its_place.min(), from_its_place.max()) == (-view.before, view.after - 1)
    if mels:
        window, hop = config.frontend.window_size, config.frontend.hop_size
        before = view.before * hop + window // 2
        view = View(before, window + (view.receptive_field - 1) * hop - before, view.step * hop)
    assert summary(config, 1).view == view


def test_a_view_grows_by_what_a_window_adds():
    assert View().through(Window(11, stride=5)).through(Window(3, dilation=2)) == View(0, 11 + 2 * 2 * 5, 5)
    padded = View().through(Window(11, stride=5, padding=5)).through(Window(3, padding=2, dilation=2))
    assert padded == View(5 + 2 * 5, 11 + 2 * 2 * 5 - 15, 5)


def test_outputs_are_described_without_weights_or_memory():
    described = summary(model_config("Cnn14_DecisionLevelAtt"), 2.0)
    assert described.outputs == {
        "clipwise": (527,),
        "framewise": (201, 527),
        "logits": (6, 527),
        "pooled": (6, 2048),
        "frames": (6, 2048),
    }
    below = summary(transfer(model_config("Cnn6"))).operations
    assert below == pytest.approx(summary(model_config("Cnn6")).operations, abs=2 * 512 * 527)
    assert math.isclose(summary(model_config("Cnn6"), 20).operations / below, 2, rel_tol=0.01)
    assert json.dumps(described.outputs)
