"""`panns-jax fetch`: released checkpoints, ahead of their use, as for a machine without a network."""

import dataclasses
import sys
from typing import Annotated

import tyro

from panns_jax.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fetch:
    """Downloads the released checkpoints of models, compares them with what is known of them, and converts them.

    What is there already is only told. The printed files are complete: on a machine without a network, they lie in its
    own cache folder (PANNS_JAX_CACHE) or are named by --checkpoint. Models that fail are named at the end (exit code
    1), and the others done.
    """

    models: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MODEL...", help_behavior_hint="")]
    """Names of the models, such as Cnn14."""
    mirror: Annotated[str | None, tyro.conf.arg(metavar="URL", help_behavior_hint="")] = None
    """Where released files are downloaded from, in place of their own record: a folder that has them under their names.
    The environment variable PANNS_JAX_MIRROR does the same."""

    def run(self) -> int:
        """Prints where each file is, its hash, licence and what to cite; the exit code is 0, or 1 where some failed.

        Raises:
          InputError: no model is named, or all failed.
        """
        if not self.models:
            raise InputError("name at least one model, such as Cnn14")
        failures = []
        for name in self.models:
            try:
                print(_fetched(name, self.mirror), flush=True)
            except InputError as error:
                failures.append(str(error))
        if len(failures) == len(self.models):
            raise InputError("\n  ".join(failures))
        for failure in failures:
            print(f"left out: {failure}", file=sys.stderr)
        return 1 if failures else 0


def _fetched(name: str, mirror: str | None) -> str:
    from panns_jax.models.registry import model_config
    from panns_jax.pretrained import catalogue
    from panns_jax.pretrained.cache import fetch
    from panns_jax.pretrained.native import read_provenance
    from panns_jax.pretrained.paper import CITATION

    released = catalogue.require(model_config(name).name)
    path = fetch(released, mirror)
    provenance = read_provenance(path)
    if released.sha256 == provenance.sha256:
        known = "as the catalogue has it"
    elif released.md5 is not None:
        known = "its md5 is as the catalogue has it"
    else:
        known = "no hash is known to compare with; its entries are those of the model"
    return (
        f"{path}: {name}, converted from {provenance.file}\n"
        f"  sha256 of {provenance.file}: {provenance.sha256} ({known})\n"
        f"  licence {provenance.licence} ({catalogue.RECORD}); cite: {CITATION}"
    )
