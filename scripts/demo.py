"""Trains a small model for real, from nothing: `python3 scripts/demo.py`.

It sets up its own environment, synthesises a corpus in AudioSet's shape, and runs the project's commands on it, showing
each: pack, index, train, evaluate on clips never trained on, tag and embed one of them. `--help` tells the options.
The environment is `.venv` in the checkout, or the folder that PANNS_JAX_VENV names.
"""

import sys

import python_version

python_version.require()

import demo_run  # noqa: E402  newer Python from here on
import environment  # noqa: E402


def main():
    demo_run.parse(sys.argv[1:])  # wrong options end it before anything is installed
    with environment.one_sentence_errors("demo.py"):
        python = environment.prepare(extras=["train"])
        environment.become([python, str(environment.ROOT / "scripts" / "demo_run.py"), *sys.argv[1:]])


if __name__ == "__main__":
    main()
