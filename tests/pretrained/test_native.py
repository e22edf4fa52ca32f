"""Converted files: everything a model needs, in one file that is strict about what it holds."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from panns_jax.errors import InputError
from panns_jax.models.registry import model_config
from panns_jax.pretrained.conversion import convert_weights
from panns_jax.pretrained.native import Provenance, read_native, write_native
from panns_jax.pretrained.rules import to_published

DEMO = model_config("DemoCnn")
PROVENANCE = Provenance("small.pth", "0" * 64, "CC BY 4.0")


@pytest.fixture
def arrays(small_weights):
    return convert_weights(small_weights, DEMO, "weights")


@pytest.fixture
def converted(tmp_path, arrays):
    path = tmp_path / "small.safetensors"
    write_native(path, DEMO, arrays, PROVENANCE)
    return path


def description(path) -> dict:
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    assert list(metadata) == ["panns_jax"]
    return json.loads(metadata["panns_jax"])


def test_a_converted_file_gives_the_model_back(converted, small_weights):
    model = read_native(converted)
    assert model.config == DEMO
    for name, array in to_published(model).items():
        np.testing.assert_array_equal(array, small_weights[name])


def test_the_header_tells_architecture_front_end_labels_source_and_licence(converted):
    header = description(converted)
    assert header["format"] == 1
    assert header["model"]["architecture"] == "DemoCnn"
    assert header["model"]["frontend"] == dataclasses.asdict(DEMO.frontend)
    assert header["model"]["labels"]["ids"][0] == "/m/09x0r"
    assert header["model"]["labels"]["names"][0] == "Speech"
    assert header["source"] == {"file": "small.pth", "sha256": "0" * 64}
    assert header["licence"] == "CC BY 4.0"
    assert header["converter"].startswith("panns_jax ")


def test_the_same_weights_give_the_same_bytes(tmp_path, converted, arrays):
    backwards = dict(reversed(arrays.items()))
    write_native(tmp_path / "again.safetensors", DEMO, backwards, PROVENANCE)
    assert (tmp_path / "again.safetensors").read_bytes() == converted.read_bytes()


def places_of(path) -> list[tuple[int, int]]:
    """Where this process has mapped a file."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(path.name)]
    return [(int(start, 16), int(end, 16)) for start, end in (line[0].split("-") for line in lines)]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped where")
def test_the_weights_are_those_in_the_mapped_file_and_not_copied(converted):
    model = read_native(converted)
    places = places_of(converted)
    leaves = jax.tree.leaves(nnx.state(model))
    mapped = [x for x in leaves if any(start <= x.unsafe_buffer_pointer() < end for start, end in places)]
    assert len(mapped) == len(leaves)


def test_a_file_may_be_replaced_while_its_weights_are_used(converted, arrays, small_weights):
    model = read_native(converted)
    write_native(converted, DEMO, {name: 0 * array for name, array in arrays.items()}, PROVENANCE)
    for name, array in to_published(model).items():
        np.testing.assert_array_equal(array, small_weights[name])
    assert not np.any(to_published(read_native(converted))["fc1.weight"])


def test_steps_that_give_their_weights_away_leave_the_file_alone(converted):
    before = converted.read_bytes()
    state = nnx.state(read_native(converted))
    step = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    jax.block_until_ready(step(state))
    assert converted.read_bytes() == before


def test_settings_and_labels_of_the_file_win_over_those_of_the_registry(tmp_path, arrays):
    config = dataclasses.replace(DEMO, frontend=dataclasses.replace(DEMO.frontend, fmin=20, fmax=16000))
    write_native(tmp_path / "x.safetensors", config, arrays, PROVENANCE)
    assert read_native(tmp_path / "x.safetensors").config == config


