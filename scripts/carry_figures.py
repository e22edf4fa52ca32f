"""Takes the published figures that the package carries (`convert/figures.npz`) from the tests' golden files.

    python scripts/carry_figures.py

They are what `python -m convert verify` holds an installation to, where the tests are not at hand.
"""

import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
sys.path.insert(0, str(ROOT))

from convert.installation import FIGURES, FRONTENDS, SAMPLED, SECONDS, first_draws  # noqa: E402


def carried_figures() -> dict[str, np.ndarray]:
    """All arrays of the file: "MODEL/clipwise" and so on, "MODEL/logmel", "MODEL/last_scale" and "draws"."""
    figures = {"draws": first_draws()}
    with np.load(GOLDEN / "frontend.npz") as golden:
        for name in FRONTENDS:
            figures[f"{name}/logmel"] = golden[f"{name}_logmel"][SAMPLED["logmel"]]
    for name, row in json.loads((GOLDEN / "manifest.json").read_text()).items():
        figures[f"{name}/last_scale"] = np.asarray(row["last_scale"])
        with np.load(GOLDEN / "published" / f"{name}.npz") as golden:
            for field, ours, sample in (
                ("clipwise_output", "clipwise", SAMPLED["clipwise"]),
                ("embedding", "embedding", SAMPLED["embedding"]),
                ("framewise_every_32", "framewise", np.s_[:, :, SAMPLED["framewise"][2]]),
            ):
                if (key := f"{SECONDS}s_{field}") in golden:
                    figures[f"{name}/{ours}"] = golden[key][sample]
    return figures


def main() -> None:
    np.savez_compressed(FIGURES, **carried_figures())  # pyright: ignore[reportArgumentType]
    print(f"{FIGURES}: {FIGURES.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
