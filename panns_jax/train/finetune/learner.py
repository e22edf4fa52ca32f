"""What learns: the new layers alone, on features that are kept, or a model as a whole, on waveforms."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key

from panns_jax.data.labelled.batches import evaluation_windows, training_clips
from panns_jax.data.labelled.decoded import Decoded, ahead
from panns_jax.data.labelled.splits import balanced_order
from panns_jax.data.sampling import Sampler, make_sampler
from panns_jax.frontend import mixup
from panns_jax.models.abstract import abstract_model
from panns_jax.models.clips import Clips
from panns_jax.models.config import ModelConfig, Output
from panns_jax.models.heads import DecisionHead
from panns_jax.models.model import Model
from panns_jax.models.transfer import TransferHead
from panns_jax.train.finetune.depth import Part, Plan, parts_of, switched
from panns_jax.train.finetune.features import Features, mean_of_windows
from panns_jax.train.finetune.step import (
    Arrays,
    Forward,
    Optimizers,
    TuneState,
    arrays_of,
    begun,
    compiled,
    make_update,
    merged,
    model_forward,
)
from panns_jax.train.losses import clip_bce, clip_ce
from panns_jax.train.step import Loss, data_mesh, place

# Windows that are scored at once.
_SCORED = 32


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How is learnt.

    Attributes:
      plan: which parts learn.
      loss: what is minimised.
      batch_size: clips in a batch; blended ones are two each.
      mixed: whether clips are blended in pairs: what the model makes of the input, or features.
      spec_augment: whether SpecAugment masks the input.
      balanced: whether classes take turns, instead of clips.
      learning_rate: of the part next to the output.
      weight_decay: see `make_optimizer`.
      seed: of everything that is drawn.
    """

    plan: Plan
    loss: Loss
    batch_size: int
    mixed: bool
    spec_augment: bool
    balanced: bool
    learning_rate: float
    weight_decay: float
    seed: int

    @property
    def rows(self) -> int:
        """Clips that are read for a batch."""
        return 2 * self.batch_size if self.mixed else self.batch_size

    def for_clips(self, clips: int) -> "Recipe":
        """The same with batches that are no larger than all the clips."""
        return dataclasses.replace(self, batch_size=min(self.batch_size, clips))

    def steps(self, clips: int) -> int:
        """Number of steps of an epoch."""
        return math.ceil(clips / self.batch_size)

    @property
    def optimizers(self) -> Optimizers:
        """One for each part."""
        return Optimizers(self.plan, learning_rate=self.learning_rate, weight_decay=self.weight_decay)


def loss_of(config: ModelConfig, *, multi_label: bool) -> Loss:
    """What is minimised: cross-entropy of the softmax where classes exclude each other, else of each probability.

    Decision-level models give each class a probability of its own in any case.
    """
    return clip_bce if multi_label or isinstance(config.head, DecisionHead) else clip_ce


@runtime_checkable
class Learner(Protocol):
    """Goes on with a state, step by step."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps of an epoch."""
        ...

    def begin(self) -> TuneState:
        """The state before the first step."""
        ...

    def epoch(self, state: TuneState) -> Iterator[TuneState]:
        """The states after one step or several, up to the end of the epoch that `state` is in; it is used up."""
        ...

    def predict(self, state: TuneState, rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, "rows classes"]:
        """Probabilities of the classes in clips, in evaluation mode, as means over their windows."""
        ...


class NewLayers(nnx.Module):
    """The layers of a model that are new, alone."""

    def __init__(self, layers: Mapping[str, nnx.Module]) -> None:
        for name, layer in layers.items():
            setattr(self, name, layer)