def test_all_faults_of_the_arrays_are_reported_at_once(converted, tmp_path):
    arrays = load_file(converted)
    del arrays["fc1.bias"]
    arrays["more"] = np.ones(3, np.float32)
    arrays["bn0.mean"] = np.ones(3, np.float32)
    arrays["bn0.var"] = arrays["bn0.var"].astype(np.float64)
    arrays["bn0.scale"] = np.full_like(arrays["bn0.scale"], np.nan)
    arrays["conv_block1.bn1.var"] *= -1
    save_file(arrays, tmp_path / "x.safetensors", {"panns_jax": json.dumps(description(converted))})
    with pytest.raises(InputError) as refused:
        read_native(tmp_path / "x.safetensors")
    for part in (
        "6 faults",
        "missing: fc1.bias (128,)",
        "not part of the model: more (3,)",
        "of another shape: bn0.mean (3,) instead of (64,)",
        "not float32: bn0.var (F64)",
        "holds NaN or infinity: bn0.scale",
        "holds negative variances: conv_block1.bn1.var",
    ):
        assert part in str(refused.value)


def test_weights_that_are_no_numbers_are_refused(tmp_path, arrays):
    arrays["fc1.bias"] = np.full_like(arrays["fc1.bias"], np.inf)
    write_native(tmp_path / "x.safetensors", DEMO, arrays, PROVENANCE)
    with pytest.raises(InputError, match=r"holds NaN or infinity: fc1\.bias"):
        read_native(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda header: header.clear(), "format unknown"),
        (lambda header: header.update(format=[[]]), "format unknown"),
        (lambda header: header.update(format=2), "format 2; this version"),
        (lambda header: header.update(model=None), "of the wrong kind"),
        (lambda header: header["model"].update(architecture="Cnn15"), "no model 'Cnn15'"),
        (lambda header: header["model"].update(architecture=[]), "of the wrong kind"),
        (lambda header: header["model"].pop("labels"), "of the wrong kind"),
        (lambda header: header["model"]["labels"].update(names=[]), "527 ids for 0 names"),
        (lambda header: header["model"]["labels"].update(ids=[], names=[]), "has no classes"),
        (lambda header: header["model"]["labels"].update(names=list(range(527))), "of the wrong kind"),
        (lambda header: header["model"]["frontend"].update(hop_size=1.5), "of the wrong kind"),
        (lambda header: header["model"]["frontend"].update(mel_bins=10**30), "of the wrong kind"),
        (lambda header: header["model"]["frontend"].update(fmin="low"), "of the wrong kind"),
        (lambda header: header["model"]["frontend"].update(fmax=1e9), "fmin < fmax"),
        (lambda header: header["model"]["frontend"].update(mel_bins=32), "does not fit DemoCnn"),
        (lambda header: header["model"]["labels"].update(ids=["a"], names=["a"]), "does not fit DemoCnn"),
    ],
)
def test_a_header_that_is_not_ours_is_refused(converted, tmp_path, change, said):
    header = description(converted)
    change(header)
    save_file(load_file(converted), tmp_path / "x.safetensors", {"panns_jax": json.dumps(header)})
    with pytest.raises(InputError) as refused:
        read_native(tmp_path / "x.safetensors")
    assert said in str(refused.value)
    assert str(tmp_path / "x.safetensors") in str(refused.value)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "[" * 100_000, '{"format": 1e999}'])
def test_a_header_that_is_no_description_is_refused(tmp_path, text):
    save_file({"x": np.ones(3)}, tmp_path / "x.safetensors", {"panns_jax": text})
    with pytest.raises(InputError):
        read_native(tmp_path / "x.safetensors")


def test_foreign_and_damaged_files_are_refused(converted, tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"x": np.ones(3)}, path)
    with pytest.raises(InputError, match="was not written by panns-jax convert"):
        read_native(path)
    whole = converted.read_bytes()
    for raw in (b"", b"x", b"{}", whole[:7], whole[:100], whole[:-1], whole + b"x", bytes(1000), b"\xff" * 1000):
        path.write_bytes(raw)
        with pytest.raises(InputError, match="is damaged, or no converted checkpoint"):
            read_native(path)
    # A name that would move a terminal's cursor is told in an error of safetensors itself.
    path.write_bytes(whole.replace(b'"bn0.bias":', b'"\\u001b12":').replace(b"[0,256]", b"[1,257]"))
    with pytest.raises(InputError, match="invalid offset for tensor") as refused:
        read_native(path)
    assert str(refused.value).isprintable()
    with pytest.raises(InputError, match="there is no such file"):
        read_native(tmp_path / "absent.safetensors")
    with pytest.raises(InputError, match="is a folder"):
        read_native(tmp_path)
