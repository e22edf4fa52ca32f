"""Converted checkpoints: one safetensors file with everything that a model needs, mapped instead of parsed.

The arrays have our paths and layouts (`conv_block1.conv1.kernel`, HWIO), so that nothing is rearranged on loading; on a
CPU they are not even copied: those whose place in the file JAX's alignment allows, nearly all, are the model's weights
as they lie in the mapped file. Several processes then share them. A file may be replaced while it is used, as all our
commands do, but not be overwritten in place.

The header's only metadata entry, `panns_jax`, is a JSON object:

    format      1
    model       architecture, front-end settings and label set, as `ModelConfig.to_json` gives them
    source      {"file", "sha256"} of the file that was converted
    licence     of the weights
    converter   "panns_jax 0.1.0", what wrote the file

The same source gives the same bytes, with the same version.
"""

import contextlib
import dataclasses
import json
import mmap
import os
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

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
# Of arrays that JAX takes without a copy, in bytes.
_ALIGNMENT = 64


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
    with written_aside(path) as aside:
        _write(aside, {_KEY: json.dumps(description, sort_keys=True)}, arrays)


def _write(path: Path, metadata: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a safetensors file array by array, where the library would hold all of them as bytes at once.

    Content and first arrays begin at multiples of what JAX takes without a copy.
    """
    names = sorted(arrays, key=lambda name: (arrays[name].nbytes % _ALIGNMENT != 0, name))
    ends = np.cumsum([arrays[name].nbytes for name in names]).tolist()
    header: dict[str, Any] = {"__metadata__": metadata}
    for name, start, end in zip(names, [0, *ends], ends, strict=False):
        header[name] = {"dtype": "F32", "shape": arrays[name].shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            file.write(np.ascontiguousarray(arrays[name], "<f4").data)


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
    faults = Faults()
    with _opened(path) as file:
        config = _config(path, file)
        wanted = {entry.ours: entry.our_shape for entry in entries(config)}
        parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        check_shapes({name: tuple(part.get_shape()) for name, part in parts.items()}, wanted, faults)
        for name, part in parts.items():
            if part.get_dtype() != "F32":
                faults.add("not float32", f"{printable(name)} ({part.get_dtype()})")
        fitting = {name for name, part in parts.items() if part.get_dtype() == "F32" and name in wanted}
        weights = _mapped(path, {name: tuple(parts[name].get_shape()) for name in fitting})
    for name, array in weights.items():
        if array.shape == wanted[name]:
            check_numbers(name, array, faults)
    faults.require_none(f"{path} does not fit {config.name}")
    return filled_model(config, weights, copy=False)


def read_config(path: str | os.PathLike[str]) -> ModelConfig:
    """The model whose weights a converted checkpoint holds.

    Raises:
      InputError: as `read_native`; the arrays are not looked at.
    """
    path = Path(path)
    with _opened(path) as file:
        return _config(path, file)


def _config(path: Path, file: Any) -> ModelConfig:
    return ModelConfig.from_json(_description(path, file).get("model"), str(path))


def read_provenance(path: str | os.PathLike[str]) -> Provenance:
    """Where the weights of a converted checkpoint come from.

    Raises:
      InputError: as `read_native`, or the file does not tell.
    """
    path = Path(path)
    with _opened(path) as file:
        match _description(path, file):
            case {"source": {"file": str() as name, "sha256": str() as sha256}, "licence": str() as licence}:
                return Provenance(printable(name), printable(sha256), printable(licence))
    raise InputError(f"{path}: is damaged: it does not tell where its weights come from")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file as safetensors reads it, which finds all that is wrong with the format."""
    require_file(path, "a converted checkpoint")
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: is damaged, or no converted checkpoint: {printable(str(error))}") from error


def _mapped(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The float32 arrays of a file that was found in order, by name: read-only, and mapped."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))[8 + size :]
    return {name: np.ndarray(shapes[name], "<f4", content[slice(*header[name]["data_offsets"])]) for name in shapes}


def _description(path: Path, file: Any) -> dict[str, Any]:
    """What the header tells, of the format that this version reads."""
    metadata: Mapping[str, str] | None = file.metadata()
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
    return description
