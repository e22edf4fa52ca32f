"""Other hops than the published model's, as the paper's ablation has them: 500, 640 and 1000 samples instead of 320."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recipe
from small_models import SMALL
from weights import arbitrary

from panns_jax.errors import InputError
from panns_jax.models.config import ModelConfig
from panns_jax.models.heads import DecisionHead
from panns_jax.models.registry import REGISTRY, model_config
from panns_jax.models.summary import summary
from panns_jax.pretrained.rules import filled_model

OVER_LOGMEL = [name for name, config in SMALL.items() if config.body.reads_logmel and name != "wavegram-logmel"]
PUBLISHED = ["Cnn6", "Cnn14", "Cnn14_DecisionLevelAtt", "ResNet38", "ResNet54", "MobileNetV1", "MobileNetV2"]


def at_hop(config: ModelConfig, hop: int) -> ModelConfig:
    return dataclasses.replace(config, frontend=dataclasses.replace(config.frontend, hop_size=hop))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_step_lasts_as_many_hops_as_ever_and_a_clip_has_fewer_of_them(name: str):
    config = model_config(name)
    step = summary(config).view.step
    for hop in (500, 640, 1000):
        found = summary(at_hop(config, hop))
        assert found.view.step == step // 320 * hop
        frames = 320000 // hop + 1
        assert found.outputs["frames"][0] == frames // (step // 320)
        assert found.outputs.get("framewise", (frames,))[0] == frames


@pytest.mark.slow
@pytest.mark.parametrize("name", OVER_LOGMEL)
@pytest.mark.parametrize("hop", [125, 250])
def test_what_a_step_hears_is_where_its_time_says(name: str, hop: int):
    config = at_hop(SMALL[name], hop)
    model = filled_model(config, arbitrary(config))
    run = jax.jit(lambda waveform: model(waveform, taps="frames"))
    quiet = recipe.waveform(1, 8000, 8000, 0)
    loud = quiet.copy()
    loud[:, 4000:4100] += 0.5 * np.sin(np.arange(100))
    before, after = run(jnp.asarray(quiet)), run(jnp.asarray(loud))
    view = summary(config).view
    steps = np.arange(before.frames.shape[1])
    hears = (steps * view.step + view.after > 4000) & (steps * view.step - view.before < 4100)
    changed = np.abs(np.asarray(before.frames - after.frames))[0].max(axis=1) > 1e-6
    assert changed.any() and not changed[~hears].any()
    assert abs(np.flatnonzero(changed).mean() - 4050 / view.step) <= 1
    if isinstance(config.head, DecisionHead):
        assert before.framewise is not None
        assert before.framewise.shape[1] == 8000 // hop + 1


@pytest.mark.parametrize("name", ["Wavegram_Logmel_Cnn14", "Wavegram_Logmel128_Cnn14"])
def test_the_spectrogram_beside_a_wavegram_has_its_step(name: str):
    for hop in (500, 640, 1000):
        with pytest.raises(InputError, match=f"hop_size must be 320, the step of the wavegram .* got {hop}"):
            at_hop(REGISTRY[name], hop)
