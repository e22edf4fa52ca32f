"""`python -m panns_jax.train` is `panns-jax train`."""

import sys

from panns_jax.cli import run_task
from panns_jax.process import begin_command

if __name__ == "__main__":
    begin_command()
    run_task("train", sys.argv[1:], prog="python -m panns_jax.train")
