"""Reads models from the checkpoints of training runs.

A run's folder holds a folder per checkpoint, named after its iteration, as Orbax writes it, with the items `model`
(weights and batch statistics), `optimizer` and `meta` (JSON); where averages were made, also `average` (of weights and
batch statistics).
"""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

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
AVERAGE = "average"
META = "meta"
SCORE = "test_mAP"
"""Entry of `meta`: mAP on the evaluation set, or None where a checkpoint was not scored."""
BEST = "best"
"""Stands for the checkpoint of the best score, behind a run's folder, in paths that need not exist."""
Weights = Literal["auto", "trained", "averaged"]
"""Which weights of a checkpoint: its averages if it has some, those that training goes on with, or its averages."""


def read_training_checkpoint(path: str | os.PathLike[str], weights: Weights = "auto") -> Model:
    """The model of a training checkpoint, on the default device, however many devices it was trained on.

    Args:
      path: folder of a checkpoint, such as `checkpoints/RUN/2000`, or of a run, whose newest checkpoint is taken;
        `checkpoints/RUN/best` is the one of the best score.
      weights: which of its weights.

    Returns:
      The model in evaluation mode.

    Raises:
      InputError: there is no checkpoint, or it is damaged, or holds no averages.
    """
    folder = find_checkpoint(path)
    item = _item(folder, weights)
    config = ModelConfig.from_json(read_meta(folder).get("model_config"), str(folder))
    graph, params, batch_stats = nnx.split(abstract_model(config), nnx.Param, nnx.BatchStat)
    device = SingleDeviceSharding(jax.devices()[0])
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
        {"params": nnx.to_pure_dict(params), "batch_stats": nnx.to_pure_dict(batch_stats)},
    )
    require_shapes(folder, item, target)
    with reading_checkpoint(folder), ocp.StandardCheckpointer() as checkpointer:
        read: Any = checkpointer.restore(folder.absolute() / item, target)
    model = nnx.merge(graph, read["params"], read["batch_stats"])
    model.eval()
    return model


def _item(folder: Path, weights: Weights) -> str:
    has_averages = (folder / AVERAGE).is_dir()
    if weights == "averaged" and not has_averages:
        raise InputError(f"{folder}: holds no averaged weights; it was trained without --ema-decay and --swa-start")
    return AVERAGE if has_averages and weights != "trained" else MODEL


def find_checkpoint(path: str | os.PathLike[str]) -> Path:
    """The folder of a checkpoint: `path` itself, or the newest one where `path` is a run's folder, or its best one.

    Raises:
      InputError: none of these is the case, or the folder may not be looked into.
    """
    path = Path(path)
    try:
        if _is_checkpoint(path):
            return path
        steps = checkpoint_steps(path)
        if steps:
            return path / str(steps[-1])
        if path.name == BEST and not path.exists() and checkpoint_steps(path.parent):
            return _best_checkpoint(path.parent)
        runs = sorted(run.name for run in path.iterdir() if checkpoint_steps(run)) if path.is_dir() else []
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    hint = f"; name one of its runs: {', '.join(runs)}" if runs else ""
    raise InputError(f"{path}: holds no training checkpoint{hint}")


def _best_checkpoint(run: Path) -> Path:
    scores = [
        (score, step) for step in checkpoint_steps(run) if (score := checkpoint_score(run / str(step))) is not None
    ]
    if not scores:
        raise InputError(f"{run}: holds no checkpoint that was scored; name one by its iteration")
    return run / str(max(scores)[1])


def checkpoint_score(folder: Path) -> float | None:
    """mAP on the evaluation set that a checkpoint was saved with; None where it was not scored.

    Raises:
      InputError: the checkpoint is damaged.
    """
    score = read_meta(folder).get(SCORE)
    return float(score) if isinstance(score, int | float) else None


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
        with late_work_dropped(folder):
            yield
    except MemoryError:
        raise
    except PermissionError as error:
        raise InputError(f"{folder}: the checkpoint cannot be read: {error.strerror}") from error
    except Exception as error:  # Orbax raises bare Exceptions too, and tells of index ranges
        raise InputError(f"{folder}: the checkpoint is damaged or incomplete; use another one of its run") from error


@contextlib.contextmanager
def late_work_dropped(folder: Path) -> Iterator[None]:
    """Keeps silent what Orbax leaves behind where it gives up.

    At the first array that cannot be read or written it closes its event loop. Other work that failed, or is still
    under way and cannot report any more, then puts a traceback each on standard error. It ends when it ends: after an
    error, what drops them stays.
    """
    report, logger = sys.unraisablehook, logging.getLogger("asyncio")

    def is_late(error: BaseException | None) -> bool:
        return str(error) == "Event loop is closed" or str(folder.absolute()) in str(error)

    def drop(unraisable: "sys.UnraisableHookArgs") -> None:
        if not is_late(unraisable.exc_value):
            report(unraisable)

    def is_of_others(record: logging.LogRecord) -> bool:
        return not (record.exc_info and is_late(record.exc_info[1]))

    sys.unraisablehook = drop
    logger.addFilter(is_of_others)
    yield
    sys.unraisablehook = report
    logger.removeFilter(is_of_others)


def _is_checkpoint(folder: Path) -> bool:
    return all((folder / item).is_dir() for item in (MODEL, META))
