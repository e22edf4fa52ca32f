"""The model that fine-tuning begins with, and what becomes of it in the end."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from panns_jax.errors import InputError
from panns_jax.labels import LabelSet
from panns_jax.models.config import ModelConfig, Precision, Tuning
from panns_jax.models.model import Model
from panns_jax.models.registry import model_config
from panns_jax.models.transfer import Pretrained, create_transfer
from panns_jax.pretrained.native import Provenance, write_native
from panns_jax.train.finetune.options import Strategy
from panns_jax.train.finetune.step import Arrays, TuneState, arrays_of

# Outputs of the two layers that freeze_L3 puts before the last one, at most.
_HIDDEN = 512


def base_model(
    name: str | None,
    checkpoint: Path | None,
    *,
    strategy: Strategy,
    mirror: str | None,
    precision: Precision,
    seed: int,
) -> Model:
    """The model below the new layers, in evaluation mode: with fresh weights for "scratch", else pretrained.

    Of a model that has new layers already, that is the one below them.

    Raises:
      InputError: it cannot be loaded, or its strategy needs what it has not.
    """
    if strategy == "scratch":
        if checkpoint is not None:
            raise InputError(f"--strategy scratch begins with fresh weights: leave out --checkpoint {checkpoint}")
        config = _below(model_config(name or "Cnn14"))
        model = nnx.jit(lambda: Model(config, rngs=nnx.Rngs(seed)))()
        model.set_precision(precision)
        model.eval()
        return model
    from panns_jax.pretrained.load import load_model

    loaded: Any = load_model(name if checkpoint or name else "Cnn14", checkpoint, mirror=mirror, precision=precision)
    model = loaded.base if isinstance(loaded.config.body, Pretrained) else loaded
    model.frozen = False
    model.set_precision(precision)
    model.eval()
    return model


def _below(config: ModelConfig) -> ModelConfig:
    return config.body.base if isinstance(config.body, Pretrained) else config


def with_new_layers(base: Model, labels: LabelSet, *, strategy: Strategy, multi_label: bool, seed: int) -> Model:
    """The base below new layers for these classes; a decision-level model gets a new last layer in place of its own.

    Args:
      base: in evaluation mode; is not changed.
      labels: the classes.
      strategy: "freeze_L3" puts three new layers on the embedding, the others one.
      multi_label: whether a clip may carry several classes or none.
      seed: of the initial weights of the new layers.

    Raises:
      InputError: there is no embedding for three new layers.
    """
    dim, rngs = base.config.embedding_dim, nnx.Rngs(seed)
    if dim is not None:
        hidden = (min(_HIDDEN, dim),) * 2 if strategy == "freeze_L3" else ()
        frozen = strategy in ("freeze_L1", "freeze_L3")
        return create_transfer(base, labels, freeze_base=frozen, hidden=hidden, multi_label=multi_label, rngs=rngs)
    if strategy == "freeze_L3":
        raise InputError(
            f"--strategy freeze_L3 puts layers on the embedding, and {base.config.name} makes none: take freeze_L1"
        )
    config = dataclasses.replace(base.config, labels=labels, tuning=None)
    model = nnx.eval_shape(lambda: Model(config, rngs=nnx.Rngs(0)))
    head = config.head.build(config.body.out_channels, config.num_classes, rngs=rngs)
    for name, layer in vars(nnx.clone(base)).items():
        if isinstance(layer, nnx.Module):
            setattr(model, name, head[name] if name in ("fc_audioset", "att_block") else layer)
    model.set_precision(base.precision)
    model.train()
    return model


def write_tuned(path: Path, model: Model, state: TuneState, provenance: Provenance, tuning: Tuning) -> None:
    """Writes the model with what it has learnt.

    Args:
      path: the file to write.
      model: that training began with.
      state: that it ended with, of some of its arrays.
      provenance: where the weights that it began with come from.
      tuning: on what kind of clips it has learnt.

    Raises:
      InputError: the file cannot be written.
    """
    arrays: Arrays = {**arrays_of(model, nnx.Param), **arrays_of(model, nnx.BatchStat)}
    for learnt in (*state.params.values(), state.statistics):
        arrays.update(learnt)
    named: Mapping[str, np.ndarray] = {".".join(key): np.asarray(x, np.float32) for key, x in arrays.items()}
    jax.block_until_ready(list(arrays.values()))
    write_native(path, dataclasses.replace(model.config, tuning=tuning), named, provenance)


def provenance_of_base(model: ModelConfig, checkpoint: Path | None, *, strategy: Strategy) -> Provenance:
    """Where the weights that training begins with come from."""
    from panns_jax.files import is_folder
    from panns_jax.pretrained.cache import cached_file
    from panns_jax.pretrained.catalogue import require
    from panns_jax.pretrained.convert import provenance_of
    from panns_jax.pretrained.native import is_native, read_provenance
    from panns_jax.pretrained.training import find_checkpoint

    if strategy == "scratch":
        return Provenance("trained from scratch", "", "that of whoever trained it")
    if checkpoint is None:
        return read_provenance(cached_file(require(model.name)))
    if is_folder(checkpoint) or not checkpoint.exists():
        return Provenance("/".join(find_checkpoint(checkpoint).parts[-2:]), "", "that of whoever trained it")
    return read_provenance(checkpoint) if is_native(checkpoint) else provenance_of(checkpoint)
