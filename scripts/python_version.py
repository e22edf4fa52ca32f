"""Refuses old Pythons in one sentence; this file, demo.py and test.py therefore parse on any of them."""

import sys

OLDEST = (3, 11)


def require():
    """Ends the program with exit code 2 where Python is older than the project can use."""
    if sys.version_info[:2] < OLDEST:
        oldest, this = (".".join(map(str, version)) for version in (OLDEST, sys.version_info[:2]))
        sys.stderr.write("Python " + oldest + " or newer is needed, this is " + this + "\n")
        sys.exit(2)
