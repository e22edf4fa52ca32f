"""Sound events from Python: arrays or files in, records out."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from panns_jax.infer.api import Ears, Failure, Sound
from panns_jax.infer.event_rules import RuleOptions
from panns_jax.infer.events import find_events
from panns_jax.infer.files import HeardSound
from panns_jax.infer.score_track import ScoreTrack, Stepping


@dataclasses.dataclass(frozen=True)
class SoundEvent:
    """A class that is heard for a while.

    Attributes:
      onset: seconds from the beginning of the recording.
      offset: likewise, where it ends.
      label: name of the class.
      id: of the class.
      score: the highest of the class in the steps that made the event, in [0, 1].
    """

    onset: float
    offset: float
    label: str
    id: str
    score: float


@dataclasses.dataclass(frozen=True)
class Events:
    """The events of a recording.

    Attributes:
      name: the file's path, or "array".
      duration: seconds.
      events: by onset, then offset.
    """

    name: str
    duration: float
    events: tuple[SoundEvent, ...]


class EventDetector(Ears):
    """Finds sound events: what is heard, and from where to where.

    >>> detector = EventDetector("Cnn14_DecisionLevelMax", threshold=0.3, low=0.15, min_gap=0.5)
    >>> detector.detect("street.flac").events[0].onset
    >>> detector.scores(waveform, sample_rate=44100)  # the scores over time that events are found in
    >>> for result in detector.detect_all(paths): ...  # one after another; a Failure stands for what could not be read

    Attributes:
      step: seconds from one time step to the next, the true one.
    """

    def __init__(
        self,
        model: Any = None,
        *,
        classes: Iterable[str] = (),
        window: float | None = None,
        hop: float | None = None,
        threshold: float = 0.5,
        low: float | None = None,
        median: str = "0",
        min_duration: float = 0.0,
        min_gap: float = 0.0,
        **options: Any,
    ) -> None:
        """Loads the model.

        Args:
          model: as in `Tagger`; a decision-level model scores steps of its own, any other one windows.
          classes: names or ids of the classes that are wanted; all where none are named.
          window: seconds that a clip-level model hears for each step; 2 by default.
          hop: seconds from one step of a clip-level model to the next; as long as the window by default.
          threshold: an event is where scores are above it, in [0, 1].
          low: it goes on for as long as they are above this; the threshold itself by default.
          median: length of the median filter, seconds ("0.96") or steps ("3steps").
          min_duration: shorter events are dropped; seconds.
          min_gap: events of a class that are closer become one; seconds.
          **options: `checkpoint`, `mirror` and `precision`, as in `Tagger`.

        Raises:
          InputError: as in `Tagger`, a class is unknown, or a number cannot be used.
        """
        super().__init__(model, **options)
        self._stepping = Stepping.of(self.listener.config, self.listener.step, window, hop)
        rules = RuleOptions(threshold=threshold, low=low, median=median, min_duration=min_duration, min_gap=min_gap)
        self._rules = rules.rules(self.labels, self._stepping.step)
        self._classes = self.labels.select(list(classes)) or tuple(range(len(self.labels)))

    @property
    def step(self) -> float:
        """Seconds from one time step to the next."""
        return self._stepping.step

    def detect(self, sound: Sound, *, sample_rate: int | None = None) -> Events:
        """The events of a file, or an array (samples,).

        Args:
          sound: what is heard.
          sample_rate: of an array; None for the model's.

        Raises:
          InputError: the sound cannot be read or heard.
        """
        return self._events(self._heard(sound, sample_rate))

    def scores(self, sound: Sound, *, sample_rate: int | None = None) -> ScoreTrack:
        """The scores over time that `detect` finds events in, of all classes; arguments and errors as there."""
        heard = self._heard(sound, sample_rate)
        return self._stepping.track(heard.excerpts, heard.duration)

    def detect_all(self, sounds: Iterable[Sound], *, sample_rate: int | None = None) -> Iterator[Events | Failure]:
        """The events of one sound after another, in their order; failures as in `Tagger.tag_all`."""
        stepping = self._stepping
        for heard in self.all(sounds, sample_rate, windows=stepping.windows, taps=stepping.taps):
            yield heard if isinstance(heard, Failure) else self._events(heard)

    def _heard(self, sound: Sound, sample_rate: int | None) -> HeardSound:
        return self.one(sound, sample_rate, windows=self._stepping.windows, taps=self._stepping.taps)

    def _events(self, heard: HeardSound) -> Events:
        track = self._stepping.track(heard.excerpts, heard.duration)
        found = find_events(track, self._rules, self._classes)
        events = (
            SoundEvent(
                event.onset, event.offset, self.labels.names[event.index], self.labels.ids[event.index], event.score
            )
            for event in found
        )
        return Events(heard.source.name, heard.duration, tuple(events))
