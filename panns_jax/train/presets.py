"""Presets: the options of an experiment as a Python file in `configs/`, for `--config NAME`."""

import dataclasses
import difflib
import functools
import importlib.util
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import panns_jax
from panns_jax.errors import InputError

if TYPE_CHECKING:
    from panns_jax.train.finetune.options import Finetune
    from panns_jax.train.options import Train


@dataclasses.dataclass(frozen=True)
class Preset:
    """An experiment.

    Attributes:
      name: for `--config`.
      about: what it is, in a line.
      config: its options; of fine-tuning, a `functools.partial` that makes them.
    """

    name: str
    about: str
    config: Any


def list_presets() -> list[str]:
    """Names of the presets, sorted, and numbers in them by their size."""

    def parts(name: str) -> list[tuple[bool, int, str]]:
        return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]

    return sorted((path.stem for path in _folder().glob("*.py")), key=parts)


def load_preset(name: str) -> "Train":
    """The options of a preset of training; capitals, hyphens and underscores in its name do not matter.

    Raises:
      InputError: there is no such preset, and the message names the nearest one; or it is one of fine-tuning.
    """
    from panns_jax.train.options import Train

    preset = read_preset(preset_named(name))
    if not isinstance(preset.config, Train):
        raise InputError(f"--config {name}: is for panns-jax finetune")
    return preset.config


def load_transfer(name: str) -> Callable[..., "Finetune"]:
    """What makes options of fine-tuning of a preset: a `functools.partial`, as data and output are left open.

    Raises:
      InputError: there is no such preset, and the message names the nearest one; or it is one of training.
    """
    preset = read_preset(preset_named(name))
    if not isinstance(preset.config, functools.partial):
        raise InputError(f"--config {name}: is for panns-jax train")
    return preset.config


def preset_named(name: str) -> str:
    """The preset's name as its file has it.

    Raises:
      InputError: there is no such preset; the message names the nearest one.
    """
    names = {plain(known): known for known in list_presets()}
    if plain(name) in names:  # also keeps paths out: a preset is code of ours
        return names[plain(name)]
    near = difflib.get_close_matches(plain(name), names, n=1)
    hint = f"did you mean {names[near[0]]}?" if near else f"there are {', '.join(names.values())}"
    raise InputError(f"--config {name}: there is no such preset; {hint}")


@functools.lru_cache(maxsize=256)
def read_preset(name: str) -> Preset:
    """The preset of this very name, which there is."""
    spec = importlib.util.spec_from_file_location(f"panns_jax.configs.{name}", _folder() / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    about = (inspect.getdoc(module) or "").splitlines()[0]
    return Preset(name, about, module.CONFIG)


def plain(name: str) -> str:
    """A name without what people type in different ways."""
    return re.sub(r"[\s_-]", "", name.casefold())


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
