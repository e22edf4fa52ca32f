"""PANNs (pretrained audio neural networks, Kong et al. 2020) in JAX/Flax.

The public names are loaded when they are first used, so that `import panns_jax` stays cheap.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from panns_jax.errors import InputError as InputError
    from panns_jax.infer.api import Embedder as Embedder
    from panns_jax.infer.api import Tagger as Tagger
    from panns_jax.infer.event_detector import EventDetector as EventDetector
    from panns_jax.infer.prepared import PreparedModel as PreparedModel
    from panns_jax.infer.prepared import prepare as prepare
    from panns_jax.labels import LabelSet as LabelSet
    from panns_jax.models.config import ModelConfig as ModelConfig
    from panns_jax.models.model import Model as Model
    from panns_jax.models.model import Output as Output
    from panns_jax.models.registry import create_model as create_model
    from panns_jax.models.registry import list_models as list_models
    from panns_jax.models.transfer import create_transfer as create_transfer
    from panns_jax.pretrained.load import load_model as load_model
    from panns_jax.process import cache_programs as cache_programs
    from panns_jax.process import tune_process as tune_process

_HOMES = {
    "Embedder": "panns_jax.infer.api",
    "EventDetector": "panns_jax.infer.event_detector",
    "InputError": "panns_jax.errors",
    "LabelSet": "panns_jax.labels",
    "Model": "panns_jax.models.model",
    "ModelConfig": "panns_jax.models.config",
    "Output": "panns_jax.models.model",
    "PreparedModel": "panns_jax.infer.prepared",
    "Tagger": "panns_jax.infer.api",
    "cache_programs": "panns_jax.process",
    "create_model": "panns_jax.models.registry",
    "create_transfer": "panns_jax.models.transfer",
    "list_models": "panns_jax.models.registry",
    "load_model": "panns_jax.pretrained.load",
    "prepare": "panns_jax.infer.prepared",
    "tune_process": "panns_jax.process",
}

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'panns_jax' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
