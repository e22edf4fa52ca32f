"""A model that hears sounds of any length, one after another or many at once."""

import functools
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float

from panns_jax.errors import InputError
from panns_jax.infer.gathering import Gathering
from panns_jax.infer.heard import TAPS, Heard
from panns_jax.infer.prepared import Memory
from panns_jax.infer.programs import Programs
from panns_jax.infer.tape import Layout, Part, Tape, layout, parts_of, view_of
from panns_jax.models.config import ModelConfig, Precision
from panns_jax.models.heads import DecisionHead
from panns_jax.models.model import Model

DEFAULT_MODEL = "Cnn14"

# What 32-bit integers reach when they are stored as floating point by mistake: wrong, but the published tool answers.
# The power of samples beyond 1e16 overflows, and answers to that would mean nothing.
LOUDEST = 2.0**31

# Beside a sound that is so far beyond full scale, rounding would show in others on its tape.
_LOUD = 100.0

# Seconds that a tape lasts; longer where a step sees so much that parts would consist of overlap. A second on tapes of
# 61 s takes Cnn14 a tenth longer, as its layers then outgrow the caches, and half as much memory again.
_TAPE = 40.96
_OVERLAP = 0.09

# From what room on a tape, for each sample of their own, many sounds of one length get rows of that length.
_WORTH_OWN_ROWS = 1.04

# Tapes that are heard at once on GPU and TPU.
_ROWS = 8

# Tapes' worth of sound that is read before one is filled: the more there is to choose from, the less stays empty.
_AHEAD = 4
_MOST_AHEAD = 256

Waveform = Float[np.ndarray, "_"]
Sound = Waveform | Iterable[Waveform]
"""A sound as a whole or in parts of any length: mono, in [-1, 1], at the model's sample rate."""


