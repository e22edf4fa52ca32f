"""One step of a run on generated data: what it takes, and which data the run itself would need."""

import dataclasses
import math
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import jax
import numpy as np

from panns_jax.errors import InputError
from panns_jax.models.config import ModelConfig
from panns_jax.train.experiment import Experiment, batch_rows, checked_mesh, configured_model, index_places, prepare
from panns_jax.train.program import Program, make_program
from panns_jax.train.step import StepReport, place
from panns_jax.train.training import memory_told

if TYPE_CHECKING:
    from panns_jax.train.options import Train

_CLASSES = 527
_SECONDS = 10
_CLIPS = {"full_train": 1_934_187, "balanced_train": 20_550, "eval": 18_887}
"""That the paper's authors could download, of AudioSet's training sets and its evaluation set."""
_BYTES = 2 * _SECONDS * 32000  # of a clip, as the published files hold it
_SHORT = 1.0  # seconds: a step that takes less is taken some times more, as the first one is no measure of the others
_MORE = 5


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a step took.

    Attributes:
      parameters: number of weights that training changes.
      compiling: seconds until the step was compiled.
      seconds: of a step.
      report: of the first step.
      planned: bytes that the compiled step takes, with weights and optimizer.
      held: of these, bytes of weights and optimizer.
      peak: bytes that the first device held at most; None where it does not tell.
    """

    parameters: int
    compiling: float
    seconds: float
    report: StepReport
    planned: int
    held: int
    peak: int | None


def dry_run(options: "Train") -> None:
    """Builds what a run would build, takes a step on generated data, and tells about it; nothing is written.

    Raises:
      InputError: an option is out of its range, or the memory does not suffice.
    """
    options.check()
    model, mesh = configured_model(options, _CLASSES), checked_mesh(options)
    experiment, fault = _prepared(options)
    samples, dtype = _SECONDS * model.sample_rate, np.dtype(np.int16)
    if experiment is not None:
        model, samples, dtype = experiment.model, experiment.train.samples, experiment.train.dtype
    rows = batch_rows(options)
    for line in _about(options, model, samples, rows, mesh.size):
        print(line, flush=True)
    with memory_told():
        trial = take_step(make_program(options, model, mesh), rows=rows, samples=samples, dtype=dtype)
    for line in (*_told(trial, options), *_needed(options, experiment, fault)):
        print(line)


def take_step(program: Program, *, rows: int, samples: int, dtype: np.dtype[Any]) -> Trial:
    """Takes a step on noise.

    Args:
      program: of the run.
      rows: clips to generate.
      samples: length of each.
      dtype: int16 or float32, as the files of the data hold.
    """
    state = program.fresh_state()
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params))
    batch = place(generated_batch(rows, samples, program.model.num_classes, dtype), program.mesh)
    begun = time.perf_counter()
    step = cast(Any, program.step()).lower(state, batch).compile()
    compiling = time.perf_counter() - begun
    seconds, reports = [], []
    while not seconds or (seconds[0] < _SHORT and len(seconds) <= _MORE):
        begun = time.perf_counter()
        state, report = jax.block_until_ready(step(state, batch))
        seconds.append(time.perf_counter() - begun)
        reports.append(report)
    analysed = step.memory_analysis()
    return Trial(
        parameters=parameters,
        compiling=compiling,
        seconds=statistics.median(seconds[1:] or seconds),
        report=reports[0],
        planned=analysed.argument_size_in_bytes
        + analysed.output_size_in_bytes
        - analysed.alias_size_in_bytes
        + analysed.temp_size_in_bytes,
        held=sum(leaf.nbytes for leaf in jax.tree.leaves(state)),
        peak=(program.mesh.devices.flat[0].memory_stats() or {}).get("peak_bytes_in_use"),
    )


def generated_batch(rows: int, samples: int, classes: int, dtype: np.dtype[Any]) -> dict[str, np.ndarray]:
    """Noise with about two classes for each clip: "waveform" (rows, samples), "target" (rows, classes) float32."""
    random = np.random.default_rng(0)
    noise = 0.1 * random.standard_normal((rows, samples), np.float32)
    waveform = (noise * 32767).astype(dtype) if dtype.kind == "i" else noise.astype(dtype)
    return {"waveform": waveform, "target": (random.random((rows, classes)) < 2 / classes).astype(np.float32)}


def _prepared(options: "Train") -> tuple[Experiment | None, InputError | None]:
    """The run on the data that there is; or what is wrong with that."""
    if not options.workspace.is_dir():
        return None, None
    try:
        return prepare(options), None
    except InputError as error:
        return None, error


def _about(options: "Train", model: ModelConfig, samples: int, rows: int, devices: int) -> Iterator[str]:
    front = model.frontend
    reads = f"hop {front.hop_size}, window {front.window_size}, {front.mel_bins} mel bins"
    heard = reads if model.body.reads_logmel else "the waveform itself"
    yield f"model: {model.name}, {heard}, {model.num_classes} classes"
    blended = f"{rows} clips blended to {options.batch_size}" if rows > options.batch_size else f"{rows} clips"
    length = f"{samples / model.sample_rate:g} s at {model.sample_rate} Hz"
    backend = jax.default_backend().upper()
    yield f"batch: {blended} of {length}, noise; {options.precision} on {devices} {backend} device{'s'[: devices > 1]}"


def _told(trial: Trial, options: "Train") -> Iterator[str]:
    yield f"parameters: {trial.parameters:,}"
    rate = options.batch_size / trial.seconds
    yield f"step: {trial.seconds:.3f} s ({rate:.1f} clips/s), after {trial.compiling:.1f} s of compilation"
    peak = "" if trial.peak is None else f"; the device held {_size(trial.peak)} at most"
    yield f"memory: {_size(trial.planned)}, of which {_size(trial.held)} are weights and optimizer{peak}"
    yield f"loss: {float(trial.report.loss):.4f}, norm of the gradient {float(trial.report.gradient_norm):.4f}"


def _needed(options: "Train", experiment: Experiment | None, fault: InputError | None) -> Iterator[str]:
    if experiment is not None:
        for source in (experiment.train, experiment.bal, experiment.test):
            yield f"data: {source.index.path}: {len(source):,} clips of {source.samples / source.sample_rate:g} s"
        return
    yield f"data: the run would need, in {options.workspace}{'' if options.workspace.is_dir() else ' (no folder yet)'}:"
    for name in dict.fromkeys((options.data_type, "balanced_train", "eval")):
        path = index_places(options.workspace, name)[0].relative_to(options.workspace)
        clips = _CLIPS[name]
        size = f"{clips * _BYTES / 1e9:,.0f} GB in int16"
        yield f"  {Path(path)}: of AudioSet, {clips:,} clips had been found when the paper was written, {size}"
    if fault is not None:
        yield f"  at present: {fault}"


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
