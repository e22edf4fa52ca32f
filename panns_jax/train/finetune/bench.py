"""The folder in which a fine-tuning keeps what it has done, so that it goes on there when it is started again."""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from panns_jax.errors import InputError
from panns_jax.files import alone, make_folder, written_aside

_PLAN = "options.json"
_META = "panns_jax"


@dataclasses.dataclass(frozen=True)
class Bench:
    """The folder OUT.part.

    Attributes:
      folder: its path.
    """

    folder: Path

    @contextlib.contextmanager
    def opened(self, told: Mapping[str, Any], *, restart: bool) -> Iterator[bool]:
        """Makes the folder, for this process alone.

        Args:
          told: what decides the result; an interrupted run is gone on with where it is the same.
          restart: whether to throw away what is there.

        Yields:
          Whether something is there to go on with; where nothing is in the end, the folder is removed.

        Raises:
          InputError: there is an interrupted run that was started with something else, another process is at work in
            the folder, or it cannot be made.
        """
        make_folder(self.folder)
        busy = f"{self.folder}: another process is at work on this; wait for it, or name another file by --out"
        with alone(self.folder / ".lock", busy):
            plan = self.folder / _PLAN
            if restart:
                for path in self._all_kept():
                    path.unlink()
            begun = bool(self._all_kept())
            if begun:
                self._require_same(told)
            else:
                with written_aside(plan) as aside:
                    aside.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
            try:
                yield begun
            finally:
                if not self._all_kept():  # nothing to go on with, so that other options may be given the next time
                    self.remove()

    def _all_kept(self) -> list[Path]:
        return [*self.folder.glob("*.safetensors")]

    def _require_same(self, told: Mapping[str, Any]) -> None:
        try:
            saved = json.loads((self.folder / _PLAN).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{self.folder}: cannot be read; --restart begins anew") from error
        now = json.loads(json.dumps(told))
        for name in sorted(saved.keys() | now.keys()):
            if saved.get(name) != now.get(name):
                raise InputError(
                    f"{self.folder} holds an interrupted run with {name} {saved.get(name)}, now it is {now.get(name)}:"
                    " give the same to go on with it, or --restart"
                )

    def remove(self) -> None:
        """Removes the folder with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def discard(self, name: str) -> None:
        """Removes what was kept under a name."""
        self._path(name).unlink(missing_ok=True)

    def keep(self, name: str, tree: Any, meta: Mapping[str, Any]) -> None:
        """Keeps a tree of arrays, and what is told beside it, whole or not at all.

        Raises:
          InputError: it cannot be written.
        """
        from safetensors.numpy import save_file

        leaves = {str(number): np.array(leaf, order="C") for number, leaf in enumerate(jax.tree.leaves(tree))}
        with written_aside(self._path(name)) as aside:
            save_file(leaves, aside, {_META: json.dumps(meta)})

    def kept(self, name: str, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """What was kept under a name.

        Args:
          name: as it was kept.
          like: a tree of the same structure and shapes.

        Returns:
          The tree, of NumPy arrays, and what was told beside it; None where nothing was kept.

        Raises:
          InputError: it is damaged.
        """
        from safetensors import SafetensorError, safe_open

        path = self._path(name)
        if not path.exists():
            return None
        leaves, structure = jax.tree.flatten(like)
        try:
            with safe_open(path, framework="numpy") as file:
                read = [file.get_tensor(str(number)) for number in range(len(leaves))]
                meta = json.loads(file.metadata()[_META])
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise InputError(f"{path}: is damaged; --restart begins anew") from error
        if [np.shape(one) for one in read] != [np.shape(leaf) for leaf in leaves]:
            raise InputError(f"{path}: is of another model; --restart begins anew")
        return jax.tree.unflatten(structure, read), meta

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"
