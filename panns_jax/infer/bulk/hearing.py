"""Sounds heard in this process, or group by group over a cluster."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from panns_jax.errors import InputError
from panns_jax.execute import for_each
from panns_jax.infer.bulk.rows import Dtype, Result, Stamp, StoredTap, result_of, stamp_of
from panns_jax.infer.files import heard_sounds
from panns_jax.infer.recipes import Prepared
from panns_jax.infer.sources import SoundFile, StandardInput
from panns_jax.progress import progress_bar

if TYPE_CHECKING:
    from panns_jax.infer.listener import Listener
    from panns_jax.infer.sources import Source
    from panns_jax.infer.windows import Windows

_GROUP = 8


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is wanted of each sound.

    Attributes:
      taps: of the model.
      dtype: what is stored.
      windows: the parts that are heard one by one; None for every sound as a whole.
    """

    taps: tuple[StoredTap, ...]
    dtype: Dtype = "float32"
    windows: "Windows | None" = None


@dataclasses.dataclass(frozen=True)
class Group:
    """Sounds that a machine of a cluster is given at once."""

    sources: "tuple[Source, ...]"

    def __len__(self) -> int:
        return len(self.sources)

    def __str__(self) -> str:
        more = f" and {len(self) - 1} more" if len(self) > 1 else ""
        return f"{self.sources[0].name}{more}"


@runtime_checkable
class Loads(Protocol):
    """What loads a model, and is sent to other machines for that; hashable."""

    def listener(self) -> "Listener": ...


def hear(sources: "Sequence[Source]", listener: "Listener", wanted: Wanted) -> Iterator[Result]:
    """What becomes of each sound, in order."""
    stamped = [_Stamped(source) for source in sources]
    taps = [tap for tap in wanted.taps if tap != "embedding"]
    for source, heard in zip(stamped, heard_sounds(stamped, listener, windows=wanted.windows, taps=taps), strict=True):
        yield result_of(heard, source.stamp, wanted.taps, wanted.dtype)


class _Stamped:
    """A sound that tells what state it was in when it began to be read."""

    def __init__(self, source: "Source") -> None:
        self._source = source
        self.stamp: Stamp = None

    @property
    def name(self) -> str:
        return self._source.name

    def blocks(self, sample_rate: int) -> Iterator[Float[np.ndarray, "_"]]:
        self.stamp = stamp_of(self._source)
        yield from self._source.blocks(sample_rate)


@contextlib.contextmanager
def heard_here(
    sources: "Sequence[Source]", listener: "Listener", wanted: Wanted, *, done: int
) -> "Generator[Iterator[tuple[Result, str | None]]]":
    """What becomes of each sound, in order, heard in this process, with a progress bar where there are several.

    Args:
      sources: the sounds.
      listener: the model.
      wanted: what is wanted of each.
      done: sounds that were done before, for the progress bar.
    """
    with progress_bar("files", shown=len(sources) + done > 1) as bar:
        task = bar.add_task("embedding", total=done + len(sources), completed=done, note="")

        def shown() -> "Iterator[tuple[Result, str | None]]":
            failures = 0
            for result in hear(sources, listener, wanted):
                failures += result.rows is None
                bar.update(task, advance=1, note=f"{failures} failed" if failures else "")
                yield result, None

        yield shown()


@contextlib.contextmanager
def heard_by_cluster(
    sources: "Sequence[Source]", model: Loads, wanted: Wanted, *, workers: int | None, address: str | None, done: int
) -> "Generator[Iterator[tuple[Result, str | None]]]":
    """What becomes of each sound, in order, and the machine that heard it; other arguments as for `heard_here`.

    Args:
      model: loads the model, once in each process that works.
      workers: groups of sounds at work at a time; None for as many as there are processor cores.
      address: of the cluster; see `for_each`.

    Raises:
      InputError: as `for_each`.
    """
    absolute = [_absolute(source) for source in sources]
    groups = [Group(tuple(absolute[first : first + _GROUP])) for first in range(0, len(absolute), _GROUP)]
    function: Callable[[Any], list[Result]] = functools.partial(hear_group, model=model, wanted=wanted)
    with for_each(
        function,
        groups,
        workers=workers,
        task="embedding",
        unit="files",
        engine="ray",
        address=address,
        size=len,
        done=done,
        failures_in=lambda results: sum(result.rows is None for result in results or []),
    ) as outcomes:

        def results() -> "Iterator[tuple[Result, str | None]]":
            names = iter([source.name for source in sources])
            for outcome in outcomes:
                # What fails for a group, such as loading the model, is no failure of a sound.
                if outcome.result is None:
                    raise InputError(f"{outcome.node}: {outcome.failure}")
                for source, result in zip(outcome.item.sources, outcome.result, strict=True):
                    name = next(names)
                    failure = result.failure and result.failure.replace(source.name, name)
                    yield dataclasses.replace(result, failure=failure), outcome.node

        yield results()


def hear_group(group: Group, model: Loads, wanted: Wanted) -> list[Result]:
    """What becomes of some sounds; the model is loaded once in each process."""
    return list(hear(group.sources, loaded(model), wanted))


@functools.lru_cache(maxsize=1)
def loaded(model: Loads) -> "Listener":
    """The model, which stays in this process."""
    from panns_jax.process import cache_programs

    cache_programs()  # where that cannot be done, programs are compiled by each process
    return model.listener()


def _absolute(source: "Source") -> "Source":
    """The same sound for the machines of a cluster, which have working folders and standard inputs of their own."""
    if isinstance(source, StandardInput):
        raise InputError("standard input cannot be heard by --engine ray: name files")
    if isinstance(source, Prepared):
        return dataclasses.replace(source, source=_absolute(source.source))
    if isinstance(source, SoundFile):
        return dataclasses.replace(source, path=source.path.absolute())
    return source
