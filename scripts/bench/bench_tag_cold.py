"""Cold start: a process that tags one clip of ten seconds with Cnn14, beside one that uses panns_inference.

python scripts/bench/bench_tag_cold.py [--rounds 7] [--json FILE]

Ours is `panns-jax tag` with a converted checkpoint, theirs the example of panns_inference's documentation. Files are in
the system's cache for both; each has the allocator as it sets it. Our program is compiled at the first start, and read
from the cache folder at later ones.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import common
import machine
import table
import turns

_MODEL = "Cnn14"
_PEER = "panns_inference"
_FIRST = f"{table.OURS}, first start"
_AIMS = {(table.OURS, _PEER): 0.4, (_FIRST, _PEER): 0.6}

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
    options = common.parser(__doc__ or "").parse_args()
    common.require("torch", "torchlibrosa", "panns_inference", "librosa", "matplotlib")
    import soundfile

    described = {**machine.describe(tuned=False), "allocator": "each process's own"}
    machine.print_header(f"Cold start of tagging one clip with {_MODEL}", described)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_labels(folder)
        published, converted, clip = folder / f"{_MODEL}.pth", folder / f"{_MODEL}.safetensors", folder / "clip.wav"
        common.write_checkpoint(common.weights(_MODEL), published)
        soundfile.write(clip, common.clips(1)[0], common.SAMPLE_RATE)
        environment = {
            **os.environ,
            "HOME": str(folder),
            "USERPROFILE": str(folder),
            "PYTHONPATH": os.pathsep.join([str(common.ROOT), os.environ.get("PYTHONPATH", "")]),
        }

        def run(*arguments: str | Path, **variables: str) -> list[str]:
            done = subprocess.run(
                [sys.executable, *arguments], env={**environment, **variables}, capture_output=True, text=True
            )
            if done.returncode:
                sys.exit(done.stderr)
            return [line for line in done.stdout.splitlines() if line.count(": ") and line[-1] in "0123456789)"]

        run("-m", "panns_jax", "convert", published, converted, "--model", _MODEL)
        tag = ("-m", "panns_jax", "tag", clip, "--checkpoint", converted)
        sides = {
            table.OURS: lambda: run(*tag),
            _FIRST: lambda: run(*tag, PANNS_JAX_CACHE=tempfile.mkdtemp(dir=folder)),
            _PEER: lambda: run("-c", PEER, published, clip),
        }
        ours, _, peer = (dict(line.rsplit(": ", 1) for line in side()) for side in sides.values())
        if list(ours) != list(peer) or ours.pop("embedding") != peer.pop("embedding"):
            sys.exit(f"the two disagree: {ours} {peer}")
        difference = max(abs(float(ours[label]) - float(peer[label])) for label in ours)
        # The page faults of other processes are not counted.
        taken = {
            name: turns.Timing(timing.seconds)
            for name, timing in turns.in_turns(sides, options.rounds, warm_up=0).items()
        }
    differences = {table.OURS: difference, _FIRST: difference, _PEER: None}
    rows = [
        table.Row("tag, cold start", name, timing, differences[name], "of 3 digits") for name, timing in taken.items()
    ]
    compared = table.ratios(rows, _AIMS)
    print(table.table(rows, compared), flush=True)
    table.write_json(options.json, described, rows, compared)


def write_labels(home: Path) -> None:
    """The labels where importing panns_inference looks for them; it would download them otherwise."""
    from panns_jax.labels import audioset

    data = home / "panns_data"
    data.mkdir()
    labels = audioset()
    lines = [f'{i},{labels.ids[i]},"{labels.names[i]}"' for i in range(len(labels))]
    (data / "class_labels_indices.csv").write_text("\n".join(["index,mid,display_name", *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
