"""A run that is spread over several processes, on one machine or on many.

All processes run the same program on the same mesh of devices. What belongs to the run as a whole (its folders, log,
statistics and progress) is done by process 0; `Hosts` is what the rest of training knows of all this. A single process
is the same with nobody else.
"""

import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from panns_jax.errors import InputError
from panns_jax.interruption import INTERRUPTED, Stopped, at_once_from_now_on
from panns_jax.train.meeting import meet
from panns_jax.train.placement import Placement
from panns_jax.train.star import Star, leave_with

# JAX is to notice lost processes later than we do, and yet to be heard often enough for firewalls.
_JAX_NOTICES_AFTER = 600  # seconds
_JAX_PARTS_WITHIN = 30  # seconds
_CLOSES_WITHIN = 10.0  # seconds that a process may take to close its files after an error


@runtime_checkable
class Hosts(Protocol):
    """What a process knows of the others."""

    @property
    def first(self) -> bool:
        """Whether this is process 0, which writes what belongs to the whole run."""
        ...

    def share(self, value: Any) -> Any:
        """The value that process 0 gives, fit for JSON; the others wait for it, and what they give is ignored."""
        ...

    def agree(self, wanted: bool, iteration: int) -> bool:
        """Whether to stop at this iteration, as some process wanted to; to be asked after each step in each process."""
        ...

    def telling(self, checkpoint: Callable[[], int | None]) -> contextlib.AbstractContextManager[None]:
        """Inside, an error of this process ends the others at once, with the same sentence.

        Args:
          checkpoint: tells the iteration that the run would go on from.
        """
        ...


class Alone:
    """A process without others."""

    first = True

    def share(self, value: Any) -> Any:
        """See `Hosts`."""
        return value

    def agree(self, wanted: bool, iteration: int) -> bool:
        """See `Hosts`."""
        del iteration
        return wanted

    def telling(self, checkpoint: Callable[[], int | None]) -> contextlib.AbstractContextManager[None]:
        """See `Hosts`."""
        del checkpoint
        return contextlib.nullcontext()


class Together:
    """One process of several."""

    def __init__(self, star: Star, *, in_flight: int) -> None:
        """Takes the connections to the others.

        Args:
          star: of `meet`.
          in_flight: how many steps a process may have sent to its devices that are not done.
        """
        self._star = star
        self._ahead = in_flight + 2

    @property
    def first(self) -> bool:
        """See `Hosts`."""
        return self._star.place.process == 0

    def share(self, value: Any) -> Any:
        """See `Hosts`."""
        return self._star.share(value)

    def agree(self, wanted: bool, iteration: int) -> bool:
        """See `Hosts`."""
        return self._star.agree(wanted, iteration, ahead=self._ahead)

    @contextlib.contextmanager
    def telling(self, checkpoint: Callable[[], int | None]) -> Iterator[None]:
        """See `Hosts`."""
        self._star.checkpoint = checkpoint
        with self.guarding():
            yield

    @contextlib.contextmanager
    def guarding(self) -> Iterator[None]:
        """Inside, an error of this process ends the others."""
        try:
            yield
        except Stopped:  # as all do, at the same iteration
            raise
        except KeyboardInterrupt:  # also amidst saving together, which the others would wait for
            self._end_others("was interrupted", INTERRUPTED, own="interrupted")
            raise
        except Exception as error:
            if _may_come_of_others(error):
                self._star.wait_for_end()
            if isinstance(error, InputError):
                self._end_others(str(error), 2)
            elif isinstance(error, OSError):
                self._end_others(f"{error.filename or 'the output'}: {error.strerror}", 2)
            else:
                traceback.print_exc()
                self._end_others(f"has failed: {type(error).__name__}", 1)
                leave_with(f"this process has failed: {type(error).__name__}", 1)
            raise

    def _end_others(self, sentence: str, code: int, *, own: str = "") -> None:
        if self._star.tell_end(sentence, code):
            # What is still to be closed here may wait for the others, which are gone.
            last_words = (own or sentence, code)
            threading.Thread(target=_leave_in_the_end, args=last_words, name="hosts", daemon=True).start()

    def leave(self) -> None:
        """Waits for all to be done, and parts."""
        self._star.await_all()
        jax.distributed.shutdown()
        self._star.part()


@contextlib.contextmanager
def joined(place: Placement | None, told: dict[str, Any], *, in_flight: int) -> Iterator[Hosts]:
    """Joins the processes of a run, until the block is left; JAX must not have begun.

    Where another process ends before, or does not answer for 20 seconds, this one is ended, with a sentence on standard
    error and exit code 3.

    Args:
      place: of this process; None where there are no others.
      told: the options that must be the same in all, fit for JSON.
      in_flight: how many steps a process may have sent to its devices that are not done.

    Raises:
      InputError: not all processes came, they cannot reach each other, or they do not belong together.
    """
    if place is None or place.processes == 1:
        yield Alone()
        return
    star, port = meet(place, told)
    at_once_from_now_on()
    hosts = Together(star, in_flight=in_flight)
    try:
        with hosts.guarding():
            _begin_jax(place, port)
            yield hosts
    except Stopped:
        hosts.leave()
        raise
    hosts.leave()


def _leave_in_the_end(sentence: str, code: int) -> None:
    time.sleep(_CLOSES_WITHIN)
    leave_with(sentence, code)


def _may_come_of_others(error: Exception) -> bool:
    """Whether an error may be but the consequence of another process's end, which is then about to be noticed."""
    return not isinstance(error, InputError | OSError) or isinstance(error.__cause__, RuntimeError | ValueError)


def _begin_jax(place: Placement, port: int) -> None:
    """Has JAX know the devices of all processes, and all devices each other."""
    # It would keep SIGTERM from ending this process.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        with _without_standard_output():
            jax.distributed.initialize(
                f"127.0.0.1:{port}",
                place.processes,
                place.process,
                cluster_detection_method="deactivate",
                coordinator_bind_address=f"127.0.0.1:{port}",
                heartbeat_timeout_seconds=_JAX_NOTICES_AFTER,
                shutdown_timeout_seconds=_JAX_PARTS_WITHIN,
            )
            _require_equal_shares()
            _reach_all()
    except (RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the processes cannot reach each other: {' '.join(str(error).split())}") from error


def _require_equal_shares() -> None:
    """Checks that the devices can be shared out evenly."""
    counts = [0] * jax.process_count()
    for device in jax.devices():
        counts[device.process_index] += 1
    if len(set(counts)) > 1:
        raise InputError(f"the processes have {', '.join(map(str, counts))} devices; all must have the same number")


def _reach_all() -> None:
    """Adds up over all devices, so that these connect now, whatever time each process takes to compile."""
    from jax.sharding import NamedSharding, PartitionSpec

    from panns_jax.train.step import data_mesh

    mesh = data_mesh()
    ones = jax.make_array_from_process_local_data(
        NamedSharding(mesh, PartitionSpec(mesh.axis_names)), np.ones(len(jax.local_devices()), np.float32)
    )
    jax.jit(lambda x: x.sum(), out_shardings=NamedSharding(mesh, PartitionSpec()))(ones).block_until_ready()


@contextlib.contextmanager
def _without_standard_output() -> Iterator[None]:
    """Inside, nothing comes out: the library by which CPUs talk to each other tells of each connection there."""
    sys.stdout.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
