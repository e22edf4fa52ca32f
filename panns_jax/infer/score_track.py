"""Scores over time: one row per time step, from what a model makes of a sound."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from panns_jax.errors import InputError
from panns_jax.infer.heard import Excerpt
from panns_jax.infer.windows import Windows

if TYPE_CHECKING:
    from panns_jax.models.config import ModelConfig

PUBLISHED_WINDOW = 2.0
"""Seconds of the consecutive segments of the published demonstration."""


@dataclasses.dataclass(frozen=True)
class ScoreTrack:
    """The scores of a recording over time.

    Attributes:
      scores: of each class in each time step, in [0, 1].
      step: seconds from one time step to the next; the last one ends with the recording, and may be longer or shorter.
      duration: of the recording, seconds.

    Raises:
      InputError: there are no steps.
    """

    scores: Float[np.ndarray, "steps classes"]
    step: float
    duration: float

    def __post_init__(self) -> None:
        if not len(self.scores):
            raise InputError("there are no scores to find events in")

    @property
    def onsets(self) -> Float[np.ndarray, " steps"]:
        """Where each step begins, seconds."""
        return np.arange(len(self.scores)) * self.step

    @property
    def offsets(self) -> Float[np.ndarray, " steps"]:
        """Where each step ends: where the next one begins, or the recording ends."""
        return np.append(self.onsets[1:], self.duration)


class CentredWindows(Windows):
    """A window for each time step of `hop` seconds, around its middle.

    With a hop as long as the window these are consecutive segments, as in the published demonstration. All windows have
    the whole length: near the ends of the recording, where one would reach beyond, it is moved inside. Only a recording
    shorter than a window is one whole.
    """

    def cut(
        self, blocks: Iterable[Float[np.ndarray, "_"]], sample_rate: int
    ) -> Iterator[tuple[int, Float[np.ndarray, "_"]]]:
        """Cuts a sound that comes in blocks, and holds little more than a window and a block of it.

        Yields:
          The first sample of each window, and its samples: a window for each step that begins in the sound.
        """
        length = max(1, round(self.length * sample_rate))
        number, begin, held = 0, 0, np.zeros(0, np.float32)

        def place(number: int) -> int:
            # From the number, so that places do not drift where the hop is no whole number of samples.
            return max(0, round((number * self.hop - (self.length - self.hop) / 2) * sample_rate))

        for block in blocks:
            held = np.concatenate([held, block])
            while place(number) + length <= begin + len(held):
                first = place(number) - begin
                yield place(number), held[first : first + length]
                number += 1
            # The last windows may have to be moved back by as much as their length.
            behind = max(0, min(place(number) - begin, len(held) - length))
            begin, held = begin + behind, held[behind:]
        end = begin + len(held)
        first = max(0, end - length)
        while round(number * self.hop * sample_rate) < end:
            yield min(place(number), first), held[min(place(number), first) - begin :][:length]
            number += 1


@dataclasses.dataclass(frozen=True)
class Stepping:
    """How a model scores a recording over time.

    Attributes:
      step: seconds from one time step to the next.
      windows: what a clip-level model hears for each step; None for a decision-level model, which has steps of its own.
    """

    step: float
    windows: CentredWindows | None

    @classmethod
    def of(
        cls, config: "ModelConfig", own_step: int, window: float | None = None, hop: float | None = None
    ) -> "Stepping":
        """The steps of a model.

        Args:
          config: the model's.
          own_step: samples from one step of what its body yields to the next (`Listener.step`).
          window: seconds that a clip-level model hears for each step; 2 as in the published demonstration by default.
          hop: seconds from one step of a clip-level model to the next; as long as the window by default.

        Raises:
          InputError: the model has steps of its own, or windows of that length cannot be.
        """
        name, rate = config.name, config.sample_rate
        if config.embedding_dim is None:
            if window is not None or hop is not None:
                raise InputError(
                    f"{name} is a decision-level model with time steps of {own_step / rate:g} s: --window and --hop are"
                    " for clip-level models"
                )
            return cls(own_step / rate, None)
        window = PUBLISHED_WINDOW if window is None else window
        windows = CentredWindows(window, window if hop is None else hop)
        if round(windows.length * rate) < config.min_samples:
            raise InputError(
                f"a window of {window:g} s is shorter than the {config.min_samples / rate:g} s that {name} needs"
            )
        return cls(windows.hop, windows)

    @property
    def taps(self) -> tuple[str, ...]:
        """What is to be asked of `Listener.hear`."""
        return ("stepwise",) if self.windows is None else ()

    def track(self, excerpts: Sequence[Excerpt], duration: float) -> ScoreTrack:
        """The scores of a recording.

        Args:
          excerpts: the whole for a decision-level model, with `stepwise`; else what was heard in each of the windows.
          duration: of the recording, seconds.
        """
        if self.windows is not None:
            return ScoreTrack(np.stack([excerpt.heard.clipwise for excerpt in excerpts]), self.step, duration)
        stepwise = excerpts[0].heard.stepwise
        assert stepwise is not None
        # A recording shorter than what the model needs was padded: what begins behind its end is not of it.
        begun = max(1, math.ceil(round(duration / self.step, 6)))
        return ScoreTrack(stepwise[:begun], self.step, duration)
