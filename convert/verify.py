"""`python -m convert verify`: whether a converted checkpoint computes what PyTorch computes from the original."""

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from panns_jax.errors import InputError
from panns_jax.files import require_file

if TYPE_CHECKING:
    from convert.comparison import Difference
    from convert.proof import Proof


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verify:
    """Runs a PyTorch checkpoint (.pth) through the converted JAX model and through PyTorch, and prints layer by layer
    the largest difference, then the verdict. Exit code 0: verified; 1: not the same; 2: bad input; 3: structure
    verified, weights not compared, as PyTorch is not installed. Nothing that the checkpoint contains is run."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.pth")]
    """The checkpoint."""
    model: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    """Name of the model; needed only where neither the file's name nor its contents tell."""
    converted: Annotated[Path | None, tyro.conf.arg(metavar="FILE.safetensors", help_behavior_hint="")] = None
    """A file that panns-jax convert made of the checkpoint, to be verified in place of a fresh conversion."""
    audio: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """A sound file to listen to (10 seconds of it); by default a built-in test signal."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object instead of text."""

    def run(self) -> int:
        """Prints the differences and the verdict, whose exit code it returns.

        Raises:
          InputError: a file cannot be used.
        """
        for path, kind in ((self.file, "a checkpoint"), (self.converted, "a converted file"), (self.audio, "a sound")):
            if path is not None:
                require_file(path, kind)
        from panns_jax.pretrained.native import is_native

        if is_native(self.file):
            raise InputError(
                f"{self.file}: begins as a converted file does; name the .pth file, and this one as --converted"
            )
        from convert.proof import prove

        proof = prove(self.file, self.model, converted=self.converted, audio=self.audio)
        code, sentence = proof.verdict
        print(json.dumps(as_json(proof), indent=2) if self.json else f"{as_text(proof)}\n\n{sentence}")
        return code


def as_text(proof: "Proof") -> str:
    """Everything but the verdict, for people."""
    config = proof.config
    lines = [
        f"{proof.file}: {config.name}, {config.num_classes} classes ({config.labels.task})",
        f"content: {proof.content}",
        f"entries: names and shapes are those of {config.name}; read {proof.reading}",
        f"front end: {proof.stored}",
        f"installation: {_installation(proof)}",
    ]
    if proof.layers is None or proof.outputs is None:
        return "\n".join(lines)
    from convert.table import table

    head = ("layer", "shape", "largest value", "difference", "allowed", "relative", "")
    rows = [_row(difference) for difference in proof.layers]
    outputs = [_row(difference) for difference in proof.outputs]
    numbers = frozenset(head[2:6])
    return "\n".join(
        [
            *lines,
            f"sound: {proof.sound}",
            "",
            table(head, rows, right=numbers),
            "",
            table(("output", *head[1:]), outputs, right=numbers),
        ]
    )


def as_json(proof: "Proof") -> dict[str, Any]:
    """Everything, for programs; what is no finite number is null."""
    code, sentence = proof.verdict
    return {
        "file": str(proof.file),
        "model": proof.config.name,
        "content": proof.content,
        "front_end": proof.stored,
        "reading": proof.reading,
        "installation": {
            "software": proof.installation.software,
            "model": proof.installation.model,
            "agrees": proof.installation.agrees,
            "differences": _records(proof.installation.differences),
        },
        "sound": proof.sound,
        "layers": _records(proof.layers),
        "outputs": _records(proof.outputs),
        "exit_code": code,
        "verdict": sentence,
    }


def _records(differences: "list[Difference] | None") -> list[dict[str, Any]] | None:
    if differences is None:
        return None
    records = ({**dataclasses.asdict(difference), "agrees": difference.agrees} for difference in differences)
    return [{key: None if _unspeakable(value) else value for key, value in record.items()} for record in records]


def _unspeakable(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _row(difference: "Difference") -> tuple[str, ...]:
    return (
        difference.name,
        "×".join(map(str, difference.shape)),
        f"{difference.largest:.4g}",
        f"{difference.difference:.1e}",
        f"{difference.allowed:.1e}",
        f"{difference.relative:.1e}",
        "" if difference.agrees else f"◀ {difference.trouble or 'differs'}",
    )


def _installation(proof: "Proof") -> str:
    found = proof.installation
    if found.differences is None:
        return f"{found.software}: not held to the published figures, as this NumPy draws other random numbers"
    verb = "computes" if found.agrees else "does NOT compute"
    parts = (f"{difference.name} within {difference.difference:.1e}" for difference in found.differences)
    return f"{found.software}: {verb} the published figures of {found.model} ({', '.join(parts)})"
