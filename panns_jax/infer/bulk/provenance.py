"""Which weights made the vectors."""

from pathlib import Path
from typing import Any

from panns_jax.files import is_folder, sha256


def weights_told(model: str, checkpoint: Path | None) -> dict[str, Any]:
    """Name of a checkpoint, and the hash of the file that the weights come from where that is known or cheap.

    Args:
      model: its name, which stands for the released checkpoint where no other one is named.
      checkpoint: the one that was named.
    """
    from panns_jax.pretrained.native import is_native, read_provenance

    if checkpoint is None:
        from panns_jax.pretrained.cache import cached_file
        from panns_jax.pretrained.catalogue import require

        released = require(model)
        return {"checkpoint": released.file, "checkpoint_sha256": read_provenance(cached_file(released)).sha256}
    if is_folder(checkpoint) or not checkpoint.exists():  # the best one of a training is no folder
        from panns_jax.pretrained.training import find_checkpoint

        return {"checkpoint": "/".join(find_checkpoint(checkpoint).parts[-2:])}
    source = read_provenance(checkpoint).sha256 if is_native(checkpoint) else sha256(checkpoint)
    return {"checkpoint": checkpoint.name, "checkpoint_sha256": source}
