"""The sound files of clips: which file of a folder is which clip's, and the row that it becomes."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int16

from panns_jax.audio import SOUND_EXTENSIONS, read_waveform
from panns_jax.errors import InputError

if TYPE_CHECKING:
    from panns_jax.data.metadata import Segment


def sound_files(folder: Path, segments: Sequence["Segment"]) -> list[Path]:
    """The file of each clip; that of the published name where there is none.

    Raises:
      InputError: the folder is missing or cannot be looked into.
    """
    # In this order, where a clip is there in several formats.
    preference = {extension: rank for rank, extension in enumerate(SOUND_EXTENSIONS)}
    best: dict[str, tuple[int, str]] = {}
    wanted = {f"Y{segment.clip_id}" for segment in segments}
    try:
        # One listing: asking for millions of names one by one is slow on network disks.
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, extension = os.path.splitext(entry.name)  # noqa: PTH122 - a Path of each would take seconds
                rank = preference.get(extension.lower())
                if rank is not None and stem in wanted:
                    best[stem] = min(best.get(stem, (rank, entry.name)), (rank, entry.name))
    except OSError as error:
        raise InputError(f"--audios {folder}: cannot be listed: {error.strerror}") from error
    names = ((segment, f"Y{segment.clip_id}") for segment in segments)
    folder = folder.absolute()  # the nodes of a cluster work in folders of their own
    return [folder / (best[stem][1] if stem in best else segment.audio_name) for segment, stem in names]


def read_row(path: Path, sample_rate: int, samples: int) -> tuple[Int16[np.ndarray, " samples"], bool]:
    """The row of a clip, cut or padded with zeros at its end; and whether the sound went beyond full scale.

    Raises:
      InputError: the file cannot be read as sound.
    """
    waveform = read_waveform(path, sample_rate, seconds=samples / sample_rate)[:samples]
    row = np.zeros(samples, np.int16)
    row[: len(waveform)] = to_int16(waveform)
    return row, bool(np.abs(waveform).max() > 1)


def to_int16(waveform: Float[np.ndarray, " samples"]) -> Int16[np.ndarray, " samples"]:
    """Full scale [-1, 1] to ±32767, towards zero, as the published files hold it; what is beyond is clipped."""
    return (np.clip(waveform, -1.0, 1.0) * 32767.0).astype(np.int16)
