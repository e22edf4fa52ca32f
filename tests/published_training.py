"""Training as for the golden figures: weights of seed 1, no dropout, no SpecAugment, one batch for all steps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import recipe
from flax import nnx

from panns_jax.models.model import Model
from panns_jax.models.registry import model_config
from panns_jax.pretrained.conversion import convert_weights
from panns_jax.pretrained.rules import entries, filled_model
from panns_jax.train.losses import clip_bce
from panns_jax.train.optimizer import make_optimizer
from panns_jax.train.step import loss_and_statistics


class Batch(NamedTuple):
    """What a step is made on.

    Attributes:
      waveform: (rows, samples).
      target: (rows, 527), 0 or 1.
      blend: weight of the first row of each pair, for mixup; None without it.
    """

    waveform: np.ndarray
    target: np.ndarray
    blend: np.ndarray | None


class Step(NamedTuple):
    """What a step made, under the published names.

    Attributes:
      loss: before the update.
      gradients: of every weight.
      statistics: of every batch normalisation, after the step.
    """

    loss: float
    gradients: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]


def published_model(name: str) -> Model:
    """In training mode, but without dropout and SpecAugment, with the weights of seed 1."""
    config = model_config(name)
    model = filled_model(config, convert_weights(recipe.checkpoint(name, 1), config, name))
    model.train()
    model.set_attributes(deterministic=True)
    return model


def golden_batch(rows: int, samples: int, sample_rate: int, *, mixup: bool) -> Batch:
    rng = recipe._rng
    waveform = recipe.waveform(rows, samples, sample_rate, 1)
    target = rng(1, "target").random((rows, 527)) < 0.02
    blend = rng(1, "lambda").beta(1, 1, rows // 2).astype(np.float32) if mixup else None
    return Batch(waveform, target.astype(np.float32), blend)


class Training:
    """A model on its way.

    Args:
      name: of the published model.
      batch: the one that it is trained on.
      learning_rate: of the published optimizer.
      dtype: of weights, gradients and statistics.
    """

    def __init__(self, name: str, batch: Batch, learning_rate: float, dtype: type = np.float32):
        model = published_model(name)
        self._names = {entry.published: entry.ours for entry in entries(model.config)}
        self._graph = nnx.graphdef(model)
        self._params, self._batch_stats = (
            jax.tree.map(lambda x: jnp.asarray(x, dtype), nnx.to_pure_dict(nnx.state(model, kind)))
            for kind in (nnx.Param, nnx.BatchStat)
        )
        self._blend = None if batch.blend is None else jnp.asarray(batch.blend)
        self._inputs = {"waveform": jnp.asarray(batch.waveform), "target": jnp.asarray(batch.target)}
        self._optimizer = make_optimizer(learning_rate)
        self._memory = jax.jit(self._optimizer.init)(self._params)
        # Apart, so that whoever looks at the first step alone does not wait for the optimizer to be compiled.
        self._slope = jax.jit(jax.value_and_grad(self._loss, has_aux=True))
        self._update = jax.jit(self._updated)

    def step(self) -> Step:
        """Loss and gradients; the weights stay, the statistics go on."""
        (loss, self._batch_stats), self._gradients = self._slope(
            self._params, self._batch_stats, self._inputs, self._blend
        )
        return Step(float(loss), self._published(self._gradients), self._published(self._batch_stats))

    def update(self) -> None:
        """Lets the weights follow the gradients of the last step."""
        self._params, self._memory = self._update(self._params, self._gradients, self._memory)

    def clipwise(self, *, training: bool = False) -> np.ndarray:
        """Probabilities of the batch, in evaluation mode and unblended unless `training`; nothing goes on."""

        def forward(params: Any, batch_stats: Any, waveform: jax.Array) -> jax.Array:
            model = nnx.merge(self._graph, params, batch_stats)
            if training:
                return model(waveform, mixup_lambda=self._blend).clipwise
            model.eval()
            return model(waveform).clipwise

        return np.asarray(jax.jit(forward)(self._params, self._batch_stats, self._inputs["waveform"]))

    def _loss(self, params: Any, batch_stats: Any, inputs: Any, blend: jax.Array | None) -> tuple[jax.Array, Any]:
        return loss_and_statistics(params, batch_stats, self._graph, clip_bce, inputs, blend, jax.random.key(0))

    def _updated(self, params: Any, gradients: Any, memory: optax.OptState) -> tuple[Any, optax.OptState]:
        updates, memory = self._optimizer.update(gradients, memory, params)
        return optax.apply_updates(params, updates), memory

    def _published(self, tree: Any) -> dict[str, np.ndarray]:
        ours = {".".join(path): np.asarray(leaf) for path, leaf in _leaves(tree)}
        return {published: ours[name] for published, name in self._names.items() if name in ours}


def _leaves(tree: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if not isinstance(tree, dict):
        return [(path, tree)]
    return [leaf for name, branch in tree.items() for leaf in _leaves(branch, (*path, str(name)))]
