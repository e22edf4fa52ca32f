"""The released files on this machine: downloaded, checked and converted once; from then on no network is needed.

In the cache folder (`files.cache_folder`), for a released file such as `Cnn14_mAP=0.431.pth`:

    Cnn14_mAP=0.431.safetensors   the converted file; its header tells the sha256 of the released one
    Cnn14_mAP=0.431.pth           taken instead of a download, if somebody put it there; it is left there
    Cnn14_mAP=0.431.pth.sha256    of the first download, as `sha256sum` writes it, where the catalogue knows none
    .Cnn14_mAP=0.431.pth.part     a download that is not whole yet, and `.json` beside it: what it is a part of
    .Cnn14_mAP=0.431.pth.lock     held by the process that downloads or converts

What was downloaded is removed once it is converted: the two take about the same space.
"""

import contextlib
import math
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from panns_jax.errors import InputError
from panns_jax.files import CACHE_VARIABLE, cache_folder, in_turn, written_aside
from panns_jax.models.registry import model_config
from panns_jax.pretrained import catalogue
from panns_jax.pretrained.catalogue import Digests, Released
from panns_jax.pretrained.native import SUFFIX, Provenance, read_provenance, write_native
from panns_jax.pretrained.rules import entries

if TYPE_CHECKING:
    from panns_jax.pretrained.download import Part

MIRROR_VARIABLE = "PANNS_JAX_MIRROR"


def cached_file(released: Released) -> Path:
    """Where the converted file of a released one is, or will be."""
    return cache_folder() / Path(released.file).with_suffix(SUFFIX)


def fetch(released: Released, mirror: str | None = None) -> Path:
    """Makes sure that a released file is on this machine, converted; several processes do it once.

    Args:
      released: the file.
      mirror: URL of a folder that has the released files under their names, in place of their own record;
        `PANNS_JAX_MIRROR` where it is None.

    Returns:
      The converted file.

    Raises:
      InputError: `mirror` is no URL, the file cannot be downloaded or is not the released one, or the cache folder
        cannot be written to. What was downloaded of it is kept, and gone on with.
    """
    url = _address(released, mirror)
    converted = cached_file(released)
    try:
        if converted.is_file():
            _require_origin(released, converted)
            return converted
        converted.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{converted.parent}: cannot be used as the cache folder: {error.strerror}; {CACHE_VARIABLE} names another"
        ) from error
    waiting = f"waiting for another process that fetches {released.file}"
    with in_turn(converted.with_name(f".{released.file}.lock"), waiting) as alone:
        if not converted.is_file():
            _obtain(released, converted, url, alone=alone)
    return converted


def _require_origin(released: Released, converted: Path) -> None:
    try:
        found = read_provenance(converted).sha256
    except InputError as error:
        raise InputError(f"{error}; remove it, and it is made anew") from error
    if (known := recorded_sha256(released)) not in (None, found):
        raise InputError(
            f"{converted}: was converted from a file with the sha256 {found}, and that of {released.file} is {known};"
            " remove it, and it is made anew"
        )


def _obtain(released: Released, converted: Path, url: str, *, alone: bool) -> None:
    placed = converted.with_name(released.file)
    if placed.is_file():
        digests = catalogue.digests_of(placed)
        if fault := _fault(released, placed, digests):
            raise InputError(f"{placed}: {fault}; remove it, and the released file is downloaded")
        _convert(released, placed, converted, digests)
        return
    from panns_jax.pretrained.download import Part

    # Without a lock, everybody for himself.
    part = Part(converted.with_name(f".{released.file}{'' if alone else f'.{os.getpid()}'}.part"))
    try:
        _convert(released, part.path, converted, _download(released, part, url))
    except _Unfit as unfit:
        part.remove()
        raise InputError(f"{unfit}; {_by_hand(released, url)}".replace(str(part.path), url)) from unfit
    part.remove()


def _download(released: Released, part: "Part", url: str) -> Digests:
    """Completes the part; the content is then what is known of it."""
    from panns_jax.pretrained.download import download
    from panns_jax.progress import progress_bar

    _require_space(released, part)
    hash_known = released.matches(Digests("", "")) is not None
    while True:
        with progress_bar("MB") as bar:
            task = bar.add_task(released.file, total=None, note="")

            def report(done: int, total: int | None, note: str, bar: Any = bar, task: Any = task) -> None:
                bar.update(task, completed=done / 1e6, total=total and total / 1e6, note=note)

            try:
                in_one = download(url, part, size=released.size, trusting=hash_known, report=report)
            except InputError as error:
                raise InputError(f"{error}; try again later, or {_by_hand(released, url)}") from error
        digests = catalogue.digests_of(part.path)
        fault = _fault(released, part.path, digests)
        if fault is None:
            return digests
        part.remove()
        if in_one:  # else it may be two files' halves
            raise InputError(f"{url}: {fault}; {_by_hand(released, url)}")


