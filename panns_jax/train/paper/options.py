"""`panns-jax configs` and `panns-jax table`."""

import csv
import dataclasses
import difflib
import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from panns_jax.errors import InputError

Names = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAMES")]
Workspaces = Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FOLDERS")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Configs:
    """Lists the presets: every experiment of the paper, with its published score and the best of your own runs.

    panns-jax train --config NAME trains one; with --dry-run it only tells what that would take. Those that transfer
    Cnn14 to another task are for panns-jax finetune --config NAME.
    """

    names: Names = ()
    """Parts of presets' names; all are listed where none is given. Capitals, hyphens and underscores do not matter."""
    workspace: Workspaces = ()
    """Folders that runs were trained in: the best mAP on the evaluation set of the runs of each preset is told."""
    format: Literal["text", "json", "csv"] = "text"
    """text for people; json is a list of objects; csv has a row per preset. These have the options, too."""

    def run(self) -> int:
        from panns_jax.train.presets import read_preset

        names = _matching(self.names)
        runs, faults = _runs(self.workspace)
        rows = [_row(read_preset(name), runs) for name in names]
        if self.format == "json":
            print(json.dumps(rows, indent=2, ensure_ascii=False))
        elif self.format == "csv":
            writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, "options": _typed(row["options"])} for row in rows)
        else:
            _print_text(rows, local=bool(self.workspace))
        return _told(faults)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperTable:
    """Prints the paper's tables, with your own results beside the published ones.

    Tables are systems, ablations (or one of them: augmentation, hop, embedding, data, sample-rate, mel-bins), transfer,
    complexity, and previous (systems of others).
    """

    names: Names = ()
    """Names of tables; all are printed where none is given."""
    workspace: Workspaces = ()
    """Folders that runs were trained in. Of the runs of each experiment, the best evaluation counts, by its mAP on the
    evaluation set."""
    report: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TASK=FILE.json")] = ()
    """For the table of transfer: what panns-jax finetune wrote beside its reports, each after the task that it is of
    (esc50, dcase2019_task1, dcase2018_task2, msos, gtzan, ravdess) and =."""
    format: Literal["markdown", "csv", "latex"] = "markdown"
    """markdown is for people, too; csv is one table, with all digits; latex takes the package booktabs."""
    out: Path | None = None
    """File to write instead of standard output."""

    def run(self) -> int:
        from panns_jax.train.paper.formats import FORMATS
        from panns_jax.train.paper.tables import ALL

        names = [_table_named(name) for name in self.names] or list(ALL)
        if self.format == "csv" and len(names) > 1:
            raise InputError(f"--format csv is for one table; name one of {', '.join(_table_names())}")
        scores, notes = _transfer_scores(self.report)
        runs, faults = _runs(self.workspace)
        text = "\n\n".join(FORMATS[self.format](_table(name, runs, scores, notes)) for name in names)
        if self.out is None:
            print(text)
        else:
            from panns_jax.files import written_aside

            with written_aside(self.out) as path:
                path.write_text(f"{text}\n", encoding="utf-8")
        return _told(faults)


def _matching(asked: Sequence[str]) -> list[str]:
    """The presets that are asked for by parts of their names."""
    from panns_jax.train.presets import list_presets, plain

    names = list_presets()
    found = []
    for part in asked:
        exact = [name for name in names if plain(name) == plain(part)]
        matches = exact or [name for name in names if plain(part) in plain(name)]
        if not matches or not plain(part):
            near = difflib.get_close_matches(plain(part), names, n=1)
            hint = f"did you mean {near[0]}?" if near else "panns-jax configs lists all"
            raise InputError(f"{part!r}: there is no such preset; {hint}")
        found += matches
    return list(dict.fromkeys(found)) or names


def _runs(workspaces: Sequence[Path]) -> tuple[list[Any], list[str]]:
    if not workspaces:
        return [], []
    from panns_jax.train.paper.local import scored_runs

    return scored_runs(workspaces)


