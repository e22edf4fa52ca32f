"""Sound events from Python: arrays or files in, records out. What arrays and files may be: `panns_jax.infer.api`."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from panns_jax.infer.ears import Ears, Failure, File, Sound
from panns_jax.infer.event_rules import median_steps
from panns_jax.infer.events import EventRules, find_events
from panns_jax.infer.files import HeardSound
from panns_jax.infer.listener import Listener
from panns_jax.infer.prepared import Memory
from panns_jax.infer.score_track import ScoreTrack, Stepping
from panns_jax.models.config import Precision
from panns_jax.models.model import Model

DEFAULT_MODEL = "Cnn14_DecisionLevelMax"


@dataclasses.dataclass(frozen=True)
class DetectedEvent:
    """A sound, from where to where it is heard.

    Attributes:
      onset: seconds from the beginning of the recording.
      offset: likewise, above the onset.
      label: name of the class.
      id: of the class; AudioSet's are ontology ids such as "/m/09x0r".
      score: the highest of the class in the event, in [0, 1].
    """

    onset: float
    offset: float
    label: str
    id: str
    score: float


@dataclasses.dataclass(frozen=True)
class Detected:
    """The events of a recording.

    Attributes:
      name: the file's path, or "array".
      duration: seconds.
      events: by onset.
    """

    name: str
    duration: float
    events: tuple[DetectedEvent, ...]


class EventDetector(Ears):
    """Finds sound events: what is heard, and from where to where.

    Decision-level models score time steps of their own (0.32 s); any other model scores windows, by default consecutive
    ones of 2 s, as in the published demonstration.

    >>> detector = EventDetector(threshold=0.3, min_gap=0.5)  # Cnn14_DecisionLevelMax
    >>> detector.detect("street.flac")  # [DetectedEvent(onset=0.64, offset=2.56, label="Speech", …), …]
    >>> detector.scores("street.flac").scores  # (steps, classes), with their onsets and offsets in seconds
    >>> for result in detector.detect_all(paths): ...  # a Failure stands for what could not be read

    Attributes:
      step: seconds from one time step to the next.
    """

    def __init__(
        self,
        model: str | Model | Listener | None = None,
        *,
        checkpoint: File | None = None,
        mirror: str | None = None,
        precision: Precision = "float32",
        memory: Memory = "fast",
        window: float | None = None,
        hop: float | None = None,
        threshold: float | Mapping[str, float] = 0.5,
        low: float | None = None,
        median: float | str = 0.0,
        min_duration: float = 0.0,
        min_gap: float = 0.0,
        classes: Sequence[str] | None = None,
    ) -> None:
        """Loads the model. Of several detectors of one model, the others may be given the first one's `listener`.

        Args:
          model: as in `Tagger`; Cnn14_DecisionLevelMax where neither it nor a checkpoint is given.
          checkpoint: as in `load_model`.
          mirror: as in `load_model`.
          precision: as in `load_model`.
          memory: as in `Tagger`.
          window: seconds that a clip-level model hears for each step; 2 by default.
          hop: seconds from one step of a clip-level model to the next; as long as the window by default.
          threshold: an event has a score above it; or thresholds of classes, by name or id, where that of the others is
            0.5.
          low: an event goes on while scores stay above it; the threshold by default, and never above that.
          median: length of the median filter: seconds, or time steps as in "3steps"; 0 for none.
          min_duration: seconds; shorter events are dropped.
          min_gap: seconds; events of a class that are closer become one.
          classes: names or ids of those that are wanted; None for all.

        Raises:
          InputError: as in `Tagger`; there is no such class; a rule is out of its range; or the model has steps of its
            own, or windows of that length cannot be.
        """
        if model is None and checkpoint is None:
            model = DEFAULT_MODEL
        super().__init__(model, checkpoint=checkpoint, mirror=mirror, precision=precision, memory=memory)
        self._stepping = Stepping.of(self.listener.config, self.listener.step, window, hop)
        high = self._thresholds(threshold) if isinstance(threshold, Mapping) else threshold
        lowest = np.minimum(low, high) if low is not None and isinstance(high, np.ndarray) else low
        self._rules = EventRules(high, lowest, median_steps(median, self.step), min_duration, min_gap)
        self._classes = None if classes is None else self.labels.select(classes)

    @property
    def step(self) -> float:
        return self._stepping.step

    def scores(self, sound: Sound, *, sample_rate: int | None = None) -> ScoreTrack:
        """The probability of each class in each time step of a file, or of an array (samples,).

        Args:
          sound: what is heard.
          sample_rate: of an array; None for the model's.

        Returns:
          `scores` (steps, classes) in [0, 1]; `onsets` and `offsets` (steps,), seconds.

        Raises:
          InputError: the sound cannot be read or heard.
        """
        return self._track(self.hear_one(sound, sample_rate, **self._hearing))

    def detect(self, sound: Sound, *, sample_rate: int | None = None) -> list[DetectedEvent]:
        """The events of a file, or of an array (samples,), by onset.

        Args:
          sound: what is heard.
          sample_rate: of an array; None for the model's.

        Raises:
          InputError: the sound cannot be read or heard.
        """
        return self._events(self.scores(sound, sample_rate=sample_rate))

    def detect_all(self, sounds: Iterable[Sound], *, sample_rate: int | None = None) -> Iterator[Detected | Failure]:
        """The events of one recording after another, in their order; failures as in `Tagger.tag_all`.

        Args:
          sounds: files and arrays (samples,), of any number.
          sample_rate: of the arrays; None for the model's.
        """
        for heard in self.hear_all(sounds, sample_rate, **self._hearing):
            if isinstance(heard, Failure):
                yield heard
            else:
                yield Detected(heard.source.name, heard.duration, tuple(self._events(self._track(heard))))

    @property
    def _hearing(self) -> dict[str, Any]:
        return {"windows": self._stepping.windows, "taps": self._stepping.taps}

    def _track(self, heard: HeardSound) -> ScoreTrack:
        return self._stepping.track(heard.excerpts, heard.duration)

    def _events(self, track: ScoreTrack) -> list[DetectedEvent]:
        names, ids = self.labels.names, self.labels.ids
        return [
            DetectedEvent(event.onset, event.offset, names[event.index], ids[event.index], event.score)
            for event in find_events(track, self._rules, self._classes)
        ]

    def _thresholds(self, by_class: Mapping[str, float]) -> Float[np.ndarray, " classes"]:
        thresholds = np.full(len(self.labels), 0.5)
        for name, value in by_class.items():
            thresholds[self.labels.index(name)] = value
        return thresholds
