"""Training checkpoints: complete or absent, written while training goes on."""

import contextlib
import errno
import logging
import math
import os
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import Array, Bool
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, EveryNSteps, LatestN, PreservationPolicy

from panns_jax.errors import InputError
from panns_jax.models.config import ModelConfig
from panns_jax.pretrained.training import (
    AVERAGE,
    META,
    MODEL,
    OPTIMIZER,
    SCORE,
    checkpoint_score,
    late_work_dropped,
    reading_checkpoint,
    require_shapes,
)
from panns_jax.train.step import TrainState

KEPT_FOR_GOOD = 100_000
"""Checkpoints of multiples of this iteration, the published cadence, stay when older ones are removed."""


# Where Orbax, and asyncio on its behalf, write to.
_LOGS = ("absl", "asyncio")


class Checkpoints:
    """The checkpoints of a run, in a folder of which it alone writes; use as a context manager.

    Where a run has several processes, all of them do the same with it, at the same iterations, in the same folder.

    A checkpoint is written in the background, in a folder of another name, which is renamed when it is complete: a
    run that is killed leaves complete checkpoints only, and what it was writing is removed when it is started again.
    """

    def __init__(
        self, run: Path, config: ModelConfig, options: dict[str, Any], *, keep: int, keep_best: int = 0
    ) -> None:
        """Opens or creates the folder.

        Args:
          run: folder of the run.
          config: of the model that is trained; saved with each checkpoint.
          options: the resolved options of the run, likewise.
          keep: how many of the newest checkpoints stay, beside those of every 100,000th iteration; 0 for all.
          keep_best: how many stay for their score.
        """
        self._run = run
        self._meta = {"model_config": config.to_json(), "options": options}
        self._best = _Best(keep_best)
        kept = AnyPreservationPolicy([LatestN(keep), EveryNSteps(KEPT_FOR_GOOD), self._best])
        self._manager = ocp.CheckpointManager(
            run.absolute(),
            options=ocp.CheckpointManagerOptions(
                cleanup_tmp_directories=True, preservation_policy=kept if keep else None
            ),
            item_names=(MODEL, OPTIMIZER, AVERAGE, META),
        )
        for iteration in self._manager.all_steps():
            with contextlib.suppress(InputError):  # damaged: found out by who restores it
                self._best.add(iteration, checkpoint_score(run / str(iteration)))

    def __enter__(self) -> "Checkpoints":
        # What fails is raised as well, and told once instead of by every thread and task.
        self._levels = [(log, log.level) for log in map(logging.getLogger, _LOGS)]
        for log, _ in self._levels:
            log.setLevel(logging.CRITICAL)
        self._silence = late_work_dropped(self._run)
        self._silence.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._named_errors():
                self._manager.close()
        finally:
            for log, level in self._levels:
                log.setLevel(level)
        self._silence.__exit__(kind, error, trace)  # not where closing failed: it is to stay then

    def among_best(self, score: float) -> bool:
        """Whether a checkpoint of this score would be kept for it: at most `keep_best` - 1 are better."""
        return self._best.has_place_for(score)

    def save(self, state: TrainState, iteration: int, score: float | None = None) -> None:
        """Begins to write the state of an iteration; does nothing where it is there already.

        Args:
          state: of the iteration; finite, as a checkpoint that is not would be of no use to anybody.
          iteration: the steps done.
          score: how good it is, if that is known; the greater, the better.

        Raises:
          InputError: this checkpoint, or the one before it, cannot be written; or the state is not finite.
        """
        if iteration in self._manager.all_steps():
            return
        if not _all_finite(state):
            raise InputError(
                f"the weights of iteration {iteration} are not finite, and are not saved; go on from an earlier"
                " checkpoint (--resume-iteration), or anew (--fresh) with a smaller --learning-rate"
            )
        items = {
            **{item: ocp.args.StandardSave(tree) for item, tree in _trees(state).items()},
            META: ocp.args.JsonSave({"iteration": iteration, SCORE: score, **self._meta}),
        }
        self.wait()
        self._best.add(iteration, score)
        with self._named_errors():
            _require_room(self._run, state)
            self._manager.save(iteration, args=ocp.args.Composite(**items), force=True)

    def wait(self) -> None:
        """Returns when all is written.

        Raises:
          InputError: it cannot be written.
        """
        with self._named_errors():
            self._manager.wait_until_finished()

    def restore(self, iteration: int, abstract: TrainState) -> TrainState:
        """Reads the state of an iteration onto the devices that `abstract` names.

        Raises:
          InputError: the checkpoint is damaged.
        """
        trees = _trees(abstract)
        items = ocp.args.Composite(**{item: ocp.args.StandardRestore(tree) for item, tree in trees.items()})
        folder = self._run / str(iteration)
        with self._told_how_to_go_on(iteration):
            for item, tree in trees.items():
                require_shapes(folder, item, tree)
            with reading_checkpoint(folder):
                read: Any = self._manager.restore(iteration, args=items)
        place: Any = abstract.iteration.sharding
        at = jax.device_put(np.int32(iteration), place)
        return TrainState(iteration=at, optimizer=read[OPTIMIZER], average=read.get(AVERAGE), **read[MODEL])

    @contextlib.contextmanager
    def _told_how_to_go_on(self, iteration: int) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            earlier = [step for step in self._manager.all_steps() if step < iteration]
            way = f"--resume-iteration {max(earlier)}" if earlier else "--fresh"
            raise InputError(f"{error} (here: {way})") from error

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:  # TensorStore raises ValueErrors where a disk is full
            _wait_for_orbax()
            for part in self._run.glob("*.orbax-checkpoint-tmp") if jax.process_index() == 0 else ():
                shutil.rmtree(part, ignore_errors=True)
            raise InputError(f"{self._run}: the checkpoint cannot be written: {_reason(error)}") from error


