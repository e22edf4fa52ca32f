"""`panns-jax convert`: a PyTorch checkpoint to one safe, mapped file."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from panns_jax.errors import InputError
from panns_jax.files import require_parent

if TYPE_CHECKING:
    from panns_jax.pretrained.native import Provenance


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convert:
    """Converts a PyTorch checkpoint (.pth), released or fine-tuned, to a file that carries weights, architecture,
    front-end settings, labels, source and licence. PyTorch is not needed, and nothing that the checkpoint contains is
    run."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SRC.pth")]
    """The checkpoint."""
    destination: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DST.safetensors")]
    """The file to write."""
    model: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Name of the model; needed only where neither the file's name nor its contents tell."""
    force: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Replace DST if it exists."""

    def run(self) -> int:
        from panns_jax.pretrained.native import SUFFIX, is_native

        if self.destination.suffix != SUFFIX:
            raise InputError(f"{self.destination}: the converted file must be named *{SUFFIX}")
        require_parent(self.destination)
        if is_native(self.source):
            raise InputError(f"{self.source}: begins as a converted file does, not as a .pth file")
        if self.destination.exists():
            if self.destination.samefile(self.source):
                raise InputError(f"{self.destination} is the checkpoint to convert; name another file to write")
            if not self.force:
                raise InputError(f"{self.destination} exists already; --force replaces it")
        print(convert_file(self.source, self.destination, self.model))
        return 0


def convert_file(source: Path, destination: Path, model: str | None = None) -> str:
    """Converts `source` (.pth) to `destination`, and says in a line what it was.

    Raises:
      InputError: `source` is no checkpoint, damaged or of another model; or `destination` cannot be written.
    """
    from panns_jax.pretrained.load import read_published
    from panns_jax.pretrained.native import write_native

    config, arrays = read_published(source, model)
    provenance = provenance_of(source)
    write_native(destination, config, arrays, provenance)
    numbers = sum(array.size for array in arrays.values())
    return (
        f"{destination}: {config.name}, {numbers:,} weights and statistics, {config.num_classes} classes"
        f" ({config.labels.task}), licence {provenance.licence}"
    )


def provenance_of(source: Path) -> "Provenance":
    """What is known of where the weights of a `.pth` file come from."""
    from panns_jax.files import sha256
    from panns_jax.pretrained import catalogue
    from panns_jax.pretrained.native import Provenance

    licence = catalogue.LICENCE if catalogue.identified(source) else "unknown: that of the source file"
    return Provenance(source.name, sha256(source), licence)
