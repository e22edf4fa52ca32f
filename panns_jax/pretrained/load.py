"""Models with weights, from whatever kind of file holds them."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from panns_jax.errors import InputError
from panns_jax.files import require_file
from panns_jax.models.config import ModelConfig
from panns_jax.models.model import Model
from panns_jax.models.registry import model_config
from panns_jax.pretrained import catalogue
from panns_jax.pretrained.conversion import convert_weights, fitting_models, require_one, with_classes_of
from panns_jax.pretrained.native import SUFFIX, read_native
from panns_jax.pretrained.pth import read_state_dict
from panns_jax.pretrained.rules import filled_model


def load_model(name: str | None = None, checkpoint: str | os.PathLike[str] | None = None) -> Model:
    """Loads a pretrained or trained model.

    Args:
      name: one of `list_models()`. Needed only for a `.pth` file that does not tell: one whose name begins with no
        model's, and whose entries several models have alike that compute different things.
      checkpoint: a released PyTorch checkpoint (`.pth`; a fine-tuned one may have any number of classes), a file
        written by `panns-jax convert` (`.safetensors`), or a folder of training checkpoints, of which the newest is
        taken.

    Returns:
      The model in evaluation mode. Clips shorter than `model.config.min_samples` are zero-padded at their end.

    Raises:
      InputError: the checkpoint is missing, damaged or of another model than `name`.
    """
    config = None if name is None else model_config(name)
    if checkpoint is None:
        raise InputError(_where_to_find(config))
    path = Path(checkpoint)
    if path.is_dir():
        from panns_jax.pretrained.training import read_training_checkpoint

        return _named(read_training_checkpoint(path), config, path)
    require_file(path, "a checkpoint")
    if _is_native(path):
        return _named(read_native(path), config, path)
    config, arrays = read_published(path, name)
    return filled_model(config, arrays)


def read_published(path: str | os.PathLike[str], name: str | None = None) -> tuple[ModelConfig, dict[str, np.ndarray]]:
    """Reads and converts a `.pth` file.

    Args:
      path: the file.
      name: of the model; found out where it is None.

    Returns:
      The model, with as many classes as the file has, and its arrays by `rules.Entry.ours`.

    Raises:
      InputError: the file is no checkpoint, damaged, or does not fit; or no or several models fit and `name` is None.
    """
    path = Path(path)
    weights = read_state_dict(path)
    config = with_classes_of(weights, model_config(name or _model_of(path, weights)))
    return config, convert_weights(weights, config, str(path))


def _model_of(path: Path, weights: Mapping[str, np.ndarray]) -> str:
    released = catalogue.named_like(path)
    if released is not None:
        return released.model
    fitting = fitting_models(weights)
    if len(fitting) > 1:
        # Renamed, perhaps: reading all of it costs a second.
        released = catalogue.identified(path)
        if released is not None and released.model in fitting:
            return released.model
        named = [name for name in fitting if _is_named_after(path, name)]
        if named:
            return max(named, key=len)
    return require_one(fitting, str(path))


def _is_named_after(path: Path, model: str) -> bool:
    """Whether a file is called `Cnn14.pth` or `Cnn14-street.pth`, say."""
    name = path.name.casefold()
    return name.startswith(model.casefold()) and not name[len(model) : len(model) + 1].isalnum()


def _is_native(path: Path) -> bool:
    if path.suffix == SUFFIX:
        return True
    try:
        with path.open("rb") as file:
            # A safetensors file starts with the length of a JSON object in 8 bytes, then the object.
            return file.read(9)[8:] == b"{"
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _named(model: Model, config: ModelConfig | None, path: Path) -> Model:
    if config is not None and model.config.name != config.name:
        raise InputError(f"{path}: holds a {model.config.name}, not a {config.name}")
    return model


def _where_to_find(config: ModelConfig | None) -> str:
    if config is None:
        return "a checkpoint is needed: a .pth file, a converted .safetensors file or a folder of training checkpoints"
    released = catalogue.of_model(config.name)
    if released is None:
        return f"{config.name} needs a checkpoint; none was released, so train one and name its folder"
    return f"{config.name} needs a checkpoint: download {released.url} and name the file"
