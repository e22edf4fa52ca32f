"""What of a model can be computed once: normalisations as scale and shift, and which convolution each one follows."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from panns_jax.kernels.shape import ConvShape, Size
from panns_jax.models.clips import Clips
from panns_jax.models.layers import BatchNorm, Conv
from panns_jax.models.model import Model

Path = tuple[str | int, ...]


class Affine(NamedTuple):
    """scale · x + shift for each channel: what batch normalisation is in evaluation mode.

    Attributes:
      scale: (channels,), or None for 1.
      shift: (channels,), or None for 0.
    """

    scale: Float[Array, " channels"] | None
    shift: Float[Array, " channels"] | None

    @classmethod
    def of(cls, layer: BatchNorm, bias: Float[Array, " channels"] | None = None) -> "Affine":
        """Normalisation by the running statistics, of values to which `bias` is yet to be added."""
        assert layer.scale is not None and layer.bias is not None  # ours have both
        scale = layer.scale[...] * lax.rsqrt(layer.var[...] + layer.epsilon)
        mean = layer.mean[...] if bias is None else layer.mean[...] - bias
        return cls(scale, layer.bias[...] - mean * scale)

    def __call__(self, x: Float[Array, "batch *space channels"]) -> Float[Array, "batch *space channels"]:
        """Applies it in float32; the result has the type of `x`."""
        y = x.astype(jnp.float32)
        y = y if self.scale is None else y * self.scale
        y = y if self.shift is None else y + self.shift
        return y.astype(x.dtype)


def layers_of(model: Model, kind: type) -> Iterator[tuple[Path, Any]]:
    """The layers of a kind, and where in the model they are."""
    for path, module in nnx.iter_modules(model):
        if isinstance(module, kind):
            yield cast(Path, path), module


def put(model: Model, path: Path, layer: Callable[[Clips], Clips]) -> None:
    """Puts a function in the place of a layer."""
    parent: Any = model
    for name in path[:-1]:
        parent = getattr(parent, str(name))
    setattr(parent, str(path[-1]), layer)


def normalised_convolutions(model: Model, samples: int) -> dict[Path, Path]:
    """The convolutions whose result goes straight to batch normalisation, and the path of that.

    What goes there is not read anywhere else, in any of our models.

    Args:
      model: in evaluation mode; is neither changed nor run.
      samples: of the waveform to look with.
    """
    made: list[tuple[Clips, Path]] = []
    found: dict[Path, Path] = {}

    def look(model: Model) -> Array:
        for path, layer in list(layers_of(model, Conv)):
            put(model, path, lambda x, path=path, layer=layer: remember(layer(x), path))
        for path, layer in list(layers_of(model, BatchNorm)):
            put(model, path, lambda x, path=path, layer=layer: layer(recognise(x, path)))
        return model(jnp.zeros((1, samples))).clipwise

    def remember(y: Clips, path: Path) -> Clips:
        made.append((y, path))
        return y

    def recognise(x: Clips, path: Path) -> Clips:
        found.update({origin: path for y, origin in made if y is x})
        return x

    nnx.eval_shape(look, model)
    return found


def shapes_of(model: Model, batch: Size, samples: Size, *, with_lengths: bool) -> dict[Path, ConvShape]:
    """What each convolution of a model is to do for a batch of waveforms; the model is neither changed nor run."""
    shapes: dict[Path, ConvShape] = {}

    def look(model: Model, lengths: Array | None) -> Array:
        for path, layer in list(layers_of(model, Conv)):
            put(model, path, lambda x, path=path, layer=layer: layer(note(x, path, layer)))
        return model(jnp.zeros((batch, samples)), lengths=lengths).clipwise

    def note(x: Clips, path: Path, layer: Conv) -> Clips:
        shapes[path] = layer.shape(x)
        return x

    nnx.eval_shape(look, model, jax.ShapeDtypeStruct((batch,), jnp.int32) if with_lengths else None)
    return shapes
