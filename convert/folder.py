"""`python -m convert all`: every PyTorch checkpoint of a folder, converted."""

import dataclasses
import functools
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from panns_jax.errors import InputError
from panns_jax.files import is_folder, sha256

if TYPE_CHECKING:
    from panns_jax.execute import Outcome
    from panns_jax.models.config import ModelConfig
    from panns_jax.pretrained.catalogue import Released

_HEAD = ("file", "model", "hash", "parameters", "mAP", "seconds", "result")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertAll:
    """Converts every PyTorch checkpoint (*.pth) of a folder, and ends with a table. Started again, it goes on where it
    stopped: what was converted from the same file, and is whole, is left as it is. A file that cannot be converted
    stops nothing (exit code 1)."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Where the .pth files are."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The folder to write to, NAME.safetensors for NAME.pth; made where it is not there."""
    force: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Convert again what is there already, and replace files of the same name that were not converted from it."""
    workers: int = 0
    """Number of processes; 0 converts one file after another in this one. Each takes about twice a file's size of
    memory."""

    def run(self) -> int:
        """Converts, prints the table, and returns 0, or 1 where some files failed.

        Raises:
          InputError: a folder or an option cannot be used, or there is nothing to convert.
        """
        sources = _sources(self.folder)
        _make_folder(self.out)
        from panns_jax.execute import for_each

        convert = functools.partial(convert_into, self.out, force=self.force)
        with for_each(convert, sources, workers=self.workers, task="converting", unit="files") as outcomes:
            done = list(outcomes)
        print(as_text(done))
        failures = [outcome.failure for outcome in done if outcome.failure is not None]
        if not failures:
            return 0
        print(f"left out {len(failures)} of {len(done)} files:", file=sys.stderr)
        for failure in failures:
            print(f"  {failure}", file=sys.stderr)
        return 1


@dataclasses.dataclass(frozen=True)
class Converted:
    """A file that was converted, now or before.

    Attributes:
      model: name of its model.
      hash: what its hash says of it, in the catalogue's light.
      parameters: their number, batch statistics not among them.
      mean_average_precision: that the name of the released file tells, or None.
      seconds: that it took.
      result: what became of it.
    """

    model: str
    hash: str
    parameters: int
    mean_average_precision: str | None
    seconds: float
    result: str


def convert_into(out: Path, source: Path, *, force: bool) -> Converted:
    """Converts a file, unless that was done before.

    Args:
      out: the folder to write to.
      source: the `.pth` file.
      force: whether to convert in any case.

    Raises:
      InputError: the file is no checkpoint, damaged or of no known model; or in its place in `out` there is something
        that was not converted from a file of its name.
    """
    from panns_jax.pretrained.convert import convert_file
    from panns_jax.pretrained.native import read_native

    begun = time.perf_counter()
    destination = out / f"{source.stem}.safetensors"
    try:
        there = None if force else _already_there(source, destination)
        if there is None:
            # Where a folder has it in two cases, as x.pth and x.PTH, one would replace the other.
            _require_one(source)
            convert_file(source, destination)
            config, result = read_native(destination).config, "converted"  # and it is whole
        else:
            config, result = there, "there already"
        return _described(source, config, result, begun)
    except OSError as error:
        raise InputError(f"{error.filename or source}: {error.strerror or error}") from error


def as_text(done: "Sequence[Outcome[Path, Converted]]") -> str:
    """The table."""
    from convert.table import table

    rows = []
    for outcome in done:
        name, result = outcome.item.name, outcome.result
        if result is None:
            rows.append((name, "–", "–", "–", "–", "–", "FAILED"))
        else:
            rows.append(
                (
                    name,
                    result.model,
                    result.hash,
                    f"{result.parameters:,}",
                    result.mean_average_precision or "–",
                    f"{result.seconds:.1f}",
                    result.result,
                )
            )
    return table(_HEAD, rows, right=frozenset(_HEAD[3:6]))


def _sources(folder: Path) -> list[Path]:
    if not is_folder(folder):
        raise InputError(f"{folder}: there is no such folder")
    try:
        sources = sorted(path for path in folder.iterdir() if path.suffix.casefold() == ".pth" and not path.is_dir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}") from error
    if not sources:
        raise InputError(f"{folder}: holds no .pth file")
    return sources


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(f"{out} is a file; name a folder to write to") from None
    except OSError as error:
        raise InputError(f"cannot make the folder {out}: {error.strerror}") from error


def _already_there(source: Path, destination: Path) -> "ModelConfig | None":
    """The model of `destination` where it is whole and was converted from `source` as it is now.

    Raises:
      InputError: it was converted from a file of another name, or not at all.
    """
    from panns_jax.pretrained.native import is_native, read_native, read_provenance
    from panns_jax.pretrained.vocabulary import printable

    if not destination.exists():
        return None
    try:
        provenance = read_provenance(destination)
    except InputError:
        if is_native(destination):  # cut short, or otherwise damaged
            return None
        raise InputError(f"{destination} exists and is no converted checkpoint; --force replaces it") from None
    if provenance.file != printable(source.name):
        raise InputError(f"{destination} was converted from {provenance.file}; --force replaces it")
    if provenance.sha256 != sha256(source):
        return None
    try:
        return read_native(destination).config
    except InputError:
        return None


def _require_one(source: Path) -> None:
    others = [path for path in source.parent.iterdir() if path.stem == source.stem and path != source]
    clashing = sorted(path.name for path in others if path.suffix.casefold() == ".pth")
    if clashing:
        raise InputError(f"{source}: {', '.join(clashing)} would become the same file; rename one of them")


def _described(source: Path, config: "ModelConfig", result: str, begun: float) -> Converted:
    from panns_jax.pretrained import catalogue
    from panns_jax.pretrained.rules import entries

    released = catalogue.identified(source)
    statistics = ("running_mean", "running_var")
    return Converted(
        model=config.name,
        hash=_hash_state(released, catalogue.named_like(source)),
        parameters=sum(math.prod(entry.shape) for entry in entries(config) if not entry.published.endswith(statistics)),
        mean_average_precision=_mean_average_precision(released),
        seconds=time.perf_counter() - begun,
        result=result,
    )


def _hash_state(released: "Released | None", named: "Released | None") -> str:
    if released is not None:
        return "as released" if released.md5 or released.sha256 else "none known"
    return "differs" if named is not None else "not released"


def _mean_average_precision(released: "Released | None") -> str | None:
    score = released and released.mean_average_precision
    return None if score is None else f"{score:.3f}"
