"""The one kind of error that a user's input can cause."""


class InputError(ValueError):
    """What was given cannot be used; the message is one sentence that names the file or option and what would do.

    The commands print it without a traceback and exit with code 2.
    """
