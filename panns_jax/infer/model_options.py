"""The options that name a model."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model is run, and how it computes."""

    model: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Name of the architecture, for checkpoints that do not tell it. Without a checkpoint, the released one of this
    model (Cnn14 where none is named) is downloaded the first time, and kept."""
    checkpoint: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """Converted file, published .pth or training checkpoint."""
    mirror: Annotated[str | None, tyro.conf.arg(metavar="URL", help_behavior_hint="")] = None
    """Where released files are downloaded from, in place of their own record: a folder that has them under their names.
    The environment variable PANNS_JAX_MIRROR does the same."""
    precision: Literal["float32", "tf32", "bfloat16", "bf16"] = "float32"
    """What the body of the model computes in; tf32 is float32 with faster products on GPUs that have them, bf16 is
    bfloat16. Front end and head always compute in float32."""
