"""What a command says of the sounds that it had to leave out."""

import sys
from collections.abc import Sequence

# Failures that are named where a file tells all of them.
_SHOWN = 20


def report_left_out(failures: Sequence[object], total: int, kind: str, *, told_in: str | None = None) -> int:
    """Names what failed on standard error.

    Args:
      failures: each prints as a sentence.
      total: how many there were, those among them.
      kind: what they are, in the plural.
      told_in: what tells all of them, so that the first ones do here; None for nothing.

    Returns:
      The command's exit code: 1 where something failed, else 0.
    """
    if not failures:
        return 0
    shown = len(failures) if told_in is None else _SHOWN
    print(f"left out {len(failures)} of {total} {kind}:", file=sys.stderr)
    for failure in failures[:shown]:
        print(f"  {failure}", file=sys.stderr)
    if len(failures) > shown:
        print(f"  and {len(failures) - shown} more; {told_in} tells all", file=sys.stderr)
    return 1
