"""Training checkpoints: complete or absent, written while training goes on."""

import contextlib
import errno
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, EveryNSteps, LatestN

from panns_jax.errors import InputError
from panns_jax.models.config import ModelConfig
from panns_jax.pretrained.training import META, MODEL, OPTIMIZER, reading_checkpoint, require_shapes
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

    def __init__(self, run: Path, config: ModelConfig, options: dict[str, Any], *, keep: int) -> None:
        """Opens or creates the folder.

        Args:
          run: folder of the run.
          config: of the model that is trained; saved with each checkpoint.
          options: the resolved options of the run, likewise.
          keep: how many of the newest checkpoints stay, beside those of every 100,000th iteration; 0 for all.
        """
        self._run = run
        self._meta = {"model_config": config.to_json(), "options": options}
        policy = AnyPreservationPolicy([LatestN(keep), EveryNSteps(KEPT_FOR_GOOD)]) if keep else None
        self._manager = ocp.CheckpointManager(
            run.absolute(),
            options=ocp.CheckpointManagerOptions(cleanup_tmp_directories=True, preservation_policy=policy),
            item_names=(MODEL, OPTIMIZER, META),
        )

    def __enter__(self) -> "Checkpoints":
        # What fails is raised as well, and told once instead of by every thread and task.
        self._levels = [(log, log.level) for log in map(logging.getLogger, _LOGS)]
        for log, _ in self._levels:
            log.setLevel(logging.CRITICAL)
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            with self._named_errors():
                self._manager.close()
        finally:
            for log, level in self._levels:
                log.setLevel(level)

    def save(self, state: TrainState, iteration: int) -> None:
        """Begins to write the state of an iteration; does nothing where it is there already.

        Raises:
          InputError: this checkpoint, or the one before it, cannot be written.
        """
        if iteration in self._manager.all_steps():
            return
        items = ocp.args.Composite(
            **{
                MODEL: ocp.args.StandardSave(_weights(state)),
                OPTIMIZER: ocp.args.StandardSave(state.optimizer),
                META: ocp.args.JsonSave({"iteration": iteration, **self._meta}),
            }
        )
        self.wait()
        with self._named_errors():
            _require_room(self._run, state)
            self._manager.save(iteration, args=items, force=True)

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
        items = ocp.args.Composite(
            **{
                MODEL: ocp.args.StandardRestore(_weights(abstract)),
                OPTIMIZER: ocp.args.StandardRestore(abstract.optimizer),
            }
        )
        folder = self._run / str(iteration)
        with self._told_how_to_go_on(iteration):
            require_shapes(folder, MODEL, _weights(abstract))
            require_shapes(folder, OPTIMIZER, abstract.optimizer)
            with reading_checkpoint(folder):
                read: Any = self._manager.restore(iteration, args=items)
        place: Any = abstract.iteration.sharding
        at = jax.device_put(np.int32(iteration), place)
        return TrainState(iteration=at, optimizer=read[OPTIMIZER], **read[MODEL])

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


def _require_room(folder: Path, state: TrainState) -> None:
    """Finds a full disk before Orbax does, which then leaves tracebacks of its threads behind."""
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves((state.params, state.batch_stats, state.optimizer)))
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


def _weights(state: TrainState) -> dict[str, Any]:
    return {"params": state.params, "batch_stats": state.batch_stats}
