"""Models with weights, from whatever kind of file holds them."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from panns_jax.errors import InputError
from panns_jax.files import is_folder, require_file
from panns_jax.models.config import ModelConfig
from panns_jax.models.model import Model
from panns_jax.models.registry import REGISTRY, model_config
from panns_jax.pretrained import catalogue
from panns_jax.pretrained.conversion import convert_weights, fitting_models, nearest_model, require_one, with_classes_of
from panns_jax.pretrained.native import SUFFIX, is_native, read_native
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
    if is_folder(path):
        from panns_jax.pretrained.training import read_training_checkpoint

        return _named(read_training_checkpoint(path), config, path)
    require_file(path, "a checkpoint")
    if path.suffix == SUFFIX or is_native(path):
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
    if not fitting and (nearest := nearest_model(weights, _named_in(path, REGISTRY))):
        return nearest  # the conversion tells all that differs
    if len(fitting) > 1:
        # Renamed, perhaps: reading all of it costs a second.
        released = catalogue.identified(path)
        if released is not None and released.model in fitting:
            return released.model
        if named := _named_in(path, fitting):
            return named
    return require_one(fitting, str(path))


def _named_in(path: Path, models: Iterable[str]) -> str | None:
    """The model that a file is named after, if any: that of `Cnn14.pth` or `cnn14-street.pth`, say."""
    file = path.name.casefold()
    named = [m for m in models if file.startswith(m.casefold()) and not file[len(m) : len(m) + 1].isalnum()]
    return max(named, key=len, default=None)


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
