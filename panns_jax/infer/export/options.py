"""`panns-jax export`: a model as a file that other runtimes run."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from panns_jax.errors import InputError, require_extra
from panns_jax.files import require_file, require_parent

_ENDINGS = {".onnx": "onnx", ".stablehlo": "stablehlo"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """Writes a model as ONNX or StableHLO, front end included: waveforms in, probabilities out.

    The file takes any number of clips, of any length from the model's shortest on. Before it gets its name, its answers
    are compared with the model's (within 1e-5) on noise, tones, silence, and the sound files of --audio.
    """

    out: Path
    """The file to write; one that exists is replaced once the new one is complete and checked."""
    format: Literal["onnx", "stablehlo"] | None = None
    """onnx has the labels in its metadata; stablehlo is what jax.export.deserialize reads, with a JSON file beside it
    that has them. Without it, the ending of --out decides: .onnx or .stablehlo."""
    model: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Name of the architecture, for checkpoints that do not tell it. Without a checkpoint, the released one of this
    model (Cnn14 where none is named) is downloaded the first time, and kept."""
    checkpoint: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """Converted file, published .pth or training checkpoint."""
    mirror: Annotated[str | None, tyro.conf.arg(metavar="URL", help_behavior_hint="")] = None
    """Where released files are downloaded from, in place of their own record."""
    precision: Literal["float32", "tf32", "bfloat16", "bf16"] = "float32"
    """What the body of the model computes in; bfloat16 for stablehlo alone."""
    seconds: Annotated[float | None, tyro.conf.arg(metavar="SECONDS", help_behavior_hint="")] = None
    """A length for all clips, for runtimes that must know it. Without it, any length will do."""
    taps: tuple[Literal["logits", "pooled", "frames"], ...] = ()
    """What the file is to yield beside clipwise and embedding (or framewise): values before the sigmoid, before the
    first layer of the head, before pooling over time."""
    audio: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILES", help_behavior_hint="")] = ()
    """Sound files on which the file's answers are compared with the model's, too: 10 s of each."""

    def run(self) -> int:
        """Writes the file.

        Raises:
          InputError: an option cannot be used, a package is missing, or what would be written answers differently.
        """
        format = self._format()
        if format == "onnx":
            require_extra("--format onnx", "export", "onnx", "onnxruntime")
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise InputError(f"--seconds must be above 0, not {self.seconds:g}")
        require_parent(self.out)
        for path in self.audio:
            require_file(path, "a sound file")
        from panns_jax.infer.export.program import Program
        from panns_jax.infer.export.written import beside, write_onnx, write_stablehlo
        from panns_jax.infer.listener import DEFAULT_MODEL
        from panns_jax.pretrained.load import load_model

        name = DEFAULT_MODEL if self.model is None and self.checkpoint is None else self.model
        model = load_model(name, self.checkpoint, mirror=self.mirror, precision=self.precision)
        config = model.config
        samples = None if self.seconds is None else round(self.seconds * config.sample_rate)
        if samples is not None and samples < config.min_samples:
            least = config.min_samples / config.sample_rate
            raise InputError(f"--seconds must be at least {least:g}: {config.name} takes no shorter clips")
        program = Program(model, self.taps, samples)
        write = write_onnx if format == "onnx" else write_stablehlo
        agreement = write(program, self.out, self.audio)
        length = f"any, from {config.min_samples} samples on" if samples is None else f"{samples} samples"
        print(f"{self.out}: {config.name}, {self.out.stat().st_size / 1e6:.1f} MB")
        if format == "stablehlo":
            print(f"{beside(self.out)}: its labels")
        print(f"waveform (batch, samples) at {config.sample_rate} Hz: any number of clips, length {length}")
        print(f"outputs: {', '.join(program.outputs)}")
        print(f"checked on {agreement.batches} batches: within {agreement.largest:.1e} of the model")
        return 0

    def _format(self) -> Literal["onnx", "stablehlo"]:
        format = self.format or _ENDINGS.get(self.out.suffix.lower())
        if format not in ("onnx", "stablehlo"):
            raise InputError(
                f"--out {self.out} does not tell the format: end it in .onnx or .stablehlo, or name --format"
            )
        return format
