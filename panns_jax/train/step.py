"""One step of training and one of evaluation, compiled once over a mesh of devices."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Key

from panns_jax import frontend
from panns_jax.data.pipeline import to_float
from panns_jax.errors import InputError
from panns_jax.kernels.gradients import gradients_by_products
from panns_jax.models.abstract import abstract_model
from panns_jax.models.config import ModelConfig, Output, Precision
from panns_jax.models.model import Model
from panns_jax.models.rematerialization import Rematerialize, rematerialized
from panns_jax.train.averaging import Averaging, begin_average

Weights = dict[str, Any]
"""Nested dict of arrays under the attribute names of a model, as `nnx.to_pure_dict` makes it."""
Loss = Callable[[Output, Float[Array, "batch classes"]], Float[Array, ""]]
_AXIS = "data"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a step changes; with the seed it decides all that follows.

    Attributes:
      iteration: steps done, an int32 scalar; a shape alone, like all else, in an abstract state.
      params: weights of the model.
      batch_stats: running statistics of its batch normalisations.
      optimizer: state of the optimizer.
      average: averages of `params` and `batch_stats`, under these names; None where none are made.
    """

    iteration: Any
    params: Weights
    batch_stats: Weights
    optimizer: optax.OptState
    average: Weights | None = None

    @property
    def scored(self) -> tuple[Weights, Weights]:
        """Weights and running statistics that are to be scored: the averages where there are some."""
        if self.average is None:
            return self.params, self.batch_stats
        return self.average["params"], self.average["batch_stats"]


class StepReport(NamedTuple):
    """What a step tells.

    Attributes:
      loss: of the batch, before the update.
      gradient_norm: Euclidean norm of all gradients together.
      gradient_norms: the same of each part of the model, by its name.
    """

    loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    gradient_norms: dict[str, Float[Array, ""]]


def data_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """The devices in a row, along which batches are split; by default those of all processes, one after another."""
    devices = sorted(jax.devices(), key=lambda one: (one.process_index, one.id)) if devices is None else devices
    return Mesh(np.asarray(devices), (_AXIS,), axis_types=(AxisType.Auto,))


def require_divisible(batch_size: int, mesh: Mesh, *, accumulation_steps: int = 1) -> None:
    """Checks that every device gets the same number of clips, in each of the parts of a batch.

    Raises:
      InputError: it would not.
    """
    least = mesh.size * accumulation_steps
    if batch_size % least:
        parts = f" in {accumulation_steps} parts (--accumulation-steps)" if accumulation_steps > 1 else ""
        raise InputError(
            f"--batch-size {batch_size} cannot be split over {mesh.size} devices{parts}; give a multiple of {least}"
        )


def own_rows(rows: int, mesh: Mesh) -> slice:
    """Which of the rows of a batch are those of this process's devices: it reads them, and no others."""
    shares = _split(mesh).addressable_devices_indices_map((rows,)).values()
    ranges = [share[0].indices(rows) for share in shares if share is not None]
    return slice(min(first for first, _, _ in ranges), max(end for _, end, _ in ranges))


def place(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, Array]:
    """Puts a batch on the devices, split by rows; each process gives its `own_rows`."""
    sharding = _split(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}


def architecture(config: ModelConfig, precision: Precision = "float32") -> nnx.GraphDef[Model]:
    """A model in training mode without its weights; nothing is computed."""
    model = abstract_model(config)
    model.set_precision(precision)
    return nnx.graphdef(model)


def initial_state(
    config: ModelConfig, optimizer: optax.GradientTransformation, mesh: Mesh, *, seed: int, averaged: bool = False
) -> TrainState:
    """The state before the first step, with fresh weights, a copy on every device; with averages if these are made."""
    fresh = _fresh_state(config, optimizer, seed, averaged)
    # It runs once: optimised further, the same numbers cost seconds more to compile and none less to draw.
    return jax.jit(fresh, out_shardings=_everywhere(mesh), compiler_options={"xla_backend_optimization_level": 1})()


def abstract_state(
    config: ModelConfig, optimizer: optax.GradientTransformation, mesh: Mesh, *, averaged: bool = False
) -> TrainState:
    """Shapes, types and places of the state, for reading one from a checkpoint."""
    sharding = _everywhere(mesh)
    shapes = jax.eval_shape(_fresh_state(config, optimizer, 0, averaged))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)


