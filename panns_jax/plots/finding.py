"""From the paths that are typed to the statistics that lie there: published files, and runs of ours in workspaces."""

import difflib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from panns_jax.errors import InputError
from panns_jax.plots.recipes import published_recipe, recipe_of_run
from panns_jax.plots.series import StatisticsFile
from panns_jax.train.runs import Run

PUBLISHED_FOLDER = "paper_statistics"
LONG_FIGURE_FILE = "stats_for_long_fig.pkl"
_OF_RUNS = ("statistics", "checkpoints", "logs")
"""Folders of a workspace that have a folder for each run."""
_NUMBERS = ("sample_rate", "hop_size", "mel_bins", "batch_size")


def find_statistics(paths: Sequence[Path]) -> list[StatisticsFile]:
    """All statistics at the paths, in their order; of the runs of a workspace, the newest first.

    Args:
      paths: each a published folder (or one that holds it under its name), a workspace, a run's folder in a workspace,
        or a file.

    Raises:
      InputError: there is nothing of the kind.
    """
    found = [file for path in paths for file in _at(path)]
    return list({file.path.absolute(): file for file in found}.values())


def find_long_figure_file(paths: Sequence[Path]) -> Path | None:
    """The published file of the long figure, if one of the paths is it or has it."""
    for path in paths:
        for place in (path, path / LONG_FIGURE_FILE, path / PUBLISHED_FOLDER / LONG_FIGURE_FILE):
            if place.name == LONG_FIGURE_FILE and place.is_file():
                return place
    return None


def one_run(path: Path, option: str) -> StatisticsFile:
    """The only statistics at a path.

    Raises:
      InputError: there are none, or several.
    """
    found = find_statistics([path])
    if len(found) != 1:
        names = ", ".join(file.name for file in found[:10])
        raise InputError(f"{option} {path}: holds the statistics of several runs; name one of them: {names}")
    return found[0]


def saved_options(run: Run) -> dict[str, Any]:
    """The options that a run was started with; none where they are not there or cannot be read."""
    try:
        return run.saved_options() or {}
    except InputError:  # scores can be drawn without
        return {}


def _at(path: Path) -> Iterator[StatisticsFile]:
    if path.is_file():
        if path.name != LONG_FIGURE_FILE:
            yield _file(path)
        return
    if not path.is_dir():
        raise InputError(f"{path}: there is no such file or folder{_nearest(path)}")
    folders = [folder for folder in (path, path / PUBLISHED_FOLDER) if _is_published(folder)]
    for folder in folders:
        yield from map(_file, sorted(folder.glob("statistics_*.pkl")))
    runs = list(_runs(path))
    yield from map(_of_run, runs)
    others = sorted(path.glob("**/batch_size=*/statistics.pkl"))
    yield from map(_of_published_trainer, others)
    if folders or runs or others:
        return
    if own := next((path / name for name in ("statistics.npz", "statistics.pkl") if (path / name).is_file()), None):
        yield StatisticsFile(path.name, own)
        return
    raise InputError(
        f"{path}: holds no statistics; name the published folder {PUBLISHED_FOLDER}, a workspace, a run's folder in it,"
        " or a file"
    )


def _file(path: Path) -> StatisticsFile:
    if path.suffix not in (".pkl", ".npz"):
        unpack = f"; unpack it, and name the folder {PUBLISHED_FOLDER}" if path.suffix == ".zip" else ""
        raise InputError(f"{path}: is no file of statistics, which ends in .pkl or .npz{unpack}")
    run = _run_of(path.parent) if path.stem == "statistics" else None
    if run is not None:
        return StatisticsFile(run.name, path, recipe_of_run(saved_options(run)), run)
    recipe = published_recipe(path.name)
    return StatisticsFile(path.stem if recipe is None else f"{recipe} (published)", path, recipe)


def _of_run(run: Run) -> StatisticsFile:
    path = run.statistics / "statistics.npz"
    pickled = path.with_suffix(".pkl")
    place = pickled if pickled.exists() and not path.exists() else path
    return StatisticsFile(run.name, place, recipe_of_run(saved_options(run)), run)


def _of_published_trainer(path: Path) -> StatisticsFile:
    """A file that the published trainer left, whose options are told by the folders that it lies in."""
    parts = path.parts[:-1]
    told = dict(option.split("=", 1) for part in parts for option in part.split(",") if "=" in option)
    model = next((after for part, after in itertools.pairwise(parts) if part.startswith("data_type=")), "")
    options: dict[str, Any] = {"model_type": model, **told}
    options.update({name: int(told[name]) for name in _NUMBERS if told.get(name, "").isdecimal()})
    recipe = recipe_of_run(options)
    return StatisticsFile(str(recipe or path.parent), path, recipe)


def _runs(path: Path) -> Iterator[Run]:
    """The run of a run's folder, or all runs of a workspace, which last were worked on first."""
    if (run := _run_of(path)) is not None:
        yield run
        return
    names = {folder.name for root in _OF_RUNS for folder in (path / root).glob("*") if _has_run(path, folder.name)}
    yield from sorted((Run(path, name) for name in names), key=lambda run: (-_worked_on(run), run.name))


def _run_of(folder: Path) -> Run | None:
    folder = folder.absolute()
    workspace = folder.parent.parent
    is_run = folder.parent.name in _OF_RUNS and _has_run(workspace, folder.name)
    return Run(workspace, folder.name) if is_run else None


def _has_run(workspace: Path, name: str) -> bool:
    run = Run(workspace, name)
    files = (run.config, run.logs / "log.jsonl", *(run.statistics / f"statistics.{kind}" for kind in ("npz", "pkl")))
    return any(file.is_file() for file in files)


def _worked_on(run: Run) -> float:
    file = run.config
    return file.stat().st_mtime if file.exists() else 0.0


def _is_published(folder: Path) -> bool:
    return (folder / LONG_FIGURE_FILE).is_file() or any(folder.glob("statistics_*.pkl"))


def _nearest(path: Path) -> str:
    folder = path.parent
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {folder / near[0]}?" if near else ""
