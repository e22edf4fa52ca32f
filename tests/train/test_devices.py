"""Eight simulated devices take the step of one."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import pytest

from panns_jax.train.step import data_mesh, own_rows

# In a process of its own, as the number of devices is settled once.
STEPS = """
    import sys
    import jax
    import numpy as np
    import optax
    from small_models import SMALL
    from panns_jax.train.losses import clip_bce
    from panns_jax.train.step import architecture, data_mesh, initial_state, make_train_step, place

    config = SMALL[sys.argv[1]]
    rng = np.random.default_rng(0)
    batch = {
        "waveform": rng.integers(-20000, 20000, (16, 4000)).astype(np.int16),
        "target": (rng.random((16, 5)) < 0.3).astype(np.float32),
    }
    ends = []
    for devices in (1, 8):
        mesh = data_mesh(jax.devices()[:devices])
        assert mesh.size == devices
        optimizer = optax.sgd(0.1)  # Adam makes as much of a gradient that is 0 but for rounding as of any other
        step = make_train_step(architecture(config), optimizer, mesh, loss=clip_bce, mixup=True, seed=7)
        state, report = step(initial_state(config, optimizer, mesh, seed=0), place(batch, mesh))
        ends.append(jax.tree.leaves((state.params, state.batch_stats, report)))
    for ours, theirs in zip(*ends, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
"""


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("cnn", marks=pytest.mark.slow),
        pytest.param("mobilenet2", marks=pytest.mark.long),
        pytest.param("wavegram-logmel", marks=pytest.mark.long),
    ],
)
def test_eight_devices_take_the_step_of_one(tmp_path, model):
    script = tmp_path / "steps.py"
    script.write_text(textwrap.dedent(STEPS))
    tests = Path(__file__).parents[1]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests), os.environ.get("PYTHONPATH", "")]),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    }
    done = subprocess.run([sys.executable, script, model], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_process_alone_reads_all_rows():
    assert own_rows(16, data_mesh()) == slice(0, 16)
    assert own_rows(16, data_mesh(jax.devices()[:1])) == slice(0, 16)
