"""What labelled data is like: classes, lengths, formats, and what is suspicious. Printed before it is learnt from."""

import dataclasses
import hashlib
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from panns_jax.data.labelled.clips import LabelledClip, LabelledSet, Sound
from panns_jax.data.labelled.decoded import Decoded, ahead
from panns_jax.data.labelled.sounds import Kept
from panns_jax.errors import InputError
from panns_jax.progress import progress_bar

_SILENT_PEAK = 1e-4  # -80 dB, less than 16 bits resolve into more than a few steps
# Clipping leaves flat tops at full scale: samples in a row that are the highest within rounding. What is this short
# is not seen as such in a tone above 50 Hz.
_FULL_SCALE = 0.98
_FLAT = 1e-4
_FLAT_SAMPLES = 4
_FLAT_TOPS = 3
# What a table's times may be rounded by, in seconds.
_ROUNDED = 0.1
_SHOWN = 5
_CLASSES_SHOWN = 60


@dataclasses.dataclass(frozen=True)
class ClassFacts:
    """A class: its clips that can be read, also by the makers' splits, and their length in seconds."""

    name: str
    clips: int
    seconds: float
    splits: dict[str, int]


@dataclasses.dataclass(frozen=True, eq=False)
class DataCard:
    """What a labelled set is like.

    Attributes:
      origin: what it was read from.
      multi_label: whether a clip may carry several classes.
      notes: what was taken to be so where the data does not tell; a line each.
      classes: the classes, in the order of the set.
      clips: number of all clips.
      usable: rows of those that can be read, ascending.
      seconds: length of each clip of `usable`.
      sample_rates: how many clips have which, as they are kept.
      channels: how many clips have how many.
      folds: how many clips are in which fold of the makers.
      silent: names of the clips in which nothing is.
      clipped: names of the clips that go flat at full scale.
      cut_off: names of the parts whose files end before they do.
      duplicates: names of clips that have the same samples, wherever there are several.
      contradictory: those of `duplicates` whose classes differ.
      unreadable: why, by name.
    """

    origin: str
    multi_label: bool
    notes: tuple[str, ...]
    classes: tuple[ClassFacts, ...]
    clips: int
    usable: Int[np.ndarray, " usable"]
    seconds: Float[np.ndarray, " usable"]
    sample_rates: dict[int, int]
    channels: dict[int, int]
    folds: dict[int, int]
    silent: tuple[str, ...]
    clipped: tuple[str, ...]
    cut_off: tuple[str, ...]
    duplicates: tuple[tuple[str, ...], ...]
    contradictory: tuple[tuple[str, ...], ...]
    unreadable: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """The same for programs: numbers, texts and lists of them; seconds of all clips as their smallest and so on."""
        told = dataclasses.asdict(self)
        return told | {"usable": self.usable.tolist(), "seconds": self._lengths()}

    def text(self) -> str:
        """The same for people."""
        return "\n".join(self._lines())

    def _lengths(self) -> dict[str, float] | None:
        if not len(self.seconds):
            return None
        lengths = self.seconds.tolist()
        median = statistics.median(lengths)
        return {"shortest": min(lengths), "median": median, "longest": max(lengths), "total": sum(lengths)}

    def _lines(self) -> Iterator[str]:
        kind = "several classes to a clip" if self.multi_label else "one class to a clip"
        yield f"{self.origin}: {_count(self.clips, 'clip')}, {_count(len(self.classes), 'class', 'es')}, {kind}"
        if lengths := self._lengths():
            told = ", ".join(f"{what} {seconds:.2f} s" for what, seconds in lengths.items() if what != "total")
            yield f"length: {told}; {_duration(lengths['total'])} altogether"
        for what, counts, unit in (("sample rate", self.sample_rates, " Hz"), ("channels", self.channels, "")):
            if counts:
                yield f"{what}: {', '.join(f'{value}{unit} ({clips})' for value, clips in counts.items())}"
        yield from self.notes
        if self.folds:
            yield f"folds: {', '.join(f'{fold} ({clips})' for fold, clips in self.folds.items())}"
        yield ""
        yield from self._class_lines()
        yield ""
        yield from self._suspicious_lines()

    def _class_lines(self) -> Iterator[str]:
        splits = [
            name for name in ("train", "validation", "test") if any(name in facts.splits for facts in self.classes)
        ]
        width = max(5, *(len(facts.name) for facts in self.classes))
        yield f"{'class':<{width}}  {'clips':>6}  {'seconds':>9}" + "".join(f"  {name:>10}" for name in splits)
        ordered = sorted(self.classes, key=lambda facts: -facts.clips)
        cut = len(ordered) > _CLASSES_SHOWN
        for place, facts in enumerate(ordered):
            if cut and place == _CLASSES_SHOWN // 2:
                yield f"… {len(ordered) - _CLASSES_SHOWN} more classes"
            if cut and _CLASSES_SHOWN // 2 <= place < len(ordered) - _CLASSES_SHOWN // 2:
                continue
            counts = "".join(f"  {facts.splits.get(name, 0):>10}" for name in splits)
            yield f"{facts.name:<{width}}  {facts.clips:>6}  {facts.seconds:>9.1f}{counts}"

    def _suspicious_lines(self) -> Iterator[str]:
        found = (
            ("silent", self.silent),
            ("clipped", self.clipped),
            ("end before the table says", self.cut_off),
            ("duplicated", [" = ".join(names) for names in self.duplicates]),
            ("duplicated with other classes", [" = ".join(names) for names in self.contradictory]),
            ("cannot be read, and left out", list(self.unreadable.values())),
        )
        if not any(clips for _, clips in found):
            yield "nothing suspicious: no clip is silent, clipped, cut off, duplicated or unreadable"
        for what, clips in found:
            if clips:
                yield f"{what}: {len(clips)}"
                yield from (f"  {name}" for name in clips[:_SHOWN])
                if len(clips) > _SHOWN:
                    yield f"  and {len(clips) - _SHOWN} more"


