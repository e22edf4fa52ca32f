"""Progress of long work, on standard error, so that results on standard output stay clean."""

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text


class _Rate(ProgressColumn):
    def __init__(self, unit: str):
        super().__init__(_whole())
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {self.unit}/s" if speed else f"– {self.unit}/s", style="progress.data.speed")


def _whole() -> Column:
    """A column that is never broken into lines: on a narrow terminal the bar itself gives way."""
    return Column(no_wrap=True)


def progress_bar(unit: str, *, shown: bool = True) -> Progress:
    """A bar with count, rate in `unit` per second, time left and a field `note`; use as a context manager.

    Where standard error is no terminal, only the final state is printed. Nothing is, unless it is to be `shown`.

    >>> with progress_bar("clips") as bar:
    ...     task = bar.add_task("packing", total=100, note="")
    ...     bar.update(task, advance=1, note="2 left out")
    """
    return Progress(
        TextColumn("{task.description}", table_column=_whole()),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        MofNCompleteColumn(table_column=_whole()),
        _Rate(unit),
        TimeRemainingColumn(table_column=_whole()),
        TextColumn("{task.fields[note]}", table_column=Column()),  # several lines where there is no room for one
        console=Console(stderr=True),
        expand=True,
        # Results on the same terminal move above the bar. Results in a file or a pipe are to stay there: by default the
        # bar would draw them to the terminal instead.
        redirect_stdout=sys.stdout.isatty(),
        disable=not shown,
    )
