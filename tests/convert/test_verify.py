"""`python -m convert verify`: its verdicts, and that each of them can come."""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import carry_figures
import numpy as np
import pytest
import soundfile
from pth_writer import write_checkpoint

from convert import installation, proof, recipe
from convert.__main__ import main
from convert.comparison import Difference, compare_layers, compare_outputs, first_that_differs
from panns_jax.models.registry import REGISTRY, model_config
from panns_jax.models.transfer import transfer
from panns_jax.pretrained.conversion import frontend_constants
from panns_jax.pretrained.convert import convert_file

CONFIG = model_config("DemoCnn")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    weights = {**frontend_constants(CONFIG), **recipe.state_dict(CONFIG, 5)}
    return write_checkpoint(tmp_path_factory.mktemp("pth") / "demo.pth", weights, kind="stream")


@pytest.fixture
def verify(run) -> Callable[..., Any]:
    return lambda *arguments: run(lambda given: main(["verify", *given]), *arguments)


@pytest.fixture
def without_torch(monkeypatch) -> None:
    """As where PyTorch is not installed: importing it raises ModuleNotFoundError."""
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("convert.torch_")]:
        monkeypatch.delitem(sys.modules, name)


def spoil(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], None]) -> None:
    """Changes the JAX model that is compared."""
    make = proof.filled_model

    def spoilt(*arguments: Any) -> Any:
        model = make(*arguments)
        change(model)
        return model

    monkeypatch.setattr(proof, "filled_model", spoilt)


def test_a_checkpoint_is_verified_layer_by_layer(verify, checkpoint):
    pytest.importorskip("torch")
    done = verify(checkpoint)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    named = [line.split()[0] for line in lines if line]
    order = ["spectrogram_extractor", "logmel_extractor", "bn0", "conv_block1.conv1", "conv_block4", "fc_audioset"]
    assert [name for name in named if name in order] == order
    assert {"clipwise", "embedding"} <= set(named)
    assert lines[-1].startswith("verified: the converted DemoCnn computes what PyTorch computes")
    assert "computes the published figures of Cnn6" in done.stdout
    assert "read by panns_jax and by PyTorch" in done.stdout


def transpose_a_kernel(model: Any) -> None:
    kernel = model.conv_block2.conv1.kernel
    kernel.set_value(kernel[...].swapaxes(0, 1))


def take_another_epsilon(model: Any) -> None:
    model.conv_block3.bn2.epsilon = 1e-3


def lose_a_bias(model: Any) -> None:
    model.fc1.bias.set_value(0 * model.fc1.bias[...])


@pytest.mark.parametrize(
    ("change", "layer"),
    [
        (transpose_a_kernel, "conv_block2.conv1"),
        (take_another_epsilon, "conv_block3.bn2"),
        (lose_a_bias, "fc1"),
    ],
)
def test_a_wrong_layer_is_named_as_the_first_that_differs(verify, checkpoint, monkeypatch, change, layer):
    pytest.importorskip("torch")
    spoil(monkeypatch, change)
    done = verify(checkpoint)
    assert done.returncode == 1
    verdict = done.stdout.splitlines()[-1]
    assert verdict.startswith(f"not the same: JAX and PyTorch begin to differ at {layer}, by ")
    marked = [line.split()[0] for line in done.stdout.splitlines() if "◀ differs" in line]
    assert marked[0] == layer


