"""Presets: the options of an experiment as a Python file in `configs/`, for `--config NAME`."""

import difflib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import panns_jax
from panns_jax.errors import InputError

if TYPE_CHECKING:
    from panns_jax.train.options import Train


def list_presets() -> list[str]:
    """Names of the presets."""
    return sorted(path.stem for path in _folder().glob("*.py"))


def load_preset(name: str) -> "Train":
    """The options of a preset.

    Raises:
      InputError: there is no such preset; the message names the nearest one.
    """
    from panns_jax.train.options import Train

    names = list_presets()
    if name not in names:  # also keeps paths out: a preset is code of ours
        near = difflib.get_close_matches(name.lower(), names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
        raise InputError(f"--config {name}: there is no such preset; {hint}")
    spec = importlib.util.spec_from_file_location(f"panns_jax.configs.{name}", _folder() / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.CONFIG
    assert isinstance(config, Train)
    return config


def take_config(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Takes `--config NAME` out of the arguments.

    Returns:
      The name, or None where it is not given; and the other arguments.

    Raises:
      InputError: the name is missing, or given twice.
    """
    names, others = [], []
    left = iter(arguments)
    for argument in left:
        if argument == "--config":
            names.append(next(left, ""))
        elif argument.startswith("--config="):
            names.append(argument.removeprefix("--config="))
        else:
            others.append(argument)
    if len(names) > 1 or "" in names:
        raise InputError(f"--config takes one name: {', '.join(list_presets())}")
    return (names[0] if names else None), others


def _folder() -> Path:
    package = Path(panns_jax.__file__).parent
    installed = package / "configs"  # where a wheel has them
    return installed if installed.is_dir() else package.parent / "configs"
