"""The program ``latentman``: hands over to the command line, and ends in order when it is stopped before that has been imported."""

from __future__ import annotations

from .launch import tell


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        from .__main__ import main as command_line

        return command_line()
    except KeyboardInterrupt:
        # later the command itself says that it was stopped
        tell("interrupted", "interrupted", "It was stopped before it began.", signal="SIGINT")
        return 130
