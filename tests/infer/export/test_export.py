"""Models as files of other runtimes: every family, any number and length of clips; and the command."""

import json
from pathlib import Path

import jax
import jax.export
import jaxtyping
import numpy as np
import pytest
import recipe
from small_models import FRONTEND, SMALL
from weights import arbitrary

from panns_jax import load_model
from panns_jax.errors import InputError
from panns_jax.infer.export import written
from panns_jax.infer.export.program import Program
from panns_jax.models.model import Model
from panns_jax.pretrained.rules import filled_model

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")
onnx = pytest.importorskip("onnx", reason="the extra export is not installed")


@pytest.fixture(autouse=True)
def sizes_may_be_symbols(monkeypatch: pytest.MonkeyPatch):
    # As where types are not checked at run time: a length that is a symbol is no `int`.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def small(name: str) -> Model:
    return filled_model(SMALL[name], arbitrary(SMALL[name]))


def answers(path: Path, waveform: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"waveform": waveform}), strict=True))


@pytest.mark.parametrize("name", SMALL)
def test_onnx_runtime_answers_as_the_model_does_for_any_number_and_length_of_clips(name: str, tmp_path: Path):
    model = small(name)
    agreement = written.write_onnx(Program(model, ("logits", "pooled", "frames")), tmp_path / "x.onnx", [])
    assert agreement.batches >= 4
    waveform = recipe.waveform(4, 3457, FRONTEND.sample_rate, 1)
    output = jax.jit(lambda x: model(x, taps=("logits", "pooled", "frames")))(waveform)
    given = answers(tmp_path / "x.onnx", waveform)
    vector = "framewise" if model.config.embedding_dim is None else "embedding"
    assert list(given) == ["clipwise", vector, "logits", "pooled", "frames"]
    for key, values in given.items():
        wanted = np.asarray(getattr(output, key))
        assert values.shape == wanted.shape
        np.testing.assert_allclose(values, wanted, rtol=1e-5, atol=1e-5)


def test_a_file_for_clips_of_one_length_takes_no_other(tmp_path: Path):
    written.write_onnx(Program(small("cnn"), samples=4000), tmp_path / "x.onnx", [])
    assert answers(tmp_path / "x.onnx", np.zeros((2, 4000), np.float32))["clipwise"].shape == (2, 5)
    with pytest.raises(Exception, match=r"[Ii]nvalid dimensions"):
        answers(tmp_path / "x.onnx", np.zeros((2, 4001), np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cnn", "decision-max", "wavegram-logmel"])
def test_a_stablehlo_file_is_read_by_jax_alone(name: str, tmp_path: Path):
    model = small(name)
    written.write_stablehlo(Program(model), tmp_path / "x.stablehlo", [])
    read = jax.export.deserialize(bytearray((tmp_path / "x.stablehlo").read_bytes()))
    assert set(read.platforms) >= {"cpu", "cuda", "tpu"}
    waveform = recipe.waveform(3, 2501, FRONTEND.sample_rate, 1)
    np.testing.assert_allclose(read.call(waveform)["clipwise"], jax.jit(model)(waveform).clipwise, atol=1e-5)
    description = json.loads((tmp_path / "x.stablehlo.json").read_text("utf-8"))
    assert description["labels"] == list(model.config.labels)


def test_a_file_that_answers_differently_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from panns_jax.infer.export import layers

    rules = {**layers.ALL, "logistic": lambda graph, equation, inputs, shape: inputs[0]}
    monkeypatch.setattr(layers, "ALL", rules)
    with pytest.raises(InputError, match="differs from the model in clipwise"):
        written.write_onnx(Program(small("cnn")), tmp_path / "x.onnx", [])
    assert not list(tmp_path.iterdir())


def test_what_is_not_translated_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from panns_jax.infer.export import layers

    monkeypatch.setattr(layers, "ALL", {name: rule for name, rule in layers.ALL.items() if name != "fft"})
    with pytest.raises(InputError, match="the operation fft is not translated"):
        written.write_onnx(Program(small("cnn")), tmp_path / "x.onnx", [])


def test_the_command_writes_a_file_with_the_labels_in_it(main, checkpoint: Path, sound: Path, tmp_path: Path):
    out = tmp_path / "demo.onnx"
    done = main("export", "--out", out, "--checkpoint", checkpoint, "--audio", sound, "--taps", "logits")
    assert done.returncode == 0, done.stderr
    assert "any number of clips" in done.stdout and "clipwise, embedding, logits" in done.stdout
    metadata = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    labels = load_model(checkpoint=checkpoint).config.labels
    assert json.loads(metadata["labels"]) == list(labels)
    assert metadata["sample_rate"] == "32000" and metadata["model"] == "DemoCnn"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x.bin"], "does not tell the format"),
        (["--out", "x.onnx", "--seconds", "-1"], "--seconds must be above 0"),
        (["--out", "x.onnx", "--seconds", "0.1"], "--seconds must be at least 0.3"),
        (["--out", "x.onnx", "--precision", "bf16"], "in bfloat16"),
        (["--out", "x.onnx", "--audio", "missing.wav"], "missing.wav"),
        (["--out", "nowhere/x.onnx"], "nowhere"),
    ],
)
def test_what_cannot_be_exported_is_told_in_a_sentence(main, checkpoint, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = main("export", "--checkpoint", checkpoint, *arguments)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
