"""Sounds that are records of a TFDS data set."""

import dataclasses
import functools
import hashlib
import io
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from panns_jax.audio import Reading, resample
from panns_jax.data.labelled.sounds import Native
from panns_jax.data.labelled.tfds_schema import RATE_FEATURE, Schema, read_records
from panns_jax.data.labelled.tfds_widths import WIDTHS, Width
from panns_jax.errors import InputError
from panns_jax.streams import stream_blocks


def name_of_split(origin: str, split: str) -> str:
    """A split of a data set that was named with it or without."""
    return origin if origin.endswith(f":{split}") else f"{origin}:{split}"


class Records:
    """The records of a split that hold sounds; for any thread.

    Attributes:
      schema: of the data set.
      split: their split.
      origin: the data set as it was named.
      width: that of the samples, where their type does not tell it.
    """

    def __init__(
        self, schema: Schema, split: str, *, origin: str, sample_rate: int | None, width: Width | None = None
    ) -> None:
        """Nothing is read yet.

        Args:
          schema: of the data set.
          split: whose records.
          origin: the data set as it was named.
          sample_rate: where the data set does not tell its own.
          width: that of the samples; by default what each record needs, where their type does not tell it.
        """
        self.schema = schema
        self.split = split
        self.origin = origin
        self.width = width
        self._sample_rate = sample_rate
        self._lock = threading.Lock()
        self._fingerprints: dict[int, str] = {}

    def sound(self, number: int) -> Any:
        """What the record holds as its sound, and the whole record.

        Raises:
          InputError: it cannot be read.
        """
        record = self._record(number)
        value = record[self.schema.sound]
        kept = value if isinstance(value, bytes) else np.ascontiguousarray(value).tobytes()
        # What is computed from the same samples of another width is something else.
        width = "" if self.width is None else f"{self.width.bits} "
        self._fingerprints[number] = hashlib.sha256(width.encode() + kept).hexdigest()
        return value, record

    def fingerprint(self, number: int) -> str:
        """Of the sound of a record, which need not be read for that where it was read already."""
        if number not in self._fingerprints:
            self.sound(number)
        return self._fingerprints[number]

    def rate(self, record: Mapping[str, Any]) -> int:
        """Samples per second of a record's sound.

        Raises:
          InputError: that is not told.
        """
        if self.schema.sample_rate:
            return self.schema.sample_rate
        if RATE_FEATURE in self.schema.features:
            return int(record[RATE_FEATURE])
        if self._sample_rate is None:
            raise InputError("the data set does not tell its sample rate; name it with --tfds-rate")
        return self._sample_rate

    def _record(self, number: int) -> Mapping[str, Any]:
        return read_records(self._source, [number])[0]

    @property
    def _source(self) -> Any:
        with self._lock:
            return self._opened

    @functools.cached_property
    def _opened(self) -> Any:
        wanted = [self.schema.sound]
        if not self.schema.sample_rate and RATE_FEATURE in self.schema.features:
            wanted.append(RATE_FEATURE)
        return self.schema.source(self.split, wanted, self.origin)


@dataclasses.dataclass(frozen=True, eq=False)
class RecordSound:
    """A record that holds a sound: samples of any type, or a sound file.

    Attributes:
      records: which it is of.
      number: its place there.
    """

    records: Records
    number: int

    @property
    def name(self) -> str:
        """The data set, the split and the number."""
        return f"{name_of_split(self.records.origin, self.records.split)}, record {self.number}"

    @property
    def recording(self) -> str:
        """The record."""
        return self.name

    @property
    def part(self) -> tuple[float, float | None]:
        """All of it."""
        return 0.0, None

    def likeness(self) -> None:
        """Nothing: a record is read as a whole."""
        return

    def content(self) -> str:
        """Its fingerprint: records of a data set are kept in one format.

        Raises:
          InputError: it cannot be read; the message begins with its name.
        """
        return self.fingerprint()

    def fingerprint(self) -> str:
        """SHA-256 of what is kept.

        Raises:
          InputError: it cannot be read; the message begins with its name.
        """
        try:
            return self.records.fingerprint(self.number)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from error

    def native(self) -> Native | None:
        """Sample rate and channels, where the data set tells them."""
        rate = self.records.schema.sample_rate
        if rate is None or self.records.schema.encoded:
            return None
        shape = self.records.schema.features[self.records.schema.sound].tensor.shape.dimensions
        return Native(rate, int(shape[1]) if len(shape) > 1 and shape[1] > 0 else 1)

    def waveform(self, sample_rate: int) -> Float[np.ndarray, " samples"]:
        """The samples: mono float32, nominally in [-1, 1].

        Raises:
          InputError: it cannot be read; the message begins with its name.
        """
        try:
            sound, record = self.records.sound(self.number)
            if isinstance(sound, bytes):
                reading = Reading()
                return np.concatenate(list(stream_blocks(io.BytesIO(sound), sample_rate, reading, name="its sound")))
            return resample(self._mono(np.asarray(sound)), self.records.rate(record), sample_rate)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from error

    def _mono(self, samples: Shaped[np.ndarray, "..."]) -> Float[np.ndarray, " samples"]:
        if not samples.size:
            raise InputError("holds no samples")
        scaled = self._scaled(samples)
        mono = scaled if scaled.ndim == 1 else scaled.reshape(len(scaled), -1).mean(axis=1)
        waveform = np.ascontiguousarray(mono, np.float32)
        if not np.isfinite(waveform).all():
            raise InputError("holds samples that are no finite numbers")
        return waveform

    def _scaled(self, samples: Shaped[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        if samples.dtype.kind == "f":
            return samples.astype(np.float64)
        if samples.dtype == np.uint8:
            return (samples.astype(np.float64) - 128) / 128
        if samples.dtype == np.int16:
            return samples / 32768.0
        width = self.records.width or Width(WIDTHS[0], clips=1)
        return samples / float(1 << (width.of(samples) - 1))