@dataclasses.dataclass(frozen=True)
class _Facts:
    """What is to be known of a clip; `failure` tells why nothing is."""

    failure: str | None = None
    seconds: float = 0.0
    sample_rate: int | None = None
    channels: int | None = None
    is_silent: bool = False
    is_clipped: bool = False
    is_cut_off: bool = False
    fingerprint: bytes = b""


def data_card(
    labelled: LabelledSet, *, sample_rate: int, decoded: Decoded | None = None, workers: int | None = None
) -> DataCard:
    """Reads every clip, by threads and with a progress bar, and tells what the set is like.

    A clip that cannot be read stops nothing: it is listed, and not `usable`.

    Args:
      labelled: the set.
      sample_rate: that of clips that do not tell their own.
      decoded: where what is read is kept for later, at its sample rate; by default nowhere.
      workers: number of threads; by default as many as there are processor cores.
    """

    def look(clip: tuple[int, LabelledClip]) -> _Facts:
        row, labelled_clip = clip
        try:
            return _look(labelled_clip, row, sample_rate, decoded)
        except InputError as error:
            return _Facts(failure=str(error))

    facts: list[_Facts] = []
    with progress_bar("clips", shown=len(labelled) > 1) as bar:
        task = bar.add_task("reading clips", total=len(labelled), note="")
        unreadable = 0
        for fact in ahead(look, enumerate(labelled.clips), workers=workers):
            facts.append(fact)
            unreadable += fact.failure is not None
            bar.update(task, advance=1, note=f"{unreadable} failed" if unreadable else "")
    return _card(labelled, facts)


