"""A checkpoint, sound files of all kinds, and the command itself."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import recipe
import soundfile

from panns_jax import cli, load_model
from panns_jax.audio import read_waveform
from panns_jax.infer.heard import Heard

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def checkpoint(demo_checkpoint: Path) -> Path:
    return demo_checkpoint


@pytest.fixture(scope="session")
def by_hand(checkpoint: Path) -> Callable[[Path], Heard]:
    """What the model of the checkpoint makes of a file, without the code of the commands."""
    model: Any = load_model(checkpoint=checkpoint)
    run = jax.jit(model)

    def hear(path: Path) -> Heard:
        waveform = read_waveform(path, model.config.sample_rate)
        missing = max(0, model.config.min_samples - len(waveform))
        output = run(np.pad(waveform, (0, missing))[None])
        return Heard(np.asarray(output.clipwise[0]), np.asarray(output.embedding[0]))

    return hear


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of stereo sound at 44.1 kHz."""
    file = tmp_path_factory.mktemp("sound") / "sound.wav"
    soundfile.write(file, recipe.waveform(2, 44100, 44100, 3).T, 44100)
    return file


@pytest.fixture
def main(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs `panns-jax` in this process."""

    def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit:
            cli.main([str(argument) for argument in arguments])
        assert isinstance(exit.value.code, int)
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess("panns-jax", exit.value.code, out, err)

    return run


@pytest.fixture(scope="session")
def command() -> Command:
    """The same in a process of its own, where warnings are errors."""

    def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
        program = [sys.executable, "-m", "panns_jax", *map(str, arguments)]
        environment = {**os.environ, "PYTHONWARNINGS": "error"}
        return subprocess.run(program, capture_output=True, text=True, env=environment, timeout=120)

    return run
