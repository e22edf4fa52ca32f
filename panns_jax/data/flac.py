"""Rows of waveforms as FLAC: about half the size of int16 on real sound, and the same samples back."""

import io

import numpy as np
from jaxtyping import Int16

from panns_jax.errors import InputError

# Of what the FLAC tools call level 5. Higher ones take twice the time for 3 % less; decoding takes the same for all.
_COMPRESSION = 0.625


class DamagedRow(ValueError):
    """Bytes that are not the FLAC stream of a row; the message tells what is wrong with them."""


def encode(row: Int16[np.ndarray, " samples"], sample_rate: int) -> bytes:
    """A FLAC stream of one channel and 16 bits that any player plays.

    Args:
      row: at least one sample; any values.
      sample_rate: samples per second, which the stream tells.
    """
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, row, sample_rate, "PCM_16", format="FLAC", compression_level=_COMPRESSION)
    return stream.getvalue()


def decode_into(stream: bytes | bytearray | memoryview, out: Int16[np.ndarray, " samples"]) -> None:
    """Decodes what `encode` made. Nearly all of it is done without Python's lock, so that threads decode at once.

    Args:
      stream: the bytes of one row.
      out: takes the samples; as long as the row is.

    Raises:
      DamagedRow: it is no such stream, its checksums do not hold, or it is of another length.
    """
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(stream)) as file:
            if (file.format, file.subtype, file.channels, file.frames) != ("FLAC", "PCM_16", 1, len(out)):
                found = f"{file.frames} frames of {file.channels} channels, {file.format} {file.subtype}"
                raise DamagedRow(f"expected {len(out)} samples of one channel, FLAC PCM_16, found {found}")
            count = len(file.read(out=out))
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        reason = getattr(error, "error_string", None) or str(error)
        raise DamagedRow(" ".join(reason.removeprefix("Error : ").split()).rstrip(".") or "damaged") from error
    if count != len(out):
        raise DamagedRow(f"ends after {count} of {len(out)} samples")


def require_encodable(sample_rate: int) -> None:
    """Checks that FLAC can tell a sample rate.

    Raises:
      InputError: it cannot.
    """
    try:
        encode(np.zeros(1, np.int16), sample_rate)
    except (RuntimeError, ValueError) as error:
        told = f"FLAC holds no {sample_rate} Hz; choose another --sample-rate, or --encoding int16"
        raise InputError(told) from error
