"""Long sounds in parts of one length."""

import dataclasses
import math
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float

from panns_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Windows:
    """Parts of a sound that a model hears one by one.

    The last part ends with the sound, and is shorter where the sound ends amidst it.

    Attributes:
      length: of a part, seconds.
      hop: from the beginning of a part to that of the next, seconds; at most `length`, so that nothing goes unheard.

    Raises:
      InputError: a length is not above 0, or the hop is longer than the window.
    """

    length: float
    hop: float

    def __post_init__(self) -> None:
        if not 0 < self.hop <= self.length < float("inf"):
            raise InputError(
                f"a window of {self.length:g} s every {self.hop:g} s cannot be: the hop must be above 0, and at most"
                " the window"
            )

    def cut(
        self, blocks: Iterable[Float[np.ndarray, "_"]], sample_rate: int
    ) -> Iterator[tuple[int, Float[np.ndarray, "_"]]]:
        """Cuts a sound that comes in blocks.

        Yields:
          The first sample of each part, and its samples.
        """
        # Rounded up: places are rounded to whole samples, and none may lie between two windows.
        length = math.ceil(round(self.length * sample_rate, 6))
        number, first, held = 0, 0, np.zeros(0, np.float32)
        for block in blocks:
            held = np.concatenate([held, block])
            # One sample more than a part: else the part may be the last one, and nothing may come after it.
            while len(held) > length:
                yield first, held[:length]
                number += 1
                # The places follow from their number, so that they do not drift where a hop is no whole number.
                step = max(1, round(number * self.hop * sample_rate) - first)
                first, held = first + step, held[step:]
        if len(held):
            yield first, held
