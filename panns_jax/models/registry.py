"""Every model by its name."""

import dataclasses
import difflib

from flax import nnx

from panns_jax.errors import InputError
from panns_jax.frontend import FrontendConfig, Stripes
from panns_jax.models.cnn import Cnn
from panns_jax.models.config import ModelConfig
from panns_jax.models.heads import ClipHead
from panns_jax.models.model import Model

MEL_32K = FrontendConfig(sample_rate=32000, window_size=1024, hop_size=320, mel_bins=64, fmin=50, fmax=14000)

CNN6 = Cnn(channels=(64, 128, 256, 512), pooled_blocks=4, block="5x5")
CNN10 = Cnn(channels=(64, 128, 256, 512), pooled_blocks=4)
CNN14 = Cnn(channels=(64, 128, 256, 512, 1024, 2048), pooled_blocks=5)

_ROWS = (
    ModelConfig(name="Cnn6", frontend=MEL_32K, body=CNN6, head=ClipHead(embedding_dim=512)),
    ModelConfig(name="Cnn10", frontend=MEL_32K, body=CNN10, head=ClipHead(embedding_dim=512)),
    ModelConfig(name="Cnn14", frontend=MEL_32K, body=CNN14, head=ClipHead(embedding_dim=2048)),
    ModelConfig(
        name="Cnn14_no_dropout",
        frontend=MEL_32K,
        body=dataclasses.replace(CNN14, dropout=0.0),
        head=ClipHead(embedding_dim=2048),
    ),
    # Ours: small enough to be trained on two cores in minutes, on clips of two seconds (scripts/demo.py). These have
    # 101 frames, of which the paper's stripes would leave too little.
    ModelConfig(
        name="DemoCnn",
        frontend=dataclasses.replace(MEL_32K, hop_size=640),
        body=Cnn(channels=(16, 32, 64, 128), pooled_blocks=4, dropout=0.0),
        head=ClipHead(embedding_dim=128, dropout=0.2, initial_probability=0.0025),
        spec_augment=Stripes(time_width=13),
        published=False,
    ),
)


def _by_name(rows: tuple[ModelConfig, ...]) -> dict[str, ModelConfig]:
    table: dict[str, ModelConfig] = {}
    for row in rows:
        if row.name in table:
            raise ValueError(f"the registry has two models named {row.name}")
        table[row.name] = row
    return table


REGISTRY = _by_name(_ROWS)


def list_models(*, ours: bool = False) -> list[str]:
    """Names of the published models; with `ours`, also of those that this project adds."""
    return [name for name, row in REGISTRY.items() if row.published or ours]


def model_config(name: str) -> ModelConfig:
    """The registry's row `name`.

    Raises:
      InputError: there is no such model; the message names the nearest ones.
    """
    if name not in REGISTRY:
        folded = {known.casefold(): known for known in REGISTRY}
        near = difflib.get_close_matches(str(name).casefold(), folded, n=3)
        hint = (
            f"did you mean {' or '.join(folded[match] for match in near)}?"
            if near
            else f"there are {', '.join(REGISTRY)}"
        )
        raise InputError(f"there is no model {name!r}; {hint}")
    return REGISTRY[name]


def create_model(name: str, *, num_classes: int = 527, rngs: nnx.Rngs) -> Model:
    """A model with fresh weights, in training mode as nnx modules are.

    A config of one's own is made a model by `Model(config, rngs=rngs)`.

    Args:
      name: one of `list_models()`, or of `list_models(ours=True)`.
      num_classes: number of outputs. 527 are those of AudioSet, others are numbered until someone
        names them.
      rngs: source of the initial weights (Xavier-uniform; zero biases).

    Raises:
      InputError: there is no such model, or `num_classes` is less than 1.
    """
    return Model(model_config(name).with_classes(num_classes), rngs=rngs)
