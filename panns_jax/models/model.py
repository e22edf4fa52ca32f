"""The one module class: front end, body and head put together."""

import dataclasses
import functools
from collections.abc import Collection, Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from panns_jax.frontend import log_mel, mixup
from panns_jax.models.clips import Clips, Window
from panns_jax.models.config import Features, Local, ModelConfig, Output, Precision, require_precision
from panns_jax.models.layers import BatchNorm, Conv, DepthwiseConv, SpecAugment, is_frozen, pad_to


class Model(nnx.Module):
    """An audio tagger: waveforms to an `Output`.

    The layers of body and head are attributes under their published names (`bn0`, `conv_block1.conv1`, `fc1`, …), and
    the state holds `nnx.Param` and `nnx.BatchStat` only. `train()` and `eval()` switch batch normalisation, dropout and
    SpecAugment together, as in every nnx module.

    Attributes:
      config: the model as data; `sample_rate`, `embedding_dim`, `min_samples` and `labels` are found there.
      precision: what the body computes in, one of `PRECISIONS`.
      body_layers: names of the layers of the body, in the order in which they are run.
      frozen: whether it learns nothing, as part of another model, and so stays in evaluation mode.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.precision: Precision = "float32"
        self.frozen = False
        if config.body.reads_logmel:
            self.bn0 = BatchNorm(config.frontend.mel_bins, rngs=rngs)
            if config.spec_augment is not None:
                self.spec_augmenter = SpecAugment(config.spec_augment)
        body = config.body.build(config.frontend, rngs=rngs)
        head = config.head.build(config.body.out_channels, config.num_classes, rngs=rngs)
        for name, layer in {**body, **head}.items():
            setattr(self, name, layer)
        self.body_layers = tuple(body)

    def __call__(
        self,
        waveform: ArrayLike,
        *,
        lengths: ArrayLike | Sequence[int] | None = None,
        taps: str | Collection[str] = (),
        mixup_lambda: ArrayLike | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Output:
        """Tags a batch of clips.

        Args:
          waveform: (batch, samples), clips in [-1, 1] at `config.sample_rate`. Clips shorter than `config.min_samples`
            are zero-padded at their end.
          lengths: (batch,), number of samples of each clip where they differ, in evaluation mode. What stands beyond
            them in `waveform` is not read: each clip gets what it gets alone. Inside a compiled function they cannot be
            checked, and are taken for the nearest that can be.
          taps: names of what `Output` holds only where it is asked for: "logits", "pooled", "frames".
          mixup_lambda: (pairs,), in training: blend rows 2k and 2k+1 of the batch with weights λ and 1-λ; the output
            then has half as many rows.
          rngs: source of random numbers, needed in training mode (dropout, SpecAugment).

        Returns:
          Probabilities, embedding and, where the head has them, frames.

        Raises:
          ValueError: the waveform is not (batch, samples), has no samples, or is not floating point; `lengths` are not
            whole numbers from 1 to samples for each clip, or were given in training mode; there is no such tap;
            `mixup_lambda` is not half as long as the batch; or random numbers are needed and `rngs` was not given.
        """
        clips = self._clips(checked_waveform(waveform), lengths)
        self._require_rngs(rngs)
        blend = None if mixup_lambda is None else _weights(mixup_lambda)
        if blend is not None and self.config.mixup == "waveform":
            clips, blend = clips.map(functools.partial(mixup, mixup_lambda=blend)), None
        return self.answer(clips, self.steps(clips, blend, rngs), rngs).only(taps)

    def steps(
        self, waveform: Clips, blend: Float[Array, " pairs"] | None = None, rngs: nnx.Rngs | None = None
    ) -> Clips:
        """Runs front end and body: the first half of a call."""
        logmel = self._logmel(waveform, blend, rngs) if self.config.body.reads_logmel else None
        halves = self.precision == "bfloat16"
        steps = self.config.body(self, Features(waveform, logmel, blend, halves=halves), rngs=rngs)
        return steps.map(lambda x: x.astype(jnp.float32)) if halves else steps

    def local(self, waveform: Clips) -> Local:
        """Runs, in evaluation mode, all that is not pooled over time; clips may lie in rows.

        `config.head` makes an answer of it, whatever the length of the clips, and whatever parts they came in.
        """
        return self.config.head.local(self, self.steps(waveform))

    def answer(self, waveform: Clips, steps: Clips, rngs: nnx.Rngs | None = None) -> Output:
        """Runs the head: the second half of a call."""
        frames = self.config.frontend.frames(waveform.values.shape[1])
        output = self.config.head(self, steps, frames=frames, rngs=rngs)
        if output.framewise is None:
            return output
        return dataclasses.replace(output, framewise=waveform.through(self._frames, output.framewise).own())

    @property
    def _frames(self) -> Window:
        frontend = self.config.frontend
        return Window(frontend.window_size, stride=frontend.hop_size, padding=frontend.window_size // 2)

    def set_precision(self, precision: Precision) -> None:
        """Switches what the body computes in, as `train()` and `eval()` switch other things; float32 to begin with.

        Args:
          precision: "float32", "tf32" (float32 whose products are TF32 on GPUs that have it) or "bfloat16" ("bf16" for
            short). The weights are float32 in any case.

        Raises:
          InputError: there is no such precision.
        """
        self.precision = require_precision(precision)
        products = lax.Precision.HIGHEST if self.precision == "float32" else lax.Precision.DEFAULT
        for layer in map(functools.partial(getattr, self), self.body_layers):
            if isinstance(layer, Model):
                layer.set_precision(precision)
                continue
            for _, module in nnx.iter_modules(layer):
                if isinstance(module, Conv | DepthwiseConv):
                    module.precision = products

    def train(self, **attributes: Any) -> None:
        """Switches to training mode, all but what is frozen."""
        super().train(**attributes)
        for _, module in nnx.iter_modules(self):
            if is_frozen(module):
                module.eval()

    def _clips(self, waveform: Float[Array, "batch samples"], lengths: ArrayLike | Sequence[int] | None) -> Clips:
        """The waveforms as long as they have to be at least, with zeros beyond the end of each clip."""
        least = self.config.min_samples
        if lengths is None:
            return Clips(pad_to(waveform, least))
        if any(isinstance(m, nnx.BatchNorm) and not m.use_running_average for _, m in nnx.iter_modules(self)):
            raise ValueError(
                "lengths are for evaluation mode: in training, batch normalisation sees all clips of a batch, so cut or"
                " pad them to one length"
            )
        counts = sample_counts(lengths, waveform)
        return Clips(pad_to(Clips(waveform, counts).own(), least), jnp.maximum(counts, least))

    def _logmel(self, waveform: Clips, blend: Float[Array, " pairs"] | None, rngs: nnx.Rngs | None) -> Clips:
        # Clips in a row have their reflections on both sides already.
        lengths = waveform.lengths if waveform.starts is None else None
        features = log_mel(waveform.values, self.config.frontend, lengths)
        x = self.bn0(waveform.through(self._frames, features))
        if self.config.spec_augment is not None:
            x = self.spec_augmenter(x, rngs)
        return x if blend is None else x.map(functools.partial(mixup, mixup_lambda=blend))

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


def sample_counts(given: ArrayLike | Sequence[int], waveform: Float[Array, "batch samples"]) -> Int[Array, " batch"]:
    """Number of samples of each clip, if `given` can be that."""
    counts = jnp.asarray(given)
    batch, samples = waveform.shape
    if counts.shape != (batch,) or not jnp.issubdtype(counts.dtype, jnp.integer):
        raise ValueError(
            f"lengths must be (batch,) = ({batch},) whole numbers, got shape {counts.shape} of {counts.dtype}"
        )
    counts = counts.astype(jnp.int32)  # a narrower type may not hold the number of samples
    # Inside a compiled function there are no numbers to look at.
    if not isinstance(counts, Tracer) and not ((counts >= 1) & (counts <= samples)).all():
        raise ValueError(f"lengths must be from 1 to {samples}, the samples of waveform, got {counts.tolist()}")
    return jnp.clip(counts, 1, samples)


def _weights(given: ArrayLike) -> Float[Array, " pairs"]:
    weights = jnp.asarray(given, jnp.float32)
    if weights.ndim != 1:
        raise ValueError(f"mixup_lambda must be (pairs,), a weight per pair of clips, got shape {weights.shape}")
    return weights


def checked_waveform(given: ArrayLike) -> Float[Array, "batch samples"]:
    """The waveform in float32, if `given` is one."""
    waveform = jnp.asarray(given)
    if waveform.ndim != 2:
        raise ValueError(f"waveform must be (batch, samples), got shape {waveform.shape}; one clip is waveform[None]")
    if not jnp.issubdtype(waveform.dtype, jnp.floating):
        raise ValueError(f"waveform must be floating point in [-1, 1], got {waveform.dtype}")
    if waveform.shape[1] == 0:
        raise ValueError("waveform has no samples")
    return waveform.astype(jnp.float32)
