"""The interface of the HEAR benchmark (https://hearbenchmark.com/hear-api.html).

Its tools take the name of this module, `panns_jax.hear`.

Audio is a batch (sounds, samples) in [-1, 1] at `model.sample_rate`: an array, or a tensor of PyTorch or TensorFlow,
and results are of the same kind. Neither package is needed or imported here; where PyTorch is imported already, as by
HEAR's tools, `load_model` returns a `torch.nn.Module`, which these demand.

A network has one vector for each time step, of 0.32 s in Cnn14, and HEAR suggests at most 50 ms between timestamps. So
each sound is heard several times, from places a part of a step apart, and the vectors are put in order: every 40 ms in
Cnn14, by 8 passes. A vector still stands for a whole step around its timestamp, and sees of the sound what its
receptive field does.
"""

import math
import os
import sys
from typing import Any

import numpy as np
from jaxtyping import Float

from panns_jax.errors import InputError
from panns_jax.infer.ears import checked_waveforms
from panns_jax.infer.heard import Heard
from panns_jax.infer.listener import Listener, load_listener

_MILLISECONDS = 50.0


class HearModel:
    """A model as HEAR's tools know it.

    Attributes:
      listener: hears with it.
      sample_rate: samples per second of the audio.
      scene_embedding_size: length of the vector of a sound: 2048 in Cnn14.
      timestamp_embedding_size: length of the vector of a timestamp: the channels of the body's last layer.
      passes: how often each sound is heard for its timestamps.
      hop: samples from one timestamp to the next.
    """

    listener: Listener
    sample_rate: int
    scene_embedding_size: int
    timestamp_embedding_size: int
    passes: int
    hop: int

    def to(self, device: Any) -> "HearModel":
        """As in PyTorch, whose users call it; JAX chooses the device itself."""
        return self


def load_model(model_file_path: str | os.PathLike[str] = "") -> Any:
    """Loads a model.

    Args:
      model_file_path: a checkpoint, as in `panns_jax.load_model`, or the name of a model; empty for Cnn14.

    Returns:
      A `HearModel`, or a `torch.nn.Module` of the same attributes.

    Raises:
      InputError: as `panns_jax.load_model` does; or the model makes no embedding.
    """
    from pathlib import Path

    from panns_jax.models.registry import REGISTRY

    text = os.fspath(model_file_path)
    if not text or text in REGISTRY:
        return _described(load_listener(text or None, None))
    return _described(load_listener(None, Path(text)))


def get_scene_embeddings(audio: Any, model: Any) -> Any:
    """A vector for each sound.

    Args:
      audio: (sounds, samples), in [-1, 1] at `model.sample_rate`.
      model: of `load_model`.

    Returns:
      float32 (sounds, `model.scene_embedding_size`).

    Raises:
      InputError: the audio is no batch of sounds.
    """
    heard = _heard(model.listener, list(_batch(audio)))
    return _like(audio, np.stack([one.embedding for one in heard if one.embedding is not None]))


def get_timestamp_embeddings(audio: Any, model: Any) -> tuple[Any, Any]:
    """Vectors over time for each sound.

    Args:
      audio: (sounds, samples), in [-1, 1] at `model.sample_rate`.
      model: of `load_model`.

    Returns:
      Embeddings, float32 (sounds, timestamps, `model.timestamp_embedding_size`); and timestamps in milliseconds,
      float32 (sounds, timestamps), from 0 to the end of the sound, the middles of what the embeddings stand for.

    Raises:
      InputError: the audio is no batch of sounds.
    """
    waveforms = _batch(audio)
    count = waveforms.shape[1] // model.hop + 1
    embeddings = np.stack([_over_time(model, waveform, count) for waveform in waveforms])
    milliseconds = np.arange(count) * (1000 * model.hop / model.sample_rate)
    timestamps = np.broadcast_to(milliseconds.astype(np.float32), (len(waveforms), count)).copy()
    return _like(audio, embeddings), _like(audio, timestamps)


def _described(listener: Listener) -> Any:
    config = listener.config
    if config.embedding_dim is None:
        raise InputError(f"{config.name} makes no embedding: choose a model with one, such as Cnn14")
    torch = sys.modules.get("torch")
    model: Any = HearModel() if torch is None else torch.nn.Module()
    model.listener = listener
    model.sample_rate = config.sample_rate
    model.scene_embedding_size = config.embedding_dim
    model.timestamp_embedding_size = config.body.out_channels
    model.passes = _passes(listener.step, config.sample_rate)
    model.hop = listener.step // model.passes
    return model


def _passes(step: int, sample_rate: int) -> int:
    """The fewest parts of one length, in whole samples, of a step that are at most 50 ms long."""
    least = math.ceil(step * 1000 / (_MILLISECONDS * sample_rate))
    return next(parts for parts in range(least, step + 1) if step % parts == 0)


def _over_time(
    model: Any, waveform: Float[np.ndarray, " samples"], count: int
) -> Float[np.ndarray, "timestamps channels"]:
    """The vectors of one sound, `model.hop` samples apart, the first one around its beginning."""
    config, step = model.listener.config, model.listener.step
    # Frames of a spectrogram lie around their places: the middle of a step is that of its first and last frame.
    middle = (step - config.frontend.hop_size if config.body.reads_logmel else step) // 2
    steps = -(-count // model.passes)
    length = (steps - 1) * step + max(step, config.min_samples)
    padded = np.pad(waveform, (middle, max(0, length + step - len(waveform))))
    heard = _heard(model.listener, [padded[first : first + length] for first in range(0, step, model.hop)], "frames")
    frames = [one.frames[:steps] for one in heard if one.frames is not None]
    return np.stack(frames, axis=1).reshape(-1, model.timestamp_embedding_size)[:count]


def _heard(listener: Listener, sounds: list[np.ndarray], *taps: str) -> list[Heard]:
    answers = list(listener.hear(sounds, taps=taps))
    for answer in answers:
        if isinstance(answer, InputError):
            raise answer
    return [answer for answer in answers if isinstance(answer, Heard)]


def _batch(audio: Any) -> Float[np.ndarray, "sounds samples"]:
    array = np.asarray(audio.detach().cpu() if hasattr(audio, "detach") else audio)
    if array.ndim != 2:
        raise InputError(f"audio must be (sounds, samples), got shape {array.shape}")
    return checked_waveforms(array)


def _like(audio: Any, array: np.ndarray) -> Any:
    """The array as what the audio was: an array, or a tensor on the same device."""
    torch, tensorflow = sys.modules.get("torch"), sys.modules.get("tensorflow")
    if torch is not None and isinstance(audio, torch.Tensor):
        return torch.from_numpy(np.ascontiguousarray(array)).to(audio.device)
    if tensorflow is not None and isinstance(audio, tensorflow.Tensor):
        return tensorflow.convert_to_tensor(array)
    return array
