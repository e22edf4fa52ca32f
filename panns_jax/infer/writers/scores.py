"""Scores over time as sed_scores_eval reads them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from panns_jax.errors import InputError
from panns_jax.infer.score_track import ScoreTrack
from panns_jax.infer.writers.audacity import one_cell
from panns_jax.infer.writers.destination import encodable, writing_text


def write_scores(path: Path, track: ScoreTrack, labels: Sequence[str]) -> None:
    """Writes the scores of a recording, with tabs between: a row per time step, with onset, offset and every class.

    Args:
      path: the file, which is named after the recording: FOLDER/NAME.tsv.
      track: the scores; all classes of them are written.
      labels: names of the classes, the columns' headings.

    Raises:
      InputError: the file cannot be written.
    """
    # A step begins exactly where the one before it ends, to the last digit: sed_scores_eval asks for that.
    bounds = [f"{time:.6f}" for time in (*track.onsets, track.duration)]
    with writing_text(path) as stream:
        stream.write("\t".join(["onset", "offset", *map(one_cell, labels)]) + "\n")
        for step, scores in enumerate(track.scores.astype(np.float32)):
            # The fewest digits that read back as the same float32.
            stream.write("\t".join([*bounds[step : step + 2], *map(str, scores)]) + "\n")


def score_paths(folder: Path, sounds: Sequence[str]) -> dict[str, Path]:
    """A file in the folder for each sound, named as the sound is, without its ending: so evaluation looks for it.

    Raises:
      InputError: two sounds would have the same.
    """
    paths = {sound: folder / f"{encodable(Path(sound).stem)}.tsv" for sound in sounds}
    owners: dict[Path, str] = {}
    for sound, path in paths.items():
        if path in owners:
            raise InputError(
                f"{owners[path]} and {sound} would both have the scores {path.name}: score tables are named after the"
                " recordings alone; take folders one by one"
            )
        owners[path] = sound
    return paths
