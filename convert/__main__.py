"""`python -m convert COMMAND …`: conversion of PyTorch checkpoints."""

import sys
from collections.abc import Sequence

from panns_jax.cli import run_task

COMMANDS = {"file": "convert"}
"""The task of `panns-jax` behind each command."""

_HELP = """usage: python -m convert COMMAND [options]

Converts PyTorch checkpoints of PANNs.

commands:
  file  one .pth file to one .safetensors file; same as panns-jax convert

python -m convert COMMAND --help tells a command's options."""


def main(arguments: Sequence[str]) -> None:
    """Runs one command and exits: 0 done, 2 bad input."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(_HELP)
        sys.exit(0)
    if not arguments or arguments[0] not in COMMANDS:
        if arguments:
            print(f"python -m convert: there is no command {arguments[0]!r}\n", file=sys.stderr)
        print(_HELP, file=sys.stderr)
        sys.exit(2)
    command, *rest = arguments
    run_task(COMMANDS[command], rest, prog=f"python -m convert {command}")


if __name__ == "__main__":
    main(sys.argv[1:])
