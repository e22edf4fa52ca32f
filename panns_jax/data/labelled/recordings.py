"""Which clips come from the same recording, so that none is learnt from and tested on."""

from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Int

from panns_jax.data.labelled.clips import LabelledClip, LabelledSet
from panns_jax.data.labelled.sounds import Kept
from panns_jax.errors import InputError
from panns_jax.execute import available_workers


def recordings(labelled: LabelledSet) -> Int[np.ndarray, " clips"]:
    """Number of the recording that each clip comes from, counted in the order of the clips.

    Parts of one file are of one recording, and files with the same samples are, too, be they
    of different lossless formats. Half a second of every file is read for that, and all of those that begin alike.
    """
    names = [_recording(clip) for clip in labelled.clips]
    same = _same_content(labelled.clips)
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(same.get(name, name), len(numbers)) for name in names], np.int64)


def copies(labelled: LabelledSet, numbers: Int[np.ndarray, " clips"]) -> list[tuple[int, ...]]:
    """The rows of clips that are the same part of the same content, wherever there are several.

    Args:
      labelled: the clips.
      numbers: what `recordings` gives for them.
    """
    rows: dict[tuple[int, tuple[float, float | None]], list[int]] = {}
    for row, (number, clip) in enumerate(zip(numbers, labelled.clips, strict=True)):
        rows.setdefault((int(number), _part(clip)), []).append(row)
    return [tuple(same) for same in rows.values() if len(same) > 1]


def _recording(clip: LabelledClip) -> str:
    return clip.sound.recording if isinstance(clip.sound, Kept) else clip.sound.name


def _part(clip: LabelledClip) -> tuple[float, float | None]:
    return clip.sound.part if isinstance(clip.sound, Kept) else (0.0, None)


def _same_content(clips: Sequence[LabelledClip]) -> dict[str, str]:
    """For recordings that have the content of an earlier one, that one."""
    kept = {clip.sound.recording: clip.sound for clip in reversed(clips) if isinstance(clip.sound, Kept)}
    sounds = list(reversed(kept.values()))  # which is the order of the clips
    with ThreadPoolExecutor(available_workers()) as threads:
        alike: dict[Hashable, list[Kept]] = {}
        for sound, likeness in zip(sounds, threads.map(lambda sound: sound.likeness(), sounds), strict=True):
            alike.setdefault(likeness, []).append(sound)
        # What is like no other need not be read as a whole.
        compared = [sound for several in alike.values() if len(several) > 1 for sound in several]
        contents = list(threads.map(_content, compared))
    first: dict[str, str] = {}
    same: dict[str, str] = {}
    for sound, content in zip(compared, contents, strict=True):
        if content is not None:
            same[sound.recording] = first.setdefault(content, sound.recording)
    return same


def _content(sound: Kept) -> str | None:
    try:
        return sound.content()
    except InputError:  # whoever reads it is told
        return None
