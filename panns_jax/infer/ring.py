"""The latest samples of a sound that goes on and on, of which a model hears a window every hop, in fixed memory."""

import collections
import dataclasses
import math
import threading

import numpy as np
from jaxtyping import Float

from panns_jax.infer.windows import Windows

# Seconds after which a wait looks up: on Windows, Ctrl-C would not end one without a limit.
_LOOK_UP = 0.5


@dataclasses.dataclass(frozen=True)
class LiveWindow:
    """The samples that a model is to hear next.

    Attributes:
      samples: a whole window; what there is while less than a window has come.
      first: how many samples of the sound came before them.
      captured: when the last of them came, by `time.monotonic`.
      dropped: how many windows before this one were left out, since nobody took them in time.
      unheard: samples between this window and the one before, which no window holds.
    """

    samples: Float[np.ndarray, " samples"]
    first: int
    captured: float
    dropped: int
    unheard: int

    @property
    def end(self) -> int:
        """How many samples have come with the last one of these."""
        return self.first + len(self.samples)


class Ring:
    """Takes a sound in blocks on one thread, and gives its windows on another one.

    A window ends every hop: the first one after a hop, so that it is shorter than the rest until a window has come, and
    the last one with the sound.

    Attributes:
      sample_rate: of the samples, in Hz.
      keeps_all: whether who brings samples waits until there is room, and every window is given. Otherwise samples are
        taken at any time, and windows that are overtaken by the next are dropped.
    """

    def __init__(self, windows: Windows, sample_rate: int, *, keeps_all: bool) -> None:
        self.sample_rate = sample_rate
        self.keeps_all = keeps_all
        self._hop = windows.hop * sample_rate
        self._length = math.ceil(round(windows.length * sample_rate, 6))
        # A window, the hop that is coming in behind it, and one to come in while the window is waited for.
        self._samples = np.zeros(self._length + 2 * (math.ceil(self._hop) + 1), np.float32)
        self._written = 0  # samples that have come
        self._heard = 0  # samples up to the end of the window that was given last
        self._given = 0  # number of that window
        self._begun = 1  # number of the window that ends next
        self._latest = 0.0  # when the last sample came
        # The windows that can be given, by their number and when their last sample came. Who keeps all has room for a
        # few of them; else the newest one alone is of interest.
        self._ready: collections.deque[tuple[int, float]] = collections.deque(maxlen=None if keeps_all else 1)
        self._over = False
        self._closed = False
        self._failure: BaseException | None = None
        self._changed = threading.Condition()

    @property
    def nbytes(self) -> int:
        """Memory of the samples, whatever comes."""
        return self._samples.nbytes

    def put(self, block: Float[np.ndarray, "_"], captured: float) -> bool:
        """Takes samples.

        Args:
          block: any number of them.
          captured: when the last of them came, by `time.monotonic`.

        Returns:
          False when no more are wanted.
        """
        with self._changed:
            while len(block) and not self._closed:
                end = self._end(self._begun)
                part = block[: min(len(block), end - self._written, self._room())]
                if not len(part):
                    self._changed.wait(_LOOK_UP)
                    continue
                self._write(part)
                self._latest = captured
                block = block[len(part) :]
                if self._written == end:
                    self._ready.append((self._begun, captured))
                    self._begun += 1
                    self._changed.notify_all()
            return not self._closed

    def finish(self, failure: BaseException | None = None) -> None:
        """Tells that no more samples come, and why, where that is an error: `next` raises it after the last window."""
        with self._changed:
            self._over, self._failure = True, failure
            self._changed.notify_all()

    def close(self) -> None:
        """Tells that no more windows are taken: `put` no longer waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def next(self) -> LiveWindow | None:
        """Waits for the next window; None where the sound has ended."""
        with self._changed:
            while not self._ready and not self._over:
                self._changed.wait(_LOOK_UP)
            if self._ready:
                number, captured = self._ready.popleft()
                end = self._end(number)
            elif self._written > self._heard:
                number, captured, end = self._given + 1, self._latest, self._written
            elif self._failure is not None:
                raise self._failure
            else:
                return None
            first = max(0, end - self._length)
            window = LiveWindow(
                self._read(first, end), first, captured, number - self._given - 1, max(0, first - self._heard)
            )
            self._given, self._heard = number, end
            self._changed.notify_all()
            return window

    def _end(self, number: int) -> int:
        """Where a window ends: it follows from its number, so that windows do not drift where a hop is no whole one."""
        return max(number, round(number * self._hop))

    def _room(self) -> int:
        if not self.keeps_all:
            return len(self._samples)
        oldest = max(0, self._end(self._given + 1) - self._length)
        return oldest + len(self._samples) - self._written

    def _write(self, part: Float[np.ndarray, "_"]) -> None:
        at = self._written % len(self._samples)
        whole = min(len(part), len(self._samples) - at)
        self._samples[at : at + whole] = part[:whole]
        self._samples[: len(part) - whole] = part[whole:]
        self._written += len(part)

    def _read(self, first: int, end: int) -> Float[np.ndarray, "_"]:
        at, length = first % len(self._samples), end - first
        head = self._samples[at : at + length]
        return np.concatenate([head, self._samples[: length - len(head)]])
