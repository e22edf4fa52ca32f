"""The options of training, and `panns-jax train`."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from panns_jax.errors import InputError

Flag = tyro.conf.FlagCreatePairsOff


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Trains a model on a workspace; started again, it goes on where it stopped.

    The workspace holds hdf5s/indexes/{balanced_train,eval}.h5, and full_train.h5 where that is trained on (panns-jax
    pack and panns-jax index make them). Checkpoints, statistics and logs are written to folders of these names in it.
    """

    workspace: Path = Path("workspace")
    """Folder of the workspace."""
    data_type: Literal["full_train", "balanced_train"] = "full_train"
    """The index file that is trained on."""
    data_fraction: float = 1.0
    """Share of the training clips that is trained on, drawn by --seed; that of 0.5 is a part of that of 0.8."""
    model_type: str = "Cnn14"
    """Name of the model."""
    loss_type: Literal["clip_bce"] = "clip_bce"
    """The loss: binary cross-entropy of the clipwise probabilities."""
    balanced: Literal["none", "balanced", "alternate"] = "balanced"
    """How clips are sampled: in shuffled passes, class by class, or batches of the two in turn."""
    augmentation: Literal["none", "mixup"] = "mixup"
    """Whether pairs of clips are blended; SpecAugment belongs to the model."""
    batch_size: int = 32
    """Clips in a batch, over all devices together; with mixup twice as many are read."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    learning_rate_decay: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate goes on: constant, or falling to 0 at --early-stop along a line or half a cosine."""
    warm_up: int = 0
    """Iterations over which the learning rate rises to its value."""
    weight_decay: float = 0.0
    """Share that each step takes off the weights of convolutions and linear layers, times the learning rate, as AdamW
    does; 0 for none."""
    ema_decay: float = 0.0
    """Share that an exponential moving average of the weights keeps at each step, such as 0.999; 0 for no average. It
    is saved with each checkpoint, scored instead of the weights, and what is taken when a checkpoint is loaded."""
    swa_start: int = 0
    """Iteration from which on the weights of all iterations are averaged in equal shares, to the same ends; 0 for no
    such average."""
    early_stop: int = 1_000_000
    """The last iteration."""
    resume_iteration: int = 0
    """Go on from the checkpoint of this iteration; 0 for the newest. A run with later ones is kept and branched."""
    fresh: Annotated[bool, Flag] = False
    """Start anew, beside the runs there are."""
    dry_run: Annotated[bool, Flag] = False
    """Take one step on generated data instead of training, and tell parameters, time, memory, loss, and which data the
    run would need. It needs none itself, and writes nothing."""
    evaluate_every: int = 2000
    """Score the model on balanced_train.h5 and eval.h5 at each multiple of this iteration, and at 0."""
    checkpoint_every: int = 2000
    """Save everything at each multiple of this iteration, and at the last."""
    keep_checkpoints: int = 20
    """How many of the newest checkpoints are kept, besides those of every 100,000th iteration; 0 keeps all."""
    keep_best: int = 1
    """How many checkpoints are kept for their mAP on eval.h5. What is scored among the best so far is saved, be it at a
    multiple of --checkpoint-every or not; 0 does neither."""
    on_nan: Literal["stop", "skip"] = "stop"
    """What follows a loss or gradient that is not finite: the run stops, or goes on without this update, unless there
    are 20 in a row. Either way the clips of the batch and the norms are told."""
    precision: Literal["float32", "tf32", "bfloat16", "bf16"] = "float32"
    """What the body of the model computes in; tf32 is float32 with faster products on GPUs that have them, bf16 is
    bfloat16. Weights, front end, head and optimizer are float32 in any case."""
    accumulation_steps: int = 1
    """Parts in which each batch is worked off, for less memory; --batch-size stays the number of clips of an update.
    Batch normalisation then sees one part at a time."""
    rematerialize: Literal["none", "activations", "blocks"] = "none"
    """What the backward pass computes anew instead of keeping it, for less memory: nothing; all but convolutions; or
    whole blocks. Does not change the result."""
    sample_rate: int | None = None
    """Samples per second; the model's own by default, like the next five."""
    window_size: int | None = None
    """Samples in a window of the front end."""
    hop_size: int | None = None
    """Samples between frames."""
    mel_bins: int | None = None
    """Number of mel bands."""
    fmin: float | None = None
    """Lower edge of the lowest band, Hz."""
    fmax: float | None = None
    """Upper edge of the highest band, Hz."""
    black_list: str = "dcase2017task4"
    """Clips that are never trained on: those of DCASE 2017 task 4, a file of ids, one in a line, or none."""
    seed: int = 0
    """Of the first weights, the share and the order of clips, mixup, dropout and SpecAugment."""
    workers: int = 0
    """Processes that read clips; 0 reads by threads. Does not change the result."""
    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT|auto", help_behavior_hint="")] = None
    """For a run of several processes, each started with the same options: where process 0 listens. auto takes this and
    the next two from SLURM."""
    processes: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """How many processes there are, with --coordinator HOST:PORT."""
    process: Annotated[int | None, tyro.conf.arg(metavar="I", help_behavior_hint="")] = None
    """Which of them this one is, from 0 on."""
    cuda: Annotated[bool, Flag] = False
    """Demand a GPU; without it, JAX takes what there is."""

    @classmethod
    def parse(cls, arguments: Sequence[str], *, prog: str) -> "Train":
        """Reads the options as the published tool took them, `train` before them or not.

        `--config NAME` begins with a preset of configs/ instead of the defaults.

        Raises:
          InputError: there is no such preset.
        """
        from panns_jax.train.presets import list_presets, load_preset, read_preset, take_config

        name, arguments = take_config(list(arguments[1:] if list(arguments[:1]) == ["train"] else arguments))
        default = cls() if name is None else load_preset(name)
        names = [name for name in list_presets() if isinstance(read_preset(name).config, cls)]
        about = f"{inspect.getdoc(cls)}\n\n--config NAME takes the defaults from a preset: {', '.join(names)}."
        return tyro.cli(cls, args=arguments, prog=prog, default=default, description=about)

    def run(self) -> int:
        """Trains; returns when the last iteration is done and saved, or the dry run is told."""
        if self.dry_run:
            from panns_jax.train.dry_run import dry_run

            dry_run(self)
            return 0
        from panns_jax.train.training import train

        train(self)
        return 0

    def check(self) -> None:
        """Looks at everything that the options tell by themselves.

        Raises:
          InputError: an option is out of its range, or the workspace is no folder.
        """
        at_least = {"batch_size": 1, "evaluate_every": 1, "checkpoint_every": 1, "early_stop": 0, "keep_checkpoints": 0}
        others = ("keep_best", "resume_iteration", "workers", "warm_up", "swa_start")
        at_least |= {"accumulation_steps": 1, **dict.fromkeys(others, 0)}
        for name, least in at_least.items():
            value = getattr(self, name)
            if value < least:
                raise InputError(f"{option(name)} must be at least {least}, got {value}")
            if value >= 2**31:
                raise InputError(f"{option(name)} must be below 2^31, got {value}")
        if not 0 < self.data_fraction <= 1:
            raise InputError(f"--data-fraction must be above 0 and at most 1, got {self.data_fraction}")
        if not 0 <= self.weight_decay < float("inf"):
            raise InputError(f"--weight-decay must be at least 0, got {self.weight_decay}")
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"--ema-decay must be at least 0 and below 1, got {self.ema_decay}")
        if self.ema_decay and self.swa_start:
            raise InputError("--ema-decay and --swa-start average the weights in two ways: give one of them")
        if not 0 < self.learning_rate < float("inf"):
            raise InputError(f"--learning-rate must be above 0, got {self.learning_rate}")
        if self.learning_rate_decay != "constant" and self.warm_up >= self.early_stop:
            raise InputError(f"--warm-up must end before --early-stop {self.early_stop}, got {self.warm_up}")
        if not 0 <= self.seed < 2**31:
            raise InputError(f"--seed must be at least 0 and below 2^31, got {self.seed}")
        if self.fresh and self.resume_iteration:
            raise InputError("--fresh starts anew and --resume-iteration goes on: give one of them")
        if self.dry_run and (self.coordinator is not None or self.processes is not None):
            raise InputError("--dry-run is of one process: leave --coordinator and --processes away")
        if not self.dry_run and not self.workspace.is_dir():
            raise InputError(
                f"--workspace {self.workspace}: there is no such folder; panns-jax index makes its indexes"
            )


def option(name: str) -> str:
    """The option of a field, as it is typed."""
    return f"--{name.replace('_', '-')}"


FREE = frozenset(
    {
        "workspace",
        "early_stop",
        "evaluate_every",
        "checkpoint_every",
        "keep_checkpoints",
        "keep_best",
        "on_nan",
        "workers",
        "coordinator",
        "processes",
        "process",
        "rematerialize",
        "cuda",
        "fresh",
        "dry_run",
        "resume_iteration",
    }
)
"""Options that do not change the weights, so that a run may go on with others."""

DEFAULTS: Mapping[str, Any] = {
    field.name: field.default
    for field in dataclasses.fields(Train)
    if isinstance(field.default, str | int | float)  # which those of the front end are not, nor any that came later
}
"""What runs did that began before there was an option."""
