"""Programs as files, each checked before it has its name."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.export
import numpy as np

from panns_jax.errors import InputError
from panns_jax.files import written_aside
from panns_jax.infer.export.check import Agreement, compare
from panns_jax.infer.export.program import BATCH, SAMPLES, Program, flat_outputs

OPSET = 18  # of 2022; every runtime of today has it
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def write_onnx(program: Program, out: Path, audio: Sequence[Path]) -> Agreement:
    """Writes a model as ONNX, with the labels in the file's metadata, once ONNX Runtime has answered as the model does.

    Raises:
      InputError: the model cannot be written as ONNX, or answers differently there.
    """
    import onnx
    import onnxruntime

    from panns_jax.infer.export.graph import Graph, Tensor, trace
    from panns_jax.infer.export.layers import ALL
    from panns_jax.infer.export.translation import translated

    if program.model.precision == "bfloat16":
        raise InputError(
            "ONNX Runtime convolves nothing in bfloat16 on CPU, so it could not be checked: float32 can be"
        )
    argument = program.argument
    closed = trace(flat_outputs(program), argument)
    graph = Graph(argument.shape, (BATCH, SAMPLES))
    values = translated(graph, closed, [graph.waveform], ALL)
    outputs = {name: value for name, value in zip(program.outputs, values, strict=True) if isinstance(value, Tensor)}
    proto = graph.model(outputs, program.description, OPSET)
    onnx.checker.check_model(proto)
    with written_aside(out) as part:
        part.write_bytes(proto.SerializeToString())
        session = onnxruntime.InferenceSession(os.fspath(part), providers=["CPUExecutionProvider"])
        return compare(
            program, lambda waveforms: list(map(np.asarray, session.run(None, {"waveform": waveforms}))), audio
        )


def write_stablehlo(program: Program, out: Path, audio: Sequence[Path]) -> Agreement:
    """Writes a model as `jax.export` serialises it, for CPU, GPU and TPU; and beside it a JSON file with its labels.

    Raises:
      InputError: what was written answers differently.
    """
    exported = jax.export.export(jax.jit(program.run), platforms=PLATFORMS)(program.argument)
    with written_aside(out) as part, written_aside(beside(out)) as description:
        part.write_bytes(exported.serialize())
        description.write_text(json.dumps(_plain(program.description), indent=2, ensure_ascii=False) + "\n", "utf-8")
        read = jax.export.deserialize(bytearray(part.read_bytes()))

        def run(waveforms: np.ndarray) -> list[np.ndarray]:
            answer = read.call(waveforms)
            return [np.asarray(answer[name]) for name in program.outputs]

        return compare(program, run, audio)


def beside(out: Path) -> Path:
    """Where the description of a StableHLO file is."""
    return out.with_name(out.name + ".json")


def _plain(description: dict[str, str]) -> dict[str, object]:
    """The description with its lists as lists."""
    return {key: json.loads(text) if text.startswith("[") else text for key, text in description.items()}
