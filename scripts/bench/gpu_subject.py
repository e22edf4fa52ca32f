"""What is trained and asked in gpu.py: Cnn14, its weights, a batch, and our step on them."""

import dataclasses
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from panns_jax.models.config import ModelConfig
    from panns_jax.models.rematerialization import Rematerialize

LEARNING_RATE = 1e-4


def config(*, tiny: bool) -> "ModelConfig":
    """Cnn14; or something of its kind that compiles fast."""
    from panns_jax.models.cnn import Cnn
    from panns_jax.models.heads import ClipHead
    from panns_jax.models.registry import model_config

    whole = model_config("Cnn14")
    if not tiny:
        return whole
    body = Cnn(channels=(8, 16), pooled_blocks=2)
    return dataclasses.replace(whole, body=body, head=ClipHead(embedding_dim=32))


def state_dict(of: "ModelConfig") -> "dict[str, np.ndarray]":
    """Weights under the published names, in PyTorch's layouts."""
    from convert.recipe import state_dict

    return state_dict(of, 1)


def batch(*, tiny: bool) -> "dict[str, np.ndarray]":
    """Rows for 32 clips, two for each as mixup blends two: int16 waveforms of 10 s as the pipeline yields them."""
    import numpy as np

    rows, seconds = (8, 1) if tiny else (64, 10)
    rng = np.random.default_rng(0)
    waveform = (3000 * rng.standard_normal((rows, 32000 * seconds), dtype=np.float32)).astype(np.int16)
    return {"waveform": waveform, "target": (rng.random((rows, 527)) < 0.02).astype(np.float32)}


class OurStep:
    """Training steps of ours with mixup, SpecAugment and dropout; called, it does one and returns the loss before it.

    Attributes:
      lowering: seconds that tracing took.
      compiling: seconds that XLA took.
      analysed: bytes of arguments, results and what is needed between them, as XLA plans it.
    """

    def __init__(
        self,
        config: "ModelConfig",
        batch: "dict[str, np.ndarray]",
        precision: Any,
        *,
        rematerialize: "Rematerialize" = "none",
        accumulation_steps: int = 1,
    ) -> None:
        import jax
        import jax.numpy as jnp
        from flax import nnx

        from panns_jax.pretrained.conversion import convert_weights
        from panns_jax.pretrained.rules import filled_model
        from panns_jax.train.losses import clip_bce
        from panns_jax.train.optimizer import make_optimizer
        from panns_jax.train.step import TrainState, architecture, data_mesh, make_train_step, place

        model = filled_model(config, convert_weights(state_dict(config), config, "the recipe"))
        params, batch_stats = (nnx.to_pure_dict(nnx.state(model, kind)) for kind in (nnx.Param, nnx.BatchStat))
        mesh, optimizer = data_mesh(jax.devices()[:1]), make_optimizer(LEARNING_RATE)
        everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        self._state: Any = jax.device_put(
            TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params)), everywhere
        )
        del model, params, batch_stats
        self._batch = place(batch, mesh)
        step = make_train_step(
            architecture(config, precision),
            optimizer,
            mesh,
            loss=clip_bce,
            mixup=True,
            seed=0,
            rematerialize=rematerialize,
            accumulation_steps=accumulation_steps,
        )
        begun = time.monotonic()
        lowered: Any = step.lower(self._state, self._batch)  # pyright: ignore[reportFunctionMemberAccess]
        self.lowering = time.monotonic() - begun
        begun = time.monotonic()
        self._step = lowered.compile()
        self.compiling = time.monotonic() - begun
        told = self._step.memory_analysis()
        self.analysed = {
            "arguments": told.argument_size_in_bytes,
            "results": told.output_size_in_bytes,
            "shared": told.alias_size_in_bytes,
            "between": told.temp_size_in_bytes,
        }

    def __call__(self) -> float:
        import jax

        self._state, report = jax.block_until_ready(self._step(self._state, self._batch))
        return float(report.loss)