class _Best(PreservationPolicy):
    """Keeps the checkpoints of the best scores; of equal ones the newest."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._scores: dict[int, float] = {}

    def add(self, iteration: int, score: float | None) -> None:
        if score is not None and math.isfinite(score):
            self._scores[iteration] = score

    def has_place_for(self, score: float) -> bool:
        return math.isfinite(score) and sum(other > score for other in self._scores.values()) < self._count

    def should_preserve(self, checkpoints: Sequence[Any], *, context: object) -> list[bool]:
        del context
        scored = [info.step for info in checkpoints if info.step in self._scores]
        ranked = sorted(scored, key=lambda iteration: (self._scores[iteration], iteration), reverse=True)
        return [info.step in ranked[: self._count] for info in checkpoints]


@jax.jit
def _all_finite(state: TrainState) -> Bool[Array, ""]:
    floats = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.array([jnp.isfinite(leaf).all() for leaf in floats]).all()


def _require_room(folder: Path, state: TrainState) -> None:
    """Finds a full disk before Orbax does, which then leaves tracebacks of its threads behind."""
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(_trees(state)))
    free = shutil.disk_usage(folder).free
    if free < needed:
        told = f"it takes {needed / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free"
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {told}")


def _wait_for_orbax() -> None:
    """Waits for daemon threads that still write the other items of a checkpoint, of which one has failed."""
    for thread in threading.enumerate():
        if type(thread).__module__.startswith("orbax."):
            threading.Thread.join(thread, timeout=60)  # their own `join` raises what they ended with


def _reason(error: Exception) -> str:
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(code[1]))
    return getattr(error, "strerror", None) or " ".join(str(error).split())


def _trees(state: TrainState) -> dict[str, Any]:
    """What is saved of a state, by the items of a checkpoint."""
    trees = {MODEL: {"params": state.params, "batch_stats": state.batch_stats}, OPTIMIZER: state.optimizer}
    return trees if state.average is None else {**trees, AVERAGE: state.average}
