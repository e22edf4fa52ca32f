"""Reads models from the checkpoints of training runs.

A run's folder holds a folder per checkpoint, named after its iteration, as Orbax writes it, with the items `model`
(weights and batch statistics), `optimizer` and `meta` (JSON).
"""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from flax import nnx
from jax.sharding import SingleDeviceSharding

from panns_jax.errors import InputError
from panns_jax.models.abstract import abstract_model
from panns_jax.models.config import ModelConfig
from panns_jax.models.model import Model

MODEL = "model"
OPTIMIZER = "optimizer"
META = "meta"


def read_training_checkpoint(path: str | os.PathLike[str]) -> Model:
    """The model of a training checkpoint, on the default device, however many devices it was trained on.

    Args:
      path: folder of a checkpoint, such as `checkpoints/RUN/2000`, or of a run, whose newest checkpoint is taken.

    Returns:
      The model in evaluation mode.

    Raises:
      InputError: there is no checkpoint, or it is damaged.
    """
    folder = find_checkpoint(path)
    config = ModelConfig.from_json(read_meta(folder).get("model_config"), str(folder))
    graph, params, batch_stats = nnx.split(abstract_model(config), nnx.Param, nnx.BatchStat)
    device = SingleDeviceSharding(jax.devices()[0])
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
        {"params": nnx.to_pure_dict(params), "batch_stats": nnx.to_pure_dict(batch_stats)},
    )
    require_shapes(folder, MODEL, target)
    with reading_checkpoint(folder), ocp.StandardCheckpointer() as checkpointer:
        weights: Any = checkpointer.restore(folder.absolute() / MODEL, target)
    model = nnx.merge(graph, weights["params"], weights["batch_stats"])
    model.eval()
    return model


def find_checkpoint(path: str | os.PathLike[str]) -> Path:
    """The folder of a checkpoint: `path` itself, or the newest one where `path` is a run's folder.

    Raises:
      InputError: neither is the case, or the folder may not be looked into.
    """
    path = Path(path)
    try:
        if _is_checkpoint(path):
            return path
        steps = checkpoint_steps(path)
        if steps:
            return path / str(steps[-1])
        runs = sorted(run.name for run in path.iterdir() if checkpoint_steps(run)) if path.is_dir() else []
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    hint = f"; name one of its runs: {', '.join(runs)}" if runs else ""
    raise InputError(f"{path}: holds no training checkpoint{hint}")


def checkpoint_steps(run: Path) -> list[int]:
    """The iterations of which a run's folder holds checkpoints, ascending; those half-written are not among them."""
    if not run.is_dir():
        return []
    return sorted(int(entry.name) for entry in run.iterdir() if entry.name.isdecimal() and _is_checkpoint(entry))


def read_meta(folder: Path) -> dict[str, Any]:
    """What a checkpoint tells about itself: "iteration", "model_config" and "options".

    Raises:
      InputError: it is missing or damaged.
    """
    with reading_checkpoint(folder), ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
        meta = checkpointer.restore(folder.absolute() / META)
    if not isinstance(meta, dict):
        raise InputError(f"{folder}: is no checkpoint of ours")
    return meta


def require_shapes(folder: Path, item: str, target: Any) -> None:
    """Checks that an item of a checkpoint has the arrays that are asked for.

    Orbax finds that out as well, but leaves broken background work behind.

    Raises:
      InputError: it has others, or is damaged.
    """
    with reading_checkpoint(folder), contextlib.closing(ocp.StandardCheckpointHandler()) as handler:
        there = handler.metadata(epath.Path(folder.absolute() / item)).tree
    wanted = {path: leaf.shape for path, leaf in _leaves(target)}
    if wanted != {path: tuple(leaf.shape) for path, leaf in _leaves(there)}:
        raise InputError(f"{folder}: the checkpoint is of another model than it says")


def _leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree.leaves_with_path(tree):
        # Orbax gives tuples back by their fields' names or as lists: names and numbers are all that is alike.
        yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


@contextlib.contextmanager
def reading_checkpoint(folder: Path) -> Iterator[None]:
    """Inside, whatever Orbax raises on a checkpoint that is damaged becomes one sentence.

    Raises:
      InputError: in place of it.
    """
    try:
        with _late_reads_dropped(folder):
            yield
    except MemoryError:
        raise
    except PermissionError as error:
        raise InputError(f"{folder}: the checkpoint cannot be read: {error.strerror}") from error
    except Exception as error:  # Orbax raises bare Exceptions too, and tells of index ranges
        raise InputError(f"{folder}: the checkpoint is damaged or incomplete; use another one of its run") from error


@contextlib.contextmanager
def _late_reads_dropped(folder: Path) -> Iterator[None]:
    """Keeps silent what Orbax leaves behind where it gives up.

    At the first array that cannot be read it closes its event loop. Other reads that failed, or are still under way and
    cannot report any more, then put a traceback each on standard error. They end when they end: after an error, what
    drops them stays.
    """
    report, logger = sys.unraisablehook, logging.getLogger("asyncio")

    def is_late_read(error: BaseException | None) -> bool:
        return str(error) == "Event loop is closed" or str(folder.absolute()) in str(error)

    def drop(unraisable: "sys.UnraisableHookArgs") -> None:
        if not is_late_read(unraisable.exc_value):
            report(unraisable)

    def is_of_others(record: logging.LogRecord) -> bool:
        return not (record.exc_info and is_late_read(record.exc_info[1]))

    sys.unraisablehook = drop
    logger.addFilter(is_of_others)
    yield
    sys.unraisablehook = report
    logger.removeFilter(is_of_others)


def _is_checkpoint(folder: Path) -> bool:
    return all((folder / item).is_dir() for item in (MODEL, META))