def _fault(released: Released, path: Path, digests: Digests) -> str | None:
    """Why content is not the released file's; None where nothing that is known of that differs."""
    size, record = path.stat().st_size, _record(released)
    if released.size not in (None, size):
        return f"has {size} bytes, where the released file has {released.size}"
    if released.matches(digests) is False:
        other = next((entry for entry in catalogue.RELEASED if entry.matches(digests)), None)
        if other is not None:
            return f"is {other.file}, the released file of {other.model}, not of {released.model}"
        kind = "md5" if released.sha256 is None else "sha256"
        found, wanted = getattr(digests, kind), getattr(released, kind)
        return f"is not the released file: its {kind} is {found} instead of {wanted}"
    if (recorded := recorded_sha256(released)) not in (None, digests.sha256):
        return (
            f"has the sha256 {digests.sha256}, but what first came under its name had {recorded}"
            f" (if the change is right, remove {record})"
        )
    return None


class _Unfit(InputError):
    """Content that is no checkpoint of its model."""


def _convert(released: Released, source: Path, converted: Path, digests: Digests) -> None:
    from panns_jax.pretrained.load import read_published

    try:
        config, arrays = read_published(source, released.model)
    except InputError as error:
        raise _Unfit(str(error)) from error
    if config != model_config(released.model):
        raise _Unfit(f"{source}: tells of {config.num_classes} classes, as no released file does")
    _take_down(released, digests)
    write_native(converted, config, arrays, Provenance(released.file, digests.sha256, catalogue.LICENCE))


def recorded_sha256(released: Released) -> str | None:
    """The sha256 of a released file: the catalogue's, else that of its first download here; None where it has none."""
    if released.sha256 is not None:
        return released.sha256
    try:
        return _record(released).read_text(encoding="ascii").split()[0]
    except (OSError, ValueError, IndexError):
        return None


def _record(released: Released) -> Path:
    return cache_folder() / f"{released.file}.sha256"


def _take_down(released: Released, digests: Digests) -> None:
    """Records the sha256 of a file of which the catalogue has none, and tells it where it has no hash at all."""
    if recorded_sha256(released) is not None:
        return
    with written_aside(_record(released)) as path:
        path.write_text(f"{digests.sha256}  {released.file}\n", encoding="ascii")
    if released.md5 is None:
        print(
            f"{released.file}: no hash of it is known to compare with; its entries are those of {released.model},"
            f" and its sha256 {digests.sha256} is recorded in {_record(released)}",
            file=sys.stderr,
        )


def _require_space(released: Released, part: "Part") -> None:
    # The released file and the converted one, which are about as large as the model's numbers.
    numbers = sum(math.prod(entry.shape) for entry in entries(model_config(released.model)))
    needed = (released.size or 4 * numbers) + 4 * numbers - part.size
    free = shutil.disk_usage(part.path.parent).free
    if free < needed:
        raise InputError(
            f"{part.path.parent}: has {free / 1e6:.0f} MB free, and {released.file} needs {needed / 1e6:.0f} MB while"
            f" it is converted; {CACHE_VARIABLE} names another cache folder"
        )


def _address(released: Released, mirror: str | None) -> str:
    option = "the mirror" if mirror is not None else MIRROR_VARIABLE
    if mirror is None:
        mirror = os.environ.get(MIRROR_VARIABLE) or None
    if mirror is None:
        return released.url
    with contextlib.suppress(ValueError):  # of a port or an address that is none
        parts = urlsplit(mirror)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            path = f"{parts.path.rstrip('/')}/{quote(released.file)}"
            return urlunsplit(parts._replace(path=path, fragment=""))
    raise InputError(
        f"{option} must be the URL of a folder, http://… or https://…, not {mirror!r}; a folder on this machine is"
        f" named by {CACHE_VARIABLE}"
    )


def _by_hand(released: Released, tried: str) -> str:
    what = "it" if tried == released.url else released.url
    return f"download {what} in another way and name the file as the checkpoint"
