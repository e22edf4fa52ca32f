"""A pretrained model below new layers: the published `Transfer_Cnn14`, on top of any model with an embedding."""

import dataclasses
from typing import Any

import jax
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from panns_jax.errors import InputError
from panns_jax.frontend import FrontendConfig
from panns_jax.labels import LabelSet
from panns_jax.models.clips import Clips
from panns_jax.models.config import Features, Local, ModelConfig, Output
from panns_jax.models.layers import linear
from panns_jax.models.model import Model

PREFIX = "Transfer_"
_MOST = 1 << 16  # outputs of a layer that a file may ask for


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A whole model, `base`, whose body this is; its head belongs to `TransferHead`.

    Attributes:
      base: the model.
      frozen: whether it learns nothing; it is in evaluation mode then even while the rest trains.
    """

    base: ModelConfig
    frozen: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.base.body, Pretrained):
            raise InputError(f"{self.base.name} is below a new last layer already; put another one on its base")
        if self.base.embedding_dim is None:
            raise InputError(f"{self.base.name} makes no embedding that a new layer could read")

    @property
    def reads_logmel(self) -> bool:
        return False  # the base makes its own

    @property
    def out_channels(self) -> int:
        return self.base.body.out_channels

    def check(self, frontend: FrontendConfig) -> None:
        self._base(frontend)

    def min_samples(self, frontend: FrontendConfig) -> int:
        return self._base(frontend).min_samples

    def build(self, frontend: FrontendConfig, *, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        base = Model(self._base(frontend), rngs=rngs)
        base.frozen = self.frozen
        base.train()
        return {"base": base}

    def __call__(self, layers: Any, features: Features, *, rngs: nnx.Rngs | None) -> Clips:
        return layers.base.steps(features.waveform, features.blend, rngs)

    def _base(self, frontend: FrontendConfig) -> ModelConfig:
        return dataclasses.replace(self.base, frontend=frontend)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferHead:
    """The head of the model below, and on its embedding new linear layers: by default `fc_transfer` alone, and softmax,
    a class per clip.

    The published model gives the logarithm of that: `jax.nn.log_softmax(output.logits)`, of the tap "logits". The taps
    "pooled" and "frames" are those of the model below.

    Attributes:
      embedding_dim: length of the embedding.
      hidden: outputs of the layers before `fc_transfer`: `fc_hidden1`, `fc_hidden2`, …, each with ReLU and dropout.
      dropout: rate after each of them, in training only.
      multi_label: whether a clip may carry several classes or none: a sigmoid for each class in place of softmax.
    """

    embedding_dim: int
    hidden: tuple[int, ...] = ()
    dropout: float = 0.5
    multi_label: bool = False

    def build(self, in_channels: int, num_classes: int, *, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        sizes = (self.embedding_dim, *self.hidden)
        pairs = zip(sizes, self.hidden, strict=False)
        layers: dict[str, nnx.Module] = {
            f"fc_hidden{i}": linear(*pair, rngs=rngs) for i, pair in enumerate(pairs, start=1)
        }
        if self.hidden:
            layers["transfer_dropout"] = nnx.Dropout(self.dropout)
        return {**layers, "fc_transfer": linear(sizes[-1], num_classes, rngs=rngs)}

    def __call__(self, layers: Any, x: Clips, *, frames: int, rngs: nnx.Rngs | None) -> Output:
        base: Model = layers.base
        below = base.config.head(base, x, frames=frames, rngs=rngs)
        if base.frozen:
            below = jax.tree.map(lax.stop_gradient, below)
        return self._on_top(layers, below, rngs)

    def local(self, layers: Any, x: Clips) -> Local:
        return layers.base.config.head.local(layers.base, x)

    def classify(self, layers: Any, pooled: Float[Array, "batch channels"]) -> Output:
        return self._on_top(layers, layers.base.config.head.classify(layers.base, pooled))

    def read(self, layers: Any, embedding: Float[Array, "batch embedding_dim"], rngs: nnx.Rngs | None = None) -> Output:
        """What the new layers, attributes of `layers`, make of embeddings: clipwise and logits."""
        x = embedding
        for i in range(1, len(self.hidden) + 1):
            x = jax.nn.relu(getattr(layers, f"fc_hidden{i}")(x))
            x = layers.transfer_dropout(x, rngs=rngs)
        logits = layers.fc_transfer(x)
        clipwise = jax.nn.sigmoid(logits) if self.multi_label else jax.nn.softmax(logits)
        return Output(clipwise, embedding, logits=logits)

    def _on_top(self, layers: Any, below: Output, rngs: nnx.Rngs | None = None) -> Output:
        assert below.embedding is not None
        made = self.read(layers, below.embedding, rngs)
        return dataclasses.replace(below, clipwise=made.clipwise, logits=made.logits)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads: all but the length of the embedding, which is that of the base."""
        return {"hidden": list(self.hidden), "dropout": self.dropout, "multi_label": self.multi_label}

    @staticmethod
    def from_json(data: object, embedding_dim: int) -> "TransferHead":
        """The inverse of `to_json`.

        Raises:
          InputError: it is none of that.
        """
        match data:
            case {"hidden": list() as hidden, "dropout": float() | int() as dropout, "multi_label": bool() as several}:
                if all(type(size) is int and 0 < size < _MOST for size in hidden) and 0 <= dropout < 1:
                    return TransferHead(
                        embedding_dim=embedding_dim, hidden=tuple(hidden), dropout=float(dropout), multi_label=several
                    )
        raise InputError("is damaged: the description of its new layers is incomplete, or parts are of the wrong kind")


