"""The options that name sounds."""

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from panns_jax.errors import InputError

if TYPE_CHECKING:
    from panns_jax.audio import Reading
    from panns_jax.infer.sources import Source
    from panns_jax.streams import RawFormat


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputOptions:
    """Which sounds are heard, and how they are read."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE...", help_behavior_hint="")]
    """Sound files in any format that libsndfile or ffmpeg reads, of any sample rate, channel count and length; folders,
    for all sound files in them and in folders in them, sorted; patterns such as "day*/**/*.wav"; - for standard input.
    What is named twice is heard twice."""
    lists: Annotated[
        tuple[Path, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(name="list", metavar="FILE", help_behavior_hint="(may be given several times)"),
    ] = ()
    """A file that names files or folders: a csv or tsv table, of which each file is taken once, else one path a line; -
    for standard input. Relative paths begin at the list's folder, or else at the working folder."""
    column: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Column of the lists, which are then all tables; by default the one called path, file, filename or the like."""
    channel: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """The channel to hear, counted from 1; by default the mean of all."""
    resampling: Literal["soxr", "decimate"] = "soxr"
    """soxr has very high quality; decimate takes every 2nd or 4th sample of 32 kHz, without a filter, as the training
    of the published 16 and 8 kHz models did."""
    raw_rate: Annotated[int | None, tyro.conf.arg(metavar="HZ", help_behavior_hint="")] = None
    """Standard input, and files that end in .raw or .pcm, are raw samples of this rate."""
    raw_format: Literal["s16le", "s24le", "s32le", "f32le"] = "s16le"
    """What a raw sample is: a signed integer or a float, of so many bits, the lowest byte first."""
    raw_channels: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Channels of the raw samples, which take turns."""

    @property
    def reading(self) -> "Reading":
        """How sounds become waveforms.

        Raises:
          InputError: there is no such channel.
        """
        from panns_jax.audio import Reading

        return Reading(self.channel, self.resampling)

    @functools.cached_property
    def sources(self) -> "list[Source]":
        """The sounds of the options, in their order; folders and lists are read the first time alone.

        Raises:
          InputError: nothing is named, a list cannot be read, or an option cannot be used.
        """
        from panns_jax.infer.inputs import Inputs

        if not self.files and not self.lists:
            raise InputError("name at least one sound file")
        inputs = Inputs(
            names=self.files, lists=self.lists, column=self.column, reading=self.reading, raw=self._raw_format
        )
        return inputs.sources()

    @property
    def _raw_format(self) -> "RawFormat | None":
        from panns_jax.streams import RawFormat

        if self.raw_rate is not None:
            return RawFormat(self.raw_rate, self.raw_format, self.raw_channels)
        if (self.raw_format, self.raw_channels) != ("s16le", 1):
            raise InputError("--raw-format and --raw-channels are for raw samples, whose rate --raw-rate tells")
        return None
