"""Starting up costs little, changes nothing and reaches for nothing: seen from child processes."""

import subprocess
import sys
import textwrap

import pytest

HEAVY = (
    "jax",
    "flax",
    "torch",
    "scipy",
    "sklearn",
    "h5py",
    "grain",
    "orbax",
    "optax",
    "soundfile",
    "matplotlib",
    "yt_dlp",
    "ray",
    "pyarrow",
    "tensorflow_datasets",
)


def child(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_by(program: str) -> set[str]:
    """The heavy packages that a program loads."""
    shown = child(f"import sys\n{program}\nprint(*sys.modules)").splitlines()[-1].split()
    return {name for name in HEAVY if name in shown}


def command(arguments: str) -> str:
    return f"""
from panns_jax.cli import main
try:
    main({arguments.split()!r})
except SystemExit as end:
    assert end.code == 0, end.code"""


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import panns_jax; dir(panns_jax); panns_jax.__all__") == set()


def test_the_public_names_are_found_when_they_are_used():
    assert "jax" in loaded_by("from panns_jax import *; create_model, list_models, load_model")
    assert loaded_by("import panns_jax; panns_jax.InputError; panns_jax.LabelSet") == set()
    child("""
        import panns_jax
        assert {"create_model", "list_models", "load_model"} <= set(panns_jax.__all__)
        for name in panns_jax.__all__:
            assert getattr(panns_jax, name) is not None
    """)


def test_a_name_that_is_not_public_is_an_attribute_error():
    child("""
        import panns_jax
        try:
            panns_jax.create_modell
        except AttributeError as error:
            assert str(error) == "module 'panns_jax' has no attribute 'create_modell'"
        else:
            raise AssertionError
    """)


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "--version",
        "tag --help",
        "detect --help",
        "evaluate-events --help",
        "embed --help",
        "convert --help",
        "download --help",
        "split --help",
        "describe --help",
        "workspace-to-tfds --help",
    ],
)
def test_help_loads_nothing_heavy(arguments: str):
    assert loaded_by(command(arguments)) == set()


def test_the_names_that_most_programs_use_load_nothing_heavy_that_flax_has_not_loaded():
    child(f"""
        import sys
        import flax.nnx
        before = set(sys.modules)
        import panns_jax
        from panns_jax import create_model, list_models
        list_models()
        added = set(sys.modules) - before
        assert not added & set({HEAVY}), added
    """)


def test_importing_everything_changes_no_setting_of_jax_and_reaches_for_no_network():
    child("""
        import importlib, os, pkgutil, socket, warnings
        import jax
        from flax import nnx

        def refused(*arguments, **keywords):
            raise AssertionError("a network connection on import")

        socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused
        before, environment, filters = dict(jax.config.values), dict(os.environ), list(warnings.filters)

        import panns_jax
        from panns_jax import create_model, list_models, load_model
        for module in pkgutil.walk_packages(panns_jax.__path__, "panns_jax."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        list_models()

        assert dict(jax.config.values) == before
        assert dict(os.environ) == environment
        assert warnings.filters[-len(filters):] == filters or warnings.filters == filters
        from jax._src import xla_bridge
        assert not xla_bridge._backends, "a device was taken on import"
    """)


def test_what_runs_models_needs_no_torch():
    child("""
        import sys
        sys.modules["torch"] = None
        import jax, numpy as np
        from flax import nnx
        import panns_jax, panns_jax.infer.listener, panns_jax.infer.tagging, panns_jax.infer.embedding
        import panns_jax.pretrained.load

        def heard(waveform):
            model = panns_jax.create_model("DemoCnn", num_classes=2, rngs=nnx.Rngs(0))
            model.eval()
            return model(waveform).clipwise

        assert jax.eval_shape(heard, np.zeros((1, 4800), np.float32)).shape == (1, 2)
    """)
