"""What tools that measure distances between sets of sounds do with a sound before a model hears it, and what they take.

The rules are those of the tools' code: frechet_audio_distance (model "pann") for `fad`, audioldm_eval for
`audioldm-eval`. They resample by resampy and torchaudio, and we by soxr, so that figures of sounds at other rates than
the model's differ a little from theirs.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from panns_jax.infer.sources import SoundFile, Source, StandardInput

RecipeName = Literal["fad", "audioldm-eval"]

# -90 dB: the last bit of 16.
SILENT = 2.0**-15


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a tool does with a sound, and what it takes of the model.

    Attributes:
      tool: whose recipe it is.
      models: that the tool offers, its default first.
      first_channel: whether it hears the first channel, instead of the mean of all.
      is_centred: whether the mean of its samples is taken off the sound.
      shortest: samples, at the model's rate, to which shorter sounds are padded by zeros at their end.
      taps: what it takes of the model.
    """

    tool: str
    models: tuple[str, ...]
    first_channel: bool
    is_centred: bool
    shortest: int
    taps: tuple[Literal["embedding", "logits"], ...]

    def prepare(self, waveform: Float[np.ndarray, " samples"]) -> Float[np.ndarray, " prepared"]:
        """What the model is to hear of a whole sound, mono and at its sample rate."""
        if self.is_centred:
            waveform = (waveform - waveform.mean(dtype=np.float64)).astype(np.float32)
        return np.pad(waveform, (0, max(0, self.shortest - len(waveform))))

    def of(self, sources: Sequence[Source]) -> "list[Prepared]":
        """The sounds as the model is to hear them."""
        return [Prepared(_first_channel(source) if self.first_channel else source, self) for source in sources]


RECIPES: dict[RecipeName, Recipe] = {
    "fad": Recipe(
        "frechet_audio_distance",
        ("Cnn14_16k", "Cnn14_8k", "Cnn14"),
        first_channel=False,
        is_centred=False,
        shortest=0,
        taps=("embedding",),
    ),
    "audioldm-eval": Recipe(
        "audioldm_eval",
        ("Cnn14_16k", "Cnn14"),
        first_channel=True,
        is_centred=True,
        shortest=32000,
        taps=("embedding", "logits"),
    ),
}


@dataclasses.dataclass
class Prepared:
    """A sound as a recipe has it heard.

    Attributes:
      source: the sound.
      recipe: what becomes of it.
      peak: of the samples that were read, where 1 is full scale; None before.
    """

    source: Source
    recipe: Recipe
    peak: float | None = None

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def path(self) -> Path | None:
        """Of its file; None where it comes from elsewhere."""
        return getattr(self.source, "path", None)

    def blocks(self, sample_rate: int) -> Iterator[Float[np.ndarray, "_"]]:
        """The sound, as a whole where the recipe has to know all of it.

        Raises:
          InputError: it cannot be read; the message names it.
        """
        blocks = self._watched(self.source.blocks(sample_rate))
        if self.recipe.is_centred or self.recipe.shortest:
            yield self.recipe.prepare(np.concatenate(list(blocks)))
        else:
            yield from blocks

    def _watched(self, blocks: Iterator[Float[np.ndarray, "_"]]) -> Iterator[Float[np.ndarray, "_"]]:
        self.peak = 0.0
        for block in blocks:
            self.peak = max(self.peak, float(np.abs(block).max()))
            yield block


def _first_channel(source: Source) -> Source:
    if isinstance(source, SoundFile | StandardInput):
        return dataclasses.replace(source, reading=dataclasses.replace(source.reading, channel=1))
    return source
