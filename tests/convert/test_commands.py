"""`panns-jax convert` and `python -m convert file`."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pth_writer import WRITERS, Name, write_checkpoint
from safetensors import safe_open

from convert.__main__ import main as convert_main
from panns_jax import cli
from panns_jax.errors import InputError
from panns_jax.files import sha256
from panns_jax.models.registry import model_config
from panns_jax.pretrained.convert import Convert
from panns_jax.pretrained.rules import entries

MODULES = {"panns-jax convert": ["panns_jax", "convert"], "python -m convert file": ["convert", "file"]}
"""What `python -m` runs as each command."""


def panns_jax_convert(arguments: Sequence[str]) -> None:
    cli.main(["convert", *arguments])


def convert_file(arguments: Sequence[str]) -> None:
    convert_main(["file", *arguments])


both_commands = pytest.mark.parametrize("command", [panns_jax_convert, convert_file])

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def source(tmp_path) -> Path:
    config = model_config("DemoCnn").with_classes(4)
    weights = {entry.published: np.full(entry.shape, 0.5, np.float32) for entry in entries(config)}
    return write_checkpoint(tmp_path / "demo.pth", weights, kind="stream")


def assert_refused(done: Done, *parts: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_a_checkpoint_is_converted_with_all_that_belongs_to_it(tmp_path, source, module):
    target = tmp_path / "demo.safetensors"
    line = [sys.executable, "-m", *module, str(source), str(target)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{target}: DemoCnn, ") and done.stdout.count("\n") == 1
    with safe_open(target, framework="numpy") as file:
        header = json.loads(file.metadata()["panns_jax"])
    assert header["source"] == {"file": "demo.pth", "sha256": sha256(source)}
    assert header["model"]["architecture"] == "DemoCnn"
    assert header["licence"] == "unknown: that of the source file"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo.pth", "demo.safetensors"]


def test_an_existing_file_is_replaced_only_by_force(run, tmp_path, source):
    target = tmp_path / "demo.safetensors"
    target.write_text("mine")
    assert_refused(run(panns_jax_convert, source, target), str(target), "exists already", "--force")
    assert target.read_text() == "mine"
    assert run(panns_jax_convert, source, target, "--force").returncode == 0
    assert target.stat().st_size > 1000


@both_commands
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "there is no such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is cut short"),
        (lambda path: path.write_bytes(b"RIFF"), "is no PyTorch checkpoint"),
        (lambda path: path.write_bytes(WRITERS["zip"]({"x": Name("os", "system")("true")})), "refers to os.system"),
    ],
)
def test_a_bad_checkpoint_is_one_sentence_and_leaves_nothing(run, tmp_path, source, command, spoil, said):
    spoil(source)
    done = run(command, source, tmp_path / "demo.safetensors")
    assert_refused(done, str(source), said)
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.safetensors*")) and not list(tmp_path.glob(".*"))


def test_a_checkpoint_of_another_model_is_told(run, tmp_path, source):
    target = tmp_path / "demo.safetensors"
    done = run(panns_jax_convert, source, target, "--model", "Cnn6")
    assert_refused(done, f"{source} does not fit Cnn6", "those of DemoCnn")
    assert_refused(run(panns_jax_convert, source, target, "--model", "Cnn66"), "no model 'Cnn66'")
    assert not target.exists()


def test_a_bad_destination_is_told_before_the_work(run, tmp_path, source):
    assert_refused(run(panns_jax_convert, source, tmp_path / "x.pth"), "must be named *.safetensors")
    assert_refused(run(panns_jax_convert, source, tmp_path / "no" / "x.safetensors"), "does not exist")
    (tmp_path / "folder.safetensors").mkdir()
    assert_refused(run(panns_jax_convert, source, tmp_path / "folder.safetensors"), "is a folder")


def test_a_checkpoint_is_not_replaced_by_its_conversion_nor_converted_twice(tmp_path, source):
    renamed = source.rename(tmp_path / "demo.safetensors")
    content = renamed.read_bytes()
    with pytest.raises(InputError, match="is the checkpoint to convert; name another file"):
        Convert(source=renamed, destination=tmp_path / "." / "demo.safetensors", force=True).run()
    assert renamed.read_bytes() == content
    once, twice = tmp_path / "once.safetensors", tmp_path / "twice.safetensors"
    assert Convert(source=renamed, destination=once).run() == 0
    with pytest.raises(InputError, match=r"once\.safetensors: begins as a converted file does"):
        Convert(source=once, destination=twice).run()
    assert not twice.exists()


def test_a_destination_that_no_file_can_have_is_told(tmp_path, source):
    path = tmp_path / ("x" * 300 + ".safetensors")
    with pytest.raises(InputError) as refused:
        Convert(source=source, destination=path).run()
    assert str(refused.value).startswith(f"cannot write {path}: ")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the administrator may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_told(run, tmp_path, source):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    assert_refused(run(panns_jax_convert, source, folder / "x.safetensors"), "cannot write")


@both_commands
def test_wrong_arguments_end_with_2(run, command, source):
    assert run(command).returncode == 2
    assert run(command, source).returncode == 2
    assert run(command, source, "x.safetensors", "--speed", "9").returncode == 2


def test_the_commands_of_convert_are_listed(run):
    done = run(convert_main, "--help")
    assert done.returncode == 0 and "file " in done.stdout
    assert run(convert_main).stderr.startswith("usage: python -m convert")
    assert_refused(run(convert_main, "fly"), "there is no command 'fly'")


def test_help_imports_neither_jax_nor_safetensors():
    code = (
        "import sys\nfrom panns_jax.cli import main\n"
        "try:\n    main(['convert', '--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit(' '.join({'jax', 'flax', 'safetensors', 'torch'} & sys.modules.keys()) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "DST.safetensors" in done.stdout


def test_the_conversion_of_the_same_file_is_the_same_file(run, tmp_path, source):
    for name in ("a", "b"):
        assert run(convert_file, source, tmp_path / f"{name}.safetensors").returncode == 0
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert np.frombuffer((tmp_path / "a.safetensors").read_bytes()[:8], "<u8")[0] < 100_000
