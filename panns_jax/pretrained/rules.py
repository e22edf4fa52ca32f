"""Published (PyTorch) names and layouts ↔ ours, by the kind of layer; one table for all models and both directions.

Attribute paths of our models are the published names, so a rule has to know only the last part of the name and the
order of the axes. Convolutions are OIHW there and HWIO here (OIW and WIO in one dimension); linear layers (out, in)
there and (in, out) here.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from panns_jax.models.abstract import abstract_model
from panns_jax.models.config import ModelConfig
from panns_jax.models.model import Model


def _same(x: np.ndarray) -> np.ndarray:
    return x


def _transposed(x: np.ndarray) -> np.ndarray:
    return x.T


def _spatial_first(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, (0, 1), (-1, -2))


def _spatial_last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, (-1, -2), (0, 1))


@dataclasses.dataclass(frozen=True)
class Rule:
    """How one array of a layer is called and laid out here."""

    ours: str
    to_ours: Callable[[np.ndarray], np.ndarray] = _same
    to_published: Callable[[np.ndarray], np.ndarray] = _same


RULES: Mapping[type[nnx.Module], Mapping[str, Rule]] = {
    nnx.Conv: {"weight": Rule("kernel", _spatial_first, _spatial_last), "bias": Rule("bias")},
    nnx.Linear: {"weight": Rule("kernel", _transposed, _transposed), "bias": Rule("bias")},
    nnx.BatchNorm: {
        "weight": Rule("scale"),
        "bias": Rule("bias"),
        "running_mean": Rule("mean"),
        "running_var": Rule("var"),
    },
}

# What the published layers store and ours have no use for: the number of training steps.
UNUSED: Mapping[type[nnx.Module], tuple[str, ...]] = {nnx.BatchNorm: ("num_batches_tracked",)}

# The layers that have one output per class.
LAST_LAYERS = ("fc_audioset", "att_block.cla", "fc_transfer")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array of a model, there and here.

    Attributes:
      published: its name in a PyTorch state dict.
      ours: its path in our model, with dots.
      shape: its shape in the published layout.
      rule: the way between the two layouts.
    """

    published: str
    ours: str
    shape: tuple[int, ...]
    rule: Rule

    @property
    def our_shape(self) -> tuple[int, ...]:
        """Its shape in our layout."""
        return self.rule.to_ours(np.broadcast_to(np.float32(0), self.shape)).shape


@functools.lru_cache(maxsize=256)
def entries(config: ModelConfig) -> tuple[Entry, ...]:
    """All arrays of a model."""
    return tuple(entry for entry, _ in _variables(abstract_model(config)))


@functools.lru_cache(maxsize=256)
def unused_names(config: ModelConfig) -> frozenset[str]:
    """Names of a published state dict that have no counterpart here, exactly."""
    return frozenset(
        _name(path, field)
        for path, layer in nnx.iter_modules(abstract_model(config))
        for kind, fields in UNUSED.items()
        if isinstance(layer, kind)
        for field in fields
    )


def filled_model(config: ModelConfig, arrays: Mapping[str, np.ndarray], *, copy: bool = True) -> Model:
    """A model in evaluation mode with the given weights.

    Args:
      config: the model.
      arrays: all arrays by `Entry.ours`, in our layouts.
      copy: whether the arrays may change afterwards, as parts of a file that is overwritten do. Where they never do,
        they need not be copied on a CPU; they are then float32.
    """
    model = abstract_model(config)
    for entry, variable in _variables(model):
        array = arrays[entry.ours]
        variable.set_value(jnp.array(array, jnp.float32) if copy else jax.device_put(array, may_alias=True))
    left = [path for path, leaf in nnx.to_flat_state(nnx.state(model)) if isinstance(leaf[...], jax.ShapeDtypeStruct)]
    if left:
        raise ValueError(f"no rule fills {left} of {config.name}")
    # JAX copies in the background; the arrays may be mapped from a file that changes afterwards.
    jax.block_until_ready(jax.tree.leaves(nnx.state(model)))
    model.eval()
    return model


def to_published(model: Model) -> dict[str, np.ndarray]:
    """The weights and batch statistics of a model under the published names, in the published layouts, float32.

    What only PyTorch stores (front-end kernels, step counters) is not among them.
    """
    return {
        entry.published: np.ascontiguousarray(entry.rule.to_published(np.asarray(variable[...], np.float32)))
        for entry, variable in _variables(model)
    }


def _variables(model: Model) -> Iterator[tuple[Entry, nnx.Variable]]:
    for path, layer in nnx.iter_modules(model):
        own = {name: value for name, value in vars(layer).items() if isinstance(value, nnx.Variable)}
        rules = next((fields for kind, fields in RULES.items() if isinstance(layer, kind)), {})
        for field, rule in rules.items():
            variable = own.pop(rule.ours, None)
            # A layer without bias has None there.
            if variable is not None and variable.get_value() is not None:
                shape = rule.to_published(np.broadcast_to(np.float32(0), variable.shape)).shape
                yield Entry(_name(path, field), _name(path, rule.ours), shape, rule), variable
        if own:
            raise ValueError(f"no rule names {sorted(own)} of {_name(path, type(layer).__name__)}")


def _name(path: tuple[object, ...], field: str) -> str:
    return ".".join(map(str, (*path, field)))
