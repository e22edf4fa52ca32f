"""A model as data: front end, body, head and labels; and the parts' common interface."""

import dataclasses
import functools
import re
from collections.abc import Collection
from typing import Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from panns_jax.errors import InputError
from panns_jax.frontend import FrontendConfig, Stripes
from panns_jax.labels import LabelSet, audioset, numbered
from panns_jax.models.clips import Clips

_LONGEST_NAME = 500
_LONGEST_CLIP = 1e6  # seconds that a file may tell of
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


Precision = Literal["float32", "tf32", "bfloat16", "bf16"]
"""What a body computes in: float32; float32 with products as fast as the device makes them (TF32 on NVIDIA's GPUs); or
bfloat16, for which bf16 is another name. Front end and head always compute in float32, and weights are float32."""

_SHORT_NAMES: dict[str, Precision] = {"bf16": "bfloat16"}

PRECISIONS: tuple[Precision, ...] = tuple(name for name in get_args(Precision) if name not in _SHORT_NAMES)


def require_precision(name: str) -> Precision:
    """The precision that `name` stands for: one of `PRECISIONS`.

    Raises:
      InputError: there is no such precision.
    """
    precision = _SHORT_NAMES.get(name, name)
    if precision not in PRECISIONS:
        raise InputError(f"there is no precision {name!r}; there are {', '.join(get_args(Precision))}")
    return precision


class Features(NamedTuple):
    """What a body may read; layers read `signal` or `image`.

    Attributes:
      waveform: (rows, samples) in [-1, 1]; two rows for each clip where `blend` is given.
      logmel: (batch, frames, mels) after batch normalisation and, in training, SpecAugment and mixup; None for bodies
        that do not read it.
      blend: in training, the weights of the mixup that a body has to do on what it makes of `waveform`; None for none.
      halves: whether the body computes in bfloat16.
    """

    waveform: Clips
    logmel: Clips | None
    blend: Float[Array, " batch"] | None = None
    halves: bool = False

    @property
    def signal(self) -> Clips:
        """The waveform with a channel: (rows, samples, 1), in the type to compute in."""
        return self.waveform.map(self._with_channel)

    @property
    def image(self) -> Clips:
        """The log-mel spectrogram with a channel: (batch, frames, mels, 1), in the type to compute in."""
        assert self.logmel is not None
        return self.logmel.map(self._with_channel)

    def _with_channel(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape 1"]:
        return (x.astype(jnp.bfloat16) if self.halves else x)[..., None]


_TAPS = ("logits", "pooled", "frames")


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=("clipwise", "embedding", "framewise", *_TAPS), meta_fields=()
)
@dataclasses.dataclass(frozen=True)
class Output:
    """What a model makes of a batch of waveforms.

    In a batch of clips of different lengths, what stands beyond the end of a clip in `framewise` and `frames` is 0.

    Attributes:
      clipwise: probability of each class in each clip, in [0, 1].
      embedding: vector per clip, or None where the head makes none.
      framewise: probability of each class in each frame of the log-mel spectrogram, or None where the head makes none.
      logits: what the probabilities are the sigmoid of (the softmax, in a model whose classes exclude each other); in
        decision-level models those of each step, before they are pooled. Like the next two, None unless it was asked
        for (`taps`).
      pooled: what `fc1`, the first layer of the head, reads: maximum + mean over time; in decision-level models over
        each step and its neighbours.
      frames: what the body yields, in time, before pooling.
    """

    clipwise: Float[Array, "batch classes"]
    embedding: Float[Array, "batch embedding_dim"] | None = None
    framewise: Float[Array, "batch frames classes"] | None = None
    logits: Float[Array, "batch *steps classes"] | None = None
    pooled: Float[Array, "batch *steps channels"] | None = None
    frames: Float[Array, "batch steps channels"] | None = None

    def only(self, taps: str | Collection[str]) -> "Output":
        """Without the taps that are not named.

        Raises:
          ValueError: a name is none of an output's, or that of one that the model does not make.
        """
        taps = (taps,) if isinstance(taps, str) else taps
        for name in taps:
            if name not in _OUTPUTS:
                raise ValueError(f"there is no tap {name!r}; there are {', '.join(_OUTPUTS)}")
            if getattr(self, name) is None:
                raise ValueError(f"this model makes no {name}")
        return dataclasses.replace(self, **{name: None for name in _TAPS if name not in taps})


