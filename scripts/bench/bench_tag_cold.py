"""Cold start: a process that tags one clip of ten seconds with Cnn14, beside one that uses panns_inference.

python scripts/bench/bench_tag_cold.py [--rounds 7] [--json OUT]

Ours is `panns-jax tag` with a converted checkpoint, theirs the example of panns_inference's documentation. Files are in
the system's cache for both; our program was compiled at an earlier start, and is read from the cache folder.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import common

PEER = """
import sys
import librosa, numpy as np
from panns_inference import AudioTagging, labels

checkpoint, clip = sys.argv[1:]
audio, _ = librosa.load(clip, sr=32000, mono=True)
clipwise, embedding = AudioTagging(checkpoint_path=checkpoint, device="cpu").inference(audio[None])
for i in np.argsort(-clipwise[0])[:10]:
    print(f"{labels[i]}: {clipwise[0][i]:.3f}")
print(f"embedding: {embedding[0].shape}")
"""


def main() -> None:
    options = common.options(__doc__ or "")
    common.require_peers()
    import soundfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        common.peer_home(folder)
        published, converted, clip = folder / "Cnn14.pth", folder / "Cnn14.safetensors", folder / "clip.wav"
        common.write_checkpoint(published)
        soundfile.write(clip, common.clips(1)[0], common.SAMPLE_RATE)
        environment = {
            **os.environ,
            "HOME": str(folder),
            "USERPROFILE": str(folder),
            "PYTHONPATH": os.pathsep.join([str(common.ROOT), os.environ.get("PYTHONPATH", "")]),
        }

        def run(*arguments: str | Path) -> list[str]:
            done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            return [line for line in done.stdout.splitlines() if line.count(": ") and line[-1] in "0123456789)"]

        run("-m", "panns_jax", "convert", published, converted, "--model", "Cnn14")
        sides = {
            "ours": lambda: run("-m", "panns_jax", "tag", clip, "--checkpoint", converted),
            "peer": lambda: run("-c", PEER, published, clip),
        }
        common.print_header("Cold start of tagging one clip with Cnn14")
        ours, peer = (dict(line.rsplit(": ", 1) for line in sides[side]()) for side in ("ours", "peer"))
        if list(ours) != list(peer) or ours.pop("embedding") != peer.pop("embedding"):
            sys.exit(f"the two disagree: {ours} {peer}")
        difference = max(abs(float(ours[label]) - float(peer[label])) for label in ours)
        taken = common.in_turns(sides, options.rounds, warm_up=0)
        row = common.Comparison(
            "tag, cold start", taken["ours"], taken["peer"], difference, "probability (of 3 digits)"
        )
        print(row, flush=True)
    common.write_json(options.json, [row])


if __name__ == "__main__":
    main()
