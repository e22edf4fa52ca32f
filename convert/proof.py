"""What `python -m convert verify` finds out of a checkpoint, and the verdict that follows."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from convert import recipe
from convert.comparison import Difference, compare_layers, compare_outputs, first_that_differs
from convert.installation import Installation, check_installation
from convert.intermediates import layer_outputs, name_prefix
from panns_jax.errors import InputError
from panns_jax.models.config import ModelConfig, Output
from panns_jax.models.model import Model
from panns_jax.models.summary import reads_logmel
from panns_jax.pretrained import catalogue
from panns_jax.pretrained.conversion import frontend_constants
from panns_jax.pretrained.load import read_published
from panns_jax.pretrained.native import read_native
from panns_jax.pretrained.pth import read_state_dict
from panns_jax.pretrained.rules import filled_model

VERIFIED, DIFFERENT, NOT_COMPARED = 0, 1, 3
"""Exit codes of the verdicts."""

SIGNAL_SECONDS = 2
_LONGEST_SECONDS = 10


@dataclasses.dataclass(frozen=True)
class Proof:
    """Everything that was found out.

    Attributes:
      file: the checkpoint.
      config: its model.
      content: what the catalogue of released files says of the content.
      stored: what there is of the front end's constants in the file, all of which agree with ours.
      reading: how the entries were read.
      installation: whether this installation computes the published figures.
      sound: what both sides listened to.
      layers: differences layer by layer; None where there was nothing to compare with.
      outputs: differences of the model's outputs, likewise.
      why_not_compared: the reason for that, or None.
    """

    file: Path
    config: ModelConfig
    content: str
    stored: str
    reading: str
    installation: Installation
    sound: str
    layers: list[Difference] | None
    outputs: list[Difference] | None
    why_not_compared: str | None

    @property
    def verdict(self) -> tuple[int, str]:
        """Exit code and sentence."""
        if self.installation.agrees is False:
            wrong = first_that_differs(self.installation.differences or [])
            assert wrong is not None
            return DIFFERENT, (
                f"not the same: this installation does not compute the published figures of {self.installation.model}:"
                f" {_told(wrong)}"
            )
        if self.layers is None or self.outputs is None:
            return NOT_COMPARED, f"structure verified, weights not compared: {self.why_not_compared}"
        first = first_that_differs([*self.layers, *self.outputs])
        if first is not None:
            return DIFFERENT, f"not the same: JAX and PyTorch begin to differ at {_told(first)}"
        clipwise = next(difference for difference in self.outputs if difference.name == "clipwise")
        return VERIFIED, (
            f"verified: the converted {self.config.name} computes what PyTorch computes, in {len(self.layers)} layers"
            f" and {len(self.outputs)} outputs (clipwise within {clipwise.difference:.1g})"
        )


def prove(path: Path, name: str | None, *, converted: Path | None = None, audio: Path | None = None) -> Proof:
    """Runs a checkpoint through JAX and through PyTorch.

    Args:
      path: the `.pth` file.
      name: of the model; found out where it is None.
      converted: a file that `panns-jax convert` made of it, to be proven in place of a fresh conversion.
      audio: what to listen to; the built-in signal where it is None.

    Raises:
      InputError: a file cannot be used.
    """
    config, arrays = read_published(path, name)
    model = filled_model(config, arrays) if converted is None else _read_converted(converted, config)
    weights = read_state_dict(path)
    waveform, sound = _sound(config, audio)
    installation = check_installation(config)
    proof = Proof(
        path, config, _content(path), _stored(weights, config), "by panns_jax", installation, sound, None, None, None
    )
    try:
        from convert.torch_models import NoCounterpart
        from convert.torch_reference import read_by_torch, run_by_torch
    except (ImportError, OSError) as error:  # OSError: a library of PyTorch's own is missing
        why = str(error).splitlines()[0] if not isinstance(error, ModuleNotFoundError) else "PyTorch is not installed"
        return dataclasses.replace(proof, why_not_compared=f'{why} (pip install "panns_jax[torch]")')
    read = read_by_torch(path)
    try:
        outputs, layers = run_by_torch(config, weights if read is None else read, waveform)
    except NoCounterpart as error:
        return dataclasses.replace(proof, why_not_compared=f"convert/torch_models.py has no counterpart of {error}")
    ours, our_layers = layer_outputs(model, waveform)
    return dataclasses.replace(
        proof,
        reading="by panns_jax and by PyTorch" if read else "by panns_jax alone, as PyTorch refuses the file",
        layers=compare_layers(our_layers, layers, reads_logmel=reads_logmel(config), prefix=name_prefix(config)),
        outputs=compare_outputs(_fields(ours), outputs),
    )


def _read_converted(path: Path, config: ModelConfig) -> Model:
    model = read_native(path)
    if model.config != config:
        raise InputError(f"{path}: holds another model, or other front-end settings or classes, than the checkpoint")
    return model


def _sound(config: ModelConfig, audio: Path | None) -> tuple[np.ndarray, str]:
    rate = config.sample_rate
    if audio is None:
        signal = recipe.waveform(2, SIGNAL_SECONDS * rate, rate, seed=1)
        return signal, f"the built-in test signal, 2 clips of {SIGNAL_SECONDS} s"
    from panns_jax.audio import read_waveform

    waveform = read_waveform(audio, rate)
    if not waveform.size:
        raise InputError(f"{audio}: holds no sound")
    part = waveform[: _LONGEST_SECONDS * rate]
    return part[None], f"{'the first ' if len(part) < len(waveform) else ''}{len(part) / rate:.3g} s of {audio}"


def _content(path: Path) -> str:
    released = catalogue.identified(path)
    if released is not None and (released.md5 or released.sha256):
        return f"that of the released {released.file}, by its hash"
    if released is not None:
        return f"named as the released {released.file}, of which no hash is known"
    named = catalogue.named_like(path)
    if named is not None:
        return f"NOT that of the released {named.file}, whose hash is another one"
    return "not that of a released file whose hash is known"


def _stored(weights: Mapping[str, np.ndarray], config: ModelConfig) -> str:
    constants = frontend_constants(config)
    if not constants:
        return "none stored: the model reads waveforms"
    missing = [name for name in constants if name not in weights]
    if not missing:
        return "the stored STFT kernels and mel matrix are ours"
    return f"{', '.join(missing)} not stored" + ("" if len(missing) == len(constants) else "; the others are ours")


def _fields(output: Output) -> dict[str, np.ndarray]:
    fields = {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    return {name: np.asarray(value) for name, value in fields.items() if value is not None}


def _told(difference: Difference) -> str:
    if difference.trouble:
        return f"{difference.name}, which is {difference.trouble}"
    return f"{difference.name}, by {difference.difference:.2g} where {difference.allowed:.2g} is allowed"
