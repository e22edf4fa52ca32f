"""A model as a function of waveforms whose numbers and lengths may be left open."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.export
import numpy as np
from jaxtyping import Array, Float

from panns_jax.models.model import Model

BATCH, SAMPLES = "batch", "samples"


@dataclasses.dataclass(frozen=True)
class Program:
    """What is exported of a model.

    Attributes:
      model: in evaluation mode.
      taps: what it is to yield beside clipwise and embedding or framewise: "logits", "pooled", "frames".
      samples: length of the clips; None for any.
    """

    model: Model
    taps: tuple[str, ...] = ()
    samples: int | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what the program yields, in this order."""
        config = self.model.config
        vector = "framewise" if config.embedding_dim is None else "embedding"
        return ("clipwise", vector, *(tap for tap in ("logits", "pooled", "frames") if tap in self.taps))

    @property
    def run(self) -> Callable[[Float[Array, "batch samples"]], dict[str, Float[Array, "batch *rest"]]]:
        """Waveforms to outputs by name."""

        def run(waveform: Float[Array, "batch samples"]) -> dict[str, Float[Array, "batch *rest"]]:
            output = self.model(waveform, taps=self.taps)
            return {name: getattr(output, name) for name in self.outputs}

        return run

    @property
    def argument(self) -> jax.ShapeDtypeStruct:
        """The waveforms, with symbols for the sizes that are left open."""
        if self.samples is None:
            # Below it the model would pad, which a length that is not known cannot tell.
            least = [f"{SAMPLES} >= {self.model.config.min_samples}"]
            shape = jax.export.symbolic_shape(f"{BATCH}, {SAMPLES}", constraints=least)
        else:
            shape = jax.export.symbolic_shape(f"{BATCH}, {self.samples}")
        return jax.ShapeDtypeStruct(shape, np.float32)

    @property
    def lengths(self) -> Sequence[int]:
        """Lengths of clips to try it with."""
        if self.samples is not None:
            return [self.samples]
        least = self.model.config.min_samples
        return [least, 3 * least + 17, 5 * self.model.config.sample_rate // 2]

    @property
    def description(self) -> dict[str, str]:
        """What a user of the file has to know, as text."""
        from importlib.metadata import version

        config = self.model.config
        return {
            "model": config.name,
            "precision": self.model.precision,
            "sample_rate": str(config.sample_rate),
            "min_samples": str(config.min_samples),
            "samples": "any" if self.samples is None else str(self.samples),
            "input": "waveform: float32 (batch, samples), mono, in [-1, 1]",
            "outputs": json.dumps(self.outputs),
            "labels": json.dumps(config.labels.names),
            "label_ids": json.dumps(config.labels.ids),
            "written_by": f"panns_jax {version('panns_jax')}",
        }


def flat_outputs(program: Program) -> Callable[[Any], tuple[Any, ...]]:
    """The program's function, with its outputs in their order."""
    return lambda waveform: tuple(program.run(waveform).values())
