"""The interface of the HEAR benchmark."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recipe
from small_models import SMALL
from weights import arbitrary

from panns_jax import InputError, hear
from panns_jax.infer.listener import Listener
from panns_jax.pretrained.rules import filled_model

RATE = 32000


@pytest.fixture(scope="module")
def model(demo_checkpoint: Path) -> Any:
    return hear.load_model(demo_checkpoint)


def test_a_sound_has_one_vector(model: Any):
    audio = recipe.waveform(2, RATE, RATE, 1)
    embeddings = hear.get_scene_embeddings(audio, model)
    assert model.sample_rate == RATE
    assert embeddings.shape == (2, model.scene_embedding_size) and embeddings.dtype == np.float32
    (alone,) = model.listener.hear([audio[1]])
    np.testing.assert_allclose(embeddings[1], alone.embedding, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seconds", [0.01, 0.31, 1.07, 1.98])
def test_timestamps_are_at_most_50_ms_apart_from_beginning_to_end(model: Any, seconds: float):
    audio = recipe.waveform(2, round(seconds * RATE), RATE, 1)
    embeddings, timestamps = hear.get_timestamp_embeddings(audio, model)
    assert embeddings.shape == (*timestamps.shape, model.timestamp_embedding_size)
    assert embeddings.dtype == timestamps.dtype == np.float32
    assert timestamps[0, 0] == 0 and 1000 * seconds - 50 < timestamps[0, -1] <= 1000 * seconds
    np.testing.assert_allclose(np.diff(timestamps), 40, atol=1e-3)


def test_a_sound_shows_in_the_vectors_around_its_time(model: Any):
    audio = np.zeros((1, 4 * RATE), np.float32)
    quiet, timestamps = hear.get_timestamp_embeddings(audio, model)
    audio[0, 2 * RATE : 2 * RATE + 1600] = 0.5  # 50 ms from 2 s on
    loud, _ = hear.get_timestamp_embeddings(audio, model)
    change = np.abs(loud - quiet).max(axis=2)[0]
    assert abs(timestamps[0, change.argmax()] - 2025) < 400
    assert not change[timestamps[0] < 800].any() and not change[timestamps[0] > 3300].any()


@pytest.mark.parametrize("name", ["cnn", "resnet", "mobilenet2", "leenet", "dainet", "res1dnet", "wavegram-logmel"])
def test_each_timestamp_has_the_step_of_the_network_around_it(name: str):
    model = hear._described(Listener(filled_model(SMALL[name], arbitrary(SMALL[name]))))
    audio = recipe.waveform(1, 8000, model.sample_rate, 3)
    embeddings, timestamps = hear.get_timestamp_embeddings(audio, model)
    assert len(timestamps[0]) > 2 and np.diff(timestamps).max() <= 50
    # A step's own vector, where the recording is heard from the beginning of that step on.
    whole = np.arange(0, len(timestamps[0]), model.passes)
    padded = np.pad(audio[0], (_middle(model), 8 * model.listener.step))
    (heard,) = model.listener.hear([padded], taps=("frames",))
    inner = whole[1:-1][: max(1, len(whole) // 2)]
    np.testing.assert_allclose(
        embeddings[0, inner], heard.frames[1:][: len(inner)], rtol=1e-4, atol=1e-4 * np.abs(heard.frames).max()
    )


def _middle(model: Any) -> int:
    config, step = model.listener.config, model.listener.step
    return (step - config.frontend.hop_size if config.body.reads_logmel else step) // 2


def test_what_is_no_batch_of_sounds_is_refused(model: Any):
    with pytest.raises(InputError, match=r"\(sounds, samples\)"):
        hear.get_scene_embeddings(np.zeros(RATE, np.float32), model)
    with pytest.raises(InputError, match="int16"):
        hear.get_timestamp_embeddings(np.zeros((1, RATE), np.int16), model)


def test_tensors_come_back_as_tensors_and_the_model_as_a_module_where_torch_is_imported(demo_checkpoint: Path):
    pytest.importorskip("torch", reason="torch is not installed")
    program = """
import sys
from panns_jax import hear
assert "torch" not in sys.modules
import torch
model = hear.load_model(sys.argv[1])
assert isinstance(model, torch.nn.Module)
audio = torch.rand(2, 16000) * 2 - 1
scene, (over_time, times) = hear.get_scene_embeddings(audio, model), hear.get_timestamp_embeddings(audio, model)
assert all(isinstance(x, torch.Tensor) and x.dtype == torch.float32 for x in (scene, over_time, times))
assert scene.shape == (2, 128) and over_time.shape == (2, 13, 128) and times.shape == (2, 13)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(demo_checkpoint)], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
