"""The demo itself, run by demo.py in the environment that it has set up: the project's commands, one after another."""

import argparse
import dataclasses
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
CLIP_SECONDS = 2


class DemoError(Exception):
    """The demo cannot go on; the message is one sentence for whoever started it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What demo.py was asked for."""

    folder: Path
    clips: int
    iterations: int
    seed: int
    shuffle_labels: bool
    fresh: bool


def parse(arguments: Sequence[str]) -> Options:
    """Reads the options; ends the program where they are wrong (exit code 2) or ask for help."""
    about = "Trains a small model on a synthesised corpus, scores it on clips never trained on, and tags one of them."
    parser = argparse.ArgumentParser(prog="demo.py", description=about, allow_abbrev=False)
    add = parser.add_argument
    add("--folder", type=Path, default=HERE.parent / "demo", help="where everything is kept (default: %(default)s)")
    add(
        "--clips",
        type=_at_least(12),
        default=1500,
        help="clips to train on; a quarter as many to score on (default: %(default)s)",
    )
    # The preset's warm-up takes 30 of them.
    add("--iterations", type=_at_least(31), default=900, help="steps of training (default: %(default)s)")
    add("--seed", type=_at_least(0), default=0, help="of the corpus and of the training (default: %(default)s)")
    add("--shuffle-labels", action="store_true", help="hand the labels of the training clips round: nothing to learn")
    add("--fresh", action="store_true", help="replace what an earlier demo left in the folder")
    return Options(**vars(parser.parse_args(arguments)))


def run(options: Options) -> None:
    """Runs the demo, using what an earlier one has completed in the same folder.

    Raises:
      DemoError: a command failed, or the folder is not the demo's to use.
    """
    folder, started = options.folder, time.monotonic()
    _claim(options)
    _synthesise(options)
    workspace = folder / "workspace"
    for split in ("balanced_train", "eval"):
        _pack_and_index(folder, workspace, split)
    checkpoint = _train(options, workspace)
    scores = _command(
        ["panns-jax", "evaluate", "--checkpoint", checkpoint, "--index", workspace / "hdf5s" / "indexes" / "eval.h5"]
    )
    _hear_one(folder, checkpoint)
    print(f"\nDone in {time.monotonic() - started:.0f} s. The checkpoint takes any sound file, such as one of yours:")
    print(f"  {_shown([_program('panns-jax'), 'tag', 'FILE', '--checkpoint', checkpoint])}")
    print(f"chance mAP {_chance(folder):.3f}")
    print(f"test mAP {_figure(scores, 'mAP'):.3f}", flush=True)


