"""A step of fine-tuning: some parts of a model learn, each at a rate of its own, and the others stay as they are."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from flax import nnx, traverse_util
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Key

from panns_jax.frontend import mixup
from panns_jax.kernels.gradients import gradients_by_products
from panns_jax.models.config import Output
from panns_jax.train.finetune.depth import Part, Plan
from panns_jax.train.optimizer import make_optimizer
from panns_jax.train.step import Loss

Arrays = dict[tuple[str, ...], Any]
"""Arrays of a model by their paths in it."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TuneState:
    """Everything that a step changes; with the seed it decides all that follows.

    Attributes:
      iteration: steps done, an int32 scalar.
      params: weights of the parts that learn at some time, by the name of the part and their paths.
      statistics: running statistics of all batch normalisations, by their paths.
      optimizers: the state of each part's optimizer.
      loss: sum of the losses of the epoch's steps so far.
    """

    iteration: Any
    params: dict[str, Arrays]
    statistics: Arrays
    optimizers: dict[str, Any]
    loss: Any


@runtime_checkable
class Forward(Protocol):
    """A model in training, as a function of its arrays."""

    def __call__(
        self,
        params: Arrays,
        statistics: Arrays,
        inputs: Array,
        blend: Float[Array, " pairs"] | None,
        key: Key[Array, ""],
    ) -> tuple[Output, Arrays]:
        """What it makes of inputs, blended in pairs where `blend` is given; and its statistics afterwards."""
        ...


def model_forward(graph: nnx.GraphDef[Any]) -> Forward:
    """The forward pass of a whole model, of waveforms.

    Args:
      graph: of the model, with its parts switched to training or evaluation mode.
    """

    def forward(
        params: Arrays,
        statistics: Arrays,
        inputs: Array,
        blend: Float[Array, " pairs"] | None,
        key: Key[Array, ""],
    ) -> tuple[Output, Arrays]:
        model = merged(graph, params, statistics)
        output = model(inputs, mixup_lambda=blend, rngs=nnx.Rngs(key), taps=("logits",))
        return output, arrays_of(model, nnx.BatchStat)

    return forward


def merged(graph: nnx.GraphDef[Any], params: Arrays, statistics: Arrays) -> Any:
    """The model of a graph with these arrays."""
    return nnx.merge(graph, traverse_util.unflatten_dict({**params, **statistics}))


def arrays_of(model: nnx.Module, kind: Any) -> Arrays:
    """The arrays of a kind, `nnx.Param` or `nnx.BatchStat`, by their paths."""
    return traverse_util.flatten_dict(nnx.to_pure_dict(nnx.state(model, kind)))


def divided(params: Arrays, parts: Sequence[Part]) -> tuple[dict[str, Arrays], Arrays]:
    """The arrays of each of the parts, and those of none of them."""
    inside = {part.name: {path: x for path, x in params.items() if part.holds(path)} for part in parts}
    taken = {path for arrays in inside.values() for path in arrays}
    return inside, {path: x for path, x in params.items() if path not in taken}


def begun(params: Arrays, statistics: Arrays, optimizers: "Optimizers") -> tuple[TuneState, Arrays]:
    """The state before the first step, and the weights that never learn."""
    learnt, fixed = divided(params, optimizers.plan.learnt)
    # Copied: a step takes over the memory of the state, and the model that was given is not to change.
    learnt, statistics = jax.tree.map(lambda x: jnp.array(x, copy=True), (learnt, statistics))
    states = {name: optimizer.init(learnt[name]) for name, optimizer in optimizers.items()}
    return TuneState(jnp.zeros((), jnp.int32), learnt, statistics, states, jnp.zeros(())), fixed


class Optimizers(dict[str, optax.GradientTransformation]):
    """An optimizer for each part of a plan that learns at some time."""

    def __init__(self, plan: Plan, *, learning_rate: float, weight_decay: float) -> None:
        self.plan = plan
        super().__init__(
            {
                part.name: make_optimizer(learning_rate * plan.rate(part), weight_decay=weight_decay)
                for part in plan.learnt
            }
        )


def make_update(
    forward: Forward, optimizers: Optimizers, learning: Sequence[Part], *, loss: Loss, mixed: bool, seed: int
) -> Callable[[TuneState, Arrays, Mapping[str, Array]], TuneState]:
    """A step, not yet compiled: forward, backward, update.

    Args:
      forward: the model.
      optimizers: of the parts.
      learning: the parts that learn now; gradients are computed for these alone.
      loss: from output and targets to a scalar.
      mixed: whether the batch comes with two rows for each clip to train on, which are blended.
      seed: of dropout, SpecAugment and the weights of blending, with the state's iteration.

    Returns:
      A function of a state, the weights that never learn, and a batch of "inputs" (rows, …) and "target" (rows,
      classes).
    """
    names = [part.name for part in learning]

    def update(state: TuneState, fixed: Arrays, batch: Mapping[str, Array]) -> TuneState:
        key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), state.iteration)
        mixup_key, model_key = jax.random.split(key)
        rows = len(batch["target"])
        blend = jax.random.uniform(mixup_key, (rows // 2,)) if mixed else None
        target = batch["target"] if blend is None else mixup(batch["target"], blend)
        resting = [arrays for name, arrays in state.params.items() if name not in names]

        def of(learnt: dict[str, Arrays]) -> tuple[Float[Array, ""], Arrays]:
            params = functools.reduce(lambda one, other: {**one, **other}, [*resting, *learnt.values()], fixed)
            output, statistics = forward(params, state.statistics, batch["inputs"], blend, model_key)
            return loss(output, target), statistics

        learnt = {name: state.params[name] for name in names}
        (value, statistics), gradients = jax.value_and_grad(of, has_aux=True)(learnt)
        params, states = dict(state.params), dict(state.optimizers)
        for name in names:
            changes, states[name] = optimizers[name].update(gradients[name], states[name], params[name])
            updated: Any = optax.apply_updates(params[name], changes)
            params[name] = updated
        return TuneState(state.iteration + 1, params, statistics, states, state.loss + value)

    return update


def compiled(
    update: Callable[[TuneState, Arrays, Mapping[str, Array]], TuneState], mesh: Mesh
) -> Callable[[TuneState, Arrays, Mapping[str, Array]], TuneState]:
    """The step over the devices of a mesh: the batch is split, and all else is on every one."""

    def step(state: TuneState, fixed: Arrays, batch: Mapping[str, Array]) -> TuneState:
        on_one_cpu = [device.platform for device in mesh.devices.flat] == ["cpu"]
        with gradients_by_products() if on_one_cpu else contextlib.nullcontext():
            return update(state, fixed, batch)

    everywhere = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec(*mesh.axis_names))
    return jax.jit(
        step, in_shardings=(everywhere, everywhere, split), out_shardings=everywhere, donate_argnames="state"
    )
