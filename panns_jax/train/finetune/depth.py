"""The parts of a model by their depth, and which of them learn."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jax
from flax import nnx

from panns_jax.errors import InputError
from panns_jax.models.abstract import abstract_model
from panns_jax.models.config import ModelConfig
from panns_jax.models.layers import Sequential, freeze
from panns_jax.models.model import Model
from panns_jax.models.residual import ResidualLayers
from panns_jax.models.transfer import Pretrained

NEW = "new layers"
"""The name of the last part: the layers whose outputs are the new classes, and those that were put before them."""

EMBEDDING = "fc1"
"""The name of the part before it: the layer that makes the embedding."""

Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Part:
    """Layers of a model that learn, or are frozen, together.

    Attributes:
      name: for people.
      paths: of the layers in the model.
    """

    name: str
    paths: tuple[Path, ...]

    def holds(self, path: Path) -> bool:
        """Whether the array at `path` belongs to one of the layers."""
        return any(path[: len(layer)] == layer for layer in self.paths)


def parts_of(config: ModelConfig) -> tuple[Part, ...]:
    """The parts of a model from the input to the output: the blocks of its body, `fc1`, and the new layers.

    What stands before a block, such as the normalisation of the input, belongs to it. Layers of which nothing is read,
    as the old classes below new layers, are in no part.

    Args:
      config: a model below new layers, or one whose last layer is new.
    """
    model = abstract_model(config)
    if isinstance(config.body, Pretrained):
        below: Any = model
        at: Path = ("base",)
        new = tuple((name,) for name, layer in vars(model).items() if isinstance(layer, nnx.Linear))
        whole = below.base
    else:
        at, whole = (), model
        last = "att_block" if hasattr(model, "att_block") else "fc_audioset"
        new = ((last,),)
    blocks = [Part(part.name, tuple((*at, *path) for path in part.paths)) for part in _blocks(whole)]
    return (*blocks, Part(EMBEDDING, ((*at, EMBEDDING), (*at, "head_dropout"))), Part(NEW, new))


def _blocks(model: Model) -> list[Part]:
    found: list[Part] = []
    before: list[Path] = [("bn0",)] if model.config.body.reads_logmel else []
    for path, _ in _layers(model):
        before.append(path)
        if "block" in path[-1] or len(path) > 1:
            found.append(Part(".".join(path), tuple(before)))
            before = []
    if before:  # nothing follows
        found[-1] = dataclasses.replace(found[-1], paths=(*found[-1].paths, *before))
    return found


def _layers(model: Model) -> Iterable[tuple[Path, Any]]:
    """The layers of the body that have weights; of a container those in it."""
    for name in model.body_layers:
        layer = getattr(model, name)
        if isinstance(layer, Sequential):
            inside = [((name, str(number)), getattr(layer, str(number))) for number in range(layer.count)]
        elif isinstance(layer, ResidualLayers):
            numbered = range(1, layer.count + 1)
            inside = [((name, f"layer{number}"), getattr(layer, f"layer{number}")) for number in numbered]
        else:
            inside = [((name,), layer)]
        yield from ((path, one) for path, one in inside if jax.tree.leaves(nnx.state(one, nnx.Param)))


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which parts learn, and when.

    Attributes:
      parts: of the model, from the input to the output.
      frozen: how many of them, from the input on, never learn.
      unfreezing: epochs after which one more of the others learns, the new layers first; 0 for all from the start.
      decay: what the learning rate of a part is multiplied by for each part between it and the output.
    """

    parts: tuple[Part, ...]
    frozen: int = 0
    unfreezing: int = 0
    decay: float = 1.0

    @property
    def learnt(self) -> tuple[Part, ...]:
        """The parts that learn at some time."""
        return self.parts[self.frozen :]

    def at(self, epoch: int) -> tuple[Part, ...]:
        """The parts that learn in an epoch, counted from 0."""
        if not self.unfreezing:
            return self.learnt
        return self.learnt[-(1 + epoch // self.unfreezing) :]

    def rate(self, part: Part) -> float:
        """What the learning rate of a part is multiplied by."""
        return self.decay ** (len(self.parts) - 1 - self.parts.index(part))


def frozen_parts(parts: Sequence[Part], depth: int, name: str) -> int:
    """How many parts are frozen where the first `depth` blocks are to be.

    Raises:
      InputError: there are not as many.
    """
    blocks = len(parts) - 2
    if not 0 <= depth <= blocks:
        raise InputError(f"--freeze-depth {depth}: {name} has {blocks} blocks; give at most as many")
    return depth


def switched(model: Model, learning: Sequence[Part], parts: Sequence[Part], *, spec_augment: bool) -> None:
    """Switches a model to training mode, all but the parts that do not learn: these are in evaluation mode.

    Args:
      model: may be abstract.
      learning: the parts that learn.
      parts: all of them.
      spec_augment: whether SpecAugment masks the input.
    """
    for part in parts:
        if part not in learning:
            for path in part.paths:
                freeze(_layer(model, path))
    model.train()
    if not spec_augment:
        base: Any = getattr(model, "base", model)
        if hasattr(base, "spec_augmenter"):
            base.spec_augmenter.eval()


def _layer(model: Any, path: Path) -> Any:
    for name in path:
        model = getattr(model, name)
    return model
