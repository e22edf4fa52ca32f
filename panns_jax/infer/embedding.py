"""`panns-jax embed`: one vector per sound file, in an HDF5 file."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from panns_jax.errors import InputError
from panns_jax.files import require_parent
from panns_jax.infer.files import SoundFiles, hear_sounds

if TYPE_CHECKING:
    import h5py

    from panns_jax.infer.heard import Heard


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embed(SoundFiles):
    """Writes one vector per sound file: an HDF5 file with `name` (N,) and `embedding` (N, D), in the files' order.

    Each file is heard as a whole. Files that cannot be read are left out and named at the end (exit code 1).
    """

    out: Path
    """The HDF5 file to write, ending in .h5 or .hdf5; one that exists is replaced once the new one is complete."""

    def run(self) -> int:
        """Writes the embeddings of every file; the exit code is 0, or 1 where some files failed.

        Raises:
          InputError: an option cannot be used, the model makes no embedding, or no file could be read.
        """
        from panns_jax.data.hdf5 import require_hdf5_name, writing
        from panns_jax.pretrained.catalogue import require

        require_hdf5_name(self.out)
        require_parent(self.out)
        listener = self.load()
        width = listener.config.embedding_dim
        if width is None:
            raise InputError(f"{listener.config.name} makes no embedding: choose a model with one, such as Cnn14")
        with writing(self.out) as file, hear_sounds(self.sources, listener, task="embedding") as hearing:
            file.attrs["model"] = listener.config.name
            file.attrs["sample_rate"] = listener.config.sample_rate
            file.attrs["checkpoint"] = self.checkpoint.name if self.checkpoint else require(listener.config.name).file
            table = _Table(file, width)
            for sound in hearing:
                table.append(sound.source.name, sound.excerpts[0].heard)
            return hearing.report()


class _Table:
    """`name` and `embedding`, which grow by a row per clip."""

    def __init__(self, file: "h5py.File", width: int) -> None:
        import h5py

        self._names = file.create_dataset("name", (0,), h5py.string_dtype(), maxshape=(None,), chunks=(1024,))
        # Chunks of about 256 kB.
        chunk = (max(1, 65536 // width), width)
        self._vectors = file.create_dataset("embedding", (0, width), "float32", maxshape=(None, width), chunks=chunk)

    def append(self, name: str, heard: "Heard") -> None:
        row = len(self._names)
        self._names.resize(row + 1, axis=0)
        self._vectors.resize(row + 1, axis=0)
        self._names[row] = os.fsencode(name)  # as bytes: a name need not be text
        self._vectors[row] = heard.embedding
