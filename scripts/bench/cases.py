"""What is compared, engine by engine, and what we aim at."""

import dataclasses
import re

from table import OURS, Aims

_CASE = re.compile(r"(?P<model>\w+):(?P<batch>[1-9]\d{0,3}):(?P<seconds>\d{1,3}(\.\d+)?)")


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, and what it is given.

    Attributes:
      model: one of `panns_jax.list_models()`.
      batch: clips at once.
      seconds: of each clip.
    """

    model: str
    batch: int = 1
    seconds: float = 10

    def __str__(self) -> str:
        return f"{self.model}, batch {self.batch}, {self.seconds:g} s"


def parse_case(text: str) -> Case:
    """The case that MODEL:BATCH:SECONDS stands for.

    Raises:
      ValueError: the text is of another form.
    """
    match = _CASE.fullmatch(text)
    if match is None or not float(match["seconds"]):
        raise ValueError(f"{text} is not MODEL:BATCH:SECONDS, such as Cnn14:8:10")
    return Case(match["model"], int(match["batch"]), float(match["seconds"]))


# Our time as a fraction of ONNX Runtime's and PyTorch's, whole models with their front ends.
_AIMS = {
    Case("Cnn14"): (0.75, 0.50),
    Case("Cnn14", batch=8): (0.65, 0.55),
    Case("Cnn14", seconds=60): (0.75, 0.55),
    Case("Cnn14", seconds=1): (1.0, 0.80),
    Case("Cnn14", seconds=2): (1.0, 0.80),
    Case("Wavegram_Logmel_Cnn14"): (0.90, 0.60),
    Case("ResNet38", batch=4): (0.90, 0.70),
    Case("MobileNetV2", batch=8): (1.0, 0.60),
    Case("Res1dNet31", batch=4): (1.0, 0.80),
}
_OTHERS = 1.1
_BFLOAT16 = {Case("Cnn14"): {(f"{OURS} bf16", "ONNX Runtime"): 0.35, (f"{OURS} bf16", "OpenVINO bf16"): 1.5}}

DEFAULT_CASES = tuple(_AIMS)


def aims(case: Case) -> Aims:
    """What we aim at: the aims of the table; for all that is not in it, little more than ONNX Runtime's time."""
    if case not in _AIMS:
        return {(OURS, "ONNX Runtime"): _OTHERS}
    onnxruntime, pytorch = _AIMS[case]
    return {(OURS, "ONNX Runtime"): onnxruntime, (OURS, "PyTorch"): pytorch, **_BFLOAT16.get(case, {})}
