"""A published state dict to our arrays, strictly: every entry is used, checked or reported, and so is every gap."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from panns_jax.errors import InputError
from panns_jax.frontend import FrontendConfig, hann_window, mel_matrix
from panns_jax.models.config import ModelConfig
from panns_jax.models.registry import REGISTRY, model_config
from panns_jax.models.transfer import PREFIX, Pretrained, transfer
from panns_jax.pretrained.faults import Faults, check_arrays, check_shapes, is_floating
from panns_jax.pretrained.rules import LAST_LAYERS, entries, unused_names

_LAST_WEIGHTS = {f"{layer}.weight" for layer in LAST_LAYERS}


def convert_weights(weights: Mapping[str, np.ndarray], config: ModelConfig, source: str) -> dict[str, np.ndarray]:
    """Converts the weights of a published model.

    Args:
      weights: arrays under the published names, in PyTorch's layouts. float16, bfloat16 and float64 become float32.
        The front end's constants (STFT kernels, mel matrix) may be among them, and are then compared with ours;
        those of a log-mel model may also be missing, as nothing is read from them.
      config: the model that they belong to.
      source: what to call the weights in an error.

    Returns:
      float32 arrays by our paths (`rules.Entry.ours`), in our layouts; views where the dtype allows.

    Raises:
      InputError: the weights do not fit, with all that is wrong: entries missing, of another shape, of no use, not
        floating point or not finite, or front-end constants of other settings.
    """
    faults = Faults()
    constants = frontend_constants(config)
    unused = unused_names(config)
    own = {name: array for name, array in weights.items() if name not in unused and name not in constants}
    check_arrays(own, _published_shapes(config), faults)
    for name, constant in constants.items():
        difference = _difference(weights[name], constant) if name in weights else None
        if difference:
            faults.add("of another front end than the model's", f"{name} ({difference})")
    if faults:
        faults.require_none(f"{source} does not fit {config.name}", _hint(weights, config))
    return {
        entry.ours: entry.rule.to_ours(own[entry.published].astype(np.float32, copy=False)) for entry in entries(config)
    }


def frontend_constants(config: ModelConfig) -> dict[str, np.ndarray]:
    """What the published log-mel models store of their front end: Fourier kernels with the window, and mel matrix.

    Returns:
      Arrays by published name, float32: kernels (window_size // 2 + 1, 1, window_size), matrix (bins, mel_bins);
      nothing for models that read waveforms only.
    """
    if isinstance(config.body, Pretrained):
        return {f"base.{name}": constant for name, constant in frontend_constants(config.body.base).items()}
    if not config.body.reads_logmel:
        return {}
    real, imaginary = _fourier_kernels(config.frontend)
    return {
        "spectrogram_extractor.stft.conv_real.weight": real,
        "spectrogram_extractor.stft.conv_imag.weight": imaginary,
        "logmel_extractor.melW": mel_matrix(config.frontend),
    }


def with_classes_of(weights: Mapping[str, np.ndarray], config: ModelConfig) -> ModelConfig:
    """`config` with as many classes as the last layer of `weights` has; other than 527, they are numbered."""
    if isinstance(config.body, Pretrained):
        body = dataclasses.replace(config.body, base=with_classes_of(_below(weights), config.body.base))
        config = dataclasses.replace(config, body=body)
    for name, shape in _published_shapes(config).items():
        if name in _LAST_WEIGHTS and name in weights:
            given = weights[name]
            # All but the number of classes has to agree: a damaged file must not ask for billions of them.
            if given.size and given.shape[1:] == shape[1:]:
                return config.with_classes(given.shape[0])
    return config


def nearest_model(weights: Mapping[str, np.ndarray], preferred: str | None = None) -> str | None:
    """The model that `weights` are most like, if most of their names and shapes are its own.

    Args:
      weights: arrays under the published names.
      preferred: the model that is taken where others are as near.
    """
    if below := _below(weights):
        base = nearest_model(below, preferred and preferred.removeprefix(PREFIX))
        return base and PREFIX + base
    misfits = {name: len(_misfits(weights, with_classes_of(weights, row))) for name, row in REGISTRY.items()}
    nearest = min(misfits, key=lambda name: (misfits[name], name != preferred))
    return nearest if misfits[nearest] < len(weights) / 2 else None


def fitting_models(weights: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the models that have the entries and shapes of `weights`, whatever their classes."""
    if below := _below(weights):
        bases = (name for name in fitting_models(below) if REGISTRY[name].embedding_dim is not None)
        rows = (transfer(REGISTRY[name]) for name in bases)
    else:
        rows = REGISTRY.values()
    return [row.name for row in rows if not _misfits(weights, with_classes_of(weights, row))]


def _below(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights of the model below a new last layer; nothing where there is no such layer."""
    if "fc_transfer.weight" not in weights:
        return {}
    return {name.removeprefix("base."): array for name, array in weights.items() if name.startswith("base.")}


def require_one(fitting: list[str], source: str) -> str:
    """The only model of `fitting`; the first, where they differ in nothing but their training.

    Raises:
      InputError: there is none, or several that compute different things.
    """
    different = _different(fitting)
    if len(different) == 1:
        return different[0]
    if not fitting:
        raise InputError(
            f"{source}: its names and shapes are those of no model known here; "
            "give the model's name to be told what differs"
        )
    raise InputError(f"{source}: its names and shapes are those of {', '.join(different)} alike; give the model's name")


def same_when_evaluated(one: str, other: str) -> bool:
    """Whether two models compute the same with the same weights, training apart."""
    return _as_evaluated(model_config(one)) == _as_evaluated(model_config(other))


def _different(names: list[str]) -> list[str]:
    """The first of each group of models that compute the same in evaluation mode."""
    firsts: dict[tuple[object, ...], str] = {}
    for name in names:
        firsts.setdefault(_as_evaluated(model_config(name)), name)
    return list(firsts.values())


def _as_evaluated(config: ModelConfig) -> tuple[object, ...]:
    """What of a model matters in evaluation mode: not dropout, SpecAugment or mixup."""
    if isinstance(config.body, Pretrained):
        return ("base", *_as_evaluated(config.body.base))
    parts: tuple[Any, ...] = (config.body, config.head)
    without_dropout = (dataclasses.replace(p, dropout=0.0) if hasattr(p, "dropout") else p for p in parts)
    return (config.frontend, *without_dropout)


def _misfits(weights: Mapping[str, np.ndarray], config: ModelConfig) -> Faults:
    """The differences in names and shapes; a model's constants may be missing."""
    faults = Faults()
    unused = unused_names(config)
    shapes = {name: array.shape for name, array in weights.items() if name not in unused}
    constants = {name: shape for name, shape in _constant_shapes(config).items() if name in shapes}
    check_shapes(shapes, {**_published_shapes(config), **constants}, faults)
    return faults


def _hint(weights: Mapping[str, np.ndarray], config: ModelConfig) -> str:
    fitting = _different([name for name in fitting_models(weights) if name != config.name])
    return f"; its names and shapes are those of {' or '.join(fitting)}" if fitting else ""


def _published_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    return {entry.published: entry.shape for entry in entries(config)}


def _constant_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    if isinstance(config.body, Pretrained):
        return {f"base.{name}": shape for name, shape in _constant_shapes(config.body.base).items()}
    if not config.body.reads_logmel:
        return {}
    bins = config.frontend.window_size // 2 + 1
    kernels = (bins, 1, config.frontend.window_size)
    return {
        "spectrogram_extractor.stft.conv_real.weight": kernels,
        "spectrogram_extractor.stft.conv_imag.weight": kernels,
        "logmel_extractor.melW": (bins, config.frontend.mel_bins),
    }


def _difference(stored: np.ndarray, ours: np.ndarray) -> str | None:
    """What tells a stored constant from ours, or None where rounding explains it."""
    if stored.shape != ours.shape:
        return f"of shape {stored.shape} instead of {ours.shape}"
    if not is_floating(stored.dtype):
        return f"{stored.dtype}"
    # Rounding differs between versions of NumPy and librosa by 1e-7 of the largest value, and half-precision files
    # are rounded. A symmetric window differs by 2e-3, an upper edge of the mel bins higher by 1 Hz by 4e-4.
    tolerance = 1e-4 if stored.dtype.itemsize > 2 else 1e-3 if stored.dtype == np.float16 else 1e-2
    with np.errstate(over="ignore"):
        largest = (np.abs(stored.astype(np.float32) - ours) / np.abs(ours).max()).max()
    if not np.isfinite(largest):
        return "holds NaN or infinity"
    return None if largest <= tolerance else f"differs by {100 * largest:.3g} % of the largest value"


def _fourier_kernels(frontend: FrontendConfig) -> tuple[np.ndarray, np.ndarray]:
    size = frontend.window_size
    window = hann_window(size)
    # A Fourier kernel of `size` samples has only `size` different values.
    angles = -2 * np.pi * np.arange(size) / size
    steps = np.outer(np.arange(size // 2 + 1), np.arange(size)) % size
    real, imaginary = (wave(angles).astype(np.float32)[steps] * window for wave in (np.cos, np.sin))
    return real[:, None], imaginary[:, None]
