"""Epoch after epoch, until the validation score gets no better."""

import dataclasses
import math
import threading
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int

from panns_jax.errors import InputError
from panns_jax.interruption import Stopped
from panns_jax.progress import progress_bar
from panns_jax.train.finetune.bench import Bench
from panns_jax.train.finetune.learner import Learner
from panns_jax.train.finetune.scores import validation_score
from panns_jax.train.finetune.step import TuneState

# Seconds after which what is done is kept, at the least; more where that itself takes long.
_KEPT_EVERY = 20.0
_SHARE_FOR_KEEPING = 0.05


@dataclasses.dataclass(frozen=True)
class Epoch:
    """What an epoch came to.

    Attributes:
      loss: mean over its steps.
      validation: score on the validation clips afterwards; None where there are none.
      validation_loss: of the same clips.
    """

    loss: float
    validation: float | None = None
    validation_loss: float | None = None


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What training ended with.

    Attributes:
      state: after the best epoch, or the last one where nothing was validated; without optimizers.
      history: of the epochs done.
      best: number of the epoch of `state`, counted from 1.
    """

    state: TuneState
    history: tuple[Epoch, ...]
    best: int


@dataclasses.dataclass(frozen=True)
class Validation:
    """What epochs are chosen by.

    Attributes:
      rows: clips; none for no choice.
      targets: their classes.
      multi_label: whether a clip may carry several.
      patience: epochs without a better score after which training ends; 0 for none.
    """

    rows: Int[np.ndarray, " rows"]
    targets: Bool[np.ndarray, "rows classes"]
    multi_label: bool
    patience: int


def fit(
    learner: Learner,
    validation: Validation,
    *,
    epochs: int,
    bench: Bench,
    name: str,
    interrupted: threading.Event | None = None,
    keep_end: bool = False,
) -> Tuned:
    """Trains from the first epoch, or from what is kept, to the last.

    Args:
      learner: what learns.
      validation: by what the best epoch is chosen.
      epochs: the most.
      bench: where what is done is kept.
      name: under which it is kept.
      interrupted: set when the work is to be kept and broken off.
      keep_end: whether what training ended with is kept, too, since others follow.

    Raises:
      InputError: the loss is no number any more, or a clip cannot be read.
      Stopped: it was interrupted, and is kept.
    """
    state = learner.begin()
    best_state, best, history = _learnt(state), 0, []
    if (kept := bench.kept(name, (state, best_state))) is not None:
        read, meta = kept
        state, best_state = jax.tree.map(jnp.asarray, read)
        best, history = meta["best"], [Epoch(**epoch) for epoch in meta["history"]]
    keeping = _Keeping(bench, name)
    best_score = _score(history[best - 1]) if best else None
    steps = learner.steps_per_epoch
    with progress_bar("steps") as bar:
        done = int(state.iteration)
        task = bar.add_task(name, total=epochs * steps, completed=done, note="")
        while len(history) < epochs and not _is_over(len(history), best, validation):
            for after in learner.epoch(state):
                state = after
                bar.update(task, advance=int(state.iteration) - done)
                done = int(state.iteration)
                if interrupted is not None and interrupted.is_set():
                    keeping.now(state, best_state, best, history)
                    raise Stopped
                if done % steps:
                    keeping.sometimes(state, best_state, best, history)
            epoch = _epoch(learner, state, validation, steps, name, len(history) + 1)
            history.append(epoch)
            score = _score(epoch)
            if score is None or best_score is None or score > best_score:
                best_score, best = score, len(history)
                best_state = _learnt(state)
            bar.update(task, note=_note(epoch))
            keeping.sometimes(state, best_state, best, history)
        bar.update(task, total=done)
    if keep_end:
        keeping.now(state, best_state, best, history)
    return Tuned(best_state, tuple(history), best)


def _learnt(state: TuneState) -> TuneState:
    """A copy without the optimizers: a step takes over the memory of its state."""
    return jax.tree.map(lambda x: jnp.array(x, copy=True), dataclasses.replace(state, optimizers={}))


def _is_over(epochs: int, best: int, validation: Validation) -> bool:
    return bool(validation.patience and len(validation.rows) and epochs - best >= validation.patience)


def _epoch(learner: Learner, state: TuneState, validation: Validation, steps: int, name: str, number: int) -> Epoch:
    loss = float(state.loss) / steps
    if not math.isfinite(loss):
        raise InputError(
            f"training has diverged in epoch {number} of {name}: the loss is no number; try a smaller --learning-rate"
        )
    if not len(validation.rows):
        return Epoch(loss)
    clipwise = learner.predict(state, validation.rows)
    score, likelihood = validation_score(validation.targets, clipwise, multi_label=validation.multi_label)
    return Epoch(loss, score, -likelihood)


def _score(epoch: Epoch) -> tuple[float, float] | None:
    if epoch.validation is None or epoch.validation_loss is None:
        return None
    return epoch.validation, -epoch.validation_loss


def _note(epoch: Epoch) -> str:
    told = f"loss {epoch.loss:.3f}"
    return told if epoch.validation is None else f"{told}, validation {epoch.validation:.3f}"


class _Keeping:
    """Keeps what is done now and then, so that it takes little time."""

    def __init__(self, bench: Bench, name: str) -> None:
        self._bench = bench
        self._name = name
        self._last = time.monotonic()
        self._took = 0.0

    def sometimes(self, state: TuneState, best_state: TuneState, best: int, history: list[Epoch]) -> None:
        """Keeps it where the last time is long ago."""
        if time.monotonic() - self._last > max(_KEPT_EVERY, self._took / _SHARE_FOR_KEEPING):
            self.now(state, best_state, best, history)

    def now(self, state: TuneState, best_state: TuneState, best: int, history: list[Epoch]) -> None:
        """Keeps it."""
        began = time.monotonic()
        meta: dict[str, Any] = {"best": best, "history": [dataclasses.asdict(epoch) for epoch in history]}
        self._bench.keep(self._name, (state, best_state), meta)
        self._last = time.monotonic()
        self._took = self._last - began
