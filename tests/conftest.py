"""What holds for all tests: the CPU, two simulated devices, shapes and types checked at run time."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"  # the tests' own processes inherit it

import jax
import jaxtyping

jax.config.update("jax_num_cpu_devices", 2)

jaxtyping.install_import_hook(
    [
        "panns_jax.audio",
        "panns_jax.data",
        "panns_jax.frontend",
        "panns_jax.infer",
        "panns_jax.kernels",
        "panns_jax.models",
        "panns_jax.train",
    ],
    "typecheck.check",
)
