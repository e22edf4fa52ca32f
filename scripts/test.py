"""Runs the tests, in an environment that it sets up itself: `python3 scripts/test.py [pytest's arguments]`.

`--with-torch` installs PyTorch too, for the tests that compare with it; without it they skip by name.
The environment is `.venv` in the checkout, or the folder that PANNS_JAX_VENV names. Paths among pytest's arguments
are as seen from the checkout.
"""

import sys

import python_version

python_version.require()

import environment  # noqa: E402  newer Python from here on


def main():
    arguments = sys.argv[1:]
    with environment.one_sentence_errors("test.py"):
        packages = ["torch==2.13.0"] if "--with-torch" in arguments else []
        python = environment.prepare(extras=["train", "dev"], packages=packages)
        arguments = [argument for argument in arguments if argument != "--with-torch"]
        environment.become([python, "-m", "pytest", *arguments], folder=environment.ROOT)


if __name__ == "__main__":
    main()
