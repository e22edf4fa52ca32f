"""The paper's tables with what runs of one's own reached beside what was published."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from panns_jax.pretrained.paper import PaperFigures
from panns_jax.train.paper.formats import Column, Table
from panns_jax.train.paper.local import LocalResult, ScoredRun, best_result
from panns_jax.train.paper.published import ABLATIONS, PREVIOUS, STRATEGIES, SYSTEMS, TRANSFER, Row
from panns_jax.train.presets import read_preset

_PUBLISHED = (Column("mAP", "mAP", 3), Column("mAUC", "AUC", 3), Column("d_prime", "d′", 3))
_LOCAL = (Column("local_mAP", "local mAP", 3), Column("local_mAUC", "AUC", 3), Column("local_d_prime", "d′", 3))
_SECONDS = 10


def systems(runs: Sequence[ScoredRun]) -> Table:
    """The 15 systems on AudioSet."""
    return _scores("systems", "Systems on AudioSet", (Column("system", "system"),), _labelled(SYSTEMS), runs)


def ablation(name: str) -> Callable[[Sequence[ScoredRun]], Table]:
    """What becomes of Cnn14 where one thing is changed: a key of `ABLATIONS`."""
    column = Column(name.replace("-", "_"), name.replace("-", " "))

    def table(runs: Sequence[ScoredRun]) -> Table:
        return _scores(name, f"Cnn14 on AudioSet: {column.heading}", (column,), _labelled(ABLATIONS[name]), runs)

    return table


def ablations(runs: Sequence[ScoredRun]) -> Table:
    """All ablations in one table."""
    rows = [((name.replace("-", " "), row.label), row) for name, table in ABLATIONS.items() for row in table]
    columns = (Column("ablation", "ablation"), Column("setting", "setting"))
    return _scores("ablations", "Ablations of Cnn14 on AudioSet", columns, rows, runs)


def previous(runs: Sequence[ScoredRun]) -> Table:
    """Earlier systems, and two of the paper's."""
    columns = (Column("system", "system"),)
    return _scores("previous", "Beside earlier systems on AudioSet", columns, _labelled(PREVIOUS), runs)


def complexity(runs: Sequence[ScoredRun]) -> Table:
    """Operations and parameters, published and as they are computed from our models."""
    from panns_jax.models.registry import model_config
    from panns_jax.models.summary import summary

    rows, results = [], [_local(row, runs) for row in SYSTEMS]
    found = (_LOCAL[0],) if any(results) else ()
    for row, result in zip(SYSTEMS, results, strict=True):
        ours = summary(model_config(row.label), _SECONDS)
        operations = (row.figures.giga_operations, ours.operations / 1e9)
        local = (result and result.figures.mean_average_precision,) if found else ()
        rows.append((row.label, ours.parameters, *operations, row.figures.mean_average_precision, *local))
    columns = (
        Column("system", "system"),
        Column("parameters", "parameters"),
        Column("giga_operations", "10⁹ operations", 3),
        Column("our_giga_operations", "ours", 3),
        _PUBLISHED[0],
        *found,
    )
    note = f"Two operations for a multiplication and an addition, in {_SECONDS} s; ours are counted in the models."
    return Table("complexity", "Complexity of the systems", columns, tuple(rows), (note,))


def transfer(scores: Mapping[tuple[str, str], float], notes: Sequence[str] = ()) -> Table:
    """The six tasks that the paper transferred Cnn14 to.

    Args:
      scores: of one's own, by task (a key of `TRANSFER`) and strategy.
      notes: sentences to stand below.
    """
    columns: list[Column] = [Column("task", "task"), Column("metric", "metric")]
    for strategy in STRATEGIES:
        columns += (Column(strategy, strategy, 3), *((Column(f"local_{strategy}", "local", 3),) if scores else ()))
    rows = []
    for key, task in TRANSFER.items():
        cells = [(task.scores[name], *((scores.get((key, name)),) if scores else ())) for name in STRATEGIES]
        rows.append((task.label, task.metric, *(value for cell in cells for value in cell)))
    return Table("transfer", "Transfer of Cnn14 to other tasks", tuple(columns), tuple(rows), tuple(notes))


TABLES: dict[str, Callable[[Sequence[ScoredRun]], Table]] = {
    "systems": systems,
    "ablations": ablations,
    **{name: ablation(name) for name in ABLATIONS},
    "previous": previous,
    "complexity": complexity,
}
"""The tables of AudioSet by their names."""

ALL = ("systems", "previous", *ABLATIONS, "complexity", "transfer")
"""What is printed where no table is named; "ablations" is those of its parts in one."""


def _labelled(rows: Sequence[Row]) -> list[tuple[tuple[str, ...], Row]]:
    return [((row.label,), row) for row in rows]


def _scores(
    name: str,
    title: str,
    labels: tuple[Column, ...],
    rows: Sequence[tuple[tuple[str, ...], Row]],
    runs: Sequence[ScoredRun],
) -> Table:
    """Published figures, and local ones beside them where there are some."""
    results = [_local(row, runs) for _, row in rows]
    found: tuple[Column, ...] = ()
    if any(results):
        found = (*_LOCAL, Column("iteration", "iteration"), Column("clips", "clips"))
    shown = []
    for (label, row), result in zip(rows, results, strict=True):
        cells = _beside(result) if found else ()
        shown.append((*label, *_figures(row.figures), *cells))
    notes = dict.fromkeys(note for result in results if result is not None for note in _notes(result))
    return Table(name, title, (*labels, *_PUBLISHED, *found), tuple(shown), tuple(notes))


def _beside(result: LocalResult | None) -> tuple[Any, ...]:
    return (None,) * 5 if result is None else (*_figures(result.figures), result.iteration, result.clips)


def _figures(figures: PaperFigures) -> tuple[float | None, ...]:
    return figures.mean_average_precision, figures.mean_auc, figures.d_prime


def _local(row: Row, runs: Sequence[ScoredRun]) -> LocalResult | None:
    return None if row.preset is None or not runs else best_result(runs, read_preset(row.preset).config)


def _notes(result: LocalResult) -> tuple[str, ...]:
    if not result.differs:
        return ()
    return (f"The run {result.run} ({result.workspace}) differs from the paper's: {', '.join(result.differs)}.",)
