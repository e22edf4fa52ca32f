"""Training checkpoints: complete or absent, written while training goes on."""

import contextlib
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


class Checkpoints:
    """The checkpoints of a run, in a folder of which it alone writes; use as a context manager.

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
        return self

    def __exit__(self, *exception: object) -> None:
        self._manager.close()

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
        with self._named_errors():
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
        require_shapes(folder, MODEL, _weights(abstract))
        require_shapes(folder, OPTIMIZER, abstract.optimizer)
        with reading_checkpoint(folder):
            read: Any = self._manager.restore(iteration, args=items)
        place: Any = abstract.iteration.sharding
        at = jax.device_put(np.int32(iteration), place)
        return TrainState(iteration=at, optimizer=read[OPTIMIZER], **read[MODEL])

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"{self._run}: the checkpoint cannot be written: {error}") from error


def _weights(state: TrainState) -> dict[str, Any]:
    return {"params": state.params, "batch_stats": state.batch_stats}