def _told(faults: Sequence[str]) -> int:
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def _row(preset: Any, runs: Sequence[Any]) -> dict[str, Any]:
    from panns_jax.train.options import Train
    from panns_jax.train.paper.published import published_score

    result = None
    if runs and isinstance(preset.config, Train):
        from panns_jax.train.paper.local import best_result

        result = best_result(runs, preset.config)
    published = published_score(preset.name)
    return {
        "name": preset.name,
        "command": "train" if isinstance(preset.config, Train) else "finetune",
        "about": preset.about.rstrip("."),
        "metric": published and published[0],
        "published": published and published[1],
        "local": result and round(result.figures.mean_average_precision, 6),
        "local_run": result and str(result.workspace / "checkpoints" / result.run),
        "local_iteration": result and result.iteration,
        "local_clips": result and result.clips,
        "local_differs": "; ".join(result.differs) if result else None,
        "options": _changed(preset.config),
    }


def _changed(config: Any) -> dict[str, Any]:
    """The options of a preset that are not the defaults."""
    if isinstance(config, functools.partial):
        return config.keywords
    return {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != field.default
    }


def _typed(options: dict[str, Any]) -> str:
    from panns_jax.train.options import option

    return " ".join(f"{option(name)} {value}" for name, value in options.items())


def _print_text(rows: Sequence[dict[str, Any]], *, local: bool) -> None:
    from panns_jax.train.paper.formats import Column, as_text

    columns = [Column("name", "name"), Column("published", "published", 3)]
    if local:
        columns += (Column("local", "local", 3), Column("local_clips", "clips"))
    columns.append(Column("metric", "metric"))
    columns.append(Column("about", "what it is"))
    print(as_text(columns, [[row[column.key] for column in columns] for row in rows]))
    for row in rows:
        if row["local_differs"]:
            print(f"{row['local_run']} differs from {row['name']}: {row['local_differs']}")


def _table_names() -> list[str]:
    from panns_jax.train.paper.tables import TABLES

    return [*TABLES, "transfer"]


def _table_named(name: str) -> str:
    from panns_jax.train.presets import plain

    names = {plain(known): known for known in _table_names()}
    others = {"melbin": "mel-bins", "samplingrate": "sample-rate", "hopsize": "hop", "balancing": "augmentation"}
    known = {**{alias.removesuffix("s"): of for alias, of in names.items()}, **names, **others}
    if plain(name) in known:
        return known[plain(name)]
    begun = {of for alias, of in known.items() if plain(name) and alias.startswith(plain(name))}
    if len(begun) == 1:
        return begun.pop()
    near = difflib.get_close_matches(plain(name), known, n=1)
    hint = f"did you mean {known[near[0]]}?" if near else f"there are {', '.join(names.values())}"
    raise InputError(f"{name!r}: there is no such table; {hint}")


def _table(name: str, runs: Sequence[Any], scores: dict[tuple[str, str], float], notes: Sequence[str]) -> Any:
    from panns_jax.train.paper import tables

    return tables.transfer(scores, notes) if name == "transfer" else tables.TABLES[name](runs)


def _transfer_scores(reports: Sequence[str]) -> tuple[dict[tuple[str, str], float], list[str]]:
    """Scores in the task's own metric, by task and strategy, of several the best; and a sentence on each report."""
    if not reports:
        return {}, []
    from panns_jax.train.finetune.figures import read_figures
    from panns_jax.train.paper.published import TRANSFER
    from panns_jax.train.presets import plain

    tasks = {plain(task): task for task in TRANSFER}
    found: dict[tuple[str, str], float] = {}
    notes = []
    for report in reports:
        task, _, path = report.partition("=")
        if plain(task) not in tasks or not path:
            raise InputError(f"--report {report}: must be TASK=FILE.json, and TASK one of {', '.join(TRANSFER)}")
        told, name = read_figures(Path(path)), tasks[plain(task)]
        score = told["scores"].get(TRANSFER[name].metric)
        if score is None:
            raise InputError(f"{path}: has no {TRANSFER[name].metric}, which {TRANSFER[name].label} is scored by")
        key = (name, told["strategy"])
        found[key] = max(score, found.get(key, score))
        tested = f"{told['folds']} folds" if told["folds"] else f"{told['test_clips']} of them for the test"
        model = told["model"].removeprefix("Transfer_")
        notes.append(f"{path}: {TRANSFER[name].label}, {told['strategy']} of {model}, {told['clips']} clips, {tested}.")
    return found, notes
