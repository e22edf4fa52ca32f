"""The loop of training: what happens after which step, and nothing of how."""

import collections
import contextlib
import dataclasses
import datetime
import sys
import time
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np
from jax.sharding import Mesh
from rich.progress import Progress

from panns_jax.interruption import Stopped, first_interruption_noted
from panns_jax.train.divergence import Divergence
from panns_jax.train.log import Log
from panns_jax.train.step import StepReport, TrainState, place

Step = Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, StepReport]]

IN_FLIGHT = 2
"""Steps that may wait on the device: enough that it need not wait itself, few enough that batches do not pile up."""
# Seconds between looks at the losses, each of which makes the device wait a moment.
_LOOK_EVERY = 2.0
_NOTED = "ends when this step is done and saved; Ctrl-C again ends it at once, without saving"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """When what happens, in iterations; an iteration is the number of steps done.

    Attributes:
      last: the iteration after which training ends.
      evaluate_every: evaluations are made at its multiples, 0 among them.
      checkpoint_every: checkpoints are written at its multiples, and at the end.
    """

    last: int
    evaluate_every: int
    checkpoint_every: int

    def evaluation_due(self, iteration: int) -> bool:
        return iteration % self.evaluate_every == 0

    def checkpoint_due(self, iteration: int) -> bool:
        return iteration == self.last or (iteration > 0 and iteration % self.checkpoint_every == 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Actions:
    """What the loop does between steps.

    Attributes:
      evaluate: scores the state of an iteration, unless that was done; tells whether it is to be saved for its score.
      save: begins to write a checkpoint of it.
      learning_rate: the step size of the step that ends an iteration.
    """

    evaluate: Callable[[TrainState, int], bool]
    save: Callable[[TrainState, int], None]
    learning_rate: Callable[[int], float]


def fit(
    state: TrainState,
    schedule: Schedule,
    *,
    step: Step,
    batches: Iterator[Mapping[str, np.ndarray]],
    mesh: Mesh,
    actions: Actions,
    divergence: Divergence,
    log: Log,
    bar: Progress,
    agree: Callable[[bool, int], bool] = lambda wanted, _: wanted,
) -> TrainState:
    """Trains until the schedule's last iteration.

    At each iteration, first the losses so far are looked at and logged, then the state is scored, then saved: what a
    checkpoint stands for is complete when the checkpoint is. Ctrl-C saves before it ends the loop.

    Args:
      state: to begin with; its memory is taken over.
      schedule: when what happens.
      step: of `make_train_step`.
      batches: from the state's iteration on, with "waveform" and "target".
      mesh: of `data_mesh`.
      actions: what happens.
      divergence: decides what becomes of steps whose loss or gradients are not finite.
      log: gets a line per step.
      bar: shows the progress.
      agree: told after each step whether Ctrl-C was pressed, answers whether to stop; the same in all processes.

    Returns:
      The last state.

    Raises:
      InputError: a loss or gradient is not finite, and the run is not to go on.
      Stopped: someone pressed Ctrl-C; the state is saved.
      KeyboardInterrupt: someone pressed it again, or before the first step; nothing more is saved.
    """
    iteration = int(state.iteration)
    watch = _Watch(log, bar, divergence, actions.learning_rate, iteration, schedule.last)
    if schedule.evaluation_due(iteration):
        actions.evaluate(state, iteration)
    if iteration >= schedule.last:
        actions.save(state, iteration)
    with first_interruption_noted("panns-jax train", _NOTED) as interrupted:
        while iteration < schedule.last:
            with watch.waiting():
                batch = next(batches)
            rows = len(batch["target"]) * (mesh.size // len(mesh.local_devices))
            state, report = step(state, place({name: batch[name] for name in ("waveform", "target")}, mesh))
            iteration += 1
            stop = agree(interrupted.is_set(), iteration)
            save = stop or schedule.checkpoint_due(iteration)
            evaluate = schedule.evaluation_due(iteration)
            watch.add(iteration, report, rows)
            watch.look(state, now=save or evaluate)
            if evaluate:
                with watch.paused():
                    save |= actions.evaluate(state, iteration)
            if save:
                actions.save(state, iteration)
            if stop and iteration < schedule.last:
                raise Stopped
    return state


class _Watch:
    """Looks at the losses now and then, logs them, and shows loss, step size, speed and time left."""

    def __init__(
        self,
        log: Log,
        bar: Progress,
        divergence: Divergence,
        learning_rate: Callable[[int], float],
        iteration: int,
        last: int,
    ) -> None:
        self._log = log
        self._bar = bar
        self._divergence = divergence
        self._learning_rate = learning_rate
        self._last = last
        self._task = bar.add_task(
            "training", total=last, completed=iteration, note="compiling" if iteration < last else ""
        )
        self._pending: collections.deque[tuple[int, StepReport]] = collections.deque()
        self._iteration = iteration
        self._compiling = True  # in the first step, whose time says nothing of the speed
        self._begin()

    def _begin(self) -> None:
        self._since = time.monotonic()
        self._waited = 0.0
        self._rows = 0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Time inside is time that training waits for data."""
        start = time.monotonic()
        yield
        self._waited += time.monotonic() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time inside does not count."""
        start = time.monotonic()
        yield
        self._since += time.monotonic() - start

    def add(self, iteration: int, report: StepReport, rows: int) -> None:
        """Takes note of a step that was sent to the device, and waits while too many are under way there."""
        self._pending.append((iteration, report))
        if self._compiling:
            self._compiling = False
            jax.block_until_ready(report.loss)
            self._begin()
            self._compiled = iteration, self._since
            return
        self._rows += rows
        if len(self._pending) > IN_FLIGHT:
            jax.block_until_ready(self._pending[-1 - IN_FLIGHT][1].loss)

    def look(self, state: TrainState, *, now: bool) -> None:
        """Logs the steps that are done, if it is time to; with `now`, all of them."""
        elapsed = time.monotonic() - self._since
        if not now and (elapsed < _LOOK_EVERY or len(self._pending) <= IN_FLIGHT):
            return
        while self._pending and (now or len(self._pending) > IN_FLIGHT):
            self._log_step(*self._pending.popleft(), state)
        elapsed = time.monotonic() - self._since
        if self._rows:
            speed, wait = self._rows / elapsed, self._waited / elapsed
            rate = self._learning_rate(self._iteration)
            figures = {"clips_per_second": speed, "data_wait": wait, "learning_rate": rate}
            self._log.write("speed", self._iteration, figures)
            self._show(f"learning rate {rate:.2e}, {speed:.0f} clips/s, data wait {wait:.0%}")
        self._log.flush()
        self._begin()

    def _log_step(self, iteration: int, report: StepReport, state: TrainState) -> None:
        loss, norm = (float(value) for value in jax.device_get((report.loss, report.gradient_norm)))
        self._iteration, self._loss = iteration, loss
        self._log.write("step", iteration, {"loss": loss, "gradient_norm": norm})
        self._divergence.look(iteration, loss, report, state.params)

    def _show(self, note: str) -> None:
        note = f"loss {self._loss:.4f}, {note}"
        self._bar.update(self._task, completed=self._iteration, note=note)
        if not (self._bar.disable or self._bar.console.is_terminal):  # where the bar shows only its end
            left = f", {self._time_left()} left" if self._iteration < self._last else ""
            print(f"iteration {self._iteration} of {self._last}: {note}{left}", file=sys.stderr)

    def _time_left(self) -> datetime.timedelta:
        """At the pace since the first step, with whatever else was done between steps."""
        first, since = self._compiled
        each = (time.monotonic() - since) / max(self._iteration - first, 1)
        return datetime.timedelta(seconds=round(each * (self._last - self._iteration)))
