"""Vectors written, in the form that the name tells."""

from pathlib import Path

from panns_jax.files import require_parent
from panns_jax.infer.vectors.table import Table, form_of


def require_writable(out: Path) -> None:
    """Fails early where vectors could not be written under this name.

    Raises:
      InputError: the name, or what is there already, does not fit, or a package is missing.
    """
    match form_of(out):
        case "folder":
            from panns_jax.infer.vectors.folder import require_ours

            require_ours(out)
            require_parent(out / "index.csv" if out.is_dir() else out)
        case "parquet":
            from panns_jax.infer.vectors.parquet import require_parquet

            require_parquet()
            require_parent(out)
        case _:
            require_parent(out)


def write_vectors(table: Table, out: Path) -> None:
    """Writes a table in the form of `out`, whole or not at all.

    Raises:
      InputError: it cannot be written, or the table cannot be read.
    """
    match form_of(out):
        case "h5":
            from panns_jax.infer.vectors.hdf5 import write_hdf5

            write_hdf5(table, out)
        case "npz":
            from panns_jax.infer.vectors.npz import write_npz

            write_npz(table, out)
        case "parquet":
            from panns_jax.infer.vectors.parquet import write_parquet

            write_parquet(table, out)
        case "folder":
            from panns_jax.infer.vectors.folder import write_folder

            write_folder(table, out)
