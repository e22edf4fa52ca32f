"""Log-mel front end, 1 and 8 clips of ten seconds, beside torchlibrosa and beside torch.stft and a matrix product.

python scripts/bench/bench_frontend.py [--rounds 31] [--json FILE] [--no-tune]

torchlibrosa's is the published models' front end, a convolution; torch.stft is what PyTorch does fastest.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import common
import machine
import table
import turns

if TYPE_CHECKING:
    import numpy as np

    from panns_jax.frontend import FrontendConfig

_THEIRS, _FASTEST = "torchlibrosa", "torch.stft"
_AIMS = {(table.OURS, _THEIRS): 0.20, (table.OURS, _FASTEST): 1.0}
# What is quieter is rounding, which no two of them share.
_QUIET = -80.0

Run = Callable[[], "np.ndarray"]
"""Computes the front end once; returns decibels (batch, frames, mels)."""


def main() -> None:
    parser = common.parser(__doc__ or "", rounds=31)
    common.add_no_tune(parser)
    options = parser.parse_args()
    tuned = common.tune(options)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before JAX is imported
    common.require("torch", "librosa", "torchlibrosa")
    from panns_jax.frontend import FrontendConfig

    described = machine.describe(tuned=tuned)
    machine.print_header("Log-mel front end", described)
    rows: list[table.Row] = []
    compared: list[table.Ratio] = []
    for batch in (1, 8):
        of_batch = _compare(common.clips(batch), FrontendConfig(), options.rounds)
        beside = table.ratios(of_batch, _AIMS)
        print(table.table(of_batch, beside), flush=True)
        rows, compared = rows + of_batch, compared + beside
    print(table.summary(compared))
    table.write_json(options.json, described, rows, compared)


def _compare(waveform: "np.ndarray", config: "FrontendConfig", rounds: int) -> list[table.Row]:
    sides = {
        table.OURS: _ours(waveform, config),
        _THEIRS: _by_torchlibrosa(waveform, config),
        _FASTEST: _by_torch_stft(waveform, config),
    }
    expected = sides[_THEIRS]()
    audible = expected > _QUIET
    differences = {
        name: None if name == _THEIRS else float(abs(run() - expected)[audible].max()) for name, run in sides.items()
    }
    what = f"front end, batch {len(waveform)}, {common.SECONDS} s"
    taken = turns.in_turns(sides, rounds)
    return [table.Row(what, name, timing, differences[name], "dB") for name, timing in taken.items()]


def _ours(waveform: "np.ndarray", config: "FrontendConfig") -> Run:
    import jax
    import jax.numpy as jnp
    import numpy as np

    from panns_jax.frontend import log_mel

    given = jnp.asarray(waveform)
    return lambda: np.asarray(jax.block_until_ready(log_mel(given, config)))


def _by_torchlibrosa(waveform: "np.ndarray", config: "FrontendConfig") -> Run:
    import torch
    from torchlibrosa.stft import LogmelFilterBank, Spectrogram  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(machine.cores())
    stft = Spectrogram(n_fft=config.window_size, hop_length=config.hop_size, win_length=config.window_size)
    mel = LogmelFilterBank(
        sr=config.sample_rate,
        n_fft=config.window_size,
        n_mels=config.mel_bins,
        fmin=config.fmin,
        fmax=config.fmax,
        ref=1.0,
        amin=1e-10,
        top_db=None,  # pyright: ignore[reportArgumentType]
    )
    given = torch.from_numpy(waveform)

    def run() -> "np.ndarray":
        with torch.inference_mode():
            return mel(stft(given))[:, 0].numpy()

    return run


def _by_torch_stft(waveform: "np.ndarray", config: "FrontendConfig") -> Run:
    import torch

    from panns_jax.frontend import MIN_POWER, mel_matrix

    given, window = torch.from_numpy(waveform), torch.hann_window(config.window_size)
    mel = torch.tensor(mel_matrix(config))

    def run() -> "np.ndarray":
        with torch.inference_mode():
            spectrum = torch.stft(given, config.window_size, config.hop_size, window=window, return_complex=True)
            power = spectrum.real.square() + spectrum.imag.square()  # the fastest of several ways
            return (10 * torch.log10((power.transpose(1, 2) @ mel).clamp_(min=MIN_POWER))).numpy()

    return run


if __name__ == "__main__":
    main()
