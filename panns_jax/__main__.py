"""`python -m panns_jax` is `panns-jax`."""

from panns_jax.cli import main

if __name__ == "__main__":
    main(prog="python -m panns_jax")
