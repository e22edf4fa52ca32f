"""Converted checkpoints: one safetensors file with everything that a model needs, mapped instead of parsed.

The arrays have our paths and layouts (`conv_block1.conv1.kernel`, HWIO), so that nothing is rearranged on loading. The
header's only metadata entry, `panns_jax`, is a JSON object:

    format      1
    model       architecture, front-end settings and label set, as `ModelConfig.to_json` gives them
    source      {"file", "sha256"} of the file that was converted
    licence     of the weights
    converter   "panns_jax 0.1.0", what wrote the file

The same source gives the same bytes, with the same version.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from panns_jax.errors import InputError
from panns_jax.files import require_file, written_aside
from panns_jax.models.config import ModelConfig
from panns_jax.models.model import Model
from panns_jax.pretrained.faults import Faults, check_numbers, check_shapes
from panns_jax.pretrained.rules import entries, filled_model
from panns_jax.pretrained.vocabulary import printable

SUFFIX = ".safetensors"
_KEY = "panns_jax"
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where weights come from.

    Attributes:
      file: name of the source file, without its folder.
      sha256: hexadecimal digest of its content.
      licence: of the weights.
    """

    file: str
    sha256: str
    licence: str


def write_native(
    path: str | os.PathLike[str], config: ModelConfig, arrays: Mapping[str, np.ndarray], provenance: Provenance
) -> None:
    """Writes a converted checkpoint, whole or not at all.

    Args:
      path: the file to write.
      config: the model.
      arrays: all of its arrays by `rules.Entry.ours`, float32.
      provenance: where they come from.

    Raises:
      InputError: the file cannot be written.
    """
    description = {
        "format": _FORMAT,
        "model": config.to_json(),
        "source": {"file": provenance.file, "sha256": provenance.sha256},
        "licence": provenance.licence,
        "converter": f"panns_jax {version('panns_jax')}",
    }
    # One entry: safetensors writes several in no certain order.
    metadata = {_KEY: json.dumps(description, sort_keys=True)}
    with written_aside(path) as aside:
        try:
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, aside, metadata)
        except (OSError, SafetensorError) as error:
            raise InputError(f"cannot write {path}: {error}") from error


def is_native(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a safetensors file does, whatever its name.

    Raises:
      InputError: it is missing or cannot be read.
    """
    require_file(path, "a checkpoint")
    try:
        with Path(path).open("rb") as file:
            return file.read(9)[8:] == b"{"  # the length of a JSON object in 8 bytes, then the object
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def read_native(path: str | os.PathLike[str]) -> Model:
    """Loads a converted checkpoint.

    Args:
      path: what `write_native` wrote.

    Returns:
      The model, in evaluation mode.

    Raises:
      InputError: the file is missing, damaged, foreign, of a later format, or its arrays do not fit its model; all
        that is wrong with them is listed.
    """
    path = Path(path)
    require_file(path, "a converted checkpoint")
    faults = Faults()
    weights: dict[str, np.ndarray] = {}
    try:
        with safe_open(path, framework="numpy") as file:
            config = _config(path, file.metadata())
            wanted = {entry.ours: entry.our_shape for entry in entries(config)}
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            shapes = {name: tuple(part.get_shape()) for name, part in parts.items()}
            check_shapes(shapes, wanted, faults)
            for name, part in parts.items():
                if part.get_dtype() != "F32":
                    faults.add("not float32", f"{printable(name)} ({part.get_dtype()})")
                elif shapes[name] == wanted.get(name):
                    weights[name] = file.get_tensor(name)
                    check_numbers(name, weights[name], faults)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: is damaged, or no converted checkpoint: {printable(str(error))}") from error
    faults.require_none(f"{path} does not fit {config.name}")
    return filled_model(config, weights)


def _config(path: Path, metadata: Mapping[str, str] | None) -> ModelConfig:
    if metadata is None or _KEY not in metadata:
        raise InputError(f"{path}: was not written by panns-jax convert: its header does not describe a model")
    try:
        description: Any = json.loads(metadata[_KEY])
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is damaged: the description of the model is no JSON") from error
    if not isinstance(description, dict) or description.get("format") != _FORMAT:
        found = description.get("format") if isinstance(description, dict) else None
        shown = found if isinstance(found, int) else "unknown"
        raise InputError(f"{path}: is in format {shown}; this version of panns_jax reads format {_FORMAT}")
    return ModelConfig.from_json(description.get("model"), str(path))


def read_provenance(path: str | os.PathLike[str]) -> Provenance:
    """What a converted checkpoint was made of; its arrays are not looked at.

    Raises:
      InputError: the file is missing, cut short, or was not written by `write_native`.
    """
    path = Path(path)
    require_file(path, "a converted checkpoint")
    try:
        with safe_open(path, framework="numpy") as file:
            description: Any = json.loads((file.metadata() or {}).get(_KEY, "null"))
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is damaged, or no converted checkpoint: {printable(str(error))}") from error
    match description:
        case {"source": {"file": str() as file_name, "sha256": str() as digest}, "licence": str() as licence}:
            return Provenance(file_name, digest, licence)
    raise InputError(f"{path}: was not written by panns-jax convert: its header does not tell a source")
