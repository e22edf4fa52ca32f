"""Log-mel front end, 1 and 8 clips of ten seconds, beside torchlibrosa.

python scripts/bench/bench_frontend.py [--rounds 31] [--json OUT]
"""

import common
import numpy as np


def main() -> None:
    options = common.options(__doc__ or "", rounds=31)
    common.require_peers()
    import jax
    import jax.numpy as jnp
    import torch
    from torchlibrosa.stft import LogmelFilterBank, Spectrogram  # pyright: ignore[reportMissingImports]

    from panns_jax.frontend import FrontendConfig, log_mel

    config = FrontendConfig()
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
    common.print_header("Log-mel front end")
    rows = []
    for count in (1, 8):
        waveform = common.clips(count)
        ours_in, peer_in = jnp.asarray(waveform), torch.from_numpy(waveform)

        def ours(x: jax.Array = ours_in) -> jax.Array:
            return jax.block_until_ready(log_mel(x, config))

        def peer(x: torch.Tensor = peer_in) -> torch.Tensor:
            with torch.no_grad():
                return mel(stft(x))

        expected = peer()[:, 0].numpy()
        difference = float(np.abs(np.asarray(ours()) - expected)[expected > -80].max())
        taken = common.in_turns({"ours": ours, "peer": peer}, options.rounds)
        rows.append(common.Comparison(f"front end, {count} clips", taken["ours"], taken["peer"], difference, "dB"))
        print(rows[-1], flush=True)
    common.write_json(options.json, rows)


if __name__ == "__main__":
    main()
