"""`python -m convert COMMAND …`: conversion of PyTorch checkpoints, and its proof."""

import sys
from collections.abc import Sequence

from panns_jax.cli import TASKS, Task, run_task
from panns_jax.process import begin_command

COMMANDS = {
    "file": Task(TASKS["convert"].options, "one .pth file to one .safetensors file; same as panns-jax convert"),
    "all": Task("convert.folder:ConvertAll", "every .pth file of a folder; goes on where it stopped"),
    "verify": Task(
        "convert.verify:Verify", "run a .pth file through JAX and PyTorch, and compare layer by layer", compiles=True
    ),
}

_HELP = """usage: python -m convert COMMAND [options]

Converts PyTorch checkpoints of PANNs, and proves the conversion.

commands:
{commands}

python -m convert COMMAND --help tells a command's options."""


def main(arguments: Sequence[str]) -> None:
    """Runs one command and exits: 0 done, 1 done but for what was named, 2 bad input, 3 not compared."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(_help())
        sys.exit(0)
    if not arguments or arguments[0] not in COMMANDS:
        if arguments:
            print(f"python -m convert: there is no command {arguments[0]!r}\n", file=sys.stderr)
        print(_help(), file=sys.stderr)
        sys.exit(2)
    command, *rest = arguments
    run_task(command, rest, prog=f"python -m convert {command}", tasks=COMMANDS)


def _help() -> str:
    return _HELP.format(commands="\n".join(f"  {name:<6}  {task.summary}" for name, task in COMMANDS.items()))


if __name__ == "__main__":
    begin_command()
    main(sys.argv[1:])
