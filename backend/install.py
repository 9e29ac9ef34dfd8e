"""``python backend/install.py ...``: runs *Set Up* of this very copy of the package, in whatever Python there is.

Needs only the standard library. Written so that an old Python can read it and say that it is too old.
"""

import os
import runpy
import sys

OLDEST = (3, 11)


def main() -> int:
    """Check the Python, then hand over to the command line; returns the exit code."""
    if sys.version_info[:2] < OLDEST:
        sys.stderr.write(f"Python {sys.version_info[0]}.{sys.version_info[1]} runs here; *Set Up* needs 3.11 or newer.\n")
        return 2
    runpy.run_path(os.path.join(os.path.dirname(os.path.abspath(__file__)), "launch.py"))["load_package"]()
    from latentman.backend.installation.command import main as command_line

    return command_line()


if __name__ == "__main__":
    sys.exit(main())
