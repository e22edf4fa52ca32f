"""Sets of clips as vectors: from folders of sounds, or from files that hold vectors already."""

import dataclasses
import os
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
from panns_jax.infer.vectors import open_vectors
from panns_jax.infer.vectors.folder import ATTRIBUTES, INDEX
from panns_jax.infer.vectors.table import form_of


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
    if not _holds_vectors(path):
        if not _sounds_in(path):
            raise InputError(f"{path}: there are no sound files in the folder")
    elif not is_folder(path):
        require_file(path, "a folder of sounds, or a file of vectors")
        form_of(path)


def clip_set(path: Path, recipe: Recipe, listener: Callable[[], Listener]) -> ClipSet:
    """The clips of a folder, heard as a recipe has it, or the vectors of a file.

    Args:
      path: a folder of sounds, or what `panns-jax embed` wrote.
      recipe: what becomes of sounds.
      listener: gives the model, where it is needed.

    Raises:
      InputError: it is neither, or cannot be read, or no sound of a folder can.
    """
    return _read(path, recipe) if _holds_vectors(path) else _heard(path, recipe, listener)


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
    known = {name for name, _ in kept}
    silent = [s.name for s in sources if s.name in known and s.peak is not None and s.peak < SILENT]
    return ClipSet(
        folder,
        names,
        {tap: np.stack([vectors[tap] for _, vectors in kept]) for tap in recipe.taps},
        [Path(name).relative_to(folder).as_posix() for name in silent],
        model.config.name,
        exit_code,
    )


def _sounds_in(folder: Path) -> list[Source]:
    from panns_jax.audio import SOUND_EXTENSIONS
    from panns_jax.infer.inputs import sound_files_below

    paths, _ = sound_files_below(folder, lambda name: Path(name).suffix.lower() in SOUND_EXTENSIONS)
    return [SoundFile(path) for path in sorted(paths, key=lambda path: path.relative_to(folder).as_posix())]


def _read(path: Path, recipe: Recipe) -> ClipSet:
    with open_vectors(path) as table:
        missing = [tap for tap in recipe.taps if tap not in table.taps]
        if missing:
            wanted = " ".join(f"--tap {tap}" for tap in recipe.taps)
            raise InputError(f"{path}: has no {' and no '.join(missing)}, which the recipe needs: embed with {wanted}")
        names = list(table.names)
        if not names:
            raise InputError(f"{path}: holds no vectors")
        arrays = {tap: table.read(tap, 0, len(names)) for tap in recipe.taps}
        model = table.attributes.get("model")
    common = os.path.commonpath([os.path.dirname(name) for name in names])  # noqa: PTH120
    below = [Path(os.path.relpath(name, common or ".")).as_posix() for name in names]
    order = sorted(range(len(names)), key=below.__getitem__)
    return ClipSet(path, [below[i] for i in order], {tap: array[order] for tap, array in arrays.items()}, None, model)


def _holds_vectors(path: Path) -> bool:
    return not is_folder(path) or ((path / INDEX).is_file() and (path / ATTRIBUTES).is_file())
