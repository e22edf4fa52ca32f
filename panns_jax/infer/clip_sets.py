"""Sets of clips as vectors: from folders of sounds, or from files that hold vectors already."""

import dataclasses
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from panns_jax.errors import InputError
from panns_jax.files import is_folder, require_file
from panns_jax.infer.files import hear_sounds
from panns_jax.infer.listener import Listener
from panns_jax.infer.recipes import SILENT, Recipe
from panns_jax.infer.sources import SoundFile, Source

_FORMS = (".h5", ".hdf5", ".npz")


@dataclasses.dataclass(frozen=True)
class ClipSet:
    """What a model made of many clips.

    Attributes:
      path: where they come from.
      names: of the clips, as paths below the folder that they are in; sorted.
      arrays: by tap, "embedding" and perhaps "logits": a row for each clip.
      silent: names of the clips without sound; None where that cannot be told any more.
      model: whose vectors they are; None where the file does not tell.
      exit_code: 1 where some sounds could not be heard, which were told.
    """

    path: Path
    names: Sequence[str]
    arrays: dict[str, Float[np.ndarray, "clips _"]]
    silent: Sequence[str] | None
    model: str | None
    exit_code: int = 0

    def __len__(self) -> int:
        return len(self.names)


def require_clips(path: Path) -> None:
    """Checks what can be checked of a set before any work is done.

    Raises:
      InputError: there is no such folder or file, no sound in the folder, or the file is none of vectors by its name.
    """
    if is_folder(path):
        if not _sounds_in(path):
            raise InputError(f"{path}: there are no sound files in the folder")
        return
    require_file(path, "a folder of sounds, or a file of vectors")
    if path.suffix.lower() not in _FORMS:
        raise InputError(
            f"{path}: is to be a folder of sounds, or a file of vectors that ends in {' or '.join(_FORMS)}"
        )


def clip_set(path: Path, recipe: Recipe, listener: Callable[[], Listener]) -> ClipSet:
    """The clips of a folder, heard as a recipe has it, or the vectors of a file.

    Args:
      path: a folder of sounds, or what `panns-jax embed` wrote (.h5, .npz).
      recipe: what becomes of sounds.
      listener: gives the model, where it is needed.

    Raises:
      InputError: it is neither, or cannot be read, or no sound of a folder can.
    """
    if is_folder(path):
        return _heard(path, recipe, listener)
    return _read(path, recipe)


def _heard(folder: Path, recipe: Recipe, listener: Callable[[], Listener]) -> ClipSet:
    sources = recipe.of(_sounds_in(folder))
    model = listener()
    kept: list[tuple[str, dict[str, np.ndarray]]] = []
    taps = [tap for tap in recipe.taps if tap != "embedding"]
    with hear_sounds(sources, model, task=f"hearing {folder.name or folder}", taps=taps) as hearing:
        for sound in hearing:
            heard = sound.excerpts[0].heard
            kept.append((sound.source.name, {tap: getattr(heard, tap) for tap in recipe.taps}))
        exit_code = hearing.report()
    names = [Path(name).relative_to(folder).as_posix() for name, _ in kept]
    silent = [source.name for source in sources if source.peak is not None and source.peak < SILENT]
    return ClipSet(
        folder,
        names,
        {tap: np.stack([vectors[tap] for _, vectors in kept]) for tap in recipe.taps},
        [Path(name).relative_to(folder).as_posix() for name in silent],
        model.config.name,
        exit_code,
    )


def _sounds_in(folder: Path) -> list[Source]:
    import soundfile

    extensions = {f".{name.lower()}" for name in soundfile.available_formats()} | {".aif", ".oga", ".opus", ".m4a"}
    paths = [path for path in folder.rglob("*") if path.suffix.lower() in extensions and path.is_file()]
    return [SoundFile(path) for path in sorted(paths, key=lambda path: path.relative_to(folder).as_posix())]


def _read(path: Path, recipe: Recipe) -> ClipSet:
    arrays, model = _content(path)
    missing = [name for name in ("name", "embedding") if name not in arrays]
    if missing:
        raise InputError(f"{path}: has no {' and no '.join(missing)}; vectors are written by panns-jax embed")
    names = [
        name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name) for name in arrays["name"]
    ]
    if not names:
        raise InputError(f"{path}: holds no vectors")
    common = os.path.commonpath([os.path.dirname(name) for name in names]) if names else ""  # noqa: PTH120
    below = [Path(os.path.relpath(name, common or ".")).as_posix() for name in names]
    order = sorted(range(len(names)), key=below.__getitem__)
    wanted = [tap for tap in recipe.taps if tap in arrays]
    return ClipSet(path, [below[i] for i in order], {tap: arrays[tap][order] for tap in wanted}, None, model)


def _content(path: Path) -> tuple[dict[str, np.ndarray], str | None]:
    if path.suffix.lower() in (".h5", ".hdf5"):
        import h5py

        try:
            with h5py.File(path) as file:
                found = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
                return {name: item[()] for name, item in found.items()}, _text(file.attrs.get("model"))
        except OSError as error:
            raise InputError(f"{path}: cannot be read as HDF5: {error}") from error
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as npz: {error}") from error
    return arrays, _text(arrays.get("model"))


def _text(value: object) -> str | None:
    return None if value is None else str(value)
