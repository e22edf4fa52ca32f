"""From labelled clips of any length to batches of one length."""

import dataclasses
import itertools
from collections.abc import Generator
from typing import SupportsIndex

import numpy as np
from jaxtyping import Float, Int

from panns_jax.data.labelled.clips import LabelledSet
from panns_jax.data.labelled.decoded import CACHE_BYTES, Decoded, ahead
from panns_jax.data.labelled.splits import balanced_order
from panns_jax.data.sampling import Sampler, make_sampler
from panns_jax.errors import InputError

Batch = dict[str, np.ndarray]

_ENDLESS = 1 << 62


def clip_waveform(
    waveform: Float[np.ndarray, " length"], samples: int, *, rng: np.random.Generator | None = None
) -> Float[np.ndarray, " samples"]:
    """Cuts a clip to a length, or pads it with zeros at its end.

    Args:
      waveform: of any length.
      samples: of the result.
      rng: where given, as in training, a longer clip is cut at a place that it draws; else in the middle.
    """
    excess = len(waveform) - samples
    if excess <= 0:
        return np.pad(waveform, (0, -excess)) if excess else waveform
    start = excess // 2 if rng is None else int(rng.integers(excess + 1))
    return waveform[start : start + samples]


def evaluation_windows(waveform: Float[np.ndarray, " length"], samples: int) -> Float[np.ndarray, "windows samples"]:
    """The fewest windows of a length that cover a whole clip, evenly spread, and whose predictions are averaged.

    The first begins with the clip, and the last ends with it. A shorter clip is one window, with zeros at its end.
    """
    count = -(-len(waveform) // samples)
    if count <= 1:
        return clip_waveform(waveform, samples)[None]
    starts = np.round(np.linspace(0, len(waveform) - samples, count)).astype(np.int64)
    return np.stack([waveform[start : start + samples] for start in starts])


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingClips:
    """The batches of a training run: an endless sequence, each item of which is a function of the seed and its number.

    Any thread may ask for any batch, so that it is a source for grain, too.

    Attributes:
      decoded: the waveforms.
      rows: those that are trained on.
      sampler: which of `rows` each sample is.
      samples: length of every clip.
      batch_size: clips in a batch.
      seed: of where clips are cut.
    """

    decoded: Decoded
    rows: Int[np.ndarray, " rows"]
    sampler: Sampler
    samples: int
    batch_size: int
    seed: int

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, number: SupportsIndex) -> Batch:
        """Batch of that number: "waveform" (batch_size, samples) float32, "target" (batch_size, classes) float32 of 0
        and 1, and "row" (batch_size,), the rows of the set.

        Raises:
          InputError: a clip cannot be read; the message begins with its name.
        """
        ks = number.__index__() * self.batch_size + np.arange(self.batch_size)
        rows = self.rows[self.sampler.batch(ks)]
        waveform = np.empty((self.batch_size, self.samples), np.float32)
        for place, (k, row) in enumerate(zip(ks, rows, strict=True)):
            rng = np.random.default_rng([self.seed % 2**64, int(k)])
            waveform[place] = clip_waveform(self.decoded.waveform(int(row)), self.samples, rng=rng)
        targets = self.decoded.labelled.take(rows).targets()
        return {"waveform": waveform, "target": targets.astype(np.float32), "row": rows}

    def batches(self, start: int = 0, *, workers: int | None = None) -> Generator[Batch]:
        """The batches from one on, read ahead by threads, which end when the iterator is closed.

        Args:
          start: number of the first one; the same batches follow, wherever a run is taken up.
          workers: number of threads; by default as many as there are processor cores.

        Raises:
          InputError: a clip cannot be read.
        """
        return ahead(self.__getitem__, itertools.count(start), workers=workers)


def training_clips(
    labelled: LabelledSet,
    rows: Int[np.ndarray, " rows"],
    *,
    clip_seconds: float,
    sample_rate: int,
    seed: int,
    batch_size: int = 32,
    balanced: bool = False,
    decoded: Decoded | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> TrainingClips:
    """The batches of a training run over some clips, in shuffled passes, cut at random or padded to one length.

    Args:
      labelled: the clips.
      rows: those that are trained on.
      clip_seconds: length of the clips of a batch.
      sample_rate: samples per second.
      seed: of the order, and of where clips are cut.
      batch_size: clips in a batch.
      balanced: whether classes take turns, instead of clips.
      decoded: the waveforms, where others use them, too.
      cache_bytes: what decoded waveforms may take of memory, where `decoded` is not given.

    Raises:
      InputError: there are no clips, or an option cannot be used.
    """
    samples = round(clip_seconds * sample_rate)
    if samples < 1:
        raise InputError(f"clips must be at least one sample long, such as 5 seconds, not {clip_seconds:g}")
    if batch_size < 1:
        raise InputError(f"a batch must have at least 1 clip, not {batch_size}")
    rows = np.asarray(rows, np.int64)
    targets = labelled.take(rows).targets()
    if not len(rows):
        raise InputError(f"{labelled.origin}: there are no clips to train on")
    order = balanced_order(targets, seed) if balanced else make_sampler("none", targets, seed=seed, batch_rows=1)
    decoded = decoded or Decoded(labelled, sample_rate, cache_bytes=cache_bytes)
    return TrainingClips(decoded, rows, order, samples, batch_size, seed)
