"""Sounds of all lengths on tapes of one length: one compiled program for all of them, and little silence between.

A tape is a row of waveform that lasts for a whole number of a model's time steps, its bins. Sounds lie on it one behind
the other, each from the beginning of a bin, so that its steps are those that it has alone; and as far from the next one
as any layer looks beyond its end, where the layers put what they pad a single clip with. What is longer than a tape
comes in parts that overlap by what a step sees, and the steps that see an end of a part which is none of the sound's
are left out. So every step is that of one pass over the whole sound, up to rounding.
"""

import dataclasses
import functools
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int

from panns_jax.models.abstract import abstract_model
from panns_jax.models.clips import Clips, View, reaches
from panns_jax.models.config import ModelConfig
from panns_jax.models.summary import reads_logmel

# How many lengths are looked at to tell how much room each takes; those between count as the next longer one.
_LENGTHS = 8192


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """What a model asks of tapes.

    Attributes:
      config: of the model.
      tape: samples of the longest tape.
      view: of the model's time steps.
    """

    config: ModelConfig
    tape: int
    view: View

    @property
    def least(self) -> int:
        """Samples that a clip has at least; shorter ones are padded with zeros."""
        return self.config.min_samples

    @functools.cached_property
    def edge(self) -> int:
        """Samples by which clips are reflected at both ends, for the front end; 0 for networks over waveforms."""
        return self.config.frontend.window_size // 2 if reads_logmel(self.config) else 0

    def bins_with_gap(self, samples: int) -> int:
        """Bins from the beginning of a clip to the next one's."""
        return self._bins(max(self._room.reach_of(self.padded(samples)), self.padded(samples) + 2 * self.edge))

    def bins(self, samples: int) -> int:
        """Bins of a tape that a clip takes up if nothing comes after it."""
        return self._bins(max(self._room.extent_of(self.padded(samples)), self.padded(samples) + self.edge))

    def surely_fits(self, samples: int, bins: int) -> bool:
        """Whether `bins(samples)` is at most `bins`, without a look at the layers; where in doubt, False."""
        return self._bins(self.padded(samples) + self.view.receptive_field + 2 * self.edge) < bins

    def padded(self, samples: int) -> int:
        """Samples of a clip once it is padded to the least."""
        return max(samples, self.least)

    @functools.cached_property
    def _room(self) -> "_Room":  # looked at where something shares a tape, which a single clip does not
        return _room(self.config, self.view.step, self.tape)

    def _bins(self, samples: int) -> int:
        return -(-samples // self.view.step)

    @property
    def dropped_before(self) -> int:
        """Steps at the beginning of a part that see its beginning."""
        # What two parts have in common must be long enough to be heard: the last part may be no longer.
        least = -(-self.least // self.view.step) - self.dropped_after
        return max(-(-self.view.before // self.view.step), least)

    @property
    def dropped_after(self) -> int:
        """Steps at the end of a part that see its end."""
        return -(-self.view.after // self.view.step)


@functools.lru_cache(maxsize=64)
def layout(config: ModelConfig, bins: int) -> Layout:
    """What a model asks of tapes of up to so many bins; it is looked at, not run."""
    view = view_of(config)
    return Layout(config, bins * view.step, view)


@dataclasses.dataclass(frozen=True, eq=False)
class _Room:
    """How much of a tape clips take up.

    Attributes:
      part: samples from one length to the next of those that the following are told of, from 0 on.
      reach: (lengths,), the sample behind all that the layers hold of a clip and look at beyond its end.
      extent: likewise, of what they hold alone.
    """

    part: int
    reach: Int[np.ndarray, " lengths"]
    extent: Int[np.ndarray, " lengths"]

    def reach_of(self, samples: int) -> int:
        return int(self.reach[-(-samples // self.part)])

    def extent_of(self, samples: int) -> int:
        return int(self.extent[-(-samples // self.part)])


def _room(config: ModelConfig, step: int, tape: int) -> _Room:
    model = abstract_model(config)
    model.eval()
    graph, state = nnx.split(model)
    part = -(-tape // _LENGTHS)
    lengths = np.maximum(np.arange(_LENGTHS + 1) * part, config.min_samples)

    def run(state: object) -> None:
        waveform = jnp.zeros((len(lengths), int(lengths.max())))
        nnx.merge(graph, state).local(Clips(waveform, lengths))

    with reaches() as seen:
        jax.eval_shape(run, state)
    extent = np.max([np.asarray(own) * step for step, own, _ in seen], axis=0)
    reach = np.max([(np.asarray(own) + padding) * step for step, own, padding in seen], axis=0)
    return _Room(part, reach, extent)


@functools.lru_cache(maxsize=64)
def view_of(config: ModelConfig) -> View:
    """What a step of what a model makes before it pools over time stands for."""
    model = abstract_model(config)
    model.eval()
    graph, state = nnx.split(model)
    views: list[View] = []

    def run(state: object) -> None:
        local = nnx.merge(graph, state).local(Clips(jnp.zeros((1, config.min_samples))))
        views.append((local.logits or local.frames).view)

    jax.eval_shape(run, state)
    return views[0]


@dataclasses.dataclass(frozen=True)
class Part:
    """A sound, or a part of one.

    Attributes:
      sound: number of the sound.
      number: of the part in the sound.
      waveform: its samples.
      first: steps at its beginning that are left out.
      last: the step from which on they are left out; None for none.
      ends: whether the sound ends with it.
    """

    sound: int
    number: int
    waveform: Float[np.ndarray, " samples"]
    first: int = 0
    last: int | None = None
    ends: bool = True


def parts_of(sound: int, blocks: Iterable[Float[np.ndarray, "_"]], layout: Layout, bins: int) -> Iterator[Part]:
    """Parts of a sound that comes in blocks, none of them longer than a tape of so many bins."""
    most = bins * layout.view.step
    waiting: list[np.ndarray] = []
    held, first, number = 0, 0, 0

    def cut(whole: np.ndarray, bins: int) -> tuple[Part, np.ndarray]:
        """The first so many bins of a sound, and what the next part begins with."""
        kept = bins - layout.dropped_after
        part = Part(sound, number, whole[: bins * layout.view.step], first, kept, ends=False)
        return part, whole[(kept - layout.dropped_before) * layout.view.step :]

    for block in blocks:
        waiting.append(block)
        held += len(block)
        if held <= most:
            continue
        whole = np.concatenate(waiting)
        while len(whole) > most:
            part, whole = cut(whole, bins)
            yield part
            first, number = layout.dropped_before, number + 1
        waiting, held = [whole], len(whole)
    whole = np.concatenate([np.zeros(0, np.float32), *waiting])
    fits = len(whole) == most or layout.surely_fits(len(whole), bins) or layout.bins(len(whole)) <= bins
    if not fits:  # what stands behind its end has no room
        part, whole = cut(whole, bins - 1)
        yield part
        first, number = layout.dropped_before, number + 1
    yield Part(sound, number, whole, first)


@dataclasses.dataclass
class Tape:
    """A tape and what lies on it.

    Attributes:
      layout: what the model asks of tapes.
      bins: of the tape.
      laid: the parts that lie on it, and the bin where each begins.
    """

    layout: Layout
    bins: int
    laid: list[tuple[Part, int]] = dataclasses.field(default_factory=list)

    def holds(self, samples: int) -> bool:
        """Whether there is room for a part of so many samples."""
        # One that fills the tape ends with it, as a single clip does.
        room = self.bins - self._free
        return self.layout.bins(samples) <= room or (samples == room * self.layout.view.step and not self.laid)

    def lay(self, part: Part) -> None:
        """Puts a part behind the others."""
        self.laid.append((part, self._free))

    @property
    def _free(self) -> int:
        """The first bin that the next part may begin at."""
        if not self.laid:
            return 0
        part, first_bin = self.laid[-1]
        return first_bin + self.layout.bins_with_gap(len(part.waveform))

    @property
    def needed(self) -> int:
        """Bins that are taken up."""
        return 0 if not self.laid else self.laid[-1][1] + self.layout.bins(len(self.laid[-1][0].waveform))

    def waveform(self, samples: int) -> Float[np.ndarray, " samples"]:
        """The tape as a row of so many samples."""
        row = np.zeros(samples, np.float32)
        step, edge = self.layout.view.step, self.layout.edge
        for part, first_bin in self.laid:
            clip = part.waveform
            if len(clip) < self.layout.least:
                clip = np.pad(clip, (0, self.layout.least - len(clip)))
            start = first_bin * step
            end = start + len(clip)
            row[start:end] = clip
            # The front end itself reflects at the ends of the row.
            if edge and start:
                row[start - edge : start] = clip[edge:0:-1]
            if edge and end < samples:
                row[end : end + edge] = clip[-2 : -edge - 2 : -1]
        return row

    def spans(self, bins: int) -> tuple[Int[np.ndarray, " bins"], Int[np.ndarray, " bins"]]:
        """The first sample and the number of samples of the part that each bin belongs to; 0 for bins of none."""
        starts, lengths = np.zeros(bins, np.int32), np.zeros(bins, np.int32)
        for number, (part, first_bin) in enumerate(self.laid):
            samples = len(part.waveform)
            if number + 1 < len(self.laid):
                end = self.laid[number + 1][1]
            else:
                end = bins if self._ends_with(part, first_bin) else first_bin + self.layout.bins_with_gap(samples)
            starts[first_bin:end] = first_bin * self.layout.view.step
            lengths[first_bin:end] = max(samples, self.layout.least)
        return starts, lengths

    def _ends_with(self, part: Part, first_bin: int) -> bool:
        """Whether a part fills the tape to its last bin."""
        return first_bin + -(-self.layout.padded(len(part.waveform)) // self.layout.view.step) >= self.bins
