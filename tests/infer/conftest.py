"""A converted checkpoint, sound files of all kinds, and the command itself."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import recipe
from flax import nnx

from panns_jax import cli
from panns_jax.models.registry import create_model
from panns_jax.pretrained.native import Provenance, write_native

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model as `panns-jax convert` writes it, with weights that answer differently to different sounds."""
    model: Any = create_model("DemoCnn", rngs=nnx.Rngs(0))
    for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.BatchStat)):
        leaf.set_value(jnp.full(leaf.shape, 0.0 if path[-1] == "mean" else 0.3))
    model.bn0.mean.set_value(jnp.full(64, -30.0))
    model.bn0.var.set_value(jnp.full(64, 200.0))
    arrays = {".".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(nnx.state(model))}
    file = tmp_path_factory.mktemp("checkpoint") / "demo.safetensors"
    write_native(file, model.config, arrays, Provenance(file="demo.pth", sha256="0" * 64, licence="MIT"))
    return file


@pytest.fixture(scope="session")
def command() -> Command:
    """Runs `panns-jax` in a process of its own."""

    def run(*arguments: object, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        program = [sys.executable, "-m", "panns_jax", *map(str, arguments)]
        environment = {**os.environ, "PYTHONWARNINGS": "error"}
        return subprocess.run(program, capture_output=True, text=True, cwd=cwd, env=environment, timeout=120)

    return run


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of stereo sound at 44.1 kHz."""
    soundfile = pytest.importorskip("soundfile")
    file = tmp_path_factory.mktemp("sound") / "sound.wav"
    soundfile.write(file, recipe.waveform(2, 44100, 44100, 3).T, 44100)
    return file


@pytest.fixture
def main(capfd: pytest.CaptureFixture[str]) -> Command:
    """The same in this process, for the many cases that differ in an argument only."""

    def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit:
            cli.main([str(argument) for argument in arguments])
        assert isinstance(exit.value.code, int)
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess("panns-jax", exit.value.code, out, err)

    return run
