"""Ten minutes through the published models as they are: part by part, they come to what one pass comes to."""

import gc
from typing import Any

import jax
import numpy as np
import pytest
import recipe

from panns_jax.infer.heard import Heard
from panns_jax.infer.listener import Listener
from panns_jax.models.registry import model_config
from panns_jax.pretrained.conversion import convert_weights
from panns_jax.pretrained.rules import filled_model

SECONDS = 600
# Beyond 2^24 samples the last time step of LeeNet11's one pass is 3e-4 off what a pass over the sound's end alone
# gives, however long that end; heard in parts it is what the latter gives.
FEWER_SECONDS = {"LeeNet11": 520}


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        "Cnn14",
        "Cnn14_16k",
        "ResNet38",
        "MobileNetV1",
        "MobileNetV2",
        "LeeNet11",
        "Res1dNet31",
        "Wavegram_Logmel_Cnn14",
        "Cnn14_DecisionLevelMax",
        "Cnn14_DecisionLevelAtt",
    ],
)
def test_ten_minutes_heard_in_parts_are_those_of_one_pass(name: str):
    config = model_config(name)
    model: Any = filled_model(config, convert_weights(recipe.checkpoint(name, 1), config, name))
    rate = config.sample_rate
    sound = recipe.waveform(1, FEWER_SECONDS.get(name, SECONDS) * rate + 1234, rate, 7)
    (heard,) = Listener(model).hear([sound[0]])
    assert isinstance(heard, Heard)
    # Compiled at once: layer by layer, every layer's result would be in memory.
    whole = jax.jit(lambda waveform: model(waveform))(sound)
    clipwise = np.asarray(whole.clipwise[0])
    np.testing.assert_allclose(heard.clipwise, clipwise, atol=1e-5, rtol=0)
    if whole.embedding is not None:
        embedding = np.asarray(whole.embedding[0])
        assert heard.embedding is not None
        np.testing.assert_allclose(heard.embedding, embedding, atol=1e-5 * max(1, np.abs(embedding).max()), rtol=0)
    del whole
    gc.collect()
