"""Complete outputs and their journals; what is taken over of them where some of their sounds are heard again."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from panns_jax.errors import InputError
from panns_jax.files import is_folder, written_aside
from panns_jax.infer.bulk.journal import NAME, Journal, Plan
from panns_jax.infer.bulk.rows import Result, Rows, Stamp
from panns_jax.infer.bulk.store import Store, discard
from panns_jax.infer.vectors.reading import open_vectors
from panns_jax.infer.vectors.table import Table, form_of
from panns_jax.infer.vectors.writing import write_vectors


def journal_of(out: Path) -> Path:
    """The journal of a complete output: in a folder, or beside a file."""
    return out / NAME if form_of(out) == "folder" else out.with_name(f"{out.name}.{NAME}")


def finish(store: Store, table: Table, out: Path) -> None:
    """Writes the output, then its journal, and removes the store.

    Raises:
      InputError: the output cannot be written; the store stays as it is.
    """
    journal_of(out).unlink(missing_ok=True)  # of an earlier output, which this one replaces
    write_vectors(table, out)
    with written_aside(journal_of(out)) as aside:
        shutil.copyfile(store.journal.path, aside)
    store.close()
    discard(out)


def finished(out: Path, plan: Plan) -> Journal | None:
    """The journal of an output that is complete and of the same plan; None where there is none."""
    if not (out.is_file() or is_folder(out)) or not journal_of(out).is_file():
        return None
    journal = Journal(journal_of(out))
    return None if journal.plan is None or plan.difference(journal.plan) else journal


def take_over(store: Store, out: Path, journal: Journal, names: Mapping[int, str], stamps: Mapping[int, Stamp]) -> None:
    """Puts into a new store what a complete output has of sounds that have not changed.

    Args:
      store: empty.
      out: the output.
      journal: its own.
      names: of the sounds that are taken over, by their place in the list.
      stamps: as their files are now.

    Raises:
      InputError: the store cannot be written.
    """
    entries = sorted((number, entry) for number, entry in journal.entries.items())
    try:
        with open_vectors(out) as table:
            if sum(entry.rows for _, entry in entries) != len(table.names):
                return
            row = 0
            for number, entry in entries:
                first, row = row, row + entry.rows
                if number in names and entry.stamp == stamps[number]:
                    rows = None if entry.row is None else _rows(table, first, row)
                    store.enter(number, names[number], Result(entry.stamp, rows, entry.failure))
    except InputError:  # damaged: what was not taken over is heard again
        return


def _rows(table: Table, first: int, end: int) -> Rows:
    import numpy as np

    vectors = {name: table.read(name, first, end) for name in table.taps}
    steps = {name: tap.steps[first:end] for name, tap in table.taps.items() if tap.steps is not None}
    none = np.zeros(end - first)  # the times of whole sounds are not told
    start, stop = (none if times is None else times[first:end] for times in (table.start, table.end))
    return Rows(start, stop, vectors, steps)