class Listener:
    """Runs a model on sounds of any length.

    Each sound gets what the model makes of it as a whole, as published: it is neither cut nor padded (but for sounds
    shorter than `config.min_samples`), whatever its length and whatever is heard beside it, up to rounding (1e-5).

    Few programs are compiled, however many lengths there are (`panns_jax.infer.programs`), and the memory that is taken
    does not grow with the length of a sound, but for the taps asked for.

    Attributes:
      config: the model's.

    Args:
      model: in evaluation mode, as `load_model` returns it.
      memory: of the prepared model that much sound is heard by: "fast" or "low", as in `prepare`.
    """

    def __init__(self, model: Model, *, memory: Memory = "fast") -> None:
        self.config: ModelConfig = model.config
        self._programs = Programs(model, memory)
        self._head = model.config.head if isinstance(model.config.head, DecisionHead) else None

    @property
    def step(self) -> int:
        """Samples from one step of `Heard.frames` (and `stepwise`) to the next."""
        return view_of(self.config).step

    def hear(
        self, sounds: Iterable[Sound], *, taps: Collection[str] = (), expected: float = 0.0
    ) -> Iterator[Heard | InputError]:
        """Runs the model on one sound after another.

        Some minutes of sound are read ahead of what is heard, where there are as much.

        Args:
          sounds: each is read once, to its end, before the next one is asked for.
          taps: what of `Heard` is wanted beside clipwise and embedding.
          expected: seconds of sound that will come, about; where it is long, it pays to prepare the model at once.

        Yields:
          What the model makes of each sound, in their order; or why it cannot be heard: the sound, read part by part,
          raised an InputError, has no samples, is far beyond full scale or no number, the memory is too short, or the
          weights yield values that are no numbers.

        Raises:
          ValueError: there is no such tap.
        """
        taps = (taps,) if isinstance(taps, str) else taps
        if unknown := set(taps) - set(TAPS):
            raise ValueError(f"there is no tap {min(unknown)!r}; there are {', '.join(TAPS)}")
        return _Hearing(self, tuple(sorted(taps)), expected).answers(sounds)

    @functools.cached_property
    def _tape_bins(self) -> int:
        view, rate = view_of(self.config), self.config.sample_rate
        seconds = _TAPE if view.receptive_field / rate < _OVERLAP * _TAPE else 2 * _TAPE
        overlap = -(-max(view.receptive_field, self.config.min_samples) // view.step)
        return max(2 * overlap + 2, round(seconds * rate / view.step))

    @functools.cached_property
    def _layout(self) -> Layout:
        return layout(self.config, self._tape_bins)


class _Hearing:
    """One call of `Listener.hear`."""

    def __init__(self, listener: Listener, taps: tuple[str, ...], expected: float) -> None:
        self._config = listener.config
        self._programs = listener._programs
        self._head = listener._head
        self._layout = listener._layout
        self._bins = listener._tape_bins
        self._at_once = 1 if jax.default_backend() == "cpu" else _ROWS
        self._taps = taps
        self._expected = expected
        names = {"stepwise": "logits"}
        pools = {"frames"} if self._head is None else {"logits", "weights"}
        self._names = pools | {names.get(tap, tap) for tap in taps if self._head is not None or tap == "frames"}
        self._gathered: dict[int, Gathering] = {}
        self._answers: dict[int, Heard | InputError] = {}
        self._pool: list[Part] = []
        self._pooled_samples = 0

    def answers(self, sounds: Iterable[Sound]) -> Iterator[Heard | InputError]:
        """The answers in the order of the sounds."""
        parts, told = self._parts(sounds), 0
        ended = False
        while not ended or self._pool:
            ended = not self._fill(parts)
            if self._pool:
                self._hear_some(ended=ended)
            while told in self._answers:
                yield self._answers.pop(told)
                told += 1

    def _parts(self, sounds: Iterable[Sound]) -> Iterator[Part]:
        for number, sound in enumerate(sounds):
            self._gathered[number] = Gathering(self._head, self._taps)
            try:
                blocks = [sound] if isinstance(sound, np.ndarray) else sound
                for part in parts_of(number, map(_checked, blocks), self._layout, self._bins):
                    if not len(part.waveform):
                        raise InputError("there are no samples")
                    yield part
            except InputError as error:
                self._fail(number, error)

    def _fail(self, number: int, error: InputError) -> None:
        self._answers.setdefault(number, error)
        self._gathered.pop(number, None)
        self._pool = [part for part in self._pool if part.sound != number]
        self._pooled_samples = sum(len(part.waveform) for part in self._pool)

    def _fill(self, parts: Iterator[Part]) -> bool:
        """Reads ahead; False where there is nothing more to read."""
        most = _AHEAD * self._at_once * self._tape_samples
        while self._pooled_samples < most and len(self._pool) < _MOST_AHEAD:
            part = next(parts, None)
            if part is None:
                return False
            if part.sound in self._answers:  # it has failed
                continue
            self._pool.append(part)
            self._pooled_samples += len(part.waveform)
        return True

    def _hear_some(self, *, ended: bool) -> None:
        """Hears some of what has been read, the oldest of it first."""
        samples = self._layout.padded(len(self._pool[0].waveform))
        # What a long sound ends with is of no length that comes again.
        if self._pool[0].number == 0 and self._have_own_rows(samples):
            tapes = self._rows_alike(samples)
        else:
            samples = self._tape_samples
            tapes = self._tapes()
            if ended and not self._pool and len(tapes) == 1:
                tapes[0].bins = self._programs.bins(tapes[0].needed, self._bins, self._layout.view.step)
                samples = tapes[0].bins * self._layout.view.step
        self._run(tapes, samples)

    @property
    def _tape_samples(self) -> int:
        return self._bins * self._layout.view.step

    def _alike(self, samples: int) -> list[Part]:
        return [part for part in self._pool if self._layout.padded(len(part.waveform)) == samples]

    def _rows_together(self, samples: int) -> int:
        return max(1, self._at_once * self._tape_samples // samples)

    def _have_own_rows(self, samples: int) -> bool:
        """Whether sounds of this length are heard in rows as long as they are."""
        if samples == self._tape_samples:
            return False
        alike = len(self._alike(samples))
        worth = alike == len(self._pool) or (alike >= self._rows_together(samples) and self._is_spacious(samples))
        return worth and self._programs.has_own_rows(samples)

    def _is_spacious(self, samples: int) -> bool:
        """Whether tapes would stand empty for much of the room that sounds of this length take on them."""
        room = self._layout.bins_with_gap(samples) * self._layout.view.step
        return room > _WORTH_OWN_ROWS * samples

    def _rows_alike(self, samples: int) -> list[Tape]:
        """Takes sounds of one length, each for a row of its own: as many as make up tapes, or the first one."""
        alike, rows = self._alike(samples), self._rows_together(samples)
        tapes = [self._row(part, samples) for part in alike[: rows if len(alike) >= rows else 1]]
        self._take(tapes)
        return tapes

    def _tapes(self) -> list[Tape]:
        """Takes what fits on tapes: on each the oldest sound, and then whatever fills it best."""
        tapes = []
        while self._pool and len(tapes) < self._at_once:
            tape = Tape(self._layout, self._bins)
            tape.lay(self._pool[0])
            self._take([tape])
            if not _is_loud(tape.laid[0][0]):
                self._fill_tape(tape)
            tapes.append(tape)
        if len(tapes) > 1:  # rows that are too few for the program stay empty
            tapes += [Tape(self._layout, self._bins) for _ in range(self._at_once - len(tapes))]
        return tapes

    def _fill_tape(self, tape: Tape) -> None:
        for part in sorted(self._pool, key=lambda part: -len(part.waveform)):
            if tape.holds(len(part.waveform)) and not _is_loud(part):
                tape.lay(part)
        self._take([tape])

    def _take(self, tapes: list[Tape]) -> None:
        taken = {id(part) for tape in tapes for part, _ in tape.laid}
        self._pool = [part for part in self._pool if id(part) not in taken]
        self._pooled_samples = sum(len(part.waveform) for part in self._pool)

    def _run(self, tapes: list[Tape], samples: int) -> None:
        seconds = samples / self._config.sample_rate
        try:
            values, lengths = self._programs.steps(tapes, samples, self._names, self._expected)
            for row, tape in enumerate(tapes):
                for part, first_bin in tape.laid:
                    steps = slice(first_bin, first_bin + int(lengths[row, first_bin]))
                    self._add(part, {name: array[row, steps] for name, array in values.items()})
            self._finish()
        except jax.errors.JaxRuntimeError as error:
            parts = [part for tape in tapes for part, _ in tape.laid]
            if len(parts) > 1:  # alone, some of them may be short enough
                for part in parts:
                    alone = self._layout.padded(len(part.waveform))
                    self._run([self._row(part, alone)], alone)
            else:
                reason = str(error).partition("\n")[0]
                told = f"{seconds:.1f} s of sound could not be heard, as where memory is short ({reason})"
                self._fail(parts[0].sound, InputError(told))

    def _row(self, part: Part, samples: int) -> Tape:
        """A row of so many samples for a sound of that length."""
        tape = Tape(self._layout, -(-samples // self._layout.view.step))
        tape.lay(part)
        return tape

    def _add(self, part: Part, values: dict[str, np.ndarray]) -> None:
        if part.sound not in self._answers:
            self._gathered[part.sound].add(part, values)

    def _finish(self) -> None:
        """Answers to the sounds that have been heard to their end."""
        whole = [number for number, gathered in self._gathered.items() if gathered.is_complete]
        gathered = [self._gathered.pop(number) for number in whole]
        if self._head is None:
            outputs = self._programs.classify([sound.pooled for sound in gathered])
            made = [_heard(sound, output, self._taps) for sound, output in zip(gathered, outputs, strict=True)]
        else:
            made = [_heard_by_steps(sound, self._taps) for sound in gathered]
        for number, heard in zip(whole, made, strict=True):
            is_number = np.isfinite(heard.clipwise).all()
            self._answers[number] = heard if is_number else self._no_number()

    def _no_number(self) -> InputError:
        return InputError(f"{self._config.name} answers with values that are no numbers: its weights may be damaged")


def _heard(sound: Gathering, made: dict[str, np.ndarray], taps: tuple[str, ...]) -> Heard:
    """What a model with a vector per clip made of a sound."""
    return Heard(
        made["clipwise"],
        made["embedding"],
        logits=made["logits"] if "logits" in taps else None,
        pooled=made["pooled"] if "pooled" in taps else None,
        frames=sound.kept("frames") if "frames" in taps else None,
    )


def _heard_by_steps(sound: Gathering, taps: tuple[str, ...]) -> Heard:
    """What a decision-level model made of a sound."""
    return Heard(sound.clipwise, None, **{tap: sound.kept(tap) for tap in taps})


def _checked(block: Waveform) -> Waveform:
    """A block of a sound, if it can be heard.

    Raises:
      InputError: it cannot.
    """
    if not np.isfinite(block).all():
        raise InputError("there are samples that are no finite numbers")
    peak = float(np.abs(block).max()) if len(block) else 0.0
    if peak > LOUDEST:
        raise InputError(f"the samples reach {peak:g}, where 1 is full scale")
    return block


def _is_loud(part: Part) -> bool:
    return float(np.abs(part.waveform).max()) > _LOUD


def load_listener(
    model: str | None,
    checkpoint: Path | None,
    mirror: str | None = None,
    precision: Precision = "float32",
    memory: Memory = "fast",
) -> Listener:
    """The model of the options `--model`, `--checkpoint`, `--mirror`, `--precision` and `--memory`; Cnn14 where none is
    named.

    Raises:
      InputError: as `load_model` does.
    """
    from panns_jax.pretrained.load import load_model

    if model is None and checkpoint is None:
        model = DEFAULT_MODEL
    return Listener(load_model(model, checkpoint, mirror=mirror, precision=precision), memory=memory)
