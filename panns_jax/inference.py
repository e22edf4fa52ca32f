"""panns_inference's interface: code that uses that package runs on this one with another import.

>>> from panns_jax.inference import AudioTagging, SoundEventDetection, labels

What differs: checkpoints are found and kept as everywhere here (`panns_jax.load_model`), and a `.pth` is read without
PyTorch and without running anything in it; `model` is a model of ours, or its name; nothing is printed; clips shorter
than the model needs are zero-padded instead of failing. Results are NumPy arrays of the same shapes.
"""

import functools
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from panns_jax.errors import InputError
from panns_jax.labels import audioset
from panns_jax.models.model import Model, Output
from panns_jax.pretrained.load import load_model
from panns_jax.pretrained.native import is_native

labels: list[str] = list(audioset().names)
ids: list[str] = list(audioset().ids)
classes_num: int = len(labels)
sample_rate = 32000
lb_to_ix: dict[str, int] = {label: index for index, label in enumerate(labels)}
ix_to_lb: dict[int, str] = dict(enumerate(labels))
id_to_ix: dict[str, int] = {id: index for index, id in enumerate(ids)}
ix_to_id: dict[int, str] = dict(enumerate(ids))


class _Inference:
    """A model on a device.

    Attributes:
      model: the model.
      device: "cuda", or "cpu" where there is no GPU or none was asked for.
      labels: names of the model's classes.
      classes_num: their number.
    """

    _default: str

    def __init__(
        self,
        model: Model | str | None = None,
        checkpoint_path: str | os.PathLike[str] | None = None,
        device: Any = "cuda",
    ) -> None:
        """Loads a model.

        Args:
          model: a model of ours, or its name; None for that of a converted or fine-tuned file or a training, and else
            for Cnn14, or Cnn14_DecisionLevelMax for sound events. A model gets the weights of the checkpoint, if one is
            given, and keeps its own otherwise.
          checkpoint_path: a `.pth` file, or any that `load_model` reads; None for the released one.
          device: "cuda" (or "cuda:0", "gpu") for the first GPU, where there is one; all else is "cpu".

        Raises:
          InputError: as `load_model` does; or the model is none of ours.
        """
        self.device = _device(device)
        with jax.default_device(_devices(self.device)[0]):
            self.model = _loaded(model, checkpoint_path or None, self._default)
            self.model.eval()
        self.labels = list(self.model.config.labels.names)
        self.classes_num = self.model.config.num_classes
        self._graph, state = nnx.split(self.model)
        self._state = jax.device_put(state, _devices(self.device)[0])

    def _run(self, audio: Any) -> Output:
        """Runs the model on a batch of clips.

        Raises:
          InputError: the audio is not (batch, samples) of floating point.
        """
        batch = np.asarray(audio)
        if batch.ndim != 2 or not batch.size or batch.dtype.kind != "f":
            raise InputError(
                f"audio must be (batch, samples) of floating point, got shape {batch.shape} of {batch.dtype}"
            )
        # Padded here as the model would pad it: short clips of all lengths share one compiled program.
        missing = max(0, self.model.config.min_samples - batch.shape[1])
        padded = np.pad(batch.astype(np.float32), ((0, 0), (0, missing)))
        return _answer(self._graph, self._state, jax.device_put(padded, _devices(self.device)[0]))


class AudioTagging(_Inference):
    """Tags and embeddings of clips, as `panns_inference.AudioTagging` gives them."""

    _default = "Cnn14"

    def inference(self, audio: Any) -> tuple[Float[np.ndarray, "batch classes"], Float[np.ndarray, "batch embedding"]]:
        """Tags a batch of clips.

        Args:
          audio: (batch, samples), an array or tensor, in [-1, 1] at the model's sample rate (32 kHz).

        Returns:
          clipwise_output (batch, classes_num), probability of each class; and embedding (batch, 2048).

        Raises:
          InputError: the audio is not (batch, samples) of floating point, or the model makes no embedding.
        """
        if self.model.config.embedding_dim is None:
            raise InputError(f"{self.model.config.name} makes no embedding: use SoundEventDetection, or Cnn14")
        output = self._run(audio)
        return np.asarray(output.clipwise), np.asarray(output.embedding)


class SoundEventDetection(_Inference):
    """Probabilities in time, as `panns_inference.SoundEventDetection` gives them."""

    _default = "Cnn14_DecisionLevelMax"

    def __init__(
        self,
        model: Model | str | None = None,
        checkpoint_path: str | os.PathLike[str] | None = None,
        device: Any = "cuda",
        interpolate_mode: str = "nearest",
    ) -> None:
        """Loads a model. Arguments as in `AudioTagging`.

        Args:
          interpolate_mode: from the model's steps to frames; "nearest" is what there is, as in that package.

        Raises:
          InputError: as in `AudioTagging`; the model makes no framewise output; or the mode is another one.
        """
        if interpolate_mode != "nearest":
            raise InputError(f"interpolate_mode must be 'nearest', not {interpolate_mode!r}")
        super().__init__(model, checkpoint_path, device)
        if self.model.config.embedding_dim is not None:
            name = self.model.config.name
            raise InputError(f"{name} makes no framewise output: choose a decision-level model, {self._default} say")

    def inference(self, audio: Any) -> Float[np.ndarray, "batch frames classes"]:
        """Tags each frame of a batch of clips.

        Args:
          audio: as in `AudioTagging`.

        Returns:
          framewise_output (batch, frames, classes_num), 100 frames a second; each step of 0.32 s is repeated 32 times.

        Raises:
          InputError: the audio is not (batch, samples) of floating point.
        """
        return np.asarray(self._run(audio).framewise)


@functools.partial(jax.jit, static_argnums=0)
def _answer(graph: nnx.GraphDef[Model], state: Any, audio: Float[Array, "batch samples"]) -> Output:
    return nnx.merge(graph, state)(audio)


def _loaded(model: Model | str | None, checkpoint: str | os.PathLike[str] | None, default: str) -> Model:
    if isinstance(model, Model):
        return model if checkpoint is None else load_model(model.config.name, checkpoint)
    if not isinstance(model, str | None):
        raise InputError(f"model must be a model of panns_jax or the name of one, not a {type(model).__name__}")
    if model is None and checkpoint is not None and _tells_its_model(Path(checkpoint)):
        return load_model(checkpoint=checkpoint)
    return load_model(model or default, checkpoint)


def _tells_its_model(checkpoint: Path) -> bool:
    """Whether it is a converted or fine-tuned file, or a training's, rather than a published one."""
    return not checkpoint.is_file() or is_native(checkpoint)


def _device(asked: Any) -> str:
    """The device that is used where `asked` was asked for."""
    wants_gpu = str(asked).partition(":")[0] in ("cuda", "gpu")
    return "cuda" if wants_gpu and jax.default_backend() == "gpu" else "cpu"


def _devices(device: str) -> list[Any]:
    return jax.devices("gpu" if device == "cuda" else "cpu")