def _look(clip: LabelledClip, row: int, sample_rate: int, decoded: Decoded | None) -> _Facts:
    native = clip.sound.native() if isinstance(clip.sound, Kept) else None
    # As it is kept: resampled, flat tops are flat no more.
    rate = sample_rate if native is None else native.sample_rate
    if decoded is not None:
        kept = decoded.waveform(row)
        waveform = kept if decoded.sample_rate == rate else clip.sound.waveform(rate)
    else:
        waveform = clip.sound.waveform(rate)
    peak = float(np.abs(waveform).max())
    return _Facts(
        seconds=len(waveform) / rate,
        sample_rate=None if native is None else native.sample_rate,
        channels=None if native is None else native.channels,
        is_silent=peak < _SILENT_PEAK,
        is_clipped=_is_clipped(waveform, peak),
        is_cut_off=_is_cut_off(clip.sound, len(waveform) / rate),
        fingerprint=hashlib.sha256(f"{rate} ".encode() + np.ascontiguousarray(waveform).tobytes()).digest(),
    )


def _is_clipped(waveform: Float[np.ndarray, " samples"], peak: float) -> bool:
    if peak < _FULL_SCALE or len(waveform) < _FLAT_SAMPLES:
        return False
    tops = 0
    for sign in (1, -1):
        high = sign * waveform
        is_high = high >= high.max() - _FLAT if high.max() >= _FULL_SCALE else np.zeros(len(high), bool)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], is_high, [False]])))
        tops += int(np.count_nonzero(edges[1::2] - edges[::2] >= _FLAT_SAMPLES))
    return tops >= _FLAT_TOPS


def _is_cut_off(sound: Sound, seconds: float) -> bool:
    start, end = sound.part if isinstance(sound, Kept) else (0.0, None)
    return end is not None and seconds < end - start - _ROUNDED


def _card(labelled: LabelledSet, facts: Sequence[_Facts]) -> DataCard:
    usable = np.array([row for row, fact in enumerate(facts) if fact.failure is None], np.int64)
    clips = [labelled.clips[row] for row in usable]
    known = [facts[row] for row in usable]
    same: dict[bytes, list[int]] = {}
    for place, fact in enumerate(known):
        if not fact.is_silent:
            same.setdefault(fact.fingerprint, []).append(place)
    copies = [places for places in same.values() if len(places) > 1]
    contradictory = [places for places in copies if len({frozenset(clips[place].labels) for place in places}) > 1]

    def named(places: Sequence[int]) -> tuple[str, ...]:
        return tuple(clips[place].sound.name for place in places)

    return DataCard(
        origin=labelled.origin,
        multi_label=labelled.multi_label,
        notes=labelled.notes,
        classes=tuple(_class_facts(labelled, usable, known)),
        clips=len(labelled),
        usable=usable,
        seconds=np.array([fact.seconds for fact in known], np.float64),
        sample_rates=_counted([fact.sample_rate for fact in known]),
        channels=_counted([fact.channels for fact in known]),
        folds=_counted([clip.fold for clip in clips]),
        silent=named([place for place, fact in enumerate(known) if fact.is_silent]),
        clipped=named([place for place, fact in enumerate(known) if fact.is_clipped]),
        cut_off=named([place for place, fact in enumerate(known) if fact.is_cut_off]),
        duplicates=tuple(named(places) for places in copies),
        contradictory=tuple(named(places) for places in contradictory),
        unreadable={
            clip.sound.name: fact.failure
            for clip, fact in zip(labelled.clips, facts, strict=True)
            if fact.failure is not None
        },
    )


def _class_facts(
    labelled: LabelledSet, usable: Int[np.ndarray, " usable"], facts: Sequence[_Facts]
) -> Iterator[ClassFacts]:
    targets = labelled.take(usable).targets()
    splits = [labelled.clips[row].split for row in usable]
    for number, name in enumerate(labelled.labels):
        places = np.flatnonzero(targets[:, number])
        counts = Counter(split for place in places.tolist() if (split := splits[place]) is not None)
        seconds = float(sum(facts[place].seconds for place in places.tolist()))
        yield ClassFacts(name, len(places), seconds, dict(counts))


def _counted(values: Sequence[int | None]) -> dict[int, int]:
    counts = Counter(value for value in values if value is not None)
    return dict(sorted(counts.items()))


def _count(number: int, what: str, several: str = "s") -> str:
    return f"{number} {what}{'' if number == 1 else several}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
