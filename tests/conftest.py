"""What holds for all tests: the CPU, two simulated devices, shapes and types checked at run time."""

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"  # the tests' own processes inherit it, and the following
# What takes long to compile is compiled once for all tests.
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="panns_jax-compiled-")
os.environ["JAX_PERSISTENT_COMPILATION_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
os.environ["JAX_PERSISTENT_COMPILATION_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
# No test reaches beyond this machine, nor reads what its user has.
os.environ["PANNS_JAX_CACHE"] = tempfile.mkdtemp(prefix="panns_jax-cache-")
os.environ["PANNS_JAX_MIRROR"] = "http://127.0.0.1:9"

import hypothesis
import jax
import jaxtyping
import pytest

for _variable in ("JAX_COMPILATION_CACHE_DIR", "PANNS_JAX_CACHE"):
    atexit.register(shutil.rmtree, os.environ[_variable], ignore_errors=True)
jax.config.update("jax_num_cpu_devices", 2)

# How fast a machine is at the moment says nothing of the code.
hypothesis.settings.register_profile(
    "any-speed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any-speed")

jaxtyping.install_import_hook(
    [
        "panns_jax.audio",
        "panns_jax.data",
        "panns_jax.ffmpeg",
        "panns_jax.frontend",
        "panns_jax.infer",
        "panns_jax.kernels",
        "panns_jax.libsndfile",
        "panns_jax.models",
        "panns_jax.plots",
        "panns_jax.ontology",
        "panns_jax.streams",
        "panns_jax.tables",
        "panns_jax.train",
    ],
    "typecheck.check",
)


@pytest.fixture
def full_disk() -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """Inside, no file can grow beyond a number of bytes: as on a full disk, writing fails (File too large)."""
    resource = pytest.importorskip("resource")

    @contextlib.contextmanager
    def full(at: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (at, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return full


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
