"""What holds for all tests: the CPU, two simulated devices, shapes and types checked at run time."""

import os
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"  # the tests' own processes inherit it

import jax
import jaxtyping
import pytest

jax.config.update("jax_num_cpu_devices", 2)

jaxtyping.install_import_hook(
    [
        "panns_jax.audio",
        "panns_jax.data",
        "panns_jax.frontend",
        "panns_jax.infer",
        "panns_jax.models",
        "panns_jax.train",
    ],
    "typecheck.check",
)


@pytest.fixture(scope="session")
def demo_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model as `panns-jax convert` writes it, with weights that answer differently to different sounds."""
    # Imported here, so that the hook above has its say.
    from weights import arbitrary

    from panns_jax.models.registry import model_config
    from panns_jax.pretrained.native import Provenance, write_native

    config = model_config("DemoCnn")
    file = tmp_path_factory.mktemp("checkpoint") / "demo.safetensors"
    write_native(file, config, arbitrary(config), Provenance(file="demo.pth", sha256="0" * 64, licence="MIT"))
    return file
