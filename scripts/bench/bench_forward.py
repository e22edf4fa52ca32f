"""Cnn14 from waveforms to probabilities, batches of 1 and 8 clips of ten seconds, beside panns_inference.

python scripts/bench/bench_forward.py [--rounds 7] [--json OUT]
"""

import tempfile
from pathlib import Path

import common
import numpy as np


def main() -> None:
    options = common.options(__doc__ or "")
    common.require_peers()
    import jax
    import jax.numpy as jnp
    import torch
    from flax import nnx

    from panns_jax import load_model
    from panns_jax.models.config import Output

    with tempfile.TemporaryDirectory() as folder:
        models = common.peer_models(Path(folder))
        checkpoint = Path(folder) / "Cnn14.pth"
        common.write_checkpoint(checkpoint)
        theirs = models.Cnn14(
            sample_rate=32000, window_size=1024, hop_size=320, mel_bins=64, fmin=50, fmax=14000, classes_num=527
        )
        theirs.load_state_dict(torch.load(checkpoint)["model"])
        theirs.eval()
        graph, state = nnx.split(load_model("Cnn14", checkpoint=checkpoint))
        jitted = jax.jit(lambda state, waveform: nnx.merge(graph, state)(waveform))

        common.print_header("Cnn14, waveform to probabilities and embedding")
        rows = []
        for count in (1, 8):
            waveform = common.clips(count)
            ours_in, peer_in = jnp.asarray(waveform), torch.from_numpy(waveform)

            def ours(x: jax.Array = ours_in) -> Output:
                return jax.block_until_ready(jitted(state, x))

            def peer(x: torch.Tensor = peer_in) -> dict[str, torch.Tensor]:
                with torch.no_grad():
                    return theirs(x, None)

            difference = float(np.abs(np.asarray(ours().clipwise) - peer()["clipwise_output"].numpy()).max())
            taken = common.in_turns({"ours": ours, "peer": peer}, options.rounds)
            what = f"Cnn14 forward, batch {count}"
            rows.append(common.Comparison(what, taken["ours"], taken["peer"], difference, "probability"))
            print(rows[-1], flush=True)
    common.write_json(options.json, rows)


if __name__ == "__main__":
    main()
