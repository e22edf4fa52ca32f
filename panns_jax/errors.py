"""The one kind of error that a user's input can cause."""

import importlib.util


class InputError(ValueError):
    """What was given cannot be used; the message is one sentence that names the file or option and what would do.

    The commands print it without a traceback and exit with code 2.
    """


def require_extra(what: str, extra: str, *packages: str) -> None:
    """Checks that packages are installed which not every user needs, before any work is done.

    Args:
      what: needs them, as the sentence's subject.
      extra: of pyproject.toml, which brings them.
      packages: by the names that they are imported under.

    Raises:
      InputError: some are not.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f'{what} needs {", ".join(missing)}: pip install "panns_jax[{extra}]"')