class ProbeLearner:
    """The new layers of a model on features, an epoch in one compiled program.

    Args:
      model: with new layers.
      recipe: how is learnt.
      features: of all clips.
      targets: the classes of all clips.
      train: rows of those that are learnt from.
    """

    def __init__(
        self,
        model: Model,
        recipe: Recipe,
        features: Features,
        targets: Bool[np.ndarray, "clips classes"],
        train: Int[np.ndarray, " rows"],
    ) -> None:
        self._recipe = recipe = recipe.for_clips(len(train))
        self._features = features
        # Shared with the model whose layers these are, and not changed by training.
        names = {path[0] for part in recipe.plan.learnt for path in part.paths}
        drop = {"transfer_dropout"} if hasattr(model, "transfer_dropout") else set()
        layers: Any = NewLayers({name: getattr(model, name) for name in sorted(names | drop)})
        layers.train()
        self._layers = layers
        self._graph = nnx.graphdef(layers)
        self._head = model.config.head
        of_train = features.take(train)
        self._values, self._targets = jnp.asarray(of_train.values), jnp.asarray(targets[train], jnp.float32)
        self._starts, self._counts = of_train.starts, of_train.counts
        self._sampler = sampler_of(targets[train], recipe)
        self.steps_per_epoch = recipe.steps(len(train))
        forward = _probe_forward(self._graph, self._head)
        update = make_update(
            forward, recipe.optimizers, recipe.plan.learnt, loss=recipe.loss, mixed=recipe.mixed, seed=recipe.seed
        )

        def epoch(state: TuneState, values: Array, targets: Array, windows: Array, clips: Array) -> TuneState:
            def step(state: TuneState, drawn: tuple[Array, Array]) -> tuple[TuneState, None]:
                window, clip = drawn
                return update(state, {}, {"inputs": values[window], "target": targets[clip]}), None

            return jax.lax.scan(step, state, (windows, clips))[0]

        self._epoch = jax.jit(epoch, donate_argnums=0)
        self._read = jax.jit(functools.partial(_probabilities, self._graph, self._head))

    def begin(self) -> TuneState:
        """See `Learner`."""
        return begun(
            arrays_of(self._layers, nnx.Param), arrays_of(self._layers, nnx.BatchStat), self._recipe.optimizers
        )[0]

    def epoch(self, state: TuneState) -> Iterator[TuneState]:
        """See `Learner`."""
        first, rows = int(state.iteration), self._recipe.rows
        ks = first * rows + np.arange(self.steps_per_epoch * rows)
        clips = self._sampler.batch(ks)
        # Of a clip of several windows one is drawn, as a place to cut it is where waveforms are learnt from.
        drawn = np.random.default_rng([self._recipe.seed, first]).random(len(ks))
        windows = self._starts[clips] + (drawn * self._counts[clips]).astype(np.int64)
        shape = self.steps_per_epoch, rows
        state = dataclasses.replace(state, loss=jnp.zeros(()))
        yield self._epoch(
            state, self._values, self._targets, jnp.asarray(windows.reshape(shape)), jnp.asarray(clips.reshape(shape))
        )

    def predict(self, state: TuneState, rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, "rows classes"]:
        """See `Learner`."""
        features = self._features.take(rows)
        values = np.asarray(self._read(state.params, state.statistics, features.values))
        return mean_of_windows(values, features.counts)


def _probe_forward(graph: nnx.GraphDef[Any], head: Any) -> Forward:
    def forward(
        params: Arrays, statistics: Arrays, inputs: Array, blend: Float[Array, " pairs"] | None, key: Key[Array, ""]
    ) -> tuple[Output, Arrays]:
        layers = merged(graph, params, statistics)
        features = inputs if blend is None else mixup(inputs, blend)
        output = _read(head, layers, features, nnx.Rngs(key))
        return output, arrays_of(layers, nnx.BatchStat)

    return forward


def _read(head: Any, layers: Any, features: Array, rngs: nnx.Rngs | None) -> Output:
    if isinstance(head, TransferHead):
        return head.read(layers, features, rngs)
    clipwise, logits = head.decide(layers, Clips(features))
    return Output(clipwise, logits=logits.own())


def _probabilities(
    graph: nnx.GraphDef[Any], head: Any, params: dict[str, Arrays], statistics: Arrays, features: Array
) -> Array:
    layers = merged(graph, _joined(params), statistics)
    layers.eval()
    return _read(head, layers, jnp.asarray(features), None).clipwise


def _joined(params: Mapping[str, Arrays]) -> Arrays:
    return {path: x for arrays in params.values() for path, x in arrays.items()}


def sampler_of(targets: Bool[np.ndarray, "clips classes"], recipe: Recipe) -> Sampler:
    """Which clip each sample is."""
    if recipe.balanced:
        return balanced_order(targets, recipe.seed)
    return make_sampler("none", targets, seed=recipe.seed, batch_rows=1)


