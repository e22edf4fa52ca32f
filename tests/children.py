"""Programs in processes of their own."""

import os
import subprocess
import sys
import textwrap

# What the tests give to JAX is a user's own setting here.
BARE = {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name}


def child(program: str, *arguments: object, **environment: str) -> str:
    """What a program prints in a process of its own, in which warnings are errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**BARE, **environment},
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