def _fresh_state(
    config: ModelConfig, optimizer: optax.GradientTransformation, seed: int, averaged: bool
) -> Callable[[], TrainState]:
    def fresh() -> TrainState:
        model = Model(config, rngs=nnx.Rngs(seed))
        params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
        batch_stats = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
        average = begin_average(params, batch_stats) if averaged else None
        return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params), average)

    return fresh


def make_train_step(
    graph: nnx.GraphDef[Model],
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    loss: Loss,
    mixup: bool,
    seed: int,
    accumulation_steps: int = 1,
    rematerialize: Rematerialize = "none",
    averaging: Averaging | None = None,
) -> Callable[[TrainState, dict[str, Array]], tuple[TrainState, StepReport]]:
    """Compiles the step: forward, backward, update.

    Mixup weights, dropout and SpecAugment follow from `seed` and `state.iteration`, and from nothing else. Batch
    normalisation sees the whole batch, however many devices share it; with `accumulation_steps` it sees one part of the
    batch after another, and its running statistics move once a step, to the mean of what the parts would make them.
    Where the loss or a gradient is not finite, the step counts, but changes no weights.

    Args:
      graph: of `architecture`.
      optimizer: as for `initial_state`.
      mesh: of `data_mesh`.
      loss: from output and targets to a scalar, the mean of the clips' losses.
      mixup: whether the batch comes with two rows for each clip to train on.
      seed: of the run.
      accumulation_steps: parts of equal size in which a batch is worked off, one after another, for one update by the
        mean of their gradients; each takes as little memory as a batch of its size. See `require_divisible`.
      rematerialize: what the backward pass computes anew, to save memory.
      averaging: how the averages of the state go on, if it has some.

    Returns:
      A function of a state, whose memory it takes over, and a batch of `place` with "waveform" (rows, samples) int16 or
      float32 and "target" (rows, classes) float32; it returns the next state and a report.
    """

    on_one_cpu = [device.platform for device in mesh.devices.flat] == ["cpu"]

    def step(state: TrainState, batch: dict[str, Array]) -> tuple[TrainState, StepReport]:
        key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), state.iteration)
        mixup_key, model_key = jax.random.split(key)
        blend = _draw_mixup(mixup_key, len(batch["waveform"])) if mixup else None
        differentiate = functools.partial(_differentiated, state, graph, loss)
        with gradients_by_products() if on_one_cpu else contextlib.nullcontext(), rematerialized(rematerialize):
            if accumulation_steps == 1:
                value, batch_stats, gradients = differentiate(batch, blend, model_key)
            else:
                parts = _in_parts(batch, blend, accumulation_steps, mesh)
                value, batch_stats, gradients = _mean_of_parts(differentiate, *parts, model_key)
        report = StepReport(value, optax.tree.norm(gradients), norms_by_part(gradients))
        finite = jnp.isfinite(report.loss) & jnp.isfinite(report.gradient_norm)

        def unless_diverged(new: Any, old: Any) -> Any:
            return jax.tree.map(functools.partial(jnp.where, finite), new, old)

        # The optimizer itself keeps what it remembers: chosen here, old and new would both be held in memory.
        updates, optimizer_state = optax.with_extra_args_support(optimizer).update(
            gradients, state.optimizer, state.params, finite=finite
        )
        params = unless_diverged(optax.apply_updates(state.params, updates), state.params)
        batch_stats = unless_diverged(batch_stats, state.batch_stats)
        iteration, average = state.iteration + 1, state.average
        if averaging is not None:
            assert average is not None
            average = unless_diverged(averaging(average, params, batch_stats, iteration), average)
        return TrainState(iteration, params, batch_stats, optimizer_state, average), report

    everywhere = _everywhere(mesh)
    return jax.jit(
        step,
        in_shardings=(everywhere, _split(mesh)),
        out_shardings=everywhere,
        donate_argnames="state",  # not the batch: nothing that comes out could take its place
    )


