"""`panns-jax merge`: the outputs of all shards of `panns-jax embed`, as one."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from panns_jax.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Merge:
    """Joins what panns-jax embed --shard wrote: the rows of all shards, in the order of the whole list of files.

    All shards must be there, each once, made from one list with the same options.
    """

    shards: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SHARD...", help_behavior_hint="")]
    """The outputs of all shards, in any order and form."""
    out: Path
    """The file to write, ending in .h5, .npz or .parquet; or a folder, for an .npy file per sound."""

    def run(self) -> int:
        """Writes the output.

        Raises:
          InputError: a shard cannot be read, is missing or there twice, or does not fit the others.
        """
        from panns_jax.infer.vectors.joined import JoinedTable
        from panns_jax.infer.vectors.writing import require_writable, write_vectors

        if not self.shards:
            raise InputError("name the outputs of all shards")
        if self.out.absolute() in [shard.absolute() for shard in self.shards]:
            raise InputError(f"--out {self.out} is one of the shards; name another file")
        require_writable(self.out)
        with JoinedTable(self.shards) as table:
            write_vectors(table, self.out)
        failed, files = (int(table.attributes.get(name, 0)) for name in ("failed", "files"))
        print(f"joined {len(self.shards)} shards: {files - failed} of {files} files are in {self.out}")
        return 0