class Local(NamedTuple):
    """What a model makes of the time steps of clips, before it is pooled over time.

    Attributes:
      frames: what the body yields.
      pooled: in decision-level models what `fc1` reads, else None; so the next two.
      logits: log-odds of each class.
      weights: of each class in the mean over time, not normalised; None where there are none.
    """

    frames: Clips
    pooled: Clips | None = None
    logits: Clips | None = None
    weights: Clips | None = None


_OUTPUTS = tuple(field.name for field in dataclasses.fields(Output))


@runtime_checkable
class Body(Protocol):
    """A family of networks from features to a sequence of vectors; a frozen dataclass of its dimensions."""

    @property
    def reads_logmel(self) -> bool:
        """Whether the body reads `Features.logmel`."""
        ...

    @property
    def out_channels(self) -> int:
        """Length of the vectors that the body yields."""
        ...

    def check(self, frontend: FrontendConfig) -> None:
        """Checks that the body can read what the front end makes.

        Raises:
          InputError: it can not.
        """
        ...

    def min_samples(self, frontend: FrontendConfig) -> int:
        """Shortest waveform from which at least one vector comes."""
        ...

    def build(self, frontend: FrontendConfig, *, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        """The layers under their published names."""
        ...

    def __call__(self, layers: Any, features: Features, *, rngs: nnx.Rngs | None) -> Clips:
        """Runs the layers that `build` made; they are attributes of `layers`, which is the model itself.

        Returns:
          (batch, steps, channels).
        """
        ...


@runtime_checkable
class Head(Protocol):
    """From a body's vectors to an `Output`; a frozen dataclass of its dimensions."""

    @property
    def embedding_dim(self) -> int | None:
        """Length of the embedding, or None where the head makes none."""
        ...

    def build(self, in_channels: int, num_classes: int, *, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        """The layers under their published names."""
        ...

    def __call__(self, layers: Any, x: Clips, *, frames: int, rngs: nnx.Rngs | None) -> Output:
        """Runs the layers that `build` made, found as attributes of `layers`.

        Args:
          layers: the model itself.
          x: what the body yields, (batch, steps, channels), in float32.
          frames: of the log-mel spectrogram of the clips, which are also those of `Output.framewise`.
          rngs: source of random numbers, in training.

        Returns:
          All that the head makes, taps too.
        """
        ...

    def local(self, layers: Any, x: Clips) -> Local:
        """What of a call, in evaluation mode, is made of each step and its neighbours."""
        ...

    def classify(self, layers: Any, pooled: Float[Array, "batch channels"]) -> Output:
        """What of a call, in evaluation mode, is made of the maximum + mean over time; not in decision-level heads."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuning:
    """On what kind of clips a model was fine-tuned.

    Attributes:
      clip_seconds: their length: longer ones were cut to it, and in evaluation heard in windows; shorter ones padded.
      multi_label: whether a clip might carry several classes, or none, rather than just one.
    """

    clip_seconds: float
    multi_label: bool

    @staticmethod
    def from_json(data: object) -> "Tuning":
        """The inverse of `dataclasses.asdict`.

        Raises:
          InputError: it is none of that.
        """
        match data:
            case {"clip_seconds": int() | float() as seconds, "multi_label": bool() as several} if (
                type(seconds) is not bool and 0 < seconds < _LONGEST_CLIP
            ):
                return Tuning(clip_seconds=float(seconds), multi_label=several)
        raise InputError("is damaged: what it tells of its fine-tuning is incomplete, or parts are of the wrong kind")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that tells one model from another. Frozen and hashable; rows of the registry are of this kind.

    Attributes:
      name: name of the architecture, as published.
      frontend: settings of the log-mel front end; bodies that read waveforms use its sample rate.
      body: the family and its dimensions.
      head: from the body's vectors to probabilities.
      labels: the classes, in the order of the outputs.
      spec_augment: what SpecAugment masks in training; None for nothing.
      mixup: what mixup blends in training: features (the log-mel ones, and what a body makes of the waveform itself) or
        waveforms.
      published: False for rows of our own, which `list_models()` leaves out.
      tuning: on what kind of clips it was fine-tuned; None where it was not, or that is not known.

    Raises:
      InputError: the body can not read what the front end makes.
    """

    name: str
    frontend: FrontendConfig
    body: Body
    head: Head
    labels: LabelSet = dataclasses.field(default_factory=audioset)
    spec_augment: Stripes | None = dataclasses.field(default_factory=Stripes)
    mixup: Literal["features", "waveform"] = "features"
    published: bool = True
    tuning: Tuning | None = None

    def __post_init__(self) -> None:
        self.body.check(self.frontend)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.labels)

    @property
    def sample_rate(self) -> int:
        """Samples per second of the waveforms that the model takes."""
        return self.frontend.sample_rate

    @property
    def embedding_dim(self) -> int | None:
        """Length of the embedding, or None where the head makes none."""
        return self.head.embedding_dim

    @property
    def min_samples(self) -> int:
        """Clips shorter than this are zero-padded at their end."""
        least = self.frontend.min_samples if self.body.reads_logmel else 1
        return max(least, self.body.min_samples(self.frontend))

    def with_classes(self, num_classes: int) -> "ModelConfig":
        """The same architecture for another number of classes, which are numbered until someone names them.

        Raises:
          InputError: `num_classes` is less than 1.
        """
        if num_classes < 1:
            raise InputError(f"num_classes must be at least 1, got {num_classes}")
        if num_classes == self.num_classes:
            return self
        return dataclasses.replace(self, labels=numbered(num_classes), tuning=None)

    def to_json(self) -> dict[str, Any]:
        """What a file has to carry besides the weights: architecture, front-end settings and labels."""
        base: ModelConfig | None = getattr(self.body, "base", None)
        below = {}
        if base is not None:
            head: Any = self.head
            below = {"base": base.to_json(), "freeze_base": getattr(self.body, "frozen", False)}
            below["new_layers"] = head.to_json()
        if self.tuning is not None:
            below["tuning"] = dataclasses.asdict(self.tuning)
        return {
            "architecture": self.name,
            "frontend": dataclasses.asdict(self.frontend),
            "labels": {"task": self.labels.task, "ids": list(self.labels.ids), "names": list(self.labels.names)},
            **below,
        }

    @staticmethod
    def from_json(data: object, origin: str) -> "ModelConfig":
        """The inverse of `to_json`: the registry's row with the file's front-end settings and labels.

        Args:
          data: what was read.
          origin: the file that it was read from, for messages.

        Raises:
          InputError: the architecture is unknown to this version, or a part is missing or of the wrong kind.
        """
        from panns_jax.models.registry import model_config
        from panns_jax.models.transfer import TransferHead, transfer

        match data:
            case {"tuning": told, **rest}:
                try:
                    return dataclasses.replace(ModelConfig.from_json(rest, origin), tuning=Tuning.from_json(told))
                except InputError as error:
                    raise error if str(error).startswith(origin) else InputError(f"{origin}: {error}") from error
            case {"base": {"base": _}}:
                pass  # a model below a new layer is none of that kind itself
            case {"base": dict() as base, "freeze_base": bool() as frozen, **rest}:
                labels = ModelConfig.from_json(rest, origin).labels
                config = transfer(ModelConfig.from_json(base, origin), labels, freeze_base=frozen)
                if "new_layers" not in rest:
                    return config
                try:
                    head = TransferHead.from_json(rest["new_layers"], config.embedding_dim or 0)
                except InputError as error:
                    raise InputError(f"{origin}: {error}") from error
                return dataclasses.replace(config, head=head)
            case {
                "architecture": str() as name,
                "frontend": dict() as frontend,
                "labels": {"task": str() as task, "ids": list() as ids, "names": list() as names},
            } if _plausible_settings(frontend) and all(map(_is_plausible_text, (name, task, *ids, *names))):
                try:
                    labels = LabelSet(task, tuple(ids), tuple(names))
                    row = model_config(name)
                    return dataclasses.replace(row, frontend=FrontendConfig(**frontend), labels=labels)
                except InputError as error:
                    raise InputError(f"{origin}: {error}") from error
        raise InputError(
            f"{origin}: is damaged: the description of its model is incomplete, or parts are of the wrong kind"
        )


def _is_plausible_text(value: object) -> bool:
    # Names are printed: what would move a terminal's cursor, break a line or fill the screen is no name.
    return isinstance(value, str) and len(value) <= _LONGEST_NAME and not _CONTROLS.search(value)


def require_mel_bins(frontend: FrontendConfig, least: int) -> None:
    """Checks that there are enough mel bins for pooling to leave one.

    Raises:
      InputError: there are fewer than `least`.
    """
    if frontend.mel_bins < least:
        raise InputError(
            f"mel_bins must be at least {least}, as pooling takes so many together; got {frontend.mel_bins}"
        )


def _plausible_settings(frontend: dict[str, object]) -> bool:
    # Sizes far above any use, and below what a shape can be.
    sizes = {field.name for field in dataclasses.fields(FrontendConfig) if field.type in (int, "int")}
    known = {field.name for field in dataclasses.fields(FrontendConfig)}
    return frontend.keys() == known and all(
        type(value) is int and value < 1 << 20 if name in sizes else type(value) in (int, float)
        for name, value in frontend.items()
    )
