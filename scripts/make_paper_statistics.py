"""Makes a folder in the shape of the published `paper_statistics`, with generated numbers.

    python scripts/make_paper_statistics.py FOLDER [--evaluations 301] [--figures FOLDER]

The files have the published names, keys and shapes: 301 evaluations, one each 2,000 iterations, of 527 classes. Curves
rise as those of training do, and end near the mAP of the paper's tables; the numbers of single classes are drawn.
`--figures` also draws the paper's figures from them, as the README shows them.
"""

import argparse
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from panns_jax.labels import audioset, audioset_train_clips  # noqa: E402
from panns_jax.plots.finding import LONG_FIGURE_FILE  # noqa: E402
from panns_jax.plots.recipes import published_name  # noqa: E402
from panns_jax.plots.six_figures import PANELS  # noqa: E402

EVALUATIONS = 301
_DPI = {"long-figure": 112}
EVERY = 2000
_CLIPS = np.array(audioset_train_clips())
_CLASSES = len(_CLIPS)
_EASE = np.random.default_rng(0).normal(0, 1, _CLASSES) + 0.25 * np.log10(_CLIPS)
"""How well a class can be learnt, whatever learns it."""
_LONG_FIGURE = {
    "averaging_instance_system_avg_9_probs_from_10000_to_50000_iterations": 0.317,
    "panns_cnn14": 0.431,
    "panns_mobilenetv1": 0.389,
    "panns_wavegram_logmel_cnn14": 0.439,
}


def write_statistics(folder: Path, evaluations: int = EVALUATIONS) -> list[Path]:
    """Writes all files.

    Args:
      folder: is made.
      evaluations: of each series.

    Returns:
      The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    experiments = {wanted.recipe: wanted.paper for panel in PANELS for wanted, _ in panel.wanted}
    files = {published_name(recipe): _experiment(recipe, score, evaluations) for recipe, score in experiments.items()}
    files[LONG_FIGURE_FILE] = _long_figure()
    for name, content in files.items():
        (folder / name).write_bytes(pickle.dumps(content, protocol=4))
    return [folder / name for name in files]


def _experiment(recipe: Any, score: float, evaluations: int) -> dict[str, list[dict[str, Any]]]:
    seed = np.random.default_rng([ord(letter) for letter in published_name(recipe)])
    few = recipe.data == "balanced_train"
    seen = {"none": 0.97, "mixup": 0.80}.get(recipe.mixup, 0.8) if few else 1.48 * score  # of .431, the paper's .637
    return {
        "bal": list(_evaluations(seed, min(seen, 0.98), evaluations, rise=8 if few else 45)),
        "test": list(_evaluations(seed, score, evaluations, rise=6 if few else 30)),
    }


def _evaluations(seed: np.random.Generator, score: float, number: int, *, rise: float) -> Iterator[dict[str, Any]]:
    """Evaluations whose mAP rises to a score; 1/e of the way is left after `rise` of them."""
    ends = _of_mean(score, seed.normal(0, 0.35, _CLASSES))
    rises = rise * seed.lognormal(0, 0.5, _CLASSES)
    wander = np.zeros(_CLASSES)
    for i in range(number):
        wander = 0.9 * wander + seed.normal(0, 0.006, _CLASSES)
        grown = 1 - np.exp(-(i + 0.1) / rises) * (1 - 0.02 * seed.random(_CLASSES))
        precision = np.clip(ends * grown * (1 + wander + seed.normal(0, 0.015, _CLASSES)), 0.0005, 0.9999)
        yield {
            "average_precision": precision,
            "auc": np.clip(0.5 + 0.5 * grown * (0.9 + 0.1 * precision), 0, 1),
            "iteration": EVERY * i,
        }


def _of_mean(score: float, noise: np.ndarray) -> np.ndarray:
    """Average precisions of all classes with this mean, in the order of how easy they are, up to noise."""

    def values(shift: float) -> np.ndarray:
        return 1 / (1 + np.exp(-(1.2 * (_EASE + noise) + shift)))

    low, high = -10.0, 10.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if values(middle).mean() < score else (low, middle)
    return values(low)


def _long_figure() -> dict[str, Any]:
    seed = np.random.default_rng(1)
    balanced = np.minimum(_CLIPS, seed.integers(55, 70, _CLASSES))
    quality = [None if seed.random() < 0.2 else float(min(1.0, seed.beta(6, 1.2))) for _ in range(_CLASSES)]
    systems = {
        name: {
            "eval": {
                "average_precision": _of_mean(score, np.random.default_rng(i).normal(0, 0.3, _CLASSES)),
                "auc": np.full(_CLASSES, 0.97),
            }
        }
        for i, (name, score) in enumerate(_LONG_FIGURE.items())
    }
    return {
        "labels": list(audioset()),
        "label_quality": quality,
        "sorted_indexes_for_plot": np.argsort(-_CLIPS, kind="stable"),
        "official_balanced_training_samples": balanced,
        "official_unbalanced_training_samples": _CLIPS - balanced,
        **systems,
    }


def draw_figures(statistics: Path, figures: Path) -> None:
    """Draws the paper's figures from a folder of statistics, in few colours, as a README needs no more."""
    from panns_jax.cli import main

    figures.mkdir(parents=True, exist_ok=True)
    for name in ("classwise-iteration-map", "six-figures", "complexity-map", "long-figure"):
        out = figures / f"{name}.png"
        try:
            main(["plot", name, str(statistics), "--out", str(out), "--dpi", str(_DPI.get(name, 150))])
        except SystemExit as end:
            if end.code:
                raise
        _reduce(out, colours=64 if name in _DPI else 255)


def _reduce(path: Path, colours: int) -> None:
    from PIL import Image

    with Image.open(path) as image:
        reduced = image.convert("RGB").quantize(colours, method=Image.Quantize.MAXCOVERAGE)
    reduced.save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the files are written")
    parser.add_argument("--evaluations", type=int, default=EVALUATIONS, help="of each series")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="also draw the figures there")
    options = parser.parse_args()
    written = write_statistics(options.folder, options.evaluations)
    print(f"{options.folder}: {len(written)} files, {sum(path.stat().st_size for path in written) / 1e6:.0f} MB")
    if options.figures:
        draw_figures(options.folder, options.figures)


if __name__ == "__main__":
    main()
