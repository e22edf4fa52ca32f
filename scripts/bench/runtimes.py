"""The engines: each makes of one case a function that computes it from the clips to the probabilities.

All get the same weights and clips. PyTorch's models are `convert`'s, whose front end is torchlibrosa's, operation by
operation; ONNX Runtime and OpenVINO run what PyTorch exports of them.
"""

import dataclasses
import functools
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import common
import machine
from cases import Case
from table import OURS

if TYPE_CHECKING:
    import numpy as np

    from panns_jax.models.config import ModelConfig, Precision

Run = Callable[[], "np.ndarray"]
"""Computes a case once; returns clipwise probabilities (batch, classes)."""

_OPSET = 17


class Unavailable(Exception):
    """This engine does not do this here; the message says why."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """One case as the engines get it.

    Attributes:
      case: the model, and what it is given.
      folder: an empty one, for files of this case.
    """

    case: Case
    folder: Path

    @functools.cached_property
    def config(self) -> "ModelConfig":
        from panns_jax.models.registry import model_config

        return model_config(self.case.model)

    @functools.cached_property
    def waveform(self) -> "np.ndarray":
        return common.clips(self.case.batch, self.case.seconds, self.config.sample_rate)

    @functools.cached_property
    def weights(self) -> "dict[str, np.ndarray]":
        """Under the published names."""
        return common.weights(self.case.model)

    @functools.cached_property
    def checkpoint(self) -> Path:
        """The weights in a file as the models' authors released theirs."""
        path = self.folder / f"{self.case.model}.pth"
        common.write_checkpoint(self.weights, path)
        return path

    @functools.cached_property
    def module(self) -> Any:
        """The model in PyTorch, in evaluation mode."""
        from torch_module import TorchModule

        return TorchModule(self.config, self.weights).eval()

    @functools.cached_property
    def exported(self) -> Path:
        """The same as an ONNX file, for this batch and length."""
        import torch

        path = self.folder / "model.onnx"
        with warnings.catch_warnings():
            # It warns that what depends on shapes becomes constant, which is meant, and of a newer exporter, for which
            # one more package would have to be installed.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                self.module,
                (torch.from_numpy(self.waveform),),
                path,
                input_names=["waveform"],
                opset_version=_OPSET,
                dynamo=False,
            )
        self.module.eval()  # the exporter leaves modules in training mode
        return path


def by_torch(subject: Subject) -> Run:
    import torch

    torch.set_num_threads(machine.cores())
    module, waveform = subject.module, torch.from_numpy(subject.waveform)

    def run() -> "np.ndarray":
        with torch.inference_mode():
            return module(waveform)[0].numpy()

    return run


def _prepared(precision: "Precision") -> Callable[[Subject], Run]:
    def build(subject: Subject) -> Run:
        import panns_jax

        try:
            model = panns_jax.load_model(subject.case.model, subject.checkpoint, precision=precision)
            return _in_jax(panns_jax.prepare(model), subject)
        except panns_jax.InputError as error:
            raise Unavailable(str(error)) from error

    return build


def _plain(subject: Subject) -> Run:
    import jax
    from flax import nnx

    import panns_jax

    graph, state = nnx.split(panns_jax.load_model(subject.case.model, subject.checkpoint))
    jitted = jax.jit(lambda state, waveform: nnx.merge(graph, state)(waveform))
    return _in_jax(functools.partial(jitted, state), subject)


def _in_jax(model: Callable[[Any], Any], subject: Subject) -> Run:
    import jax
    import jax.numpy as jnp
    import numpy as np

    waveform = jnp.asarray(subject.waveform)
    return lambda: np.asarray(jax.block_until_ready(model(waveform)).clipwise)


def _by_onnxruntime(subject: Subject) -> Run:
    import numpy as np
    import onnxruntime  # pyright: ignore[reportMissingImports]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = machine.cores()
    session = onnxruntime.InferenceSession(subject.exported, options, providers=["CPUExecutionProvider"])
    return lambda: np.asarray(session.run(None, {"waveform": subject.waveform})[0])


def _by_openvino(precision: str) -> Callable[[Subject], Run]:
    def build(subject: Subject) -> Run:
        import numpy as np

        # It would report to its makers what it was used for, from a fork of this process.
        sys.modules.setdefault("openvino_telemetry", cast("Any", None))
        import openvino  # pyright: ignore[reportMissingImports]

        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": machine.cores(),
            "INFERENCE_PRECISION_HINT": precision,
        }
        compiled = openvino.Core().compile_model(subject.exported, "CPU", settings)
        chosen = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if chosen != precision:
            raise Unavailable(f"OpenVINO computes in {chosen} here, not in {precision}")
        request = compiled.create_infer_request()
        return lambda: np.asarray(request.infer([subject.waveform], share_inputs=True)[0])

    return build


@dataclasses.dataclass(frozen=True)
class Engine:
    """One of those to compare.

    Attributes:
      name: in tables.
      needs: modules to import.
      build: makes a function of a case; raises `Unavailable`.
      whole: whether it computes in float32, and so has to agree with PyTorch.
      wants: instruction sets, of which it needs one to be worth a look where nobody asks for it; none for any machine.
    """

    name: str
    needs: tuple[str, ...]
    build: Callable[[Subject], Run]
    whole: bool = True
    wants: tuple[str, ...] = ()


ENGINES: Mapping[str, Engine] = {
    "panns_jax": Engine(OURS, (), _prepared("float32")),
    "panns_jax-bf16": Engine(f"{OURS} bf16", (), _prepared("bfloat16"), whole=False, wants=("AMX BF16",)),
    "panns_jax-plain": Engine(f"{OURS} plain", (), _plain),
    "pytorch": Engine("PyTorch", ("torch",), by_torch),
    "onnxruntime": Engine("ONNX Runtime", ("onnx", "onnxruntime"), _by_onnxruntime),
    "openvino": Engine("OpenVINO", ("onnx", "openvino"), _by_openvino("f32")),
    "openvino-bf16": Engine(
        "OpenVINO bf16",
        ("onnx", "openvino"),
        _by_openvino("bf16"),
        whole=False,
        wants=("AVX-512 BF16", "AMX BF16", "BF16"),
    ),
}
