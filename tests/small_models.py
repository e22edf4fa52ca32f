"""A small model of every family, which compiles in a moment."""

from panns_jax.frontend import FrontendConfig
from panns_jax.labels import numbered
from panns_jax.models.cnn import Cnn
from panns_jax.models.config import Body, Head, ModelConfig
from panns_jax.models.heads import ClipHead, DecisionHead
from panns_jax.models.mobilenet import MobileNetV1, MobileNetV2
from panns_jax.models.resnet import ResNet
from panns_jax.models.waveform import DaiNet, LeeNet, Res1dNet
from panns_jax.models.wavegram import Wavegram

FRONTEND = FrontendConfig(sample_rate=8000, window_size=256, hop_size=80, mel_bins=16, fmin=50, fmax=4000)
CLASSES = 5
CNN = Cnn(channels=(4, 6), pooled_blocks=1)


def _model(name: str, body: Body, head: Head | None = None, **options) -> ModelConfig:
    head = head or ClipHead(embedding_dim=7)
    return ModelConfig(name=name, frontend=FRONTEND, body=body, head=head, labels=numbered(CLASSES), **options)


def _over_waveforms(name: str, body: Body) -> ModelConfig:
    return _model(name, body, spec_augment=None, mixup="waveform")


def _decisions(pooling) -> ModelConfig:
    return _model(f"decision-{pooling}", CNN, DecisionHead(hidden_dim=7, pooling=pooling, frames_per_step=2))


_RESNET = {"planes": (3, 4), "stem_channels": 3, "out_channels": 6}
_WAVEGRAM = {"cnn": CNN, "channels": (3, 16), "frequencies": 8}
SMALL = {
    config.name: config
    for config in (
        _model("cnn", CNN),
        *map(_decisions, ("max", "mean", "attention")),
        _model("resnet", ResNet(blocks=(1, 2), **_RESNET)),
        _model("bottleneck", ResNet(blocks=(1, 2), block="bottleneck", **_RESNET)),
        _model("mobilenet1", MobileNetV1(stem_channels=3, blocks=((4, 1), (4, 2)))),
        _model("mobilenet2", MobileNetV2(stem_channels=3, groups=((1, 4, 1, 1), (2, 4, 2, 2)), out_channels=6)),
        _over_waveforms("leenet", LeeNet(channels=(3, 4, 5), convolutions=1, pools_last=True)),
        _over_waveforms("leenet2", LeeNet(channels=(3, 4, 5), convolutions=2, pools_last=False, dropout=0.1)),
        _over_waveforms("dainet", DaiNet(channels=(3, 5))),
        _over_waveforms("res1dnet", Res1dNet(blocks=(1, 2), planes=(3, 5))),
        _model("wavegram", Wavegram(reads_logmel=False, **_WAVEGRAM), spec_augment=None),
        _model("wavegram-logmel", Wavegram(reads_logmel=True, **_WAVEGRAM)),
    )
}