def main() -> None:
    """Runs the demo for the program's arguments and exits: 0 done, 2 cannot go on, 130 interrupted."""
    options = parse(sys.argv[1:])
    try:
        run(options)
    except DemoError as error:
        print(f"demo.py: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("demo.py: interrupted; start it again to go on", file=sys.stderr)
        sys.exit(130)


def _claim(options: Options) -> None:
    """Takes the folder, or goes on in it where an earlier demo had the same corpus."""
    folder, note = options.folder, options.folder / "demo.json"
    corpus = {"clips": options.clips, "seed": options.seed, "shuffle_labels": options.shuffle_labels}
    # Without these files' content, a corpus of older code would pass for one of today's.
    recipe = b"".join((HERE / name).read_bytes() for name in ("demo_corpus.py", "demo_sounds.py"))
    told = {**corpus, "recipe": hashlib.sha256(recipe).hexdigest()}
    earlier = _read_note(note)
    if earlier is None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DemoError(f"--folder {folder} holds something else; name an empty or new folder")
    if earlier and options.fresh:
        for name in ("audios", "metadata", "workspace"):
            shutil.rmtree(folder / name, ignore_errors=True)
    elif earlier and earlier != told:
        was = ", ".join(f"{name} {earlier.get(name)}" for name in told if earlier.get(name) != told[name])
        raise DemoError(f"{folder} holds a demo with other settings ({was}); give --fresh to replace it, or a --folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(told, indent=1), encoding="utf-8")
    except OSError as error:
        raise DemoError(f"cannot write in --folder {folder}: {error.strerror}") from error


def _read_note(note: Path) -> dict[str, object] | None:
    try:
        read = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return read if isinstance(read, dict) else None


def _synthesise(options: Options) -> None:
    from demo_corpus import CLASSES, write_split

    from panns_jax.execute import available_workers

    print(f"A corpus of {len(CLASSES)} classes of AudioSet: {'; '.join(CLASSES)}")
    for split, clips in (("balanced_train", options.clips), ("eval", max(options.clips // 4, len(CLASSES)))):
        if (options.folder / "metadata" / f"{split}_segments.csv").exists():
            print(f"{split}: {clips} clips are there already")
            continue
        print(f"{split}: {clips} clips", flush=True)
        write_split(
            options.folder,
            split,
            clips,
            options.seed,
            shuffle_labels=options.shuffle_labels and split == "balanced_train",
            workers=available_workers(),
        )


def _pack_and_index(folder: Path, workspace: Path, split: str) -> None:
    waveforms, index = (workspace / "hdf5s" / kind / f"{split}.h5" for kind in ("waveforms", "indexes"))
    for path in (waveforms, index):
        path.parent.mkdir(parents=True, exist_ok=True)
    if not waveforms.exists():
        segments, audios = folder / "metadata" / f"{split}_segments.csv", folder / "audios" / f"{split}_segments"
        command = ["panns-jax", "pack", "--csv", segments, "--audios", audios, "--out", waveforms]
        _command([*command, "--clip-seconds", CLIP_SECONDS])
    if not index.exists():
        _command(["panns-jax", "index", waveforms, "--out", index])


def _train(options: Options, workspace: Path) -> Path:
    """Trains, or goes on to train; returns the run's folder of checkpoints."""
    command = ["python", "-m", "panns_jax.train", "--config", "demo", "--workspace", workspace]
    command += ["--balanced", "balanced", "--augmentation", "mixup", "--seed", options.seed]
    _command([*command, "--early-stop", options.iterations, "--evaluate-every", options.iterations])
    return max((workspace / "checkpoints").glob("*/config.json"), key=lambda path: path.stat().st_mtime).parent


def _hear_one(folder: Path, checkpoint: Path) -> None:
    """Tags and embeds a clip that was never trained on, one with several labels."""
    from panns_jax.data.metadata import read_segments
    from panns_jax.labels import audioset

    segments = read_segments(folder / "metadata" / "eval_segments.csv")
    clip = max(segments[:20], key=lambda segment: len(segment.labels))
    path = folder / "audios" / "eval_segments" / f"Y{clip.clip_id}.wav"
    print(f"\nA clip never trained on; what is in it: {'; '.join(audioset()[i] for i in clip.labels)}")
    _command(["panns-jax", "tag", path, "--checkpoint", checkpoint, "--top", 5])
    _command(["panns-jax", "embed", path, "--checkpoint", checkpoint, "--out", folder / "embedding.h5"])


def _chance(folder: Path) -> float:
    """What random scores reach as mAP on the evaluation clips: the mean share of clips that carry a class."""
    from panns_jax.data.metadata import read_segments, segment_targets
    from panns_jax.labels import audioset

    targets = segment_targets(read_segments(folder / "metadata" / "eval_segments.csv"), len(audioset()))
    return float(targets.mean(axis=0)[targets.any(axis=0)].mean())


def _command(command: Sequence[str | Path | float]) -> str:
    """Shows a command, runs it, passes on what it prints; returns that.

    Raises:
      DemoError: it failed; it has said why on standard error.
    """
    words = [str(word) for word in command]
    print(f"\n$ {_shown(command)}", flush=True)
    variables = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    child = subprocess.Popen(
        [_program(words[0]), *words[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env=variables,
    )
    try:
        assert child.stdout is not None
        lines = []
        for line in child.stdout:
            print(line, end="", flush=True)
            lines.append(line)
        code = child.wait()
    except KeyboardInterrupt:
        child.wait()  # it has had Ctrl-C too, and may have something to save
        raise
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise DemoError(f"{words[0]} {words[1]} ended with exit code {code}")
    return "".join(lines)


def _program(name: str) -> str:
    """A program of this environment."""
    if name == "python":
        return sys.executable
    return str(Path(sys.executable).parent / (f"{name}.exe" if os.name == "nt" else name))


def _shown(command: Sequence[str | Path | float]) -> str:
    """The command as one would type it here."""
    words = [_relative(str(word)) for word in command]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def _relative(word: str) -> str:
    path = Path(word)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else word


def _figure(scores: str, name: str) -> float:
    found = re.search(rf"^{name} (\d\.\d+)$", scores, re.MULTILINE)
    if not found:
        raise DemoError(f"panns-jax evaluate printed no {name}")
    return float(found[1])


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    return number


if __name__ == "__main__":
    main()