def test_json_tells_the_same(verify, checkpoint, monkeypatch):
    pytest.importorskip("torch")
    spoil(monkeypatch, lambda model: model.fc_audioset.bias.set_value(np.nan * model.fc_audioset.bias[...]))
    done = verify(checkpoint, "--json")
    told = json.loads(done.stdout, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    assert (done.returncode, told["exit_code"], told["model"]) == (1, 1, "DemoCnn")
    assert [layer["name"] for layer in told["layers"] if not layer["agrees"]] == ["fc_audioset"]
    assert [output["name"] for output in told["outputs"] if not output["agrees"]] == ["clipwise"]
    assert "fc_audioset" in told["verdict"]


def test_a_converted_file_is_verified_against_its_source(verify, checkpoint, tmp_path):
    pytest.importorskip("torch")
    converted, other = tmp_path / "x.safetensors", tmp_path / "y.safetensors"
    convert_file(checkpoint, converted)
    assert verify(checkpoint, "--converted", converted).returncode == 0
    convert_file(write_checkpoint(tmp_path / "demo-6.pth", recipe.state_dict(CONFIG, 6)), other)
    done = verify(checkpoint, "--converted", other)
    assert done.returncode == 1 and "begin to differ at bn0" in done.stdout


@pytest.mark.long
def test_a_sound_file_can_be_listened_to(verify, checkpoint, tmp_path):
    pytest.importorskip("torch")
    sound = tmp_path / "clip.wav"
    # Digital silence and quiet bands, where rounding is larger than the signal.
    soundfile.write(sound, np.r_[np.zeros(16000), recipe.waveform(1, 16000, 16000, 2)[0]], 16000, subtype="PCM_16")
    done = verify(checkpoint, "--audio", sound)
    assert done.returncode == 0, done.stdout
    assert f"sound: 2 s of {sound}" in done.stdout


def test_without_torch_the_structure_is_verified_and_nothing_more(verify, checkpoint, without_torch):
    done = verify(checkpoint)
    assert (done.returncode, done.stderr) == (3, "")
    verdict = done.stdout.splitlines()[-1]
    assert verdict.startswith("structure verified, weights not compared: PyTorch is not installed")
    assert "computes the published figures of Cnn6" in done.stdout
    assert "the stored STFT kernels and mel matrix are ours" in done.stdout


def test_an_installation_that_computes_something_else_is_no_proof(verify, checkpoint, without_torch, monkeypatch):
    log_mel = installation.log_mel
    monkeypatch.setattr(installation, "log_mel", lambda *arguments: log_mel(*arguments) + 0.1)
    done = verify(checkpoint)
    assert done.returncode == 1
    assert "does NOT compute the published figures" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("not the same: this installation")


def test_a_model_without_figures_is_held_to_those_of_its_family():
    there = {"Cnn6/last_scale", "Cnn10/last_scale", "ResNet22/last_scale"}
    toy = dataclasses.replace(REGISTRY["ResNet38"], name="ToyNet")
    assert installation._with_figures(toy, there) == "ResNet22"
    assert installation._with_figures(REGISTRY["Cnn10"], there) == "Cnn10"
    assert installation._with_figures(transfer(REGISTRY["ResNet22"]), there) == "ResNet22"
    assert installation._with_figures(REGISTRY["DaiNet19"], there) == "Cnn6"


def test_other_random_numbers_are_no_verdict_on_the_installation(verify, checkpoint, without_torch, monkeypatch):
    monkeypatch.setattr(installation, "first_draws", lambda: np.zeros(8, np.float32))
    done = verify(checkpoint)
    assert done.returncode == 3 and "draws other random numbers" in done.stdout


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), "is cut short"),
        (lambda path: path.write_bytes(b"RIFF"), "is no PyTorch checkpoint"),
        (lambda path: path.unlink(), "there is no such file"),
    ],
)
def test_a_bad_file_is_one_sentence(verify, checkpoint, tmp_path, change, said):
    path = tmp_path / "bad.pth"
    path.write_bytes(checkpoint.read_bytes())
    change(path)
    done = verify(path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert str(path) in done.stderr and said in done.stderr


def test_wrong_options_are_one_sentence(verify, checkpoint, tmp_path):
    for arguments, said in (
        ((checkpoint, "--model", "Cnn6"), "does not fit Cnn6"),
        ((checkpoint, "--model", "Cnn66"), "no model 'Cnn66'"),
        ((checkpoint, "--audio", tmp_path / "none.wav"), "there is no such file"),
        ((checkpoint, "--converted", tmp_path / "none.safetensors"), "there is no such file"),
        ((), "FILE.pth"),
    ):
        done = verify(*arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert said in done.stderr


def test_a_converted_file_is_not_taken_for_a_checkpoint(verify, checkpoint, tmp_path):
    convert_file(checkpoint, tmp_path / "x.safetensors")
    done = verify(tmp_path / "x.safetensors")
    assert done.returncode == 2 and "name the .pth file, and this one as --converted" in done.stderr


def test_the_carried_figures_are_the_published_ones():
    with np.load(installation.FIGURES) as file:
        carried = dict(file)
    figures = carry_figures.carried_figures()
    assert carried.keys() == figures.keys() and len(figures) > 29 * 2
    for name, array in figures.items():
        np.testing.assert_array_equal(carried[name], array, err_msg=name)


def compared(ours: np.ndarray, reference: np.ndarray) -> Difference:
    return compare_layers({"conv": ours}, {"conv": reference}, reads_logmel=False)[0]


def test_what_is_no_number_or_of_another_shape_never_agrees():
    x = np.ones((1, 2), np.float32)
    assert compared(x, x).agrees and compared(x + 9e-5, x).agrees and not compared(x + 2e-4, x).agrees
    assert not compared(x * np.nan, x).agrees and not compared(x * np.nan, x * np.nan).agrees
    assert not compared(x[:, :1], x).agrees
    assert compared(0 * x, 0 * x).agrees and not compared(x, 0 * x).agrees


def test_what_only_one_side_has_is_a_difference():
    x = np.ones((1, 2), np.float32)
    differences = compare_outputs({"clipwise": x, "more": x}, {"clipwise": x, "embedding": x})
    assert {d.name: d.trouble for d in differences} == {
        "clipwise": None,
        "embedding": "only in PyTorch",
        "more": "only in JAX",
    }
    first = first_that_differs(differences)
    assert first is not None and first.name == "embedding"


def test_decibels_below_the_floor_are_not_judged():
    reference = np.array([[-90.0, -20.0]], np.float32)
    for shift, agrees in ((np.array([5, 0]), True), (np.array([0, 0.03]), False)):
        ours = (reference + shift).astype(np.float32)
        (difference,) = compare_layers({"logmel_extractor": ours}, {"logmel_extractor": reference}, reads_logmel=True)
        assert difference.agrees == agrees
