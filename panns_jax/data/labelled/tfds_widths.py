"""How many bits the samples of a TFDS data set have.

TFDS keeps whole numbers as they are in sound files, as int64 by default, and does not tell their width. It is taken to
be the smallest usual one that holds the loudest of some records from all over the data set: what is of a width rarely
stays 48 dB below its full scale in all of them. Splits of a data set are thereby scaled alike, and so are quiet clips.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Shaped

from panns_jax.data.labelled.tfds_schema import Schema, read_records
from panns_jax.errors import InputError

WIDTHS = (8, 16, 24, 32)
"""Bits that samples may have."""

_LOOKED_AT = 32


@dataclasses.dataclass(frozen=True)
class Width:
    """The width of samples that are whole numbers.

    Attributes:
      bits: one of `WIDTHS`.
      clips: number of records that it was found out by; 0 where it was told.
    """

    bits: int
    clips: int = 0

    def of(self, samples: Shaped[np.ndarray, "..."]) -> int:
        """Bits of the samples of a record: more than those of the data set where they need more, unless told.

        Raises:
          InputError: they need more than were told, or than 32; the message is a part of a sentence.
        """
        needed = _bits(samples)
        if needed > self.bits and not self.clips:
            raise InputError(f"holds whole numbers of {needed} bits, and --tfds-bits tells {self.bits}")
        return max(needed, self.bits)

    def note(self) -> str:
        """What was taken, for the card."""
        if not self.clips:
            return f"samples: whole numbers, of {self.bits} bits as --tfds-bits tells"
        looked = "the one clip" if self.clips == 1 else f"the loudest of {self.clips} clips"
        return f"samples: whole numbers, taken to be of {self.bits} bits by {looked}; --tfds-bits tells another width"


def sample_width(schema: Schema, origin: str, told: int | None = None) -> Width | None:
    """The width of the samples of a data set; None where their type or their files tell their full scale.

    Args:
      schema: of the data set.
      origin: the data set as it was named.
      told: bits, where the user knows.

    Raises:
      InputError: the width is told, and the type tells it already; or it is none.
    """
    if told is not None and told not in WIDTHS:
        raise InputError(f"--tfds-bits must be one of {', '.join(map(str, WIDTHS))}, not {told}")
    found, clips, is_open = WIDTHS[0], 0, False
    for samples in _some(schema, origin):
        if not has_open_width(samples):
            break
        is_open = True
        if told is not None:
            return Width(told)
        with contextlib.suppress(InputError):  # whoever reads it is told
            found, clips = max(found, _bits(samples)), clips + 1
    if told is not None:
        raise InputError(f"{origin}: tells how loud its samples are by their type, so leave out --tfds-bits")
    return Width(found, max(clips, 1)) if is_open else None


def has_open_width(samples: Shaped[np.ndarray, "..."]) -> bool:
    """Whether the type of samples does not tell their full scale, as those of 8 and 16 bits and fractions do."""
    return samples.dtype.kind in "iu" and samples.dtype not in (np.dtype(np.uint8), np.dtype(np.int16))


def _some(schema: Schema, origin: str) -> Iterator[Shaped[np.ndarray, "..."]]:
    """The samples of records from all over the splits; none of those that hold files or cannot be read."""
    for split in schema.splits:
        try:
            source: Any = schema.source(split, (schema.sound,), origin)
        except InputError:
            continue
        count = min(len(source), -(-_LOOKED_AT // len(schema.splits)))
        for number in np.linspace(0, len(source) - 1, count).astype(int).tolist():
            with contextlib.suppress(InputError):
                value = read_records(source, [number])[0][schema.sound]
                if not isinstance(value, bytes) and np.size(value):
                    yield np.asarray(value)


def _bits(samples: Shaped[np.ndarray, "..."]) -> int:
    peak = max(int(samples.max()), -int(samples.min()))
    width = next((bits for bits in WIDTHS if peak <= 1 << (bits - 1)), None)
    if width is None:
        raise InputError("holds whole numbers of more than 32 bits")
    return width
