"""A run of training from its options to its last checkpoint."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import jax
import numpy as np
from rich.progress import Progress

from panns_jax.data.pipeline import evaluation_batches, training_batches
from panns_jax.data.sources import ClipSource
from panns_jax.errors import InputError
from panns_jax.pretrained.training import checkpoint_steps
from panns_jax.progress import progress_bar
from panns_jax.train.checkpoints import Checkpoints
from panns_jax.train.divergence import Clips, Divergence
from panns_jax.train.evaluation import BrokenWeights, evaluate
from panns_jax.train.experiment import Experiment, prepare
from panns_jax.train.hosts import Hosts, joined
from panns_jax.train.log import Log, NoLog, RunLog
from panns_jax.train.loop import IN_FLIGHT, Actions, Schedule, fit
from panns_jax.train.metrics import Scores
from panns_jax.train.options import DEFAULTS, FREE, option
from panns_jax.train.placement import placement
from panns_jax.train.program import make_program
from panns_jax.train.report import extreme_classes
from panns_jax.train.runs import Run, branch_off, next_run, of_same_options, run_with_checkpoint, started_runs
from panns_jax.train.statistics import Statistics
from panns_jax.train.step import TrainState, architecture, make_predict, own_rows, place

if TYPE_CHECKING:
    from panns_jax.train.options import Train


def train(options: "Train") -> None:
    """Does what the options ask for, going on where the run stopped.

    Raises:
      InputError: something is missing or does not fit, and nothing was made; or training has diverged.
    """
    place = placement(options.coordinator, options.processes, options.process, os.environ)
    with joined(place, _told_to_others(options), in_flight=IN_FLIGHT) as hosts:
        _train(options, hosts)


def _told_to_others(options: "Train") -> dict[str, str]:
    """What must be the same in all processes of a run; the workspace may have another path on each machine."""
    own = {"workspace", "workers", "coordinator", "processes", "process"}
    given = {option(name): str(value) for name, value in dataclasses.asdict(options).items() if name not in own}
    return {**given, "JAX": jax.__version__}


def _train(options: "Train", hosts: Hosts) -> None:
    experiment = prepare(options)
    run, begun = _choose_together(experiment, hosts)
    if begun is not None and begun > options.early_stop:
        if hosts.first:
            done = f"iteration {begun} is done, and --early-stop is {options.early_stop}"
            print(f"{run.checkpoints}: {done}: nothing to do")
        return
    with contextlib.ExitStack() as stack:
        if hosts.first:
            stack.enter_context(run.alone())
            run.create(experiment.resolved(), branched_at=run.branched_at)
            print(f"{run.checkpoints}: {'begins' if begun is None else f'goes on from iteration {begun}'}", flush=True)
        mark = hosts.share(run.config.stat().st_mtime_ns if hosts.first else None)
        run.require_shared(mark)
        with memory_told():
            _go_on(experiment, run, begun, hosts, stack)


@contextlib.contextmanager
def memory_told() -> Iterator[None]:
    """Inside, the error of a machine or a device whose memory does not suffice becomes a sentence.

    Raises:
      InputError: in place of it.
    """
    try:
        yield
    except MemoryError as error:
        raise InputError("the memory of this machine does not suffice; try a smaller --batch-size") from error
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(
            "the memory of the device does not suffice; try --precision bf16, --rematerialize blocks,"
            " --accumulation-steps 2 or more, or a smaller --batch-size"
        ) from error


def _choose_together(experiment: Experiment, hosts: Hosts) -> tuple[Run, int | None]:
    """What process 0 chooses: what is in the folder may be changing by the time that another one looks."""
    run, begun = _choose_run(experiment) if hosts.first else (None, None)
    name, begun = hosts.share((run and run.name, begun))
    return Run(experiment.options.workspace, name), begun


def _free(options: "Train") -> frozenset[str]:
    # A learning rate that falls to 0 at the last iteration depends on which that is.
    return FREE if options.learning_rate_decay == "constant" else FREE - {"early_stop"}


def _choose_run(experiment: Experiment) -> tuple[Run, int | None]:
    """The run, and the iteration whose checkpoint it goes on from, or None."""
    options, name = experiment.options, experiment.run_name
    if options.fresh:
        return next_run(options.workspace, name), None
    runs = of_same_options(started_runs(options.workspace, name), experiment.resolved(), _free(options), DEFAULTS)
    wanted = options.resume_iteration
    if not wanted and not runs:
        return next_run(options.workspace, name), None
    run = run_with_checkpoint(runs, wanted) if wanted else runs[0]
    steps = checkpoint_steps(run.checkpoints)
    # A command that branched off and is given again goes on with its branch.
    if not wanted or wanted in (run.branched_at, *steps[-1:]):
        return run, steps[-1] if steps else None
    branch = next_run(options.workspace, name)
    branch_off(run, branch, wanted)
    branch.create(experiment.resolved(), branched_at=wanted)
    print(f"{run.checkpoints}: has later checkpoints and is left as it is", flush=True)
    return branch, wanted


def _go_on(experiment: Experiment, run: Run, begun: int | None, hosts: Hosts, stack: contextlib.ExitStack) -> None:
    options, mesh = experiment.options, experiment.mesh
    program = make_program(options, experiment.model, mesh)
    checkpoints = stack.enter_context(
        Checkpoints(
            run.checkpoints,
            experiment.model,
            experiment.resolved(),
            keep=options.keep_checkpoints,
            keep_best=options.keep_best,
        )
    )
    state = program.fresh_state() if begun is None else checkpoints.restore(begun, program.abstract_state())
    log = stack.enter_context(RunLog(run.logs, until=begun) if hosts.first else NoLog(run.logs))
    log.write("start", begun or 0)
    statistics = Statistics(run.statistics, until=begun, writes=hosts.first)
    bar = stack.enter_context(progress_bar("steps", shown=hosts.first))
    scorer = _Scorer(experiment, statistics, log, bar)

    def scored_among_best(state: TrainState, iteration: int) -> bool:
        score = statistics.score(iteration) if scorer(state, iteration) else None
        return iteration > 0 and score is not None and checkpoints.among_best(score)

    batches = training_batches(
        experiment.train,
        experiment.sampler,
        batch_rows=experiment.batch_rows,
        start=begun or 0,
        workers=options.workers,
        own=own_rows(experiment.batch_rows, mesh),
    )
    stack.enter_context(batches)
    stack.enter_context(hosts.telling(lambda: max(checkpoint_steps(run.checkpoints), default=None)))
    fit(
        state,
        Schedule(
            last=options.early_stop,
            evaluate_every=options.evaluate_every,
            checkpoint_every=options.checkpoint_every,
        ),
        step=program.step(),
        batches=batches,
        mesh=mesh,
        actions=Actions(
            evaluate=scored_among_best,
            save=lambda state, iteration: checkpoints.save(state, iteration, statistics.score(iteration)),
            learning_rate=program.learning_rate,
        ),
        divergence=_divergence(experiment, log, bar),
        log=log,
        bar=bar,
        agree=hosts.agree,
    )
    checkpoints.wait()


def _divergence(experiment: Experiment, log: Log, bar: Progress) -> Divergence:
    def clips(iteration: int) -> Clips:
        """The clips that a step was trained on, read once more."""
        with training_batches(
            experiment.train, experiment.sampler, batch_rows=experiment.batch_rows, start=iteration - 1
        ) as batches:
            batch = next(batches)
        broken = ~np.isfinite(batch["waveform"]).all(axis=1)
        return Clips(batch["audio_name"].tolist(), batch["audio_name"][broken].tolist())

    def tell(text: str) -> None:
        if not bar.disable:  # as in processes whose run is told of by another
            bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    return Divergence(log, clips, skip=experiment.options.on_nan == "skip", tell=tell)


class _Scorer:
    """Scores a state on both sets, unless it was, and tells the result."""

    def __init__(self, experiment: Experiment, statistics: Statistics, log: Log, bar: Progress) -> None:
        self._experiment = experiment
        self._statistics = statistics
        self._log = log
        self._bar = bar
        self._predict = make_predict(architecture(experiment.model, experiment.options.precision), experiment.mesh)

    def __call__(self, state: TrainState, iteration: int) -> bool:
        """Tells whether there was something to score."""
        if iteration in self._statistics:
            return False
        try:
            scores = {
                "bal": self._score(state, self._experiment.bal, "scoring bal"),
                "test": self._score(state, self._experiment.test, "scoring test"),
            }
        except BrokenWeights as error:
            raise InputError(
                f"training has diverged: at iteration {iteration} the model's predictions are not finite; try a smaller"
                " --learning-rate, go on from an earlier checkpoint (--resume-iteration) or anew (--fresh)"
            ) from error
        self._statistics.add(iteration, scores)
        figures = {}
        for part, of in scores.items():
            figures |= {
                f"{part}_mAP": of.mean_average_precision,
                f"{part}_mAUC": of.mean_auc,
                f"{part}_d_prime": of.d_prime,
            }
        best, worst = extreme_classes(scores["test"], self._experiment.model.labels)
        self._log.write("evaluation", iteration, figures, test_best=best, test_worst=worst)
        self._log.flush()  # a checkpoint of this iteration stands for its evaluation too
        if not self._bar.disable:
            print(f"iteration {iteration}: {_listed(figures)}")
            print(f"  best classes: {_listed(best)}; worst: {_listed(worst)}", flush=True)
        return True

    def _score(self, state: TrainState, source: ClipSource, told: str) -> Scores:
        options, mesh = self._experiment.options, self._experiment.mesh
        params, batch_stats = state.scored
        task = self._bar.add_task(told, total=len(source), note="")
        own = own_rows(options.batch_size, mesh)
        with evaluation_batches(source, batch_size=options.batch_size, workers=options.workers, own=own) as batches:
            scores = evaluate(
                lambda waveform: self._predict(params, batch_stats, place({"waveform": waveform}, mesh)["waveform"]),
                batches,
                clips=len(source),
                advance=lambda clips: self._bar.advance(task, clips),
            )
        self._bar.remove_task(task)
        return scores


def _listed(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
