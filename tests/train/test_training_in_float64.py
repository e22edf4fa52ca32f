"""Training in float64 is the published one up to rounding, also where float32 spreads rounding over the losses.

`training_float64.json` holds what the published PyTorch implementation makes of the weights of seed 1 in float64, front
end included: 4 clips of `samples` samples, without mixup, else as in `training.json`.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recipe
import tolerances
from jaxtyping import Array, Float
from published_training import Training, golden_batch

from panns_jax.frontend import FrontendConfig
from panns_jax.models.registry import model_config

GOLDEN = json.loads((recipe.GOLDEN / "training_float64.json").read_text())
ROWS = 4
STEPS = 4


@pytest.mark.long  # XLA's float64 convolutions on CPUs are slow
@pytest.mark.parametrize("name", GOLDEN)
def test_four_steps_in_float64_are_the_published_ones(name: str, monkeypatch: pytest.MonkeyPatch):
    golden, config = GOLDEN[name], model_config(name)
    # Layers compute in the type of what they get, and models take waveforms as float32.
    monkeypatch.setattr("panns_jax.models.model.checked_waveform", lambda waveform: jnp.asarray(waveform, float))
    monkeypatch.setattr("panns_jax.models.model.log_mel", log_mel_float64)
    with jax.enable_x64(True):
        batch = golden_batch(ROWS, golden["samples"], config.sample_rate, mixup=False)
        run = Training(name, batch, 1e-4, np.float64)
        first = run.step()
        norms = {key: float(np.linalg.norm(first.gradients[key])) for key in golden["grad_norm"]}
        losses = [first.loss]
        for _ in range(1, STEPS):
            run.update()
            losses.append(run.step().loss)
        run.update()
        clipwise = run.clipwise()
    floor = tolerances.FLOAT64_FIRST_STEP * max(golden["grad_norm"].values())
    near = {
        key: pytest.approx(norm, rel=tolerances.FLOAT64_FIRST_STEP, abs=floor)
        for key, norm in golden["grad_norm"].items()
    }
    assert norms == near
    for key, figures in golden["statistics"].items():
        got = [first.statistics[key].mean(), first.statistics[key].std()]
        np.testing.assert_allclose(got, figures, rtol=tolerances.FLOAT64_FIRST_STEP, atol=1e-12, err_msg=key)
    assert losses[0] == pytest.approx(golden["losses"][0], rel=tolerances.FLOAT64_FIRST_STEP)
    np.testing.assert_allclose(losses, golden["losses"], rtol=tolerances.FLOAT64_LATER_STEPS)
    figures = [clipwise.mean(), clipwise.std()]
    np.testing.assert_allclose(figures, golden["eval_after_4"], rtol=tolerances.FLOAT64_LATER_STEPS)


def log_mel_float64(
    waveform: Float[Array, "batch samples"], config: FrontendConfig, lengths: None
) -> Float[Array, "batch frames mels"]:
    """The front end, which the package never takes beyond float32."""
    size = config.window_size
    padded = jnp.pad(waveform.astype(float), ((0, 0), (size // 2, size // 2)), mode="reflect")
    starts = np.arange(config.frames(waveform.shape[1])) * config.hop_size
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    spectrum = jnp.fft.rfft(padded[:, starts[:, None] + np.arange(size)] * hann)
    settings = {key: getattr(config, key) for key in ("sample_rate", "hop_size", "mel_bins", "fmin", "fmax")}
    stored = recipe.frontend_buffers(window_size=size, **settings)["logmel_extractor.melW"].astype(float)
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    mel = jnp.matmul(power, stored, precision=jax.lax.Precision.HIGHEST)
    return 10 * jnp.log10(jnp.maximum(mel, 1e-10))
