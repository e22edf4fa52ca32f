"""Models run on clips that lie in rows, up to where they pool over time."""

import dataclasses
import functools
from collections.abc import Collection
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from numpy import ndarray

from panns_jax.models.clips import Clips
from panns_jax.models.model import Model


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=("waveform", "lengths", "starts"), meta_fields=("bin_size",)
)
@dataclasses.dataclass(frozen=True)
class Rows:
    """Clips in rows, as `Clips` describes them.

    Attributes:
      waveform: the rows.
      lengths: samples of the clip that each bin belongs to.
      starts: its first sample.
      bin_size: samples of a bin.
    """

    waveform: Float[Array | ndarray, "rows samples"]
    lengths: Int[Array | ndarray, "rows bins"]
    starts: Int[Array | ndarray, "rows bins"]
    bin_size: int


class Steps(NamedTuple):
    """What a model makes of the time steps of clips in rows.

    Attributes:
      values: (rows, steps, …), by their names in `Local`.
      lengths: number of steps of the clip that each bin belongs to; they begin with the step of the clip's first bin.
    """

    values: dict[str, Float[Array, "rows steps _"]]
    lengths: Int[Array, "rows bins"]


def steps(model: Model, rows: Rows, names: Collection[str]) -> Steps:
    """Runs a model on clips in rows, up to where it pools over time.

    Args:
      model: in evaluation mode.
      rows: the clips.
      names: what of `Local` is wanted; what the model does not make is left out.
    """
    waveform, starts = jnp.asarray(rows.waveform), jnp.asarray(rows.starts)
    clips = Clips(waveform, rows.lengths, starts=starts, bin_size=rows.bin_size)
    local = model.local(clips)
    values = {name: clips for name, clips in local._asdict().items() if name in names and clips is not None}
    lengths = (local.logits or local.frames).lengths
    assert lengths is not None
    return Steps({name: clips.values for name, clips in values.items()}, jnp.asarray(lengths))