def norms_by_part(tree: Weights) -> dict[str, Float[Array, ""]]:
    """Euclidean norms of the weights, or of their gradients, in each part of the model, by its name."""
    return {name: optax.tree.norm(part) for name, part in tree.items()}


def make_predict(
    graph: nnx.GraphDef[Model], mesh: Mesh
) -> Callable[[Weights, Weights, Array], Float[Array, "batch classes"]]:
    """Compiles the forward pass in evaluation mode: (params, batch_stats, waveform) to clipwise probabilities.

    Args:
      graph: of `architecture`.
      mesh: of `data_mesh`.
    """

    def predict(params: Weights, batch_stats: Weights, waveform: Array) -> Float[Array, "batch classes"]:
        merged = nnx.merge(graph, params, batch_stats)
        merged.eval()
        return merged(to_float(waveform)).clipwise

    everywhere = _everywhere(mesh)
    return jax.jit(predict, in_shardings=(everywhere, everywhere, _split(mesh)), out_shardings=everywhere)


def loss_and_statistics(
    params: Weights,
    batch_stats: Weights,
    graph: nnx.GraphDef[Model],
    loss: Loss,
    batch: Mapping[str, Array],
    blend: Float[Array, " pairs"] | None,
    key: Key[Array, ""],
) -> tuple[Float[Array, ""], Weights]:
    """Loss of a batch, and the batch statistics that it leaves behind."""
    model = nnx.merge(graph, params, batch_stats)
    output = model(to_float(batch["waveform"]), mixup_lambda=blend, rngs=nnx.Rngs(key))
    target = batch["target"] if blend is None else frontend.mixup(batch["target"], blend)
    return loss(output, target), nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))


def _differentiated(
    state: TrainState,
    graph: nnx.GraphDef[Model],
    loss: Loss,
    batch: Mapping[str, Array],
    blend: Float[Array, " pairs"] | None,
    key: Key[Array, ""],
) -> tuple[Float[Array, ""], Weights, Weights]:
    """Loss of a batch, the batch statistics that it leaves behind, and the gradients."""
    (value, batch_stats), gradients = jax.value_and_grad(loss_and_statistics, has_aux=True)(
        state.params, state.batch_stats, graph, loss, batch, blend, key
    )
    return value, batch_stats, gradients


def _in_parts(
    batch: Mapping[str, Array], blend: Float[Array, " pairs"] | None, count: int, mesh: Mesh
) -> tuple[dict[str, Array], Float[Array, "parts pairs_of_each"] | None]:
    """Every `count`-th clip (pair of clips where they are blended) makes a part.

    That way each device finds its share of each part among its own rows, and the parts are the same for any number of
    devices.
    """
    together = 1 if blend is None else 2

    def split(rows: Array) -> Array:
        grouped = rows.reshape(-1, count, together, *rows.shape[1:]).swapaxes(0, 1)
        parts = grouped.reshape(count, -1, *rows.shape[1:])
        return jax.lax.with_sharding_constraint(parts, NamedSharding(mesh, PartitionSpec(None, _AXIS)))

    return {name: split(rows) for name, rows in batch.items()}, None if blend is None else blend.reshape(-1, count).T


def _mean_of_parts(
    differentiate: Callable[..., tuple[Float[Array, ""], Weights, Weights]],
    parts: Mapping[str, Array],
    blends: Float[Array, "parts pairs"] | None,
    key: Key[Array, ""],
) -> tuple[Float[Array, ""], Weights, Weights]:
    """Means of what `differentiate` makes of one part after another, each with random numbers of its own."""
    count = len(parts["waveform"])

    def add(sums: Any, part: tuple[Any, Any, Key[Array, ""]]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, differentiate(*part)), None

    given = (parts, blends, jax.random.split(key, count))
    shapes = jax.eval_shape(differentiate, *jax.tree.map(lambda leaf: leaf[0], given))
    sums, _ = jax.lax.scan(add, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes), given)
    return jax.tree.map(lambda leaf: leaf / count, sums)


def _draw_mixup(key: Key[Array, ""], rows: int) -> Float[Array, " pairs"]:
    return jax.random.uniform(key, (rows // 2,))  # Beta(1, 1), the paper's choice, is uniform


def _everywhere(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def _split(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(_AXIS))
