"""`panns-jax TASK …`: finds the task, reads its options, runs it.

A task is a dataclass of options with a method `run() -> int` (the exit code), beside the code that does the work.
Its module is imported when the task is asked for, so that `panns-jax --help` costs next to nothing.
"""

import dataclasses
import difflib
import errno
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, Protocol, cast

from panns_jax.errors import InputError
from panns_jax.interruption import (
    INTERRUPTED,
    imports_not_interrupted,
    interruptions_not_lost,
    leave,
    leave_at_once,
    leaves_at_once,
)
from panns_jax.options import told_in_a_sentence
from panns_jax.process import begin_command, begin_compiling


class Options(Protocol):
    """The options of a task, ready to run."""

    def run(self) -> int:
        """Does the task; returns 0, or 1 where some inputs failed and the rest were done."""
        ...


@dataclasses.dataclass(frozen=True)
class Task:
    """A task, as the list of tasks knows it.

    Attributes:
      options: where its options are found, as "module:class".
      summary: what it does, in a line.
      compiles: whether it runs models, whose programs are worth keeping.
    """

    options: str
    summary: str
    compiles: bool = False


TASKS = {
    "tag": Task("panns_jax.infer.tagging:Tag", "name what is heard in sound files", compiles=True),
    "detect": Task("panns_jax.infer.detection:Detect", "find sound events, from where to where", compiles=True),
    "evaluate-events": Task(
        "panns_jax.infer.event_evaluation:EvaluateEvents", "score detected events against a reference by sed_eval"
    ),
    "embed": Task(
        "panns_jax.infer.embedding:Embed", "write vectors of sound files, as many as there are", compiles=True
    ),
    "merge": Task("panns_jax.infer.merging:Merge", "join the vectors that embed --shard wrote"),
    "listen": Task("panns_jax.infer.listening:Listen", "name what a microphone hears, as it goes on", compiles=True),
    "distance": Task("panns_jax.infer.distance:Distance", "compare two sets of sounds: FAD, KL, IS", compiles=True),
    "export": Task(
        "panns_jax.infer.export.options:Export", "write a model as ONNX or StableHLO for other runtimes", compiles=True
    ),
    "models": Task("panns_jax.pretrained.cards:Models", "list the published models"),
    "info": Task("panns_jax.pretrained.cards:Info", "tell all of a model: input, time step, outputs, scores, source"),
    "fetch": Task("panns_jax.pretrained.fetch:Fetch", "download and convert released checkpoints ahead of their use"),
    "convert": Task("panns_jax.pretrained.convert:Convert", "PyTorch checkpoint (.pth) to one safe, mapped file"),
    "download": Task("panns_jax.data.download:Download", "the clips of a segments csv from the web, as wav files"),
    "split": Task("panns_jax.data.split:Split", "a large segments csv to part files, as published"),
    "pack": Task("panns_jax.data.pack:Pack", "segments csv and a folder of sounds to a waveforms HDF5 file"),
    "index": Task("panns_jax.data.index:Index", "list the clips of waveforms files for training and evaluation"),
    "check": Task("panns_jax.data.check:Check", "find what is wrong with the HDF5 files of a workspace"),
    "workspace-to-tfds": Task(
        "panns_jax.data.labelled.tfds_builder:WorkspaceToTfds", "a packed workspace as a TensorFlow data set"
    ),
    "describe": Task("panns_jax.data.labelled.describe:Describe", "what labelled sounds of your own are like"),
    "train": Task(
        "panns_jax.train.options:Train",
        "train a model on a workspace; same as python -m panns_jax.train",
        compiles=True,
    ),
    "finetune": Task(
        "panns_jax.train.finetune.options:Finetune",
        "make a classifier of one's own classes from labelled sounds",
        compiles=True,
    ),
    "configs": Task("panns_jax.train.paper.options:Configs", "list the presets: every experiment of the paper"),
    "table": Task(
        "panns_jax.train.paper.options:PaperTable", "print the paper's tables, with your own results beside them"
    ),
    "evaluate": Task(
        "panns_jax.train.evaluation:Evaluate",
        "score a checkpoint on an index file or labelled sounds",
        compiles=True,
    ),
    "plot": Task("panns_jax.plots.options:Plot", "the figures of the paper, and of runs of your own"),
}


