"""The one module class: front end, body and head put together."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from panns_jax.frontend import log_mel, mixup
from panns_jax.models.config import Features, ModelConfig, Output
from panns_jax.models.layers import BatchNorm, SpecAugment, pad_to


class Model(nnx.Module):
    """An audio tagger: waveforms to an `Output`.

    The layers of body and head are attributes under their published names (`bn0`, `conv_block1.conv1`, `fc1`, …), and
    the state holds `nnx.Param` and `nnx.BatchStat` only. `train()` and `eval()` switch batch normalisation, dropout and
    SpecAugment together, as in every nnx module.

    Attributes:
      config: the model as data; `sample_rate`, `embedding_dim`, `min_samples` and `labels` are found there.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        if config.body.reads_logmel:
            self.bn0 = BatchNorm(config.frontend.mel_bins, rngs=rngs)
            if config.spec_augment is not None:
                self.spec_augmenter = SpecAugment(config.spec_augment)
        body = config.body.build(config.frontend, rngs=rngs)
        head = config.head.build(config.body.out_channels, config.num_classes, rngs=rngs)
        for name, layer in {**body, **head}.items():
            setattr(self, name, layer)

    def __call__(
        self,
        waveform: ArrayLike,
        *,
        mixup_lambda: ArrayLike | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Output:
        """Tags a batch of clips.

        Args:
          waveform: (batch, samples), clips in [-1, 1] at `config.sample_rate`. Clips shorter than `config.min_samples`
            are zero-padded at their end.
          mixup_lambda: (pairs,), in training: blend rows 2k and 2k+1 of the batch with weights λ and 1-λ; the output
            then has half as many rows.
          rngs: source of random numbers, needed in training mode (dropout, SpecAugment).

        Returns:
          Probabilities, embedding and, where the head has them, frames.

        Raises:
          ValueError: the waveform is not (batch, samples), has no samples, or is not floating point; `mixup_lambda`
            is not half as long as the batch; or random numbers are needed and `rngs` was not given.
        """
        x = pad_to(_checked(waveform), self.config.min_samples)
        self._require_rngs(rngs)
        blend = None if mixup_lambda is None else _weights(mixup_lambda)
        if blend is not None and self.config.mixup == "waveform":
            x, blend = mixup(x, blend), None
        logmel = self._logmel(x, blend, rngs) if self.config.body.reads_logmel else None
        steps = self.config.body(self, Features(x, logmel, blend), rngs=rngs)
        return self.config.head(self, steps, frames=self.config.frontend.frames(x.shape[1]), rngs=rngs)

    def _logmel(
        self, waveform: Float[Array, "rows samples"], blend: Float[Array, " pairs"] | None, rngs: nnx.Rngs | None
    ) -> Float[Array, "batch frames mels"]:
        x = self.bn0(log_mel(waveform, self.config.frontend))
        if self.config.spec_augment is not None:
            x = self.spec_augmenter(x, rngs)
        return x if blend is None else mixup(x, blend)

    def _require_rngs(self, rngs: nnx.Rngs | None) -> None:
        if rngs is None and any(_draws(module) for _, module in nnx.iter_modules(self)):
            raise ValueError(
                f"{self.config.name} is in training mode, where dropout and SpecAugment draw random numbers:"
                " pass rngs=nnx.Rngs(seed), or call model.eval() first"
            )


def _draws(module: nnx.Module) -> bool:
    if isinstance(module, nnx.Dropout):
        return not module.deterministic and module.rate > 0
    return isinstance(module, SpecAugment) and not module.deterministic


def _weights(given: ArrayLike) -> Float[Array, " pairs"]:
    weights = jnp.asarray(given, jnp.float32)
    if weights.ndim != 1:
        raise ValueError(f"mixup_lambda must be (pairs,), a weight per pair of clips, got shape {weights.shape}")
    return weights


def _checked(given: ArrayLike) -> Float[Array, "batch samples"]:
    waveform = jnp.asarray(given)
    if waveform.ndim != 2:
        raise ValueError(f"waveform must be (batch, samples), got shape {waveform.shape}; one clip is waveform[None]")
    if not jnp.issubdtype(waveform.dtype, jnp.floating):
        raise ValueError(f"waveform must be floating point in [-1, 1], got {waveform.dtype}")
    if waveform.shape[1] == 0:
        raise ValueError("waveform has no samples")
    return waveform.astype(jnp.float32)
