"""A fair way to take turns.

All sides run in turns in one process (or as processes in turns), so that a busy machine disturbs all alike: compare the
ratios, not the seconds of two different runs.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping

# The threads of a side spin for a while after their work, which the next side would have to wait for.
_REST = 0.05


@dataclasses.dataclass(frozen=True)
class Timing:
    """What the turns of one side took.

    Attributes:
      seconds: of each turn.
      faults: page faults of the process during each turn that needed no disk: memory asked of the operating system
        anew, 4 KiB each as a rule. Empty where they are not counted.
    """

    seconds: tuple[float, ...]
    faults: tuple[int, ...] = ()

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def least(self) -> float:
        return min(self.seconds)

    @property
    def most(self) -> float:
        return max(self.seconds)

    @property
    def usual_faults(self) -> int | None:
        """Median of the faults."""
        return round(statistics.median(self.faults)) if self.faults else None


def in_turns(sides: Mapping[str, Callable[[], object]], rounds: int, *, warm_up: int = 2) -> dict[str, Timing]:
    """Times each side; the sides take turns, and who begins changes every round.

    Args:
      sides: what to time, by name.
      rounds: turns of each.
      warm_up: calls of each before that are not timed.
    """
    for side in sides.values():
        for _ in range(warm_up):
            side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    faults: dict[str, list[int]] = {name: [] for name in sides}
    for turn in range(rounds):
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            time.sleep(_REST)
            before = _faults()
            begun = time.perf_counter()
            sides[name]()
            seconds[name].append(time.perf_counter() - begun)
            after = _faults()
            if before is not None and after is not None:
                faults[name].append(after - before)
    return {name: Timing(tuple(seconds[name]), tuple(faults[name])) for name in sides}


def _faults() -> int | None:
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
