"""The compiled programs by which a listener runs its model: few, whatever it hears."""

import collections
import functools
from collections.abc import Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from panns_jax.errors import InputError
from panns_jax.infer.prepared import Memory, PreparedModel, prepare
from panns_jax.infer.rows import Rows, Steps, steps
from panns_jax.infer.tape import Tape
from panns_jax.models.config import Output
from panns_jax.models.model import Model
from panns_jax.process import give_back_memory, memory_in_use

# Seconds of sound, in rows of one shape, after which a prepared model repays. Its program for Cnn14 takes about 10 s
# longer to compile than a plain one, and saves about 15 ms per second of sound: who prepares once as much could have
# been saved as it costs never takes more than twice the time of who knew beforehand how much there is to hear.
REPAYS = 600.0

# Lengths of sounds that get rows as long as they are; all others share those of a few lengths.
_OWN_LENGTHS = 3

# Seconds of the shorter tapes that little sound is laid on.
_SHORT_TAPES = (2.6, 5.2, 10.3, 30.8)

# Seconds of sound that may be heard for nothing on tapes that are longer than need be, for one that would do, before a
# program is compiled for that one: it takes as long as some minutes of sound.
_IN_VAIN = 120.0

# Bytes by which the process may grow before what is free is given back.
_GROWS = 256 << 20

# Sounds classified at once.
_CLASSIFIED = 16


class Programs:
    """Runs a model on rows, by a plain program at first and by that of the prepared model once it repays.

    Args:
      model: in evaluation mode.
      memory: of the prepared model.
    """

    def __init__(self, model: Model, memory: Memory) -> None:
        self.config = model.config
        self._memory: Memory = memory
        self._graph, self._state = nnx.split(model)
        self._heard: collections.Counter[tuple[int, int]] = collections.Counter()
        self._lengths: set[int] = set()
        self._in_vain: collections.Counter[int] = collections.Counter()
        self._prepared_for: set[tuple[int, int]] = set()
        self._small = memory_in_use()

    def has_own_rows(self, samples: int) -> bool:
        """Whether sounds of this length get rows as long as they are."""
        if len(self._lengths) < _OWN_LENGTHS:
            self._lengths.add(samples)
        return samples in self._lengths

    def bins(self, needed: int, most: int, bin_size: int) -> int:
        """Bins of the tape that is to be taken where so many are needed, and there is one tape to hear."""
        short = [round(seconds * self.config.sample_rate / bin_size) for seconds in _SHORT_TAPES]
        fitting = [*(bins for bins in short if needed <= bins < most), most]
        best = fitting[0]
        heard = next((bins for bins in fitting if self._heard[1, bins * bin_size]), best)
        # As at the end of a long recording: the tape that its other parts were heard on has a program already.
        self._in_vain[best] += (heard - best) * bin_size
        return heard if self._in_vain[best] <= _IN_VAIN * self.config.sample_rate else best

    def steps(
        self, tapes: Sequence[Tape], samples: int, names: Collection[str], expected: float
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Runs the model on tapes, up to where it pools over time.

        Args:
          tapes: what lies on the rows.
          samples: of a row.
          names: what of `Local` is wanted.
          expected: seconds of sound that are to come, about.

        Returns:
          (rows, steps, …) by name, and, for each bin of a row, the number of steps of the clip that begins there.
        """
        rows = _rows(tapes, samples)
        shape = len(tapes), samples
        seconds = len(tapes) * samples / self.config.sample_rate
        repays = seconds * self._heard[shape] >= REPAYS or expected >= REPAYS
        self._heard[shape] += 1
        if repays and self._prepared is not None:
            made = self._prepared.steps(rows, names)
        else:
            made = _steps(self._graph, self._state, rows, tuple(sorted(names)))
        values = {name: np.asarray(values) for name, values in made.values.items()}
        self._give_back_memory(shape, prepared=repays)
        return values, np.asarray(made.lengths)

    def _give_back_memory(self, shape: tuple[int, int], *, prepared: bool) -> None:
        """Keeps the process small.

        What was free while weights were transformed lies between them, of use to nothing. And room that is kept for the
        next tape becomes too narrow as soon as anything else lies in it, so that the process grows by another one: it
        is given back then, or at once where memory is to be low. To have it cleared again takes a fiftieth of the time.
        """
        first = prepared and shape not in self._prepared_for
        if prepared:
            self._prepared_for.add(shape)
        if self._memory == "low" or first or memory_in_use() > self._small + _GROWS:
            give_back_memory()
            self._small = memory_in_use()

    def classify(self, pooled: Sequence[Float[np.ndarray, " channels"]]) -> list[dict[str, np.ndarray]]:
        """Runs the head of a model that is not decision-level, on the maximum + mean over time of each sound.

        Returns:
          clipwise, embedding, logits and pooled of each sound, each of them one vector.
        """
        made = []
        for first in range(0, len(pooled), _CLASSIFIED):
            some = np.stack(pooled[first : first + _CLASSIFIED])
            padded = np.pad(some, ((0, _CLASSIFIED - len(some)), (0, 0)))
            output = _classify(self._graph, self._state, padded)
            arrays = {name: np.asarray(getattr(output, name)) for name in ("clipwise", "embedding", "logits", "pooled")}
            made += [{name: array[i] for name, array in arrays.items()} for i in range(len(some))]
        return made

    @functools.cached_property
    def _prepared(self) -> PreparedModel | None:
        return prepared_where_faster(nnx.merge(self._graph, self._state), self._memory)


def _rows(tapes: Sequence[Tape], samples: int) -> Rows:
    bin_size = tapes[0].layout.view.step
    spans = [tape.spans(-(-samples // bin_size)) for tape in tapes]
    return Rows(
        np.stack([tape.waveform(samples) for tape in tapes]),
        np.stack([lengths for _, lengths in spans]),
        np.stack([starts for starts, _ in spans]),
        bin_size,
    )


@functools.partial(jax.jit, static_argnums=(0, 3))
def _steps(graph: nnx.GraphDef[Model], state: Any, rows: Rows, names: tuple[str, ...]) -> Steps:
    return steps(nnx.merge(graph, state), rows, names)


@functools.partial(jax.jit, static_argnums=0)
def _classify(graph: nnx.GraphDef[Model], state: Any, pooled: Float[Array | np.ndarray, "clips channels"]) -> Output:
    model = nnx.merge(graph, state)
    return model.config.head.classify(model, jnp.asarray(pooled))


def prepared_where_faster(model: Model, memory: Memory = "fast") -> PreparedModel | None:
    """The prepared model; None on GPU and TPU, and where this processor is slower in the model's precision."""
    if jax.default_backend() != "cpu":
        return None
    try:
        return prepare(model, memory=memory)
    except InputError:  # bfloat16, for which the processor has no instructions
        return None
