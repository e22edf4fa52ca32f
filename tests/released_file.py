"""A small checkpoint as if it were a released one, and what the library says of it."""

from pathlib import Path
from typing import Any

import pytest

import panns_jax
from panns_jax.errors import InputError
from panns_jax.models.registry import model_config
from panns_jax.pretrained import download

FILE = "DemoCnn_mAP=0.123.pth"
STEP = download.CHUNK
HALF = 20 * STEP


def said(**options: Any) -> str:
    """The sentence with which the model is refused."""
    with pytest.raises(InputError) as refused:
        panns_jax.load_model("DemoCnn", **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def is_loaded() -> bool:
    return panns_jax.load_model("DemoCnn").config == model_config("DemoCnn")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
