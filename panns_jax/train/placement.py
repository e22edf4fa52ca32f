"""Which of the processes of a run this one is, from the options or from SLURM."""

import dataclasses
from collections.abc import Mapping

from panns_jax.errors import InputError

# What srun sets for each process of a job step.
_NODES, _COUNT, _NUMBER, _JOB = "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_JOB_ID"
# Ports that a job may get: above those that systems give out by themselves.
_FIRST_PORT, _PORTS = 61_440, 4_096


@dataclasses.dataclass(frozen=True)
class Placement:
    """The place of this process among the processes of a run.

    Attributes:
      host: where process 0 runs, as the others reach it.
      port: where it listens.
      processes: how many there are.
      process: which one this is, from 0 on.
    """

    host: str
    port: int
    processes: int
    process: int


def placement(
    coordinator: str | None, processes: int | None, process: int | None, environment: Mapping[str, str]
) -> Placement | None:
    """The place that the options `--coordinator`, `--processes` and `--process` name; None for a single process.

    Args:
      coordinator: "HOST:PORT" of process 0, or "auto" for what SLURM tells.
      processes: how many there are.
      process: which one this is.
      environment: variables of this process.

    Raises:
      InputError: the options do not belong together, or SLURM did not start this process.
    """
    if coordinator is None:
        given = " and ".join(
            name for name, value in (("--processes", processes), ("--process", process)) if value is not None
        )
        if given:
            raise InputError(f"{given}: give --coordinator HOST:PORT as well, where process 0 is to listen")
        return None
    if coordinator == "auto":
        if processes is not None or process is not None:
            raise InputError("--coordinator auto takes the processes from SLURM: leave --processes and --process away")
        return _of_slurm(environment)
    host, port = _address(coordinator)
    if processes is None or process is None:
        raise InputError(
            f"--coordinator {coordinator}: give --processes N as well, how many there are, and --process I, which of"
            " them this one is, from 0 on"
        )
    if processes < 1:
        raise InputError(f"--processes must be at least 1, got {processes}")
    if not 0 <= process < processes:
        raise InputError(f"--process must be from 0 to {processes - 1}, as --processes is {processes}; got {process}")
    return Placement(host, port, processes, process)


def _address(coordinator: str) -> tuple[str, int]:
    host, colon, port = coordinator.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 2**16):
        raise InputError(
            f"--coordinator must be HOST:PORT, such as node1:12355, or auto in a job of SLURM; got {coordinator!r}"
        )
    return host.removeprefix("[").removesuffix("]"), int(port)  # an address of IPv6 stands in brackets


def _of_slurm(environment: Mapping[str, str]) -> Placement:
    try:
        told = (environment[name] for name in (_NODES, _COUNT, _NUMBER, _JOB))
        nodes, count, number, job = next(told), *map(int, told)
    except (KeyError, ValueError):
        raise InputError(
            "--coordinator auto: this process was not started by srun of SLURM; start it so, or give HOST:PORT with"
            " --processes and --process"
        ) from None
    return Placement(_first_node(nodes), _FIRST_PORT + job % _PORTS, count, number)


def _first_node(nodes: str) -> str:
    """The first of the nodes that SLURM writes as node7, node7,node9 or node[7-9,12],login."""
    prefix, bracket, rest = nodes.split(",")[0].partition("[")
    return prefix + rest.rstrip("]").split("-")[0] if bracket else prefix