def main(arguments: Sequence[str] | None = None, *, prog: str = "panns-jax") -> None:
    """Runs one task and exits: 0 done, 1 done but for the inputs named, 2 bad input, 130 interrupted.

    Without arguments, this process is the command, and its own are taken.
    """
    if arguments is None:
        begin_command()
        _exit(_guarded(sys.argv[1:], prog), leave=leave)
    _exit(_guarded(list(arguments), prog))


def run_task(name: str, arguments: Sequence[str], *, prog: str, tasks: Mapping[str, Task] = TASKS) -> None:
    """Runs the task `name` as a command of its own, such as `python -m panns_jax.train`, and exits."""
    _exit(_guarded([name, *arguments], prog, shown=prog, tasks=tasks))


def _exit(code: int, *, leave: Callable[[int], NoReturn] = sys.exit) -> NoReturn:
    if code == INTERRUPTED or leaves_at_once():
        leave_at_once(code)
    leave(code)


def _guarded(
    arguments: Sequence[str], prog: str, *, shown: str | None = None, tasks: Mapping[str, Task] = TASKS
) -> int:
    _replace_closed_streams()
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(errors="backslashreplace")  # a file may have a name that the terminal cannot show
    try:
        with interruptions_not_lost(), imports_not_interrupted():
            try:
                return _dispatch(arguments, prog, shown, tasks)
            finally:
                sys.stdout.flush()  # here it can still be handled that the reader has gone
    except InputError as error:
        print(f"{shown or prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{shown or prog}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does; what it wanted it has.
        _drop_output()
        return 0
    except OSError as error:
        if error.filename is not None:  # a path that cannot even be looked at, such as one of an overlong name
            print(f"{shown or prog}: {os.fsdecode(error.filename)}: {error.strerror}", file=sys.stderr)
            return 2
        if error.errno != errno.ENOSPC:
            raise
        _drop_output()
        print(f"{shown or prog}: the output cannot be written: {error.strerror}", file=sys.stderr)
        return 2


def _replace_closed_streams() -> None:
    """Without a standard stream, as after `>&-`, Python has None in its place, and the next file takes its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _drop_output() -> None:
    """What is still to be written to standard output goes nowhere: its end would fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(arguments: Sequence[str], prog: str, shown: str | None, tasks: Mapping[str, Task]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help(prog))
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(_version())
        return 0
    name, *rest = arguments
    if name not in tasks:
        near = difflib.get_close_matches(name, tasks, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"see {prog} --help"
        raise InputError(f"there is no task {name!r}; {hint}")
    options = _parse(tasks[name], rest, shown or f"{prog} {name}")
    if tasks[name].compiles:
        begin_compiling()
    return options.run()


def _parse(task: Task, arguments: Sequence[str], prog: str) -> Options:
    module_name, class_name = task.options.split(":")
    options_class: Any = getattr(importlib.import_module(module_name), class_name)
    with told_in_a_sentence(prog):
        if parse := getattr(options_class, "parse", None):  # a task with habits of its own, such as presets
            return cast(Options, parse(arguments, prog=prog))
        import tyro

        return cast(Options, tyro.cli(options_class, args=list(arguments), prog=prog))


def _help(prog: str) -> str:
    width = max(map(len, TASKS))
    lines = [f"  {name:<{width}}  {task.summary}" for name, task in TASKS.items()]
    return "\n".join(
        [
            f"usage: {prog} TASK [options]",
            "",
            "PANNs, pretrained audio neural networks for the 527 classes of AudioSet, in JAX.",
            "",
            "tasks:",
            *lines,
            "",
            f"{prog} TASK --help tells a task's options.",
        ]
    )


def _version() -> str:
    from importlib.metadata import version

    return f"panns_jax {version('panns_jax')}"