class WholeLearner:
    """A whole model on waveforms, of which some parts may be frozen.

    Args:
      model: with new layers.
      recipe: how is learnt.
      decoded: all clips, at the model's sample rate.
      train: rows of those that are learnt from.
      samples: length of what is learnt from.
    """

    def __init__(
        self, model: Model, recipe: Recipe, decoded: Decoded, train: Int[np.ndarray, " rows"], samples: int
    ) -> None:
        self._recipe = recipe = recipe.for_clips(len(train))
        self._model = model
        self._decoded = decoded
        self._samples = samples
        self._parts = parts_of(model.config)
        self._mesh = _mesh(recipe.rows)
        self._clips = training_clips(
            decoded.labelled,
            train,
            clip_seconds=samples / decoded.sample_rate,
            sample_rate=decoded.sample_rate,
            seed=recipe.seed,
            batch_size=recipe.rows,
            balanced=recipe.balanced,
            decoded=decoded,
        )
        self.steps_per_epoch = recipe.steps(len(train))
        self._fixed: Arrays = begun(*self._arrays, recipe.optimizers)[1]
        self._steps = functools.cache(self._compiled)
        evaluated = self._abstract()
        evaluated.eval()
        graph = nnx.graphdef(evaluated)
        self._predict = jax.jit(
            lambda params, fixed, statistics, waveform: (
                merged(graph, {**fixed, **_joined(params)}, statistics)(waveform).clipwise
            )
        )

    @property
    def _arrays(self) -> tuple[Arrays, Arrays]:
        return arrays_of(self._model, nnx.Param), arrays_of(self._model, nnx.BatchStat)

    def _abstract(self) -> Model:
        model = abstract_model(self._model.config)
        model.set_precision(self._model.precision)
        base: Any = getattr(model, "base", None)
        if base is not None:
            base.frozen = False  # its parts are, one by one: SpecAugment may be on
        return model

    def _compiled(self, learning: tuple[Part, ...]) -> Any:
        model = self._abstract()
        switched(model, learning, self._parts, spec_augment=self._recipe.spec_augment)
        update = make_update(
            model_forward(nnx.graphdef(model)),
            self._recipe.optimizers,
            learning,
            loss=self._recipe.loss,
            mixed=self._recipe.mixed,
            seed=self._recipe.seed,
        )
        return compiled(update, self._mesh)

    def begin(self) -> TuneState:
        """See `Learner`."""
        return begun(*self._arrays, self._recipe.optimizers)[0]

    def epoch(self, state: TuneState) -> Iterator[TuneState]:
        """See `Learner`."""
        done = int(state.iteration)
        number, first = divmod(done, self.steps_per_epoch)
        step = self._steps(self._recipe.plan.at(number))
        if not first:
            state = dataclasses.replace(state, loss=jnp.zeros(()))
        with contextlib.closing(self._clips.batches(done)) as batches:  # pyright: ignore[reportArgumentType]
            for _, batch in zip(range(first, self.steps_per_epoch), batches, strict=False):
                given = place({"inputs": batch["waveform"], "target": batch["target"]}, self._mesh)
                state = step(state, self._fixed, given)
                yield state

    def predict(self, state: TuneState, rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, "rows classes"]:
        """See `Learner`."""

        def windows(row: int) -> np.ndarray:
            return evaluation_windows(self._decoded.waveform(row), self._samples)

        counts: list[int] = []
        held: list[np.ndarray] = []
        made: list[np.ndarray] = []

        def run(some: list[np.ndarray]) -> None:
            batch = np.stack(some)
            padded = np.pad(batch, ((0, _SCORED - len(batch)), (0, 0)))
            answer = self._predict(state.params, self._fixed, state.statistics, padded)
            made.append(np.asarray(answer)[: len(batch)])

        with contextlib.closing(ahead(windows, [int(row) for row in rows])) as clips:  # pyright: ignore
            for clip in clips:
                counts.append(len(clip))
                held += [*clip]
                while len(held) >= _SCORED:
                    run(held[:_SCORED])
                    held = held[_SCORED:]
        if held:
            run(held)
        return mean_of_windows(np.concatenate(made), np.array(counts))


def _mesh(rows: int) -> Mesh:
    """As many devices as a batch can be split over."""
    devices = jax.devices()
    count = next(count for count in range(len(devices), 0, -1) if rows % count == 0)
    return data_mesh(devices[:count])
