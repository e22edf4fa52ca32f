"""How what is heard live is shown: as a screen, as lines, or as JSON lines."""

import contextlib
import dataclasses
import datetime
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from panns_jax.infer.live import Answer
    from panns_jax.infer.tags import Tagged


@dataclasses.dataclass
class Tally:
    """What came of listening so far, in fixed memory.

    Attributes:
      windows: that were heard.
      seconds: of sound, up to the end of the last of them.
      dropped: windows that were left out, as their sound came too fast for the model.
      unheard: seconds that no window holds.
      latency: seconds from the end of the last window's sound until it was shown.
      longest: the longest of these.
    """

    windows: int = 0
    seconds: float = 0.0
    dropped: int = 0
    unheard: float = 0.0
    latency: float = 0.0
    longest: float = 0.0
    _latencies: float = 0.0
    _factors: float = 0.0

    def add(self, answer: "Answer") -> None:
        """Counts a window that is shown now."""
        self.windows += 1
        self.seconds = answer.end
        self.dropped += answer.dropped
        self.unheard += answer.unheard
        self.latency = time.monotonic() - answer.captured
        self.longest = max(self.longest, self.latency)
        self._latencies += self.latency
        self._factors += answer.real_time_factor

    def told(self, lost: int) -> str:
        """The sentence for the end.

        Args:
          lost: how often samples were lost before they came here.
        """
        if not self.windows:
            return "heard nothing"
        parts = [
            f"heard {self.seconds:.1f} s in {self.windows} windows",
            f"latency {self._latencies / self.windows:.3f} s on average, {self.longest:.3f} s at most",
            f"real-time factor {self._factors / self.windows:.2f}",
            f"{self.dropped} windows dropped" + (f", {self.unheard:.1f} s unheard" if self.unheard else ""),
        ]
        if lost:
            parts.append(f"the system lost sound {lost} times")
        return "; ".join(parts)


@runtime_checkable
class Display(Protocol):
    """Shows what is heard; a context manager, which leaves a terminal as it was."""

    def __enter__(self) -> "Display": ...

    def __exit__(self, *exception: object) -> None: ...

    def show(self, answer: "Answer", tags: "Sequence[Tagged]", tally: Tally) -> None:
        """Shows the tags of a window that `tally` has counted."""
        ...


class Lines(contextlib.AbstractContextManager["Lines"]):
    """A line per window, for people."""

    def __exit__(self, *exception: object) -> None:
        pass

    def show(self, answer: "Answer", tags: "Sequence[Tagged]", tally: Tally) -> None:
        told = ", ".join(f"{tag.label} {tag.probability:.3f}" for tag in tags) or "nothing above --min-confidence"
        dropped = f", {tally.dropped} dropped" if tally.dropped else ""
        print(f"{answer.end:.2f} s: {told} (latency {tally.latency:.3f} s{dropped})", flush=True)


class JsonLines(contextlib.AbstractContextManager["JsonLines"]):
    """A JSON object per window, for programs."""

    def __exit__(self, *exception: object) -> None:
        pass

    def show(self, answer: "Answer", tags: "Sequence[Tagged]", tally: Tally) -> None:
        clock = datetime.datetime.now().astimezone() - datetime.timedelta(seconds=time.monotonic() - answer.captured)
        record = {
            "time": round(answer.end, 6),
            "start": round(answer.start, 6),
            "clock": clock.isoformat(timespec="milliseconds"),
            "latency": round(tally.latency, 6),
            "rtf": round(answer.real_time_factor, 6),
            "peak": round(answer.peak, 6),
            "dropped": tally.dropped,
            "unheard": round(tally.unheard, 6),
            "tags": [dataclasses.asdict(tag) for tag in tags],
        }
        print(json.dumps(record), flush=True)


class Screen:
    """The tags as bars, in place, on a terminal.

    Args:
      console: the terminal.
      heading: what is heard, and by which model.
      lines: how many tags there can be: the screen has room for them from the beginning.
    """

    def __init__(self, console: Console, heading: str, lines: int) -> None:
        self._heading = heading
        self._lines = lines
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._before: Any = None

    def __enter__(self) -> "Screen":
        # Ended by another program, the cursor would stay hidden.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, _end)
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def show(self, answer: "Answer", tags: "Sequence[Tagged]", tally: Tally) -> None:
        rows = Table.grid(padding=(0, 1), expand=True)
        rows.add_column(no_wrap=True, overflow="ellipsis", ratio=2)
        rows.add_column(ratio=3)
        rows.add_column(no_wrap=True, justify="right", width=5)
        for tag in tags:
            rows.add_row(tag.label, ProgressBar(total=1, completed=tag.probability), f"{tag.probability:.3f}")
        for _ in range(self._lines - len(tags)):
            rows.add_row("", "", "")
        level = f"{20 * math.log10(answer.peak):.0f} dB" if answer.peak else "silence"
        state = [
            f"{datetime.timedelta(seconds=int(answer.end))}",
            f"level {level}",
            f"latency {1000 * tally.latency:.0f} ms",
            f"real-time factor {answer.real_time_factor:.2f}",
            f"{tally.dropped} dropped",
        ]
        heading = Text(self._heading, style="bold", no_wrap=True, overflow="ellipsis")
        self._live.update(Group(heading, rows, Text("   ".join(state), style="dim")), refresh=True)


def _end(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def display(heading: str, lines: int, *, jsonl: bool) -> Display:
    """The display for standard output: a screen where it is a terminal that can move its cursor."""
    if jsonl:
        return JsonLines()
    console = Console(file=sys.stdout)
    return Screen(console, heading, lines) if console.is_terminal and not console.is_dumb_terminal else Lines()
