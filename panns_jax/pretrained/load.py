"""Models with weights, from whatever kind of file holds them."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from panns_jax.errors import InputError
from panns_jax.files import is_folder, require_file
from panns_jax.models.config import ModelConfig, Precision
from panns_jax.models.model import Model
from panns_jax.models.registry import REGISTRY, model_config
from panns_jax.pretrained import catalogue
from panns_jax.pretrained.cache import fetch
from panns_jax.pretrained.conversion import (
    convert_weights,
    fitting_models,
    nearest_model,
    require_one,
    same_when_evaluated,
    with_classes_of,
)
from panns_jax.pretrained.native import SUFFIX, is_native, read_native
from panns_jax.pretrained.pth import read_state_dict
from panns_jax.pretrained.rules import filled_model

if TYPE_CHECKING:
    from panns_jax.pretrained.training import Weights


def load_model(
    name: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    mirror: str | None = None,
    precision: Precision = "float32",
    weights: "Weights" = "auto",
) -> Model:
    """Loads a pretrained or trained model.

    Without a checkpoint, the one that the paper's authors released is downloaded, compared with what is known of it
    (size, hash, entries) and converted, once; later calls load the converted file and need no network. It is kept in
    the folder `PANNS_JAX_CACHE`, else in the platform's folder for caches; the `.pth` file itself is removed after
    its conversion, unless somebody has put it into that folder, where it is taken instead of a download.

    Args:
      name: one of `list_models()`. With a checkpoint it is needed only for a `.pth` file that does not tell: one whose
        name begins with no model's, and whose entries several models have alike that compute different things.
      checkpoint: a released PyTorch checkpoint (`.pth`; a fine-tuned one may have any number of classes), a file
        written by `panns-jax convert` (`.safetensors`), or a folder of training checkpoints, of which the newest is
        taken (`checkpoints/RUN/best` stands for the one of the best score). None for the released one.
      mirror: URL of a folder that has the released files under their names, to download from; `PANNS_JAX_MIRROR`, else
        the authors' record on Zenodo, where it is None.
      precision: what the body computes in: "float32", "tf32" (float32 whose products are TF32 on GPUs that have it) or
        "bfloat16" ("bf16" for short).
      weights: of a training checkpoint, "averaged" for the averages that `--ema-decay` or `--swa-start` made, "trained"
        for the weights that training went on with; "auto" for the averages if there are some.

    Returns:
      The model in evaluation mode. Weights from a converted file are mapped, not copied: replacing the file is safe,
      overwriting it in place is not. Clips shorter than `model.config.min_samples` are zero-padded at their end.

    Raises:
      InputError: the checkpoint is missing, damaged or of another model than `name`, or has no averages; or there is
        none, and none was released or it cannot be downloaded.
    """
    model = _read(None if name is None else model_config(name), checkpoint, mirror, weights)
    model.set_precision(precision)
    return model


def _read(
    config: ModelConfig | None, checkpoint: str | os.PathLike[str] | None, mirror: str | None, weights: "Weights"
) -> Model:
    if checkpoint is None:
        _require_no_averages(weights, "a released checkpoint")
        return _read_released(config, mirror)
    if mirror is not None:
        raise InputError(f"a mirror is for the released files; {checkpoint} is read from this machine")
    path = Path(checkpoint)
    if is_folder(path) or (is_folder(path.parent) and path.name == "best" and not path.exists()):
        from panns_jax.pretrained.training import read_training_checkpoint

        return _named(read_training_checkpoint(path, weights), config, path)
    require_file(path, "a checkpoint")
    _require_no_averages(weights, str(path))
    if path.suffix == SUFFIX or is_native(path):
        return _named(read_native(path), config, path)
    return filled_model(*read_published(path, config and config.name))


def _require_no_averages(weights: "Weights", what: str) -> None:
    if weights == "averaged":
        raise InputError(f"{what}: holds one set of weights; only folders of training checkpoints hold averages too")


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
    arrays = convert_weights(weights, config, str(path))
    if name is not None:
        _require_not_of_another(path, config, weights)
    return config, arrays


def _require_not_of_another(path: Path, config: ModelConfig, weights: Mapping[str, np.ndarray]) -> None:
    """Some released files fit a model that would compute something else with them: only hash or name tells."""
    others = [name for name in fitting_models(weights) if not same_when_evaluated(name, config.name)]
    if not others:
        return
    if released := catalogue.with_content_of(path, others):
        raise InputError(f"{path}: is the released file of {released.model}, not of {config.name}")
    released = catalogue.named_like(path)
    if released is not None and released.model in others:
        raise InputError(
            f"{path}: is named like the released file of {released.model}, and has its entries; rename it if it is of a"
            f" {config.name} nevertheless"
        )


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


def _read_released(config: ModelConfig | None, mirror: str | None) -> Model:
    if config is None:
        raise InputError(
            "a checkpoint or the name of a model is needed; a checkpoint is a .pth file, a converted .safetensors file"
            " or a folder of training checkpoints"
        )
    path = fetch(catalogue.require(config.name), mirror)
    try:
        return _named(read_native(path), config, path)
    except InputError as error:
        raise InputError(f"{error}; remove it, and it is made anew") from error
