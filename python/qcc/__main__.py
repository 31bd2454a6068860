"""The command line: ``python -m qcc`` and ``qcc``."""

import sys

from . import _qcc


def main() -> int:
    """Runs the command line, and returns the exit code."""
    return _qcc.main(["qcc", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