def transfer(
    base: ModelConfig,
    labels: LabelSet | None = None,
    *,
    freeze_base: bool = False,
    hidden: tuple[int, ...] = (),
    multi_label: bool = False,
) -> ModelConfig:
    """A model below new layers, as data.

    Args:
      base: the model below, whose embedding the layers read.
      labels: the new classes; those of the base where they are not given.
      freeze_base: whether only the new layers learn.
      hidden: outputs of the new layers before the last one.
      multi_label: whether a clip may carry several classes or none.

    Raises:
      InputError: the base makes no embedding.
    """
    body = Pretrained(base=base, frozen=freeze_base)
    return ModelConfig(
        name=f"{PREFIX}{base.name}",
        frontend=base.frontend,
        body=body,
        head=TransferHead(embedding_dim=base.embedding_dim or 0, hidden=hidden, multi_label=multi_label),
        labels=labels or base.labels,
        spec_augment=None,  # the base has its own
        mixup=base.mixup,
        published=False,
    )


def create_transfer(
    base: Model,
    classes: int | LabelSet,
    *,
    freeze_base: bool = False,
    hidden: tuple[int, ...] = (),
    multi_label: bool = False,
    rngs: nnx.Rngs,
) -> Model:
    """A model with new layers on top of another one, in training mode.

    Args:
      base: the model below, such as `load_model("Cnn14")`; it is copied.
      classes: how many, or their label set.
      freeze_base: whether only the new layers learn. Then the base stays in evaluation mode too (its batch
        normalisation and dropout; the published template leaves them in training mode).
      hidden: outputs of the new layers before the last one; none as published.
      multi_label: whether a clip may carry several classes or none: sigmoid in place of softmax.
      rngs: source of the new layers' initial weights.

    Raises:
      InputError: the base makes no embedding, or there are no classes.
    """
    labels = classes if isinstance(classes, LabelSet) else base.config.with_classes(classes).labels
    config = transfer(base.config, labels, freeze_base=freeze_base, hidden=hidden, multi_label=multi_label)
    model = nnx.eval_shape(lambda: Model(config, rngs=nnx.Rngs(0)))
    head = config.head.build(config.body.out_channels, config.num_classes, rngs=rngs)
    below = nnx.clone(base)
    below.frozen = freeze_base
    for name, layer in {"base": below, **head}.items():
        setattr(model, name, layer)
    model.set_precision(base.precision)
    model.train()
    return model
