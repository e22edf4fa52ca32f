"""Whether this installation computes the published figures: a sample of them is carried in the package.

They are what the published implementation computes from the weights and waveforms of `convert.recipe`, seed 1:
`scripts/carry_figures.py` takes them from the tests' golden files.
"""

import dataclasses
import functools
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from convert import recipe
from convert.comparison import Difference, compare_layers, compare_outputs
from panns_jax.frontend import log_mel
from panns_jax.models.config import ModelConfig
from panns_jax.models.registry import REGISTRY, list_models
from panns_jax.models.transfer import Pretrained
from panns_jax.pretrained.conversion import convert_weights
from panns_jax.pretrained.rules import filled_model

FIGURES = Path(__file__).with_name("figures.npz")
SEED = 1
CLIPS = 2
SECONDS = 2.0
FRONTENDS = ("Cnn14", "Cnn14_16k", "Cnn14_8k", "Cnn14_mel32", "Cnn14_mel128")
"""A model of each front end that there are figures of."""
SAMPLED = {
    "clipwise": np.s_[:, ::4],
    "embedding": np.s_[:, ::16],
    "framewise": np.s_[:, ::32, ::16],
    "logmel": np.s_[:, ::10],
}
"""What of the outputs is carried."""


@dataclasses.dataclass(frozen=True)
class Installation:
    """What came of the comparison with the published figures.

    Attributes:
      software: versions and device.
      model: whose figures they are.
      differences: from them, of the front end and of each output; None where they could not be computed.
    """

    software: str
    model: str
    differences: list[Difference] | None

    @property
    def agrees(self) -> bool | None:
        """Whether the figures are the published ones; None where that is not known."""
        return None if self.differences is None else all(difference.agrees for difference in self.differences)


def check_installation(config: ModelConfig) -> Installation:
    """Compares what a model computes here with what the published implementation computes.

    Args:
      config: the model; of one that was not published, the first one of its family is taken, or Cnn6.
    """
    software = f"jax {jax.__version__} on {jax.default_backend()}, numpy {version('numpy')}"
    with np.load(FIGURES) as file:
        figures = dict(file)
    name = _with_figures(config, figures)
    if not np.array_equal(figures["draws"], first_draws()):
        return Installation(software, name, None)
    ours, published = outputs_of(REGISTRY[name], float(figures[f"{name}/last_scale"])), {}
    for field in ours:
        published[field] = figures[f"{name}/{field}"]
    return Installation(software, name, [*_frontend_differences(name, figures), *compare_outputs(ours, published)])


def first_draws() -> np.ndarray:
    """The first random numbers of the recipe: versions of NumPy are free to draw others."""
    return recipe.generator(SEED, "draws").standard_normal(8).astype(np.float32)


@functools.lru_cache(maxsize=1)
def outputs_of(config: ModelConfig, last_scale: float) -> dict[str, np.ndarray]:
    """What is carried of a model's outputs, computed here: (2, …) by the names of `Output`'s fields."""
    weights = recipe.state_dict(config, SEED, last_scale=last_scale)
    model = filled_model(config, convert_weights(weights, config, "the recipe's weights"))
    samples = round(SECONDS * config.sample_rate)
    output = model(recipe.waveform(CLIPS, samples, config.sample_rate, SEED))
    fields = {name: getattr(output, name) for name in ("clipwise", "embedding", "framewise")}
    return {name: np.asarray(x)[SAMPLED[name]] for name, x in fields.items() if x is not None}


def _frontend_differences(name: str, figures: dict[str, np.ndarray]) -> list[Difference]:
    config = REGISTRY[name]
    if not config.body.reads_logmel:
        return []
    same = next((other for other in FRONTENDS if REGISTRY[other].frontend == config.frontend), None)
    if same is None:
        return []
    rate = config.sample_rate
    sound = recipe.waveform(CLIPS, rate, rate, SEED)
    sound[1, : rate // 2] = 0  # digital silence
    ours = np.asarray(log_mel(jnp.asarray(sound), config.frontend))[SAMPLED["logmel"]]
    published = {"logmel_extractor": figures[f"{same}/logmel"]}
    return compare_layers({"logmel_extractor": ours}, published, reads_logmel=True)


def _with_figures(config: ModelConfig, figures: Collection[str]) -> str:
    if isinstance(config.body, Pretrained):
        return _with_figures(config.body.base, figures)
    there = [name for name in list_models() if f"{name}/last_scale" in figures]
    if config.name in there:
        return config.name
    return next((name for name in there if type(REGISTRY[name].body) is type(config.body)), "Cnn6")
