"""What the benchmarks share: options, the weights and clips of the tests, and what has to be installed."""

import argparse
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

SAMPLE_RATE = 32000
SECONDS = 10

# Where the name to install differs from the name to import.
_INSTALLED_AS = {"panns_inference": "panns-inference"}


def parser(description: str, *, rounds: int = 7) -> argparse.ArgumentParser:
    """Reads `--rounds`, of which `rounds` is the default, and `--json`."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=at_least_one, default=rounds, help="turns of each side (%(default)s)")
    made.add_argument("--json", type=new_file, metavar="FILE", help="also write the figures to this file")
    return made


def add_no_tune(made: argparse.ArgumentParser) -> None:
    """Adds `--no-tune`."""
    made.add_argument("--no-tune", action="store_true", help="leave the memory allocator as it is, for all engines")


def tune(options: argparse.Namespace) -> bool:
    """Sets the allocator, unless told not to: first thing, before any engine starts its threads.

    Returns:
      Whether it was set.
    """
    if options.no_tune:
        return False
    import panns_jax

    return bool(panns_jax.tune_process())


def installed(*modules: str) -> bool:
    return not missing(modules)


def require(*modules: str) -> None:
    """Ends with the line that installs what is missing."""
    if absent := missing(modules):
        names = [_INSTALLED_AS.get(name, name) for name in absent]
        print(f"{', '.join(absent)} not installed: pip install {' '.join(names)}", file=sys.stderr)
        sys.exit(2)


def clips(batch: int, seconds: float = SECONDS, sample_rate: int = SAMPLE_RATE) -> "np.ndarray":
    """(batch, samples) float32 in [-1, 1], the same each time."""
    from convert.recipe import waveform

    return waveform(batch, round(seconds * sample_rate), sample_rate, 1)


def weights(model: str) -> "dict[str, np.ndarray]":
    """Reproducible random weights under the published names; not to be written to."""
    import recipe  # pyright: ignore[reportMissingImports]

    return recipe.checkpoint(model, 1)


def write_checkpoint(weights: "Mapping[str, np.ndarray]", path: Path) -> None:
    """Writes a checkpoint as the models' authors released theirs."""
    import numpy as np
    import torch

    tensors = {name: torch.from_numpy(np.asarray(array)) for name, array in weights.items()}
    torch.save({"iteration": 1, "model": tensors}, path)


def missing(modules: Sequence[str]) -> list[str]:
    """Those that cannot be imported."""
    return [name for name in modules if importlib.util.find_spec(name) is None]


def new_file(text: str) -> Path:
    """An option's file to write, whose folder is there: better told now than after the measurement."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}")
    return path


def at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number
