"""Every model by its name."""

import dataclasses
import difflib
from typing import Any

from flax import nnx

from panns_jax.errors import InputError
from panns_jax.frontend import FrontendConfig, Stripes
from panns_jax.models.cnn import Cnn
from panns_jax.models.config import Body, Head, ModelConfig
from panns_jax.models.heads import ClipHead, DecisionHead
from panns_jax.models.mobilenet import MobileNetV1, MobileNetV2
from panns_jax.models.model import Model
from panns_jax.models.resnet import ResNet
from panns_jax.models.transfer import PREFIX, transfer
from panns_jax.models.waveform import DaiNet, LeeNet, Res1dNet
from panns_jax.models.wavegram import Wavegram

MEL_32K = FrontendConfig(sample_rate=32000, window_size=1024, hop_size=320, mel_bins=64, fmin=50, fmax=14000)
MEL_16K = FrontendConfig(sample_rate=16000, window_size=512, hop_size=160, mel_bins=64, fmin=50, fmax=8000)
MEL_8K = FrontendConfig(sample_rate=8000, window_size=256, hop_size=80, mel_bins=64, fmin=50, fmax=4000)
MEL32_32K = dataclasses.replace(MEL_32K, mel_bins=32)
MEL128_32K = dataclasses.replace(MEL_32K, mel_bins=128)

CNN6 = Cnn(channels=(64, 128, 256, 512), pooled_blocks=4, block="5x5")
CNN10 = Cnn(channels=(64, 128, 256, 512), pooled_blocks=4)
CNN14 = Cnn(channels=(64, 128, 256, 512, 1024, 2048), pooled_blocks=5)
RESNET22 = ResNet(blocks=(2, 2, 2, 2))
RESNET38 = ResNet(blocks=(3, 4, 6, 3))
RESNET54 = ResNet(blocks=(3, 4, 6, 3), block="bottleneck")
MOBILENET_V1 = MobileNetV1(
    stem_channels=32,
    blocks=((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1)),
)
MOBILENET_V2 = MobileNetV2(
    stem_channels=32,
    groups=(
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 2),
        (6, 160, 3, 1),
        (6, 320, 1, 1),
    ),
    out_channels=1280,
)
LEENET11 = LeeNet(channels=(64, 64, 64, 128, 128, 128, 128, 128, 256), convolutions=1, pools_last=True)
LEENET24 = LeeNet(channels=(64, 96, 128, 128, 256, 256, 512, 512, 1024), convolutions=2, pools_last=False, dropout=0.1)
DAINET19 = DaiNet(channels=(64, 128, 256, 512))
RES1DNET31 = Res1dNet(blocks=(2, 2, 2, 2, 2, 2, 2))
RES1DNET51 = Res1dNet(blocks=(2, 3, 4, 6, 4, 3, 2))
WAVEGRAM = Wavegram(cnn=CNN14, reads_logmel=False)
WAVEGRAM_LOGMEL = Wavegram(cnn=CNN14, reads_logmel=True)
WAVEGRAM_LOGMEL128 = Wavegram(cnn=CNN14, channels=(64, 128, 256), frequencies=64, reads_logmel=True)


def _logmel(
    name: str, body: Body, head: Head | int = 2048, *, frontend: FrontendConfig = MEL_32K, **options: Any
) -> ModelConfig:
    """A model over log-mel spectrograms; for `head`, the length of the embedding will do."""
    return ModelConfig(name=name, frontend=frontend, body=body, head=_head(head), **options)


def _waveform(name: str, body: Body, head: Head | int) -> ModelConfig:
    """A model over waveforms, which mixup blends; there is nothing to mask for SpecAugment."""
    return _logmel(name, body, head, spec_augment=None, mixup="waveform")


def _head(head: Head | int) -> Head:
    return ClipHead(embedding_dim=head) if isinstance(head, int) else head


_ROWS = (
    _logmel("Cnn6", CNN6, 512),
    _logmel("Cnn10", CNN10, 512),
    _logmel("Cnn14", CNN14),
    _logmel("Cnn14_no_specaug", CNN14, spec_augment=None),
    _logmel("Cnn14_no_dropout", dataclasses.replace(CNN14, dropout=0.0)),
    _logmel("Cnn14_mixup_time_domain", CNN14, mixup="waveform"),
    _logmel("Cnn14_emb512", CNN14, 512),
    _logmel("Cnn14_emb128", CNN14, 128),
    _logmel("Cnn14_emb32", CNN14, 32),
    _logmel("Cnn14_16k", CNN14, frontend=MEL_16K),
    _logmel("Cnn14_8k", CNN14, frontend=MEL_8K),
    _logmel("Cnn14_mel32", CNN14, frontend=MEL32_32K),
    _logmel("Cnn14_mel128", CNN14, frontend=MEL128_32K),
    _logmel("Cnn14_DecisionLevelMax", CNN14, DecisionHead(hidden_dim=2048, pooling="max")),
    _logmel("Cnn14_DecisionLevelAvg", CNN14, DecisionHead(hidden_dim=2048, pooling="mean")),
    _logmel("Cnn14_DecisionLevelAtt", CNN14, DecisionHead(hidden_dim=2048, pooling="attention")),
    _logmel("ResNet22", RESNET22),
    _logmel("ResNet38", RESNET38),
    _logmel("ResNet54", RESNET54),
    _logmel("MobileNetV1", MOBILENET_V1, 1024),
    _logmel("MobileNetV2", MOBILENET_V2, ClipHead(embedding_dim=1024, drops_pooled=False)),
    _waveform("LeeNet11", LEENET11, 512),
    _waveform("LeeNet24", LEENET24, 1024),
    _waveform("DaiNet19", DAINET19, 512),
    _waveform("Res1dNet31", RES1DNET31, 2048),
    _waveform("Res1dNet51", RES1DNET51, 2048),
    _logmel("Wavegram_Cnn14", WAVEGRAM, spec_augment=None),
    _logmel("Wavegram_Logmel_Cnn14", WAVEGRAM_LOGMEL),
    _logmel("Wavegram_Logmel128_Cnn14", WAVEGRAM_LOGMEL128, frontend=MEL128_32K),
    # Ours: small enough to be trained on two cores in minutes, on clips of two seconds (scripts/demo.py). These have
    # 101 frames, of which the paper's stripes would leave too little.
    _logmel(
        "DemoCnn",
        Cnn(channels=(16, 32, 64, 128), pooled_blocks=4, dropout=0.0),
        ClipHead(embedding_dim=128, dropout=0.2, initial_probability=0.0025),
        frontend=dataclasses.replace(MEL_32K, hop_size=640),
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
    """The registry's row `name`, or for "Transfer_" and a row's name that model below a new last layer.

    Raises:
      InputError: there is no such model; the message names the nearest ones.
    """
    if name.startswith(PREFIX) and name.removeprefix(PREFIX) in REGISTRY:
        return transfer(REGISTRY[name.removeprefix(PREFIX)])
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

    A config of one's own is made a model by `Model(config, rngs=rngs)`, and a new last layer is put on a model that has
    weights by `create_transfer`. Its body computes in float32 until `model.set_precision` says otherwise.

    Args:
      name: one of `list_models()`, or of `list_models(ours=True)`; with "Transfer_" before it, that model below a new
        last layer.
      num_classes: number of outputs. 527 are those of AudioSet, others are numbered until someone
        names them.
      rngs: source of the initial weights (Xavier-uniform; zero biases).

    Raises:
      InputError: there is no such model, or `num_classes` is less than 1.
    """
    return Model(model_config(name).with_classes(num_classes), rngs=rngs)
