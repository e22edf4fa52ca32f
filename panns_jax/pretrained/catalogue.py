"""The checkpoints that the authors of the paper released (Zenodo record 3987831, CC BY 4.0)."""

import dataclasses
import hashlib
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from panns_jax.errors import InputError
from panns_jax.pretrained.paper import FIGURES, PaperFigures, Training

if TYPE_CHECKING:
    from panns_jax.frontend import FrontendConfig

RECORD = "https://zenodo.org/records/3987831"
LICENCE = "CC BY 4.0"

_AS_IN_THE_PAPER = Training()
_SCORE = re.compile(r"_mAP=(0\.\d+)")


@dataclasses.dataclass(frozen=True)
class Digests:
    """Hexadecimal digests of a file's content."""

    md5: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class Released:
    """A released file.

    Attributes:
      model: name of the model.
      file: name of the file.
      size: of its content in bytes, where it is known.
      md5: hexadecimal digest of its content, where it is known.
      sha256: likewise.
      training: how the model was trained; None where the paper does not tell.
    """

    model: str
    file: str
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None
    training: Training | None = _AS_IN_THE_PAPER

    @property
    def url(self) -> str:
        """Where the file is."""
        return f"{RECORD}/files/{quote(self.file)}?download=1"

    @property
    def mean_average_precision(self) -> float | None:
        """mAP of this file on AudioSet's evaluation set, as its name tells; None for a name that does not."""
        told = _SCORE.search(self.file)
        return float(told[1]) if told else None

    def matches(self, digests: Digests) -> bool | None:
        """Whether content with these digests is this file's; None where no hash of it is known."""
        if self.sha256 is not None:
            return self.sha256 == digests.sha256
        return None if self.md5 is None else self.md5 == digests.md5

    @property
    def paper(self) -> PaperFigures | None:
        """What the paper prints of the model; None for those that it does not list."""
        return FIGURES.get(self.model)

    @property
    def frontend(self) -> "FrontendConfig":
        """Sampling rate, window, hop and mel bins that the model was trained with."""
        from panns_jax.models.registry import model_config

        return model_config(self.model).frontend


RELEASED = (
    Released("Cnn6", "Cnn6_mAP=0.343.pth", md5="e25e26b84585b14c7754c91e48efc9be"),
    Released("Cnn10", "Cnn10_mAP=0.380.pth", size=25_237_595, md5="bfb1f1f9968938fa8ef4012b8471f5f6"),
    Released(
        "Cnn14",
        "Cnn14_mAP=0.431.pth",
        size=327_428_481,
        md5="541141fa2ee191a88f24a3219fff024e",
        sha256="0dc499e40e9761ef5ea061ffc77697697f277f6a960894903df3ada000e34b31",
    ),
    Released(
        "Cnn14_16k",
        "Cnn14_16k_mAP=0.438.pth",
        size=358_668_570,
        md5="362fc5ff18f1d6ad2f6d464b45893f2c",
        sha256="e2ee543a27919542c2ea03eabaa70b24dcd4e6c8e05621de6b67a94e4c5058e6",
        training=Training(decimation=2),
    ),
    Released("Cnn14_8k", "Cnn14_8k_mAP=0.416.pth", training=Training(decimation=4)),
    Released("Cnn14_emb512", "Cnn14_emb512_mAP=0.420.pth"),
    Released("Cnn14_emb128", "CNN14_emb128_mAP=0.412.pth"),
    Released("Cnn14_emb32", "Cnn14_emb32_mAP=0.364.pth"),
    Released(
        "Cnn14_DecisionLevelMax",
        "Cnn14_DecisionLevelMax_mAP=0.385.pth",
        size=327_428_481,
        md5="70539c43c18b6a289b3199c503a82c5a",
        sha256="dd3b4043a87d4ec13df8082c0fcfee3fb5084151808e47e060987a95eabdd142",
        training=None,
    ),
    Released(
        "Cnn14_DecisionLevelAtt",
        "Cnn14_DecisionLevelAtt_mAP=0.425.pth",
        md5="c8281ca2b9967244b91d557aa941e8ca",
        training=None,
    ),
    Released("ResNet22", "ResNet22_mAP=0.430.pth", md5="cf36d413096793c4e15dc752a3abd599"),
    Released("ResNet38", "ResNet38_mAP=0.434.pth", size=299_615_982, md5="bf12f36aaabac4e0855e22d3c3239c1b"),
    Released("ResNet54", "ResNet54_mAP=0.429.pth", md5="4f1f1406d37a29e2379916885e18c5f3"),
    Released("MobileNetV1", "MobileNetV1_mAP=0.389.pth", size=23_639_473, md5="a419303e1c88aa1b9d2ac3811563d371"),
    Released("MobileNetV2", "MobileNetV2_mAP=0.383.pth"),
    Released("LeeNet11", "LeeNet11_mAP=0.266.pth"),
    Released("LeeNet24", "LeeNet24_mAP=0.336.pth"),
    Released("DaiNet19", "DaiNet19_mAP=0.295.pth"),
    Released("Res1dNet31", "Res1dNet31_mAP=0.365.pth"),
    Released("Res1dNet51", "Res1dNet51_mAP=0.355.pth"),
    Released("Wavegram_Cnn14", "Wavegram_Cnn14_mAP=0.389.pth", md5="1e3506ab640371e0b5a417b15fd66d21"),
    Released(
        "Wavegram_Logmel_Cnn14",
        "Wavegram_Logmel_Cnn14_mAP=0.439.pth",
        size=328_692_198,
        md5="17fa9ab65af3c0eb5ffbc5f65552c4e1",
    ),
)


def named_like(path: Path) -> Released | None:
    """The released file of the same name; capitals do not matter."""
    return next((released for released in RELEASED if released.file.casefold() == path.name.casefold()), None)


def of_model(model: str) -> Released | None:
    """The released file of a model, or None where none was released."""
    return next((released for released in RELEASED if released.model == model), None)


def require(model: str) -> Released:
    """The released file of a model.

    Raises:
      InputError: none was released; the message names the models that have one.
    """
    released = of_model(model)
    if released is None:
        there = ", ".join(entry.model for entry in RELEASED)
        raise InputError(f"{model} needs a checkpoint, as none was released; released are those of {there}")
    return released


def identified(path: Path) -> Released | None:
    """The released file that `path` is: by its content where that is known of any, else by its name."""
    same = with_content_of(path)
    if same is not None:
        return same
    released = named_like(path)
    return released if released is not None and released.md5 is None and released.sha256 is None else None


def with_content_of(path: Path, models: Collection[str] | None = None) -> Released | None:
    """The released file that has the content of `path`, among those of which a hash is known.

    Args:
      path: a file, which is read only if it is as long as one of them can be.
      models: whose files alone are looked at; None for all.
    """
    size = path.stat().st_size
    possible = [entry for entry in RELEASED if entry.size in (None, size) and (models is None or entry.model in models)]
    if all(released.matches(Digests("", "")) is None for released in possible):
        return None
    digests = digests_of(path)
    return next((released for released in possible if released.matches(digests)), None)


def digests_of(path: Path) -> Digests:
    """The digests of a file, which is read once."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            md5.update(part)
            sha256.update(part)
    return Digests(md5.hexdigest(), sha256.hexdigest())
