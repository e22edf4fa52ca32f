"""The options of `panns-jax finetune`."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from panns_jax.data.labelled.options import DataOptions, require_clip_seconds
from panns_jax.errors import InputError

Strategy = Literal["scratch", "fine_tune", "freeze_L1", "freeze_L3"]
Augmentation = Literal["mixup", "spec-augment", "embedding-mixup", "none"]

_EPOCHS = {"scratch": 50, "fine_tune": 30, "freeze_L1": 100, "freeze_L3": 100}
_LEARNING_RATE = {"scratch": 1e-3, "fine_tune": 1e-4, "freeze_L1": 1e-3, "freeze_L3": 1e-3}
SUFFIX = ".safetensors"
REPORTS = (".md", ".html")
NO_DATA = "(none)"
"""Stands for data that a dry run was not given."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finetune(DataOptions):
    """Makes a classifier of one's own classes from labelled sounds and a pretrained model.

    The result is one file that tag, detect, embed, listen, evaluate and the others take by --checkpoint. What is frozen
    is in evaluation mode, batch normalisation and dropout too. An interrupted run goes on when it is started again;
    clips that cannot be read are left out and named (exit code 1).
    """

    data: str
    """A folder with a folder for each class; a csv, tsv or Parquet table; or tfds:NAME."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.safetensors")]
    """The file to write; one that exists is replaced once the new one is complete. The report is written beside it."""
    model: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Name of the architecture, for checkpoints that do not tell it. Without a checkpoint, the released one of this
    model (Cnn14 where none is named) is downloaded the first time, and kept."""
    checkpoint: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """Converted file, published .pth or training checkpoint to begin with; of one that was fine-tuned, the new layers
    are replaced."""
    mirror: Annotated[str | None, tyro.conf.arg(metavar="URL", help_behavior_hint="")] = None
    """Where released files are downloaded from, in place of their own record."""
    precision: Literal["float32", "tf32", "bfloat16", "bf16"] = "float32"
    """What the body of the model computes in; weights, front end and head are float32 in any case."""

    strategy: Strategy = "fine_tune"
    """scratch: all learns, from fresh weights; fine_tune: all learns, from the pretrained ones; freeze_L1: one new
    layer on the embedding of the frozen model; freeze_L3: three."""
    freeze_depth: int = 0
    """Of fine_tune: the first so many blocks are frozen."""
    lr_decay_by_depth: float = 1.0
    """Of fine_tune: what the learning rate is multiplied by with each block further from the output, such as 0.8."""
    gradual_unfreezing: Annotated[int, tyro.conf.arg(metavar="EPOCHS")] = 0
    """Of fine_tune: the new layers learn first, and after each so many epochs one more block; 0: all from the start."""
    augment: tuple[Augmentation, ...] = ()
    """mixup blends pairs of clips, spec-augment masks stripes of log-mel spectrograms: both are the default of scratch
    and fine_tune. embedding-mixup, the default of freeze_L1 and freeze_L3, blends embeddings, which are then computed
    once and kept; either of the others has them computed anew for each step. none: nothing."""

    epochs: int | None = None
    """The most; 50 for scratch, 30 for fine_tune, 100 for freeze_L1 and freeze_L3 by default. An epoch has as many
    steps as the clips fill batches."""
    patience: int = 20
    """Epochs without a better validation score after which training ends; 0 for none. The best epoch is kept."""
    batch_size: int = 32
    """Clips in a batch; with mixup twice as many are read."""
    learning_rate: float | None = None
    """Step size of Adam; 1e-4 for fine_tune, 1e-3 for the others by default."""
    weight_decay: float = 0.0
    """Share that each step takes off the weights, times the learning rate, as AdamW does."""
    balance: Literal["none", "classes"] = "none"
    """How clips are drawn: in shuffled passes, or class by class."""
    clip_seconds: float | None = None
    """Length of what is learnt from; the median of the clips, at most 10, by default. Longer clips are cut at random in
    training, and their windows averaged in evaluation; shorter ones are padded with zeros."""

    validation: float = 0.15
    """Share of the clips by which the best epoch is chosen, where the data does not tell."""
    test: float = 0.15
    """Share of the clips that score the result, where the data does not tell."""
    folds: int = 0
    """Cross-validation: train so many times, tested on another part each time, for mean and standard deviation; the
    file is then trained on all clips. 0 for none."""
    shots: int = 0
    """Learn from so many clips of each class alone; 0 for all."""
    seed: int = 0
    """Of the splits, the new layers, the order of clips, mixup, dropout and SpecAugment."""

    report: Annotated[Path | None, tyro.conf.arg(metavar="FILE.html|FILE.md", help_behavior_hint="")] = None
    """The report; by default FILE-report/report.md beside the result. A .html file holds its figures itself."""
    cache: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Where embeddings are kept; by default a folder in PANNS_JAX_CACHE, else in the platform's folder for caches."""
    restart: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Throw away what an interrupted run has done, and begin anew."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Take one step on generated sounds instead of training, from fresh weights where no --checkpoint is named, and
    tell parameters, time and loss. It needs neither --data nor --out, downloads nothing, and writes nothing."""

    @classmethod
    def parse(cls, arguments: Sequence[str], *, prog: str) -> "Finetune":
        """Reads the options; `--config NAME` begins with a preset of configs/ instead of the defaults.

        Raises:
          InputError: there is no such preset of fine-tuning.
        """
        from panns_jax.train.presets import load_transfer, take_config

        name, arguments = take_config(list(arguments))
        about = f"{inspect.getdoc(cls)}\n\n--config NAME takes the defaults from a preset of panns-jax configs."
        options = cls if name is None else load_transfer(name)
        if {"--dry-run", "--dry_run"} & set(arguments):  # which needs neither of what has no default
            options = functools.partial(options, data=NO_DATA, out=Path(f"dry-run{SUFFIX}"))
        return tyro.cli(options, args=arguments, prog=prog, description=about)

    def run(self) -> int:
        """Trains, writes model and report; the exit code is 0, or 1 where some clips could not be read.

        A dry run tells what a step takes instead.

        Raises:
          InputError: an option cannot be used, the data or the model cannot be read, or training has diverged.
        """
        self.check()
        if self.dry_run:
            from panns_jax.train.finetune.dry_run import dry_run

            dry_run(self)
            return 0
        from panns_jax.train.finetune.task import finetune

        return finetune(self)

    @property
    def freezes(self) -> bool:
        """Whether the body is frozen."""
        return self.strategy in ("freeze_L1", "freeze_L3")

    @property
    def augmentation(self) -> frozenset[Augmentation]:
        """What is done to clips in training."""
        if self.augment:
            return frozenset(self.augment) - {"none"}
        return frozenset({"embedding-mixup"}) if self.freezes else frozenset({"mixup", "spec-augment"})

    @property
    def keeps_embeddings(self) -> bool:
        """Whether the body is frozen, and its input the same in each epoch."""
        return self.freezes and not self.augmentation & {"mixup", "spec-augment"}

    @property
    def most_epochs(self) -> int:
        """The most epochs."""
        return _EPOCHS[self.strategy] if self.epochs is None else self.epochs

    @property
    def step_size(self) -> float:
        """The learning rate."""
        return _LEARNING_RATE[self.strategy] if self.learning_rate is None else self.learning_rate

    @property
    def report_file(self) -> Path:
        """Where the report is written."""
        return self.report or self.out.with_name(f"{self.out.stem}-report") / "report.md"

    def check(self) -> None:
        """Looks at everything that the options tell by themselves.

        Raises:
          InputError: an option is out of its range, or does not go with another.
        """
        from panns_jax.errors import require_extra
        from panns_jax.files import require_parent

        if self.out.suffix != SUFFIX:
            raise InputError(f"--out {self.out}: the file must be named *{SUFFIX}")
        require_parent(self.out)
        begun = [path for path in (self.checkpoint,) if path is not None and path.exists() and self.out.exists()]
        if any(map(self.out.samefile, begun)):
            raise InputError(f"--out {self.out} is the checkpoint to begin with; name another file")
        if self.report is not None:
            if self.report.suffix not in REPORTS:
                raise InputError(
                    f"--report {self.report}: the file must be named {' or '.join(f'*{s}' for s in REPORTS)}"
                )
            require_parent(self.report)
        least = {"epochs": 1, "batch_size": 1, "patience": 0, "freeze_depth": 0, "gradual_unfreezing": 0, "shots": 0}
        for name, lowest in {**least, "seed": 0, "folds": 0}.items():
            value = getattr(self, name)
            if value is not None and not lowest <= value < 2**31:
                raise InputError(f"{_option(name)} must be at least {lowest} and below 2^31, got {value}")
        if self.folds == 1:
            raise InputError("--folds must be at least 2, or 0 for no cross-validation, got 1")
        if not 0 < self.step_size < math.inf:
            raise InputError(f"--learning-rate must be above 0, got {self.step_size:g}")
        if self.clip_seconds is not None:
            require_clip_seconds(self.clip_seconds)
        if not 0 <= self.weight_decay < math.inf:
            raise InputError(f"--weight-decay must be at least 0, got {self.weight_decay:g}")
        if not 0 < self.lr_decay_by_depth <= 1:
            raise InputError(f"--lr-decay-by-depth must be above 0 and at most 1, got {self.lr_decay_by_depth:g}")
        for name in ("validation", "test"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{_option(name)} must be at least 0 and below 1, got {getattr(self, name):g}")
        self._check_strategy()
        if self.multi_label:
            require_extra("scoring clips of several classes", "train", "sklearn")

    def _check_strategy(self) -> None:
        if self.strategy != "fine_tune":
            defaults = {field.name: field.default for field in dataclasses.fields(self)}
            for name in ("freeze_depth", "lr_decay_by_depth", "gradual_unfreezing"):
                if getattr(self, name) != defaults[name]:
                    raise InputError(f"{_option(name)} is for --strategy fine_tune, not {self.strategy}")
        if "none" in self.augment and len(set(self.augment)) > 1:
            raise InputError("--augment none goes with nothing else")
        if "embedding-mixup" in self.augment:
            if not self.freezes:
                raise InputError(
                    f"--augment embedding-mixup is for freeze_L1 and freeze_L3; in {self.strategy} the embeddings"
                    " change: take mixup"
                )
            if len(set(self.augment)) > 1:
                raise InputError(
                    "--augment embedding-mixup blends embeddings that are computed once; what is done to the input"
                    " (mixup, spec-augment) changes them: take either"
                )

    def deciding(self) -> dict[str, Any]:
        """The options on which the result depends, by their names as they are typed."""
        free = {"out", "report", "cache", "restart", "dry_run", "mirror", "prepare"}
        told = {_option(f.name): getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in free}
        told |= {"--augment": sorted(self.augmentation), "--epochs": self.most_epochs}
        told |= {"--learning-rate": self.step_size}
        return {name: str(value) if isinstance(value, Path) else value for name, value in told.items()}


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
